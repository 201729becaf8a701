"""The network inside the account: private addresses → local ports, and what security groups admit."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .place import Place

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Peer:
    """One end of a connection: its security groups and private addresses (or networks)."""

    groups: tuple[str, ...] = ()
    addresses: tuple[str, ...] = field(default=())


class AddressTable:
    """Which local port stands for a port of a private address, and which security groups guard it."""

    def __init__(self) -> None:
        self._ports: dict[tuple[str, str, int], int] = {}
        self._peers: dict[tuple[str, str], Peer] = {}

    def add(self, vpc: str, address: str, groups: Iterable[str], ports: dict[int, int]) -> None:
        """Let ``address`` in the VPC be reached: container port → local port."""
        self._peers[vpc, address] = Peer(tuple(groups), (address,))
        for port, local_port in ports.items():
            self._ports[vpc, address, port] = local_port

    def remove(self, vpc: str, address: str) -> None:
        """Forget the address."""
        self._peers.pop((vpc, address), None)
        for key in [key for key in self._ports if key[:2] == (vpc, address)]:
            del self._ports[key]

    def local_port(self, vpc: str, address: str, port: int) -> int | None:
        """The local port behind an address, if something was asked to listen there."""
        return self._ports.get((vpc, address, port))

    def peer(self, vpc: str, address: str) -> Peer | None:
        """Who has the address."""
        return self._peers.get((vpc, address))

    def clear(self) -> None:
        """Forget all addresses."""
        self._ports.clear()
        self._peers.clear()


addresses = AddressTable()


def admits(place: Place, source: Peer, target: Peer, port: int) -> bool:
    """Whether the security groups of both ends let TCP from source to the target's port.

    Security groups are stateful and only allow: one egress rule of the source and one ingress rule of the target must
    match. An end without security groups (a network load balancer may have none) does not restrict.
    """
    return _passes(place, source.groups, target, port, "egress_rules") and _passes(
        place, target.groups, source, port, "ingress_rules"
    )


def _passes(place: Place, groups: tuple[str, ...], other: Peer, port: int, direction: str) -> bool:
    if not groups:
        return True
    ec2 = place.backend("ec2")
    found = [group for group in map(ec2.get_security_group_from_id, groups) if group]
    return any(_matches(rule, other, port) for group in found for rule in getattr(group, direction))


def _matches(rule: Any, other: Peer, port: int) -> bool:
    if rule.ip_protocol not in ("-1", "tcp") or not _in_range(rule, port):
        return False
    if rule.source_group.get("GroupId") in other.groups:
        return True
    network = rule.cidr_ipv4
    return bool(network) and any(
        ipaddress.ip_network(address).subnet_of(ipaddress.ip_network(network, strict=False))
        for address in other.addresses
    )


def _in_range(rule: Any, port: int) -> bool:
    return rule.from_port in (None, -1) or rule.from_port <= port <= rule.to_port
