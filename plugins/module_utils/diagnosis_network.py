# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads which way leads out of a subnet to AWS's endpoints, for :mod:`diagnosis`."""

from __future__ import annotations

from functools import cached_property

from ansible_collections.mlops.metaflow.plugins.module_utils import diagnosis

#: What a route can lead to, as DescribeRouteTables names it.
TARGETS = (
    "NatGatewayId", "GatewayId", "TransitGatewayId", "NetworkInterfaceId", "InstanceId", "VpcPeeringConnectionId",
    "EgressOnlyInternetGatewayId", "LocalGatewayId", "CarrierGatewayId", "CoreNetworkArn",
)  # fmt: skip


class Network:
    """The network of the account, each kind read once.

    :param evidence: the :class:`diagnosis_evidence.Evidence` that it is read for.
    """

    def __init__(self, evidence):
        self.evidence = evidence
        self.ec2 = evidence.client("ec2")

    def subnets(self, ids, on_fargate):
        """Return the :class:`diagnosis.Subnet` of each id."""
        return tuple(self._subnet(one, on_fargate) for one in ids)

    def _subnet(self, subnet_id, on_fargate):
        described = self._subnets.get(subnet_id)
        if described is None:
            return diagnosis.Subnet(subnet_id, broken=diagnosis.GONE)
        table = self._table(described)
        target, broken = self._way_out(table)
        return diagnosis.Subnet(
            id=subnet_id,
            target=target,
            broken=broken,
            # Fargate jobs say themselves whether they get one; Metaflow's always do.
            public_addresses=on_fargate or described.get("MapPublicIpOnLaunch", False),
            endpoints=self._endpoints(described["VpcId"], table),
        )

    def groups(self, ids):
        """Return the :class:`diagnosis.Group` of each id that exists."""
        return tuple(
            diagnosis.Group(one, tuple(_rules(self._groups[one]["IpPermissionsEgress"])))
            for one in ids
            if one in self._groups
        )

    def _all(self, operation, key, **arguments):
        """Return all that a describe call of EC2 has; nothing where the caller may not read it."""

        def read():
            return [item for page in self.ec2.get_paginator(operation).paginate(**arguments) for item in page[key]]

        return self.evidence.attempt(f"the network ({operation})", read, [])

    @cached_property
    def _subnets(self):
        return {one["SubnetId"]: one for one in self._all("describe_subnets", "Subnets")}

    @cached_property
    def _groups(self):
        return {one["GroupId"]: one for one in self._all("describe_security_groups", "SecurityGroups")}

    @cached_property
    def _tables(self):
        return self._all("describe_route_tables", "RouteTables")

    @cached_property
    def _nat_gateways(self):
        return {one["NatGatewayId"]: one for one in self._all("describe_nat_gateways", "NatGateways")}

    @cached_property
    def _internet_gateways(self):
        return {one["InternetGatewayId"]: one for one in self._all("describe_internet_gateways", "InternetGateways")}

    @cached_property
    def _vpc_endpoints(self):
        endpoints = self._all("describe_vpc_endpoints", "VpcEndpoints")
        return [endpoint for endpoint in endpoints if endpoint["State"].lower() == "available"]

    def _table(self, subnet):
        """Return the route table of a subnet: its own, else the VPC's main one."""
        main = {}
        for table in self._tables:
            for association in table.get("Associations", []):
                if association.get("SubnetId") == subnet["SubnetId"]:
                    return table
                if association.get("Main") and table["VpcId"] == subnet["VpcId"]:
                    main = table
        return main

    def _way_out(self, table, of_nat=False):
        """Return what the default route of a table leads to, and what is wrong with that ("" for nothing)."""
        route = next((one for one in table.get("Routes", []) if one.get("DestinationCidrBlock") == "0.0.0.0/0"), None)
        if route is None:
            return "", ""
        target = next((route[key] for key in TARGETS if route.get(key)), "")
        if route.get("State") == "blackhole":
            return target, "gone (the route is a black hole)"
        if target.startswith("nat-") and not of_nat:
            return target, self._broken_nat(target)
        if target.startswith("igw-"):
            attached = self._internet_gateways.get(target, {}).get("Attachments", [])
            return target, "" if attached else "not attached to the VPC"
        return target, ""

    def _broken_nat(self, nat):
        """Say what is wrong with a NAT gateway; "" where nothing is."""
        described = self._nat_gateways.get(nat, {"State": "gone"})
        if described["State"] != "available":
            return described["State"]
        subnet = self._subnets.get(described["SubnetId"])
        if described.get("ConnectivityType", "public") != "public" or subnet is None:
            return ""
        target, broken = self._way_out(self._table(subnet), of_nat=True)
        if not target.startswith("igw-"):
            return f"in {described['SubnetId']}, which has no route to an internet gateway"
        return broken and f"in {described['SubnetId']}, whose internet gateway {target} is {broken}"

    def _endpoints(self, vpc, table):
        """Return the names of the services that VPC endpoints serve in a subnet with this route table."""
        prefix = f"com.amazonaws.{self.evidence.region}."
        return frozenset(
            endpoint["ServiceName"].removeprefix("cn.").removeprefix(prefix)
            for endpoint in self._vpc_endpoints
            if endpoint["VpcId"] == vpc
            and (
                table.get("RouteTableId") in endpoint.get("RouteTableIds", [])
                if endpoint["VpcEndpointType"] == "Gateway"
                else endpoint.get("PrivateDnsEnabled")
            )
        )


def _rules(permissions):
    """Yield the rules of IpPermissions as (protocol, first port, last port, destination)."""
    for permission in permissions:
        destinations = [
            *(one["CidrIp"] for one in permission.get("IpRanges", [])),
            *(one["CidrIpv6"] for one in permission.get("Ipv6Ranges", [])),
            *(one["PrefixListId"] for one in permission.get("PrefixListIds", [])),
            *(one["GroupId"] for one in permission.get("UserIdGroupPairs", [])),
        ]
        for destination in destinations:
            yield permission["IpProtocol"], permission.get("FromPort", 0), permission.get("ToPort", 65535), destination
