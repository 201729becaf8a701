# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules that say why jobs stay RUNNABLE: each cause by a table of what is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import diagnosis, job_fit
from ansible_collections.mlops.metaflow.plugins.module_utils.diagnosis import (
    Environment,
    Group,
    Job,
    Queue,
    Quota,
    Subnet,
)

LARGE = job_fit.Machine("m5.large", 2, 7750)
HUGE = job_fit.Machine("m5.4xlarge", 16, 62200)
PUBLIC_WEB = Group("sg-1", (("-1", 0, 65535, "0.0.0.0/0"),))
PRIVATE = Subnet("subnet-1", "nat-1")
ALL_ENDPOINTS = diagnosis.ENDPOINTS_OF_AGENT | diagnosis.ENDPOINTS_OF_JOBS

EC2 = Environment("ec2", job_fit.Environment("ec2", "EC2", 8, (LARGE, HUGE)), subnets=(PRIVATE,), groups=(PUBLIC_WEB,))
SPOT = Environment("spot", job_fit.Environment("spot", "SPOT", 8, (LARGE,)), subnets=(PRIVATE,), groups=(PUBLIC_WEB,))
FARGATE = Environment(
    "fargate", job_fit.Environment("fargate", "FARGATE", 8), subnets=(Subnet("s", "igw-1", "", True),)
)
QUEUE = Queue("flows", ("ec2",))


def job(vcpus=1, memory=512, gpus=0, name="train", **fields):
    request = job_fit.Request(name, name, "flows", vcpus, memory, gpus)
    return Job(id=f"id-{name}", name=name, queue="flows", request=request, image="python:3.12", **fields)


def causes(queue=QUEUE, environments=(EC2,), jobs=None):
    """Return {cause: finding} of the findings that hold a job."""
    found = diagnosis.diagnose([queue], list(environments), [job()] if jobs is None else jobs)
    return {finding.cause: finding for finding in found if finding.jobs}


ENVIRONMENT_CASES = [
    ("disabled", {"state": "DISABLED"}, "environment_disabled", "It is DISABLED"),
    (
        "invalid",
        {"status": "INVALID", "status_reason": "CLIENT_ERROR - no such group"},
        "environment_invalid",
        "CLIENT_ERROR - no such group",
    ),
    ("no profile", {"profile_problem": "Its instance profile x does not exist."}, "instance_profile", "does not exist"),
    ("no route", {"subnets": (Subnet("subnet-1"),)}, "no_route", "subnet-1 has no default route"),
    ("no subnet", {"subnets": (Subnet("subnet-1", broken="gone"),)}, "no_route", "subnet-1 does not exist"),
    ("NAT failed", {"subnets": (Subnet("subnet-1", "nat-1", "failed"),)}, "no_route", "nat-1, which is failed"),
    (
        "black hole",
        {"subnets": (Subnet("s", "nat-1", "gone (the route is a black hole)"),)},
        "no_route",
        "a black hole",
    ),
    ("no address", {"subnets": (Subnet("s", "igw-1"),)}, "no_route", "gives instances no public address"),
    (
        "endpoints missing",
        {"subnets": (Subnet("s", endpoints=ALL_ENDPOINTS - {"ecs-telemetry", "s3"}),)},
        "no_route",
        "lacks the VPC endpoints ecs-telemetry, s3",
    ),
    ("no egress", {"groups": (Group("sg-9"),)}, "no_egress", "sg-9"),
    ("egress of UDP", {"groups": (Group("sg-9", (("udp", 0, 65535, "0.0.0.0/0"),)),)}, "no_egress", "sg-9"),
    ("egress to the VPC", {"groups": (Group("sg-9", (("tcp", 443, 443, "10.0.0.0/8"),)),)}, "no_egress", "sg-9"),
    ("agents", {"agents": (3, 0)}, "agent_disconnected", "all its 3 instances"),
    ("quota at launch", {"launch_failures": ("… VcpuLimitExceeded …",)}, "quota", "VcpuLimitExceeded"),
    (
        "launch by profile",
        {"launch_failures": ("Invalid IAM Instance Profile name",)},
        "instance_profile",
        "could not start an instance",
    ),
    ("launch", {"launch_failures": ("The image id does not exist",)}, "launch_failed", "The image id does not exist"),
    (
        "quota",
        {"quotas": {"m5.large": Quota("L-1", "Standard", 1), "m5.4xlarge": Quota("L-1", "Standard", 1)}},
        "quota",
        "L-1 (Standard) is 1 vCPUs, of which 0 run; the smallest machine for the job has 2",
    ),
]


@pytest.mark.parametrize(
    ("broken", "cause", "said"), [case[1:] for case in ENVIRONMENT_CASES], ids=lambda v: str(v)[:20]
)
def test_what_is_broken_of_an_environment_holds_its_jobs_for_ever(broken, cause, said):
    found = causes(environments=[replace(EC2, **broken)])
    assert list(found) == [cause]
    assert said in found[cause].problem
    assert found[cause].lasting
    assert found[cause].jobs == ("id-train",)
    assert found[cause].mend


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ({"subnets": (Subnet("s", endpoints=ALL_ENDPOINTS),)}, "VPC endpoints"),
        ({"subnets": (Subnet("s", "igw-1", "", True),)}, "public subnet"),
        ({"subnets": (Subnet("s", "tgw-1"),)}, "transit gateway"),
        (
            {
                "subnets": (Subnet("s", endpoints=ALL_ENDPOINTS),),
                "groups": (Group("g", (("tcp", 443, 443, "10.0.0.0/8"),)),),
            },
            "endpoints in the VPC",
        ),
        ({"groups": ()}, "groups of the launch template"),
        ({"agents": (3, 1)}, "one agent is connected"),
        (
            {"quotas": {"m5.large": Quota("L-1", "n", 2), "m5.4xlarge": Quota("L-1", "n", 2)}},
            "the smaller machine is within the quota",
        ),
        ({"busy": 7}, "room for one"),
    ],
)
def test_what_is_sound_of_an_environment_holds_nothing(kept, why):
    assert list(causes(environments=[replace(EC2, **kept)])) == ["machine_starting"], why


JOB_CASES = [
    ("memory", job(memory=100000), {}, "no_fitting_instance_type", "m5.4xlarge", True),
    ("vCPUs", job(vcpus=32), {}, "no_fitting_instance_type", "m5.4xlarge (16 vCPUs", True),
    ("GPU", job(gpus=1), {}, "no_fitting_instance_type", "1 GPU", True),
    ("Fargate job", job(on_fargate=True), {}, "no_fitting_instance_type", "the job is for Fargate", True),
    ("max vCPUs", job(vcpus=16), {}, "max_vcpus_too_low", "asks for 16 vCPUs, and there may be 8 in ec2", True),
    ("all busy", job(vcpus=2), {"busy": 7}, "max_vcpus_reached", "7 of 8 in ec2", False),
    ("capacity", job(), {"launch_failures": ("InsufficientInstanceCapacity",)}, "no_capacity", "Insufficient", False),
    (
        "quota in use",
        job(),
        {"quotas": {"m5.large": Quota("L", "n", 4, 3), "m5.4xlarge": Quota("L", "n", 4, 3)}},
        "quota",
        "of which 3 run",
        False,
    ),
    (
        "Batch: capacity",
        job(status_reason="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - x"),
        {},
        "no_capacity",
        "Batch says: CAPACITY",
        False,
    ),
    (
        "Batch: role",
        job(status_reason="MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS - x"),
        {},
        "misconfiguration",
        "SERVICE_ROLE_PERMISSIONS",
        True,
    ),
    ("new", job(waited=60), {}, "machine_starting", "1 minutes only", False),
    (
        "unknown",
        job(waited=3600, status_reason="UNDETERMINED - x"),
        {},
        "undetermined",
        "Batch says: UNDETERMINED",
        False,
    ),
]


@pytest.mark.parametrize(("one", "broken", "cause", "said", "lasting"), [case[1:] for case in JOB_CASES])
def test_each_job_that_waits_has_a_cause(one, broken, cause, said, lasting):
    found = causes(environments=[replace(EC2, **broken)], jobs=[one])
    assert list(found) == [cause]
    assert said in found[cause].problem
    assert found[cause].lasting is lasting


def test_spot_without_capacity_is_told_from_ec2_without():
    failing = replace(SPOT, launch_failures=("Could not launch Spot Instances. UnfulfillableCapacity - …",))
    found = causes(Queue("flows", ("spot",)), [failing])
    assert list(found) == ["no_spot_capacity"]
    assert not found["no_spot_capacity"].lasting


def test_a_job_is_held_only_where_all_environments_that_would_do_are_broken():
    queue = Queue("flows", ("spot", "ec2"))
    broken = replace(SPOT, state="DISABLED")
    found = diagnosis.diagnose([queue], [broken, EC2], [job()])
    assert {finding.cause: finding.jobs for finding in found} == {
        "machine_starting": ("id-train",),
        "environment_disabled": (),
    }
    both = causes(queue, [broken, replace(EC2, status="INVALID")])
    assert set(both) == {"environment_disabled", "environment_invalid"}
    # What has no room for the job doesn't count.
    large = causes(queue, [broken, EC2], [job(memory=30000)])
    assert list(large) == ["machine_starting"]


def test_one_of_two_subnets_without_a_way_out_is_told_and_holds_nothing():
    found = diagnosis.diagnose([QUEUE], [replace(EC2, subnets=(PRIVATE, Subnet("subnet-2")))], [job()])
    assert {finding.cause: finding.jobs for finding in found} == {"machine_starting": ("id-train",), "no_route": ()}


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        ({"state": "DISABLED"}, "queue_disabled"),
        ({"status": "INVALID", "status_reason": "x"}, "queue_invalid"),
        ({"environments": ()}, "queue_empty"),
    ],
)
def test_what_is_broken_of_a_queue_is_told(broken, cause):
    assert cause in causes(replace(QUEUE, **broken))


def test_a_mend_names_what_it_is_for():
    found = causes(replace(QUEUE, state="DISABLED"), environments=[replace(EC2, state="DISABLED")])
    assert "--job-queue flows --state ENABLED" in found["queue_disabled"].mend
    assert f"--compute-environment {EC2.name} --state ENABLED" in found["environment_disabled"].mend


def test_a_queue_starts_its_jobs_in_their_order():
    found = causes(jobs=[job(memory=100000, name="big"), job(name="small")])
    assert found["no_fitting_instance_type"].jobs == ("id-big",)
    assert found["behind_a_stuck_job"].jobs == ("id-small",)
    assert "big (id-big)" in found["behind_a_stuck_job"].problem
    assert not found["behind_a_stuck_job"].lasting


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image_problem": "There is no repository x."}, "There is no repository x."),
        ({"reasons": ("OutOfMemory", "CannotPullContainerError: not found")}, "ECS said: CannotPullContainerError"),
    ],
)
@pytest.mark.parametrize("status", ["RUNNABLE", "STARTING", "FAILED"])
def test_an_image_that_can_not_be_pulled_is_told_whatever_the_job_s_status(fields, said, status):
    found = causes(jobs=[job(status=status, **fields)])
    assert said in found["image_not_pullable"].problem


def test_fargate_knows_sizes_quota_and_route():
    queue = Queue("flows", ("fargate",))
    fits = job(vcpus=1, memory=2048, on_fargate=True)
    assert list(causes(queue, [FARGATE], [fits])) == ["machine_starting"]
    assert (
        "the next size is 2048"
        in causes(queue, [FARGATE], [job(vcpus=1, memory=500, on_fargate=True)])["no_fitting_instance_type"].problem
    )
    assert "quota" in causes(queue, [replace(FARGATE, quotas={"": Quota("L-3", "Fargate", 0.5)})], [fits])
    assert "no_route" in causes(queue, [replace(FARGATE, subnets=(Subnet("s"),))], [fits])


def test_what_holds_jobs_comes_first_and_what_lasts_before_what_passes():
    broken = replace(SPOT, state="DISABLED")
    found = diagnosis.diagnose(
        [Queue("flows", ("ec2",)), Queue("other", ("spot",))],
        [EC2, broken],
        [job(memory=100000, name="big"), job(name="small")],
    )
    assert [finding.cause for finding in found] == [
        "no_fitting_instance_type",
        "behind_a_stuck_job",
        "environment_disabled",
    ]


def test_every_cause_has_a_mend_and_a_place_in_the_documentation():
    from ansible_collections.mlops.metaflow.plugins.modules import batch_diagnose

    assert [cause for cause in diagnosis.MENDS if f"V({cause})" not in batch_diagnose.RETURN] == []
