"""batch_compute_environment and batch_job_queue against the emulated account."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

ENVIRONMENT = "mlops.metaflow.batch_compute_environment"
QUEUE = "mlops.metaflow.batch_job_queue"
ARN = "arn:aws:batch:us-east-1:123456789012:"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture(autouse=True)
def account(emulator):
    """The account with a network and an instance profile, and nothing of Batch."""
    emulator.reset()
    ec2, iam = emulator.client("ec2"), emulator.client("iam")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{number}.0/24")["Subnet"]["SubnetId"] for number in range(2)
    ]
    group = ec2.create_security_group(GroupName="batch", Description="batch", VpcId=vpc)["GroupId"]
    iam.create_role(RoleName="instance", AssumeRolePolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName="instance")
    iam.create_role(RoleName="own", AssumeRolePolicyDocument=TRUST)
    return SimpleNamespace(batch=emulator.client("batch"), subnets=subnets, group=group)


def network(account):
    return {"maxv_cpus": 16, "subnets": account.subnets, "security_group_ids": [account.group]}


def instances(account, name="spot", kind="SPOT", **resources):
    """Return the arguments of an environment of instances."""
    return {
        "name": name,
        "compute_resources": {
            "type": kind,
            "instance_types": ["m5", "c5"],
            "instance_role": "instance",
            "launch_template": {"launch_template_name": "batch", "version": "$Latest"},
            "tags": {"Name": "batch", "a_b": "c"},
            **network(account),
            **resources,
        },
        "tags": {"Component": "batch"},
    }


def fargate(account, name="fargate", **resources):
    """Return the arguments of an environment of Fargate."""
    return {"name": name, "compute_resources": {"type": "FARGATE", **network(account), **resources}}


def without(option, args):
    """Return the arguments without an option of the compute resources."""
    return args | {"compute_resources": {k: v for k, v in args["compute_resources"].items() if k != option}}


def queue(*environments, **options):
    """Return the arguments of a queue."""
    return {"name": "flows", "priority": 1, "compute_environments": list(environments), **options}


def environment_of(account, name):
    return account.batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"]


def queue_of(account, name="flows"):
    return account.batch.describe_job_queues(jobQueues=[name])["jobQueues"]


# Compute environments


@pytest.mark.parametrize("kind", ["EC2", "SPOT"])
def test_instances_in_twelve_steps(converge, account, kind):
    predicted, made = converge(ENVIRONMENT, instances(account, kind=kind))
    strategy = {"EC2": "BEST_FIT_PROGRESSIVE", "SPOT": "SPOT_PRICE_CAPACITY_OPTIMIZED"}[kind]
    for result in (predicted["compute_environment"], made["compute_environment"]):
        assert result["compute_environment_arn"] == f"{ARN}compute-environment/spot"
        assert result["status"] == "VALID"
        assert result["compute_resources"]["allocation_strategy"] == strategy
        assert result["compute_resources"]["minv_cpus"] == 0
        assert result["compute_resources"]["tags"] == {"Name": "batch", "a_b": "c"}
    assert made["compute_environment"]["service_role"].endswith("/AWSServiceRoleForBatch")

    changed = instances(account, kind=kind, maxv_cpus=64, instance_types=["m5"]) | {"tags": {"Owner": "ml"}}
    _predicted, made = converge(ENVIRONMENT, changed)
    assert made["diff"]["before"]["computeResources"]["maxvCpus"] == 16
    (live,) = environment_of(account, "spot")
    assert live["computeResources"]["maxvCpus"] == 64
    assert live["computeResources"]["instanceTypes"] == ["m5"]
    assert live["tags"] == {"Owner": "ml"}

    _predicted, made = converge(ENVIRONMENT, {"name": "spot", "state": "absent"})
    assert made["compute_environment"] == {}
    assert environment_of(account, "spot") == []


@pytest.mark.parametrize("kind", ["FARGATE", "FARGATE_SPOT"])
def test_fargate_in_twelve_steps(converge, account, kind):
    predicted, _made = converge(ENVIRONMENT, fargate(account, type=kind))
    assert predicted["compute_environment"]["compute_resources"].keys() == {
        "type", "maxv_cpus", "subnets", "security_group_ids"
    }  # fmt: skip
    converge(ENVIRONMENT, fargate(account, type=kind, subnets=account.subnets[:1]))
    (live,) = environment_of(account, "fargate")
    assert live["computeResources"]["subnets"] == account.subnets[:1]
    converge(ENVIRONMENT, {"name": "fargate", "state": "absent"})


def test_prediction_on_an_empty_account(run_module, account, emulator):
    """In a check of the whole stack the network is only predicted."""
    args = instances(account, subnets=["(predicted) subnet"], security_group_ids=["(predicted) group"])
    before = emulator.mutations()
    environment = run_module(ENVIRONMENT, args, check=True)["compute_environment"]
    result = run_module(QUEUE, queue("spot", environment["compute_environment_arn"]), check=True)
    assert result["job_queue"]["job_queue_arn"] == f"{ARN}job-queue/flows"
    assert emulator.mutations() == before


def test_disabling_an_environment(converge, account):
    converge(ENVIRONMENT, fargate(account))
    converge(ENVIRONMENT, fargate(account) | {"compute_environment_state": "DISABLED"})
    assert environment_of(account, "fargate")[0]["state"] == "DISABLED"


@pytest.mark.parametrize(
    "resources",
    [{"instance_types": ["c5", "m5"]}, {"instance_role": "arn:aws:iam::123456789012:instance-profile/instance"}],
    ids=["order of types", "instance role by ARN"],
)
def test_what_means_the_same_changes_nothing(run_module, emulator, account, resources):
    args = instances(account, instance_role="arn:aws:iam::123456789012:instance-profile/instance")
    run_module(ENVIRONMENT, args)
    before = emulator.mutations()
    assert run_module(ENVIRONMENT, instances(account, **resources))["changed"] is False
    assert run_module(ENVIRONMENT, instances(account, desiredv_cpus=8))["changed"] is False, "AWS moves it itself"
    assert emulator.mutations() == before


def test_desired_vcpus_count_at_creation(run_module, account):
    run_module(ENVIRONMENT, instances(account, desiredv_cpus=4))
    assert environment_of(account, "spot")[0]["computeResources"]["desiredvCpus"] == 4


def test_the_order_of_types_counts_where_the_strategy_says_so(run_module, account):
    ordered = {"kind": "EC2", "allocation_strategy": "BEST_FIT_PROGRESSIVE_ORDERED"}
    run_module(ENVIRONMENT, instances(account, **ordered))
    assert run_module(ENVIRONMENT, instances(account, **ordered, instance_types=["c5", "m5"]))["changed"] is True
    assert environment_of(account, "spot")[0]["computeResources"]["instanceTypes"] == ["c5", "m5"]


def test_from_on_demand_to_spot(converge, account):
    converge(ENVIRONMENT, instances(account, kind="EC2"))
    converge(ENVIRONMENT, instances(account, kind="SPOT"))
    resources = environment_of(account, "spot")[0]["computeResources"]
    assert (resources["type"], resources["allocationStrategy"]) == ("SPOT", "SPOT_PRICE_CAPACITY_OPTIMIZED")


OWN_ROLE = {"service_role": "arn:aws:iam::123456789012:role/own"}


@pytest.mark.parametrize(
    ("made", "wanted", "message"),
    [
        (instances, fargate, "can't change type from instances to Fargate"),
        (fargate, lambda a, name: fargate(a, name, type="FARGATE_SPOT"), "can't change type of a Fargate environment"),
        (lambda a, name: instances(a, name) | OWN_ROLE, lambda a, name: instances(a, name, instance_types=["m5"]),
         "can't change instance_types without the service-linked role"),
        (lambda a, name: instances(a, name, "EC2", allocation_strategy="BEST_FIT"),
         lambda a, name: instances(a, name, "EC2", instance_types=["m5"]),
         "can't change instance_types with the allocation strategy BEST_FIT"),
        (fargate, lambda a, name: fargate(a, name) | OWN_ROLE,
         "can't change service_role from the service-linked role"),
    ],
    ids=["EC2 to Fargate", "Fargate to SPOT", "own role", "BEST_FIT", "service role"],
)  # fmt: skip
def test_what_aws_cannot_change_is_refused(run_module, emulator, account, made, wanted, message):
    run_module(ENVIRONMENT, made(account, "fixed"))
    before = emulator.mutations()
    for check in (True, False):
        result = run_module(ENVIRONMENT, wanted(account, "fixed"), check=check, fails=True)
        assert message in result["msg"]
        assert "Make an environment of another name" in result["msg"]
    assert emulator.mutations() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (lambda a: fargate(a, instance_types=["m5"], minv_cpus=1), "Fargate has no instance_types, minv_cpus."),
        (lambda a: fargate(a, desiredv_cpus=1), "Fargate has no desiredv_cpus."),
        (lambda a: without("instance_types", instances(a)), "instance_types"),
        (lambda a: without("security_group_ids", fargate(a)), "security_group_ids"),
        (lambda a: {"name": "fargate"}, "compute_resources"),
        (lambda a: instances(a, launch_template={"version": "1"}), "launch_template_id, launch_template_name"),
    ],
    ids=["not for Fargate", "desired on Fargate", "no types", "no groups", "no resources", "which template"],
)
def test_bad_input_is_named_and_nothing_touched(run_module, emulator, account, args, message):
    before = emulator.mutations()
    for check in (True, False):
        assert message in run_module(ENVIRONMENT, args(account), check=check, fails=True)["msg"]
    assert emulator.mutations() == before


def test_an_error_of_aws_names_the_resource(run_module, account):
    result = run_module(ENVIRONMENT, fargate(account, subnets=["subnet-00000000"]), fails=True)
    assert result["msg"].startswith("Failed to create Batch compute environment 'fargate'")
    assert "subnet-00000000" in result["msg"]


def test_an_environment_in_use_stays(run_module, emulator, account):
    run_module(ENVIRONMENT, fargate(account))
    run_module(QUEUE, queue("fargate"))
    before = emulator.mutations()
    result = run_module(ENVIRONMENT, {"name": "fargate", "state": "absent"}, fails=True)
    assert "job queue flows still uses it" in result["msg"]
    assert emulator.mutations() == before
    assert environment_of(account, "fargate")[0]["state"] == "ENABLED"


# Job queues


@pytest.fixture
def environments(run_module, account):
    """Two environments, ``fargate`` and ``second``."""
    for name in ("fargate", "second"):
        run_module(ENVIRONMENT, fargate(account, name))


def test_queue_in_twelve_steps(converge, account, environments):
    predicted, made = converge(QUEUE, queue("fargate", f"{ARN}compute-environment/second", tags={"a_b": "c"}))
    for result in (predicted["job_queue"], made["job_queue"]):
        assert result["job_queue_arn"] == f"{ARN}job-queue/flows"
        assert result["status"] == "VALID"
        assert result["tags"] == {"a_b": "c"}
        assert result["compute_environment_order"] == [
            {"order": 1, "compute_environment": f"{ARN}compute-environment/fargate"},
            {"order": 2, "compute_environment": f"{ARN}compute-environment/second"},
        ]

    converge(QUEUE, queue("second", "fargate", priority=5, tags={"Owner": "ml"}))
    (live,) = queue_of(account)
    assert live["priority"] == 5
    assert [item["computeEnvironment"].rsplit("/")[-1] for item in live["computeEnvironmentOrder"]] == [
        "second",
        "fargate",
    ]
    assert live["tags"] == {"Owner": "ml"}

    converge(QUEUE, {"name": "flows", "state": "absent"})
    assert queue_of(account) == []


def test_disabling_a_queue(converge, account, environments):
    converge(QUEUE, queue("fargate"))
    converge(QUEUE, queue("fargate", job_queue_state="DISABLED"))
    assert queue_of(account)[0]["state"] == "DISABLED"


def test_other_numbers_in_the_same_order_change_nothing(run_module, emulator, account, environments):
    """Terraform and the console number from 0 or 1 as they like."""
    order = [{"order": 10, "computeEnvironment": "fargate"}, {"order": 20, "computeEnvironment": "second"}]
    account.batch.create_job_queue(jobQueueName="flows", state="ENABLED", priority=1, computeEnvironmentOrder=order)
    before = emulator.mutations()
    assert run_module(QUEUE, queue("fargate", "second"))["changed"] is False
    assert emulator.mutations() == before


def test_a_missing_environment_is_named(run_module, emulator, account, environments):
    before = emulator.mutations()
    result = run_module(QUEUE, queue("fargate", "third"), fails=True)
    assert f"there is no compute environment {ARN}compute-environment/third" in result["msg"]
    assert emulator.mutations() == before


def test_a_queue_without_policy_gets_none(run_module, emulator, account, environments):
    run_module(QUEUE, queue("fargate"))
    before = emulator.mutations()
    policy = f"{ARN}scheduling-policy/fair"
    for check in (True, False):
        result = run_module(QUEUE, queue("fargate", scheduling_policy_arn=policy), check=check, fails=True)
        assert "made without a scheduling policy" in result["msg"]
    assert emulator.mutations() == before


def test_stack_from_nothing_to_nothing(run_module, account):
    """Deleted in the order of a teardown, environments right after their queue."""
    run_module(ENVIRONMENT, fargate(account))
    run_module(QUEUE, queue("fargate"))
    run_module(QUEUE, {"name": "flows", "state": "absent"})
    run_module(ENVIRONMENT, {"name": "fargate", "state": "absent"})
    assert queue_of(account) == environment_of(account, "fargate") == []
