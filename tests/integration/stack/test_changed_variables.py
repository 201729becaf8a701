"""What a run does about changed variables, and about what was changed by hand, in network, identity and Batch.

One stack of these three components serves all tests of the file: a run takes ten seconds of a processor.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from emulated_aws import Emulator
from stack_runs import Run, Stack

pytestmark = pytest.mark.xdist_group("changed-variables")

COMPONENTS = {"network", "identity", "batch"}
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}

EC2 = {"name": "ec2", "type": "EC2", "maxv_cpus": 4, "instance_types": ["c6i"]}
GPU = {"name": "gpu", "type": "EC2", "maxv_cpus": 4, "instance_types": ["g5"]}
QUEUE = {"name": "", "compute_environments": ["ec2"]}
GPU_QUEUE = {"name": "gpu", "compute_environments": ["gpu"]}

BEFORE = {
    "network_nat_gateways": 2,
    "identity_permissions_boundary": BOUNDARY,
    "identity_author_role_names": ["author"],
    "batch_compute_environments": [EC2, GPU],
    "batch_job_queues": [QUEUE, GPU_QUEUE],
}
AFTER = {
    "network_nat_gateways": "1",  # the command line gives text
    "identity_author_role_names": ["author"],
    "batch_compute_environments": [EC2 | {"maxv_cpus": "8"}],
    "batch_job_queues": [QUEUE],
}


def converge(stack: Stack, variables: dict[str, Any], *options: str) -> Run:
    return stack.run("--tags", ",".join(COMPONENTS), "--diff", *options, **variables)


@pytest.fixture(scope="module")
def before(stack: Stack, account: Emulator) -> Stack:
    """The three components with the variables of BEFORE, and a role of somebody who writes flows."""
    iam = account.client("iam")
    iam.create_role(RoleName="author", AssumeRolePolicyDocument=json.dumps(TRUST), Description="Somebody's")
    iam.attach_role_policy(RoleName="author", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    iam.create_policy(
        PolicyName="boundary",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
        ),
    )
    assert converge(stack, BEFORE).succeeded().changed == COMPONENTS
    return stack


def damage(account: Emulator) -> None:
    """Change by hand what the network is made of: a subnet, and the route tables of the endpoint."""
    ec2 = account.client("ec2")
    subnet = named(ec2.describe_subnets()["Subnets"], "metaflow-local-private-2")
    ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"], RemoveRouteTableIds=endpoint["RouteTableIds"][:1])


def make_decoys(account: Emulator) -> None:
    """Make what is not the stack's, with names like the stack's."""
    name = [{"Key": "Name", "Value": "metaflow-local-nat-3"}]
    account.client("ec2").allocate_address(
        Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": name}]
    )


@pytest.fixture(scope="module")
def runs(before: Stack, account: Emulator) -> dict[str, Run]:
    """Runs with the variables of AFTER: checked, real, and again."""
    damage(account)
    make_decoys(account)
    account.request("POST", "/_emulator/calls/reset")
    checked = converge(before, AFTER, "--check").succeeded()
    assert account.mutations() == []
    return {
        "checked": checked,
        "real": converge(before, AFTER).succeeded(),
        "again": converge(before, AFTER).succeeded(),
    }


def named(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the resource of EC2 that has a name."""
    (one,) = [resource for resource in found if name_of(resource) == name]
    return one


def name_of(resource: dict[str, Any]) -> str:
    return next((tag["Value"] for tag in resource.get("Tags", []) if tag["Key"] == "Name"), "")


def test_check_mode_names_each_change(runs: dict[str, Run]) -> None:
    assert runs["checked"].changed == COMPONENTS
    for change in (
        "SubnetIds",
        "subnet-predicted",
        "RouteTableIds",
        "Remove the surplus NAT gateways",
        "Take away the permissions boundary",
        "Batch job queue metaflow-local-gpu",
        "Batch compute environment metaflow-local-gpu",
    ):
        assert change in runs["checked"].output, change


def test_a_second_run_changes_nothing(runs: dict[str, Run]) -> None:
    assert runs["real"].changed == COMPONENTS
    assert runs["again"].changed == set()


def test_the_second_nat_gateway_goes_when_one_is_enough(runs: dict[str, Run], account: Emulator) -> None:
    ec2 = account.client("ec2")
    gateways = [one for one in ec2.describe_nat_gateways()["NatGateways"] if one["State"] != "deleted"]
    assert [name_of(one) for one in gateways] == ["metaflow-local-nat-1"]
    addresses = {name_of(one) for one in ec2.describe_addresses()["Addresses"]}
    assert addresses == {"metaflow-local-nat-1", "metaflow-local-nat-3"}, "what has not our tags is not ours"
    for name in ("metaflow-local-private-1", "metaflow-local-private-2"):
        routes = named(ec2.describe_route_tables()["RouteTables"], name)["Routes"]
        (out,) = [route["NatGatewayId"] for route in routes if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
        assert out == gateways[0]["NatGatewayId"]


def test_a_subnet_that_was_deleted_by_hand_is_made_again(runs: dict[str, Run], account: Emulator) -> None:
    ec2 = account.client("ec2")
    subnet = named(ec2.describe_subnets()["Subnets"], "metaflow-local-private-2")
    table = named(ec2.describe_route_tables()["RouteTables"], "metaflow-local-private-2")
    assert [association["SubnetId"] for association in table["Associations"]] == [subnet["SubnetId"]]
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert len(endpoint["RouteTableIds"]) == 3


def test_a_boundary_that_is_no_longer_asked_for_is_taken_away(runs: dict[str, Run], account: Emulator) -> None:
    roles = account.client("iam").list_roles()["Roles"]
    ours = [role["RoleName"] for role in roles if role["RoleName"].startswith("metaflow-local-")]
    assert len(ours) == 6
    for name in ours:
        assert "PermissionsBoundary" not in account.client("iam").get_role(RoleName=name)["Role"], name


def test_an_author_gets_the_policy_and_nothing_else_changes(runs: dict[str, Run], account: Emulator) -> None:
    iam = account.client("iam")
    attached = {one["PolicyName"] for one in iam.list_attached_role_policies(RoleName="author")["AttachedPolicies"]}
    assert attached == {"metaflow-local-flow-author", "ReadOnlyAccess"}
    role = iam.get_role(RoleName="author")["Role"]
    assert (role["AssumeRolePolicyDocument"], role["Description"], role.get("Tags")) == (TRUST, "Somebody's", None)
    profiles = iam.list_instance_profiles_for_role(RoleName="author")["InstanceProfiles"]
    assert profiles == []


def test_what_is_no_longer_listed_is_removed_from_batch(runs: dict[str, Run], account: Emulator) -> None:
    batch = account.client("batch")
    assert [queue["jobQueueName"] for queue in batch.describe_job_queues()["jobQueues"]] == ["metaflow-local"]
    (environment,) = batch.describe_compute_environments()["computeEnvironments"]
    assert environment["computeEnvironmentName"] == "metaflow-local-ec2"
    assert environment["computeResources"]["maxvCpus"] == 8


def test_destroy_removes_what_is_not_listed_and_names_what_somebody_else_tagged(
    runs: dict[str, Run], before: Stack, account: Emulator
) -> None:
    ours = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "local"}
    account.client("logs").create_log_group(logGroupName="notes", tags=ours)
    run = before.destroy(confirm="local", batch_compute_environments=[GPU], batch_job_queues=[GPU_QUEUE | {"name": ""}])
    said = run.refused()
    left = "Of the stack metaflow-local is left: arn:aws:logs:us-east-1:123456789012:log-group:notes. Run destroy again"
    assert left in said
    assert "Unknown error" not in run.output
    assert account.client("batch").describe_compute_environments()["computeEnvironments"] == []
