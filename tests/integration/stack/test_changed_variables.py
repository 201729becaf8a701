"""The network alone: what is changed in it by hand or by its variables."""

from __future__ import annotations

from typing import Any

import pytest
from emulated_aws import Emulator
from stack_runs import Run, Stack

pytestmark = pytest.mark.xdist_group("network")


@pytest.fixture(scope="module")
def network(stack: Stack) -> Stack:
    """The network of the environment, with a NAT gateway in each zone."""
    converge(stack, network_nat_gateways=2).succeeded()
    return stack


@pytest.fixture
def ec2(account: Emulator) -> Any:
    return account.client("ec2")


def converge(stack: Stack, *options: str, **variables: Any) -> Run:
    return stack.run("--tags", "network", "--diff", *options, **variables)


def nat_gateways(ec2: Any) -> list[str]:
    """Return the names of the NAT gateways that are there."""
    found = ec2.describe_nat_gateways()["NatGateways"]
    return sorted(name_of(gateway) for gateway in found if gateway["State"] != "deleted")


def addresses(ec2: Any) -> list[str]:
    return sorted(name_of(address) for address in ec2.describe_addresses()["Addresses"])


def name_of(resource: dict[str, Any]) -> str:
    return next((tag["Value"] for tag in resource.get("Tags", []) if tag["Key"] == "Name"), "")


def way_out(ec2: Any, table: str) -> str:
    """Return where a route table sends what is for the Internet."""
    (found,) = ec2.describe_route_tables(Filters=[{"Name": "tag:Name", "Values": [table]}])["RouteTables"]
    (route,) = [route for route in found["Routes"] if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
    return route.get("NatGatewayId") or route["GatewayId"]


def named(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (one,) = [resource for resource in found if name_of(resource) == name]
    return one


def damage(ec2: Any) -> None:
    """Change by hand what the network is made of: a subnet, and the route tables of the endpoint."""
    subnet = named(ec2.describe_subnets()["Subnets"], "metaflow-local-private-2")
    ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"], RemoveRouteTableIds=endpoint["RouteTableIds"][:1])


@pytest.fixture(scope="module")
def runs(network: Stack, account: Emulator) -> dict[str, Run]:
    """Three runs on the damaged network that is to have one NAT gateway: checked, real, and again."""
    ec2 = account.client("ec2")
    damage(ec2)
    others = [{"Key": "Name", "Value": "metaflow-local-nat-3"}]
    ec2.allocate_address(Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": others}])
    account.request("POST", "/_emulator/calls/reset")
    checked = converge(network, "--check", network_nat_gateways="1")
    assert account.mutations() == []
    return {
        "checked": checked.succeeded(),
        # Of the command line a number comes as text.
        "real": converge(network, network_nat_gateways="1").succeeded(),
        "again": converge(network).succeeded(),
    }


def test_check_mode_names_what_is_damaged_or_too_much(runs: dict[str, Run]) -> None:
    assert runs["checked"].changed == {"network"}
    for change in ("SubnetIds", "subnet-predicted", "RouteTableIds", "Remove the surplus NAT gateways"):
        assert change in runs["checked"].output, change


def test_a_second_run_changes_nothing(runs: dict[str, Run]) -> None:
    assert (runs["real"].changed, runs["again"].changed) == ({"network"}, set())


def test_the_second_nat_gateway_goes_when_one_is_enough(runs: dict[str, Run], ec2: Any) -> None:
    assert nat_gateways(ec2) == ["metaflow-local-nat-1"]
    assert addresses(ec2) == ["metaflow-local-nat-1", "metaflow-local-nat-3"], "without our tags it is not ours"
    assert way_out(ec2, "metaflow-local-private-1") == way_out(ec2, "metaflow-local-private-2")


def test_a_subnet_that_was_deleted_by_hand_is_made_again(runs: dict[str, Run], ec2: Any) -> None:
    subnet = named(ec2.describe_subnets()["Subnets"], "metaflow-local-private-2")
    table = named(ec2.describe_route_tables()["RouteTables"], "metaflow-local-private-2")
    assert [association["SubnetId"] for association in table["Associations"]] == [subnet["SubnetId"]]
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert len(endpoint["RouteTableIds"]) == 3
