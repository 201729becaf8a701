# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""batch_diagnose on the emulator, where jobs wait for what they wait for on AWS: each cause is made and named."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest
from batch_account import AGENT_POLICY, OURS, QUEUES, Account, trust
from steps import answering

CHEAP = "compute environment spot"
ENVIRONMENT = "compute environment ec2"


@pytest.fixture(scope="module")
def shared_account(emulator):
    emulator.reset()
    yield Account(emulator)
    emulator.reset()


@pytest.fixture
def account(shared_account):
    """The account; each test mends what it breaks, and leaves no job that waits."""
    yield shared_account
    shared_account.supply(scarce=[], quotas={"L-1216C47A": 64})
    shared_account.end_jobs()


@pytest.fixture
def diagnose(run_module, emulator):
    """Return ``diagnose(**options)``, which runs the module and fails if it changes anything."""

    def diagnose(**options):
        emulator.request("POST", "/_emulator/calls/reset")
        result = run_module("mlops.metaflow.batch_diagnose", {"queues": QUEUES, **options})
        assert not emulator.mutations()
        assert not result["changed"]
        return result

    return diagnose


def holding(result, job_id):
    """Return {cause: finding} of what holds a job."""
    return {finding["cause"]: finding for finding in result["findings"] if job_id in finding["jobs"]}


def test_a_sound_account_has_no_findings(account, diagnose):
    job_id = account.submit("false")
    account.reached(job_id, "FAILED")
    result = diagnose()
    assert (result["findings"], result["jobs"], result["unchecked"]) == ([], [], [])


@contextmanager
def environment_disabled(account):
    account.batch.update_compute_environment(computeEnvironment="ec2", state="DISABLED")
    yield
    account.batch.update_compute_environment(computeEnvironment="ec2", state="ENABLED")


@contextmanager
def profile_removed(account):
    of = {"InstanceProfileName": "instance"}
    account.iam.remove_role_from_instance_profile(**of, RoleName="instance")
    account.iam.delete_instance_profile(**of)
    yield
    account.iam.create_instance_profile(**of)
    account.iam.add_role_to_instance_profile(**of, RoleName="instance")


@contextmanager
def route_removed(account):
    default = {"RouteTableId": account.table, "DestinationCidrBlock": "0.0.0.0/0"}
    account.ec2.delete_route(**default)
    yield
    account.ec2.create_route(**default, NatGatewayId=account.nat)


@contextmanager
def nat_removed(account):
    account.ec2.delete_nat_gateway(NatGatewayId=account.nat)
    yield
    account.make_nat()
    default = {"RouteTableId": account.table, "DestinationCidrBlock": "0.0.0.0/0"}
    account.ec2.replace_route(**default, NatGatewayId=account.nat)


@contextmanager
def egress_closed(account):
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    account.ec2.revoke_security_group_egress(GroupId=account.group, IpPermissions=everything)
    yield
    account.ec2.authorize_security_group_egress(GroupId=account.group, IpPermissions=everything)


@contextmanager
def quota_lowered(account):
    account.supply(quotas={"L-1216C47A": 1})
    yield
    account.supply(quotas={"L-1216C47A": 64})


@pytest.mark.parametrize(
    ("broken", "expected", "said"),
    [
        (environment_disabled, {"environment_disabled"}, "It is DISABLED"),
        (
            profile_removed,
            {"environment_invalid", "instance_profile"},
            "INVALID: CLIENT_ERROR - Invalid IamInstanceProfile",
        ),
        (profile_removed, {"environment_invalid", "instance_profile"}, "instance profile instance does not exist"),
        (route_removed, {"no_route"}, "has no default route"),
        (nat_removed, {"no_route"}, "has a default route to nat-"),
        (egress_closed, {"no_egress"}, "let no HTTPS out"),
        (quota_lowered, {"quota"}, "L-1216C47A"),
    ],
)
def test_a_broken_environment_holds_its_jobs_and_the_mend_lets_them_run(account, diagnose, broken, expected, said):
    with broken(account):
        job_id = account.submit()
        account.reached(job_id, "RUNNABLE")
        found = holding(diagnose(), job_id)
    assert account.reached(job_id, "SUCCEEDED")
    assert set(found) == expected
    assert said in " ".join(finding["problem"] for finding in found.values())
    assert {finding["resource"] for finding in found.values()} == {ENVIRONMENT}
    assert all(finding["lasting"] and finding["mend"] for finding in found.values())


@pytest.mark.parametrize(
    ("broken", "mended", "arguments", "said"),
    [
        (
            "remove_role_from_instance_profile",
            "add_role_to_instance_profile",
            {"InstanceProfileName": "instance", "RoleName": "instance"},
            "has no role",
        ),
        (
            "detach_role_policy",
            "attach_role_policy",
            {"RoleName": "instance", "PolicyArn": AGENT_POLICY},
            "lacks ecs:RegisterContainerInstance, ecs:DiscoverPollEndpoint",
        ),
    ],
)
def test_an_instance_profile_that_does_not_do_is_told(account, diagnose, broken, mended, arguments, said):
    getattr(account.iam, broken)(**arguments)
    found = diagnose()["findings"]
    getattr(account.iam, mended)(**arguments)
    (finding,) = [one for one in found if one["resource"] == ENVIRONMENT]
    assert finding["cause"] == "instance_profile"
    assert said in finding["problem"]


def test_a_role_that_instances_can_not_assume_is_told(account, diagnose):
    account.iam.update_assume_role_policy(RoleName="instance", PolicyDocument=trust("ecs.amazonaws.com"))
    found = diagnose()["findings"]
    account.iam.update_assume_role_policy(RoleName="instance", PolicyDocument=trust("ec2.amazonaws.com"))
    (finding,) = [one for one in found if one["resource"] == ENVIRONMENT]
    assert "does not let ec2.amazonaws.com assume it" in finding["problem"]


@pytest.mark.parametrize(
    ("asked", "cause", "said"),
    [
        ({"memory": "32000"}, "no_fitting_instance_type", "m5.2xlarge"),
        ({"vcpus": "16"}, "no_fitting_instance_type", "m5.2xlarge (8 vCPUs"),
        ({"gpus": "1"}, "no_fitting_instance_type", "1 GPU"),
        ({"vcpus": "4"}, "max_vcpus_too_low", "asks for 4 vCPUs, and there may be 2 in ec2"),
    ],
)
def test_a_job_that_fits_nowhere_is_told_with_what_would_fit(account, diagnose, asked, cause, said):
    job_id = account.submit(**asked)
    account.reached(job_id, "RUNNABLE")
    found = holding(diagnose(), job_id)
    assert list(found) == [cause]
    assert said in found[cause]["problem"]


def test_jobs_wait_for_vcpus_and_behind_each_other(account, diagnose):
    running = account.submit("sleep", "600", vcpus="2")
    account.reached(running, "RUNNING")
    waiting = account.submit()
    account.reached(waiting, "RUNNABLE")
    found = holding(diagnose(), waiting)
    assert list(found) == ["max_vcpus_reached"]
    assert "2 of 2 in ec2" in found["max_vcpus_reached"]["problem"]
    assert not found["max_vcpus_reached"]["lasting"]
    account.batch.terminate_job(jobId=running, reason="seen")


def test_a_disabled_queue_is_told(account, diagnose):
    account.supply(scarce=["EC2"])
    job_id = account.submit()
    account.batch.update_job_queue(jobQueue="flows", state="DISABLED")
    found = holding(diagnose(), job_id)
    account.batch.update_job_queue(jobQueue="flows", state="ENABLED")
    assert "queue_disabled" in found


def test_spot_without_capacity_is_told_and_passes(account, diagnose):
    account.supply(scarce=["SPOT"])
    job_id = account.submit(queue="cheap")
    limit = time.monotonic() + 20
    while "CAPACITY" not in account.job(job_id).get("statusReason", "") and time.monotonic() < limit:
        time.sleep(0.05)
    found = holding(diagnose(), job_id)
    assert list(found) == ["no_spot_capacity"]
    assert found["no_spot_capacity"]["resource"] == CHEAP
    assert "UnfulfillableCapacity" in found["no_spot_capacity"]["problem"]
    assert not found["no_spot_capacity"]["lasting"]
    account.supply(scarce=[])
    assert account.reached(job_id, "SUCCEEDED")


@pytest.mark.parametrize(
    ("repository", "image", "said"),
    [
        (False, f"{OURS}:1", "There is no repository flows in the registry of account 123456789012"),
        (True, f"{OURS}:2", "The repository flows has no 2; its latest tags are 1"),
        (False, "nobody/nothing:1", "CannotPullContainerError"),
    ],
)
def test_an_image_that_is_not_there_is_told(account, diagnose, repository, image, said):
    if repository:
        account.push()
    job_id = account.submit(image=image)
    account.reached(job_id, "FAILED")
    result = diagnose()
    found = holding(result, job_id)
    assert list(found) == ["image_not_pullable"]
    assert said in found["image_not_pullable"]["problem"]
    assert {job["job_id"]: job["status"] for job in result["jobs"]}[job_id] == "FAILED"


def test_an_image_that_its_role_may_not_pull_is_told(account, diagnose):
    account.push()
    role = account.iam.create_role(RoleName="pull", AssumeRolePolicyDocument=trust("ecs-tasks.amazonaws.com"))["Role"][
        "Arn"
    ]
    job_id = account.submit(image=f"{OURS}:1", executionRoleArn=role)
    job = account.reached(job_id, "FAILED")
    assert "403 Forbidden" in job["container"]["reason"]
    problem = holding(diagnose(), job_id)["image_not_pullable"]["problem"]
    assert "ecr:BatchGetImage, ecr:GetDownloadUrlForLayer, ecr:GetAuthorizationToken" in problem
    # The instances' role may do it.
    account.reached(account.submit(image=f"{OURS}:1", name="by-instance"), "SUCCEEDED")


def test_jobs_held_for_ever_are_ended_and_no_others(account, run_module):
    big = account.submit(memory="32000", name="big")
    behind = account.submit(name="behind")
    account.reached(behind, "RUNNABLE")
    args = {"queues": QUEUES, "terminate": True}
    predicted = run_module("mlops.metaflow.batch_diagnose", args, check=True)
    assert (predicted["changed"], predicted["terminated"]) == (True, [big])
    assert account.job(big)["status"] == "RUNNABLE"
    ended = run_module("mlops.metaflow.batch_diagnose", args)
    assert (ended["changed"], ended["terminated"]) == (True, [big])
    assert account.job(big)["statusReason"] == "Ended by doctor: no_fitting_instance_type"
    account.reached(behind, "SUCCEEDED")
    assert not run_module("mlops.metaflow.batch_diagnose", args)["changed"]


def test_what_may_not_be_read_is_said_and_the_rest_is_read(account, run_module):
    job_id = account.submit(memory="32000")
    account.reached(job_id, "RUNNABLE")
    with answering(
        "GetServiceQuota", "AccessDeniedException", "not authorized to perform: servicequotas:GetServiceQuota"
    ):
        result = run_module("mlops.metaflow.batch_diagnose", {"queues": QUEUES})
    assert list(holding(result, job_id)) == ["no_fitting_instance_type"]
    assert any("servicequotas:GetServiceQuota" in what for what in result["unchecked"])


def test_a_queue_that_is_not_there_is_an_error(account, run_module):
    failed = run_module("mlops.metaflow.batch_diagnose", {"queues": ["none"]}, fails=True)
    assert failed["msg"] == "There is no job queue 'none' in us-east-1; converge it first: --tags batch."
    failed = run_module("mlops.metaflow.batch_diagnose", {"tags": {"a": "b"}}, fails=True)
    assert "There is no job queue with the tags {'a': 'b'}" in failed["msg"]
