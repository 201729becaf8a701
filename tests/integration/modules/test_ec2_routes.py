# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules ec2_route_table and ec2_gateway_endpoint against the emulator."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from steps import Module

OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}
S3 = "com.amazonaws.us-east-1.s3"


def make_network(emulator):
    """Make a VPC with two subnets, an internet gateway and a NAT gateway in the empty account."""
    emulator.reset()
    ec2 = emulator.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{n}.0/24")["Subnet"]["SubnetId"] for n in range(2)]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    nat = ec2.create_nat_gateway(SubnetId=subnets[0], ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    return SimpleNamespace(ec2=ec2, vpc=vpc, subnets=subnets, gateway=gateway, nat=nat)


@pytest.fixture
def network(emulator):
    return make_network(emulator)


@pytest.fixture
def route_table(network, run_module, emulator):
    return Module(run_module, emulator, "ec2_route_table")


@pytest.fixture
def endpoint(network, run_module, emulator):
    return Module(run_module, emulator, "ec2_gateway_endpoint")


def table(network, **more):
    """Return the arguments of a route table."""
    routes = [{"destination_cidr_block": "0.0.0.0/0", "gateway_id": network.gateway}]
    own = {"name": "staging-public", "vpc_id": network.vpc, "routes": routes, "tags": OURS, "wait_timeout": 20}
    return own | {"subnet_ids": network.subnets} | more


def to_s3(network, *tables, **more):
    """Return the arguments of an endpoint."""
    own = {"name": "staging-s3", "vpc_id": network.vpc, "service_name": S3, "tags": OURS, "wait_timeout": 20}
    return own | {"route_table_ids": list(tables)} | more


def tables(network):
    """Return the route tables of the VPC but for its main one."""
    found = network.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [network.vpc]}])["RouteTables"]
    return [one for one in found if not any(association["Main"] for association in one["Associations"])]


def shape(one):
    """Return of a described table what a person sees of it: routes, subnets, tags."""
    targets = ("GatewayId", "NatGatewayId", "NetworkInterfaceId")
    routes = {
        route.get("DestinationCidrBlock", "prefix list"): next(route[key] for key in targets if route.get(key))
        for route in one["Routes"]
    }
    subnets = sorted(association["SubnetId"] for association in one["Associations"])
    return routes, subnets, {tag["Key"]: tag["Value"] for tag in one["Tags"]}


def other_table(network, subnet=None):
    """Make a route table of somebody else, with a subnet."""
    made = network.ec2.create_route_table(VpcId=network.vpc)["RouteTable"]["RouteTableId"]
    if subnet:
        network.ec2.associate_route_table(RouteTableId=made, SubnetId=subnet)
    return made


def test_a_route_table_in_twelve_steps(route_table, network):
    made = route_table.change(table(network))["route_table"]
    (live,) = tables(network)
    local = {"10.20.0.0/16": "local"}
    name = {"Name": "staging-public"}
    assert made["route_table_id"] == live["RouteTableId"]
    assert shape(live) == (local | {"0.0.0.0/0": network.gateway}, sorted(network.subnets), OURS | name)

    routes = [
        {"destination_cidr_block": "0.0.0.0/0", "nat_gateway_id": network.nat},
        {"destination_cidr_block": "198.51.100.0/24", "gateway_id": network.gateway},
    ]
    changed = table(network, routes=routes, subnet_ids=network.subnets[:1], tags=OURS | {"team": "ml"})
    assert route_table.change(changed)["route_table"]["route_table_id"] == made["route_table_id"]
    (live,) = tables(network)
    assert shape(live) == (
        local | {"0.0.0.0/0": network.nat, "198.51.100.0/24": network.gateway},
        network.subnets[:1],
        OURS | name | {"team": "ml"},
    )

    assert route_table.change({"name": "staging-public", "vpc_id": network.vpc, "state": "absent"})["route_table"] == {}
    assert tables(network) == []


def test_check_mode_predicts_where_subnets_and_gateways_are_not_there_yet(route_table, network):
    absent = {"subnet_ids": ["subnet-predicted"], "vpc_id": "vpc-predicted"}
    predicted = route_table.run(table(network, **absent), check=True)["route_table"]
    assert predicted["route_table_id"] == "rtb-predicted"
    assert predicted["subnet_ids"] == ["subnet-predicted"]

    route_table.run(table(network))
    network.ec2.delete_route(RouteTableId=tables(network)[0]["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
    lost = table(network, subnet_ids=[network.subnets[0], "subnet-predicted"])
    assert "subnet-predicted" in route_table.run(lost, check=True)["route_table"]["subnet_ids"]


def test_a_subnet_is_taken_from_another_table_without_a_moment_in_neither(route_table, network, emulator):
    other_table(network, network.subnets[0])
    route_table.change(table(network))
    assert "DisassociateRouteTable" not in {call["action"] for call in emulator.mutations()}
    other, own = sorted(tables(network), key=lambda one: len(one["Associations"]))
    assert shape(other)[1] == []
    assert shape(own)[1] == sorted(network.subnets)


def test_routes_of_others_stay_when_they_are_not_to_be_purged(route_table, network):
    route_table.run(table(network))
    own = tables(network)[0]["RouteTableId"]
    network.ec2.create_route(RouteTableId=own, DestinationCidrBlock="198.51.100.0/24", NatGatewayId=network.nat)
    route_table.run(table(network, purge_routes=False), changes=False)
    route_table.change(table(network))
    assert "198.51.100.0/24" not in shape(tables(network)[0])[0]


def test_the_route_of_an_endpoint_is_no_difference(route_table, endpoint, network):
    made = route_table.run(table(network))["route_table"]["route_table_id"]
    endpoint.run(to_s3(network, made))
    route_table.run(table(network), changes=False)


def test_what_has_lost_its_name_is_deleted_by_its_id(route_table, endpoint, network):
    foreign = other_table(network, network.subnets[0])
    made = route_table.run(table(network, subnet_ids=network.subnets[1:]))["route_table"]["route_table_id"]
    gateway = endpoint.run(to_s3(network, made))["vpc_endpoint"]["vpc_endpoint_id"]
    network.ec2.delete_tags(Resources=[made, gateway], Tags=[{"Key": "Name"}])
    for module, identifier in ((endpoint, gateway), (route_table, made)):
        module.change({"name": identifier, "vpc_id": network.vpc, "state": "absent"})
    assert [one["RouteTableId"] for one in tables(network)] == [foreign]
    assert network.ec2.describe_vpc_endpoints()["VpcEndpoints"] == []


def test_a_name_that_several_have_is_refused(route_table, network):
    for _ in range(2):
        network.ec2.create_tags(Resources=[other_table(network)], Tags=[{"Key": "Name", "Value": "staging-public"}])
    assert f"2 have this name in {network.vpc}: rtb-" in route_table.refused(table(network))


def test_a_table_of_the_name_in_another_vpc_is_not_touched(route_table, network):
    other = network.ec2.create_vpc(CidrBlock="10.30.0.0/16")["Vpc"]["VpcId"]
    foreign = network.ec2.create_route_table(VpcId=other)["RouteTable"]["RouteTableId"]
    network.ec2.create_tags(Resources=[foreign], Tags=[{"Key": "Name", "Value": "staging-public"}])
    made = route_table.run(table(network))["route_table"]["route_table_id"]
    assert made != foreign
    route_table.run({"name": "staging-public", "vpc_id": network.vpc, "state": "absent"})
    assert network.ec2.describe_route_tables(RouteTableIds=[foreign])["RouteTables"]


def test_a_run_on_a_route_table_that_was_killed_anywhere_is_completed(route_table, emulator):
    account = {}

    def prepare():
        account["network"] = make_network(emulator)
        return table(account["network"])

    def state():
        network = account["network"]
        return [[len(part) for part in shape(one)] for one in tables(network)]

    route_table.survives_kills(prepare, state)


def test_an_endpoint_in_twelve_steps(endpoint, network):
    first, second, third = (other_table(network) for _ in range(3))
    made = endpoint.change(to_s3(network, first, second))["vpc_endpoint"]
    assert routed(network) == {first, second}

    changed = endpoint.change(to_s3(network, second, third, tags=OURS | {"team": "ml"}))["vpc_endpoint"]
    assert changed["vpc_endpoint_id"] == made["vpc_endpoint_id"]
    assert changed["tags"] == OURS | {"Name": "staging-s3", "team": "ml"}
    assert routed(network) == {second, third}

    endpoint.change({"name": "staging-s3", "vpc_id": network.vpc, "state": "absent"})
    assert routed(network) == set()
    assert network.ec2.describe_vpc_endpoints()["VpcEndpoints"] == []


def routed(network):
    """Return the ids of the tables that have a route of an endpoint."""
    return {
        one["RouteTableId"]
        for one in tables(network)
        if any(route.get("GatewayId", "").startswith("vpce-") for route in one["Routes"])
    }


def test_check_mode_predicts_an_endpoint_on_an_empty_account(endpoint, network):
    predicted = endpoint.run(to_s3(network, "rtb-predicted", vpc_id="vpc-predicted"), check=True)["vpc_endpoint"]
    assert (predicted["vpc_endpoint_id"], predicted["route_table_ids"]) == ("vpce-predicted", ["rtb-predicted"])


def test_another_service_is_refused(endpoint, network):
    endpoint.run(to_s3(network, other_table(network)))
    said = endpoint.refused(to_s3(network, service_name="com.amazonaws.us-east-1.dynamodb"))
    assert f"it leads to {S3}, and AWS can't change that" in said


def test_a_run_on_an_endpoint_that_was_killed_anywhere_is_completed(endpoint, emulator):
    account = {}

    def prepare():
        account["network"] = make_network(emulator)
        return to_s3(account["network"], other_table(account["network"]))

    endpoint.survives_kills(prepare, lambda: len(routed(account["network"])))
