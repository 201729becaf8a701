"""Gaps of EC2: what depends on a network resource keeps it from being deleted.

The checks sit before the API operations and not in moto's models, as those delete through each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models import nat_gateways, subnets, vpcs
from moto.ec2.responses.elastic_ip_addresses import ElasticIPAddresses
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.ec2.responses.internet_gateways import InternetGateways
from moto.ec2.responses.route_tables import RouteTables
from moto.ec2.responses.security_groups import SecurityGroups
from moto.ec2.responses.subnets import Subnets
from moto.ec2.responses.vpcs import VPCs

from emulator.gaps import before, gap, wrap


@gap("ec2", "vpc-dependencies", "A VPC with gateways, endpoints, interfaces, tables or groups cannot be deleted.")
def vpc_dependencies() -> None:
    @before(VPCs, "delete_vpc")
    def check(self: Any) -> None:
        vpc_id = self._get_param("VpcId")
        if any(_inhabitants(self.ec2_backend, vpc_id)):
            raise DependencyViolationError(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")


def _inhabitants(backend: Any, vpc_id: str) -> Iterator[Any]:
    yield from (g for g in backend.internet_gateways.values() if g.vpc and g.vpc.id == vpc_id)
    yield from (e for e in backend.vpc_end_points.values() if e.vpc_id == vpc_id)
    yield from (e for e in backend.enis.values() if e.vpc_id == vpc_id)
    yield from (g for g in backend.groups.get(vpc_id, {}).values() if g.name != "default")


@gap("ec2", "subnet-dependencies", "A subnet with network interfaces cannot be deleted; its associations go with it.")
def subnet_dependencies() -> None:
    @before(Subnets, "delete_subnet")
    def check(self: Any) -> None:
        subnet_id = self._get_param("SubnetId")
        if any(e.subnet_id == subnet_id for e in self.ec2_backend.enis.values()):
            raise DependencyViolationError(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")

    @wrap(subnets.SubnetBackend, "delete_subnet")
    def delete(original: Callable[..., Any], self: Any, subnet_id: str) -> Any:
        subnet = original(self, subnet_id)
        for table in self.route_tables.values():
            for association in [a for a, s in table._associations.items() if s == subnet_id]:
                del table._associations[association]
        return subnet


@gap("ec2", "security-group-dependencies", "A group that an interface uses or a rule names cannot be deleted.")
def security_group_dependencies() -> None:
    @before(SecurityGroups, "delete_security_group")
    def check(self: Any) -> None:
        backend, group_id = self.ec2_backend, self._get_param("GroupId")
        if any(_users(backend, group_id)):
            raise DependencyViolationError(f"resource {group_id} has a dependent object")


def _users(backend: Any, group_id: str) -> Iterator[Any]:
    yield from (e for e in backend.enis.values() if any(g.id == group_id for g in e.group_set))
    for groups in backend.groups.values():
        for group in groups.values():
            rules = [*group.ingress_rules, *group.egress_rules] if group.id != group_id else []
            yield from (r for r in rules if r.source_group.get("GroupId") == group_id)


@gap("ec2", "default-security-group", "The default group of a VPC cannot be deleted.")
def default_security_group() -> None:
    @before(SecurityGroups, "delete_security_group")
    def check(self: Any) -> None:
        group = self.ec2_backend.get_security_group_from_id(self._get_param("GroupId"))
        if group and group.name == "default":
            message = f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
            raise EC2ClientError("CannotDelete", message)


@gap("ec2", "internet-gateway-with-addresses", "A gateway cannot leave a VPC in which public addresses are mapped.")
def internet_gateway_with_addresses() -> None:
    @before(InternetGateways, "detach_internet_gateway")
    def check(self: Any) -> None:
        vpc_id = self._get_param("VpcId")
        if any(e.public_ip for e in self.ec2_backend.enis.values() if e.vpc_id == vpc_id):
            raise DependencyViolationError(
                f"Network {vpc_id} has some mapped public address(es). "
                "Please unmap those public address(es) before detaching the gateway."
            )


@gap("ec2", "nat-gateway-interface", "A NAT gateway releases its interface and address when deleted, not before.")
def nat_gateway_interface() -> None:
    @wrap(nat_gateways.NatGatewayBackend, "create_nat_gateway")
    def create(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        gateway = original(self, *args, **kwargs)
        claim(gateway._eni, f"Interface for NAT Gateway {gateway.id}", "nat_gateway")
        return gateway

    @wrap(nat_gateways.NatGatewayBackend, "delete_nat_gateway")
    def delete(original: Callable[..., Any], self: Any, nat_gateway_id: str) -> Any:
        gateway = original(self, nat_gateway_id)
        if gateway._eni.public_ip:
            self.disassociate_address(address=gateway._eni.public_ip)
        self.enis.pop(gateway._eni.id, None)
        return gateway

    @before(ElasticIPAddresses, "release_address")
    def check(self: Any) -> None:
        allocation = self._get_param("AllocationId")
        for address in self.ec2_backend.addresses:
            if allocation and address.allocation_id == allocation and address.association_id:
                raise EC2ClientError("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")


@gap("ec2", "interface-in-use", "An attached network interface cannot be deleted.")
def interface_in_use() -> None:
    @before(ElasticNetworkInterfaces, "delete_network_interface")
    def check(self: Any) -> None:
        interface = self.ec2_backend.get_network_interface(self._get_param("NetworkInterfaceId"))
        if interface.status == "in-use":
            raise EC2ClientError("InvalidParameterValue", f"Network interface '{interface.id}' is currently in use.")


@gap("ec2", "route-table-dependencies", "The main route table of a VPC cannot be deleted.")
def route_table_dependencies() -> None:
    @before(RouteTables, "delete_route_table")
    def check(self: Any) -> None:
        table = self.ec2_backend.get_route_table(self._get_param("RouteTableId"))
        if table.main_association_id:
            raise DependencyViolationError(f"The routeTable '{table.id}' has dependencies and cannot be deleted.")


@gap("ec2", "vpc-endpoint-interfaces", "An interface endpoint's network interfaces use its security groups.")
def vpc_endpoint_interfaces() -> None:
    @wrap(vpcs.VPCBackend, "create_vpc_endpoint")
    def create(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        endpoint = original(self, *args, **kwargs)
        for interface_id in endpoint.network_interface_ids:
            interface = self.enis[interface_id]
            claim(interface, f"VPC Endpoint Interface {endpoint.id}", "vpc_endpoint")
            if endpoint.security_group_ids:
                interface._group_set = [self.get_security_group_from_id(g) for g in endpoint.security_group_ids]
        return endpoint


def claim(interface: Any, description: str, interface_type: str) -> None:
    """Mark a network interface as one that an AWS service made and uses."""
    interface.description = description
    interface.interface_type = interface_type
    interface.requester_managed = True
    interface.status = "in-use"


def hold(
    backend: Any, subnet_id: str, group_ids: list[str], description: str, interface_type: str = "interface"
) -> Any:
    """Make a network interface that a service uses, so that its subnet and groups cannot be deleted."""
    interface = backend.create_network_interface(
        subnet_id, backend.get_subnet(subnet_id).get_available_subnet_ip(instance=None), group_ids=list(group_ids)
    )
    claim(interface, description, interface_type)
    return interface


def release(interfaces: list[Any]) -> None:
    """Delete network interfaces that `hold` made."""
    for interface in interfaces:
        if interface.id in interface.ec2_backend.enis:
            interface.delete()
    interfaces.clear()
