"""What AWS Batch can't change in a compute environment that exists."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import diff
from ansible_collections.mlops.metaflow.plugins.module_utils.compute_environment import is_service_linked, obstacles

LINKED = "arn:aws:iam::123456789012:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"
OWN = "arn:aws:iam::123456789012:role/batch"


def environment(role=LINKED, kind="MANAGED", **resources):
    return {"type": kind, "serviceRole": role, "computeResources": resources}


def ec2(role=LINKED, **keys):
    return environment(role, **{"type": "EC2", "allocationStrategy": "BEST_FIT_PROGRESSIVE", "maxvCpus": 4, **keys})


def fargate(role=LINKED, **keys):
    return environment(role, **{"type": "FARGATE", "maxvCpus": 4, **keys})


# name, live, desired, keys that can't change
CASES = [
    ("nothing", ec2(), ec2(), set()),
    ("vCPUs", ec2(), ec2(maxvCpus=8, minvCpus=1), set()),
    ("instances", ec2(), ec2(instanceTypes=["m6i"], launchTemplate={"version": "2"}, tags={}), set()),
    ("EC2 to SPOT", ec2(), ec2(type="SPOT", allocationStrategy="SPOT_CAPACITY_OPTIMIZED"), set()),
    ("fleet role", ec2(), ec2(spotIamFleetRole="r"), {"spotIamFleetRole"}),
    ("vCPUs with a role of one's own", ec2(OWN), ec2(OWN, maxvCpus=8), set()),
    ("instances with a role of one's own", ec2(OWN), ec2(OWN, maxvCpus=8, instanceTypes=["m6i"]), {"instanceTypes"}),
    ("another role of one's own", ec2(OWN), ec2(OWN + "2"), set()),
    ("from one's own role to the service-linked", ec2(OWN), ec2(LINKED), {"serviceRole"}),
    ("from the service-linked role to one's own", ec2(LINKED), ec2(OWN), {"serviceRole"}),
    ("vCPUs under BEST_FIT", ec2(allocationStrategy="BEST_FIT"), ec2(allocationStrategy="BEST_FIT", maxvCpus=8), set()),
    ("instances under BEST_FIT", ec2(allocationStrategy="BEST_FIT"),
     ec2(allocationStrategy="BEST_FIT", instanceTypes=["m6i"]), {"instanceTypes"}),
    ("away from BEST_FIT", ec2(allocationStrategy="BEST_FIT"), ec2(), {"allocationStrategy"}),
    ("to BEST_FIT", ec2(), ec2(allocationStrategy="BEST_FIT"), {"allocationStrategy"}),
    ("Fargate's network", fargate(), fargate(maxvCpus=8, subnets=["s"], securityGroupIds=["g"]), set()),
    ("Fargate's network with a role of one's own", fargate(OWN), fargate(OWN, subnets=["s"]), set()),
    ("Fargate to SPOT", fargate(), fargate(type="FARGATE_SPOT"), {"type"}),
    ("Fargate to instances", fargate(), ec2(minvCpus=0), {"type", "allocationStrategy", "minvCpus"}),
    ("instances to Fargate", ec2(), fargate(), {"type"}),
    ("unmanaged", {"type": "UNMANAGED", "serviceRole": LINKED}, ec2(), {"type"}),
    ("two at once", ec2(LINKED), ec2(OWN, spotIamFleetRole="r"), {"serviceRole", "spotIamFleetRole"}),
]  # fmt: skip


@pytest.mark.parametrize(("live", "desired", "stuck"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_obstacles(live, desired, stuck):
    found = obstacles(live, desired, diff.changes(desired, live))
    assert set().union(*(keys for keys, _reason in found)) == stuck


@pytest.mark.parametrize(
    ("role", "expected"),
    [(None, True), ("", True), (LINKED, True), ("AWSServiceRoleForBatch", True), (OWN, False), ("batch", False)],
)
def test_is_service_linked(role, expected):
    assert is_service_linked(role) is expected
