# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tests for the conditions in plays and preflights."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from ansible_collections.mlops.metaflow.plugins.module_utils.container_engine import docker_builds

ROLES = Path(__file__).resolve().parents[2] / "roles"


def selected(component, run_tags, skip_tags):
    """Tell whether ``--tags`` and ``--skip-tags`` select a component.

    :param str component: e.g. ``batch``.
    :param list run_tags: Ansible's ``ansible_run_tags``; ``["all"]`` without ``--tags``.
    :param list skip_tags: Ansible's ``ansible_skip_tags``.
    """
    return bool({"all", "tagged", component} & set(run_tags)) and component not in skip_tags


def checked_live(component):
    """Tell whether a component's role has checks against what is in the account (``tasks/preflight_live.yml``)."""
    return (ROLES / component / "tasks" / "preflight_live.yml").exists()


def ipv4_block(value, shortest=0, longest=32):
    """Tell whether a text is an IPv4 network with a prefix length from ``shortest`` to ``longest``."""
    try:
        return shortest <= ipaddress.IPv4Network(value).prefixlen <= longest
    except ValueError:
        return False


def room_for(value, count, prefix):
    """Tell whether an IPv4 network holds ``count`` subnets of a prefix length."""
    spare_bits = prefix - ipaddress.IPv4Network(value).prefixlen
    return spare_bits >= 0 and 2**spare_bits >= count


def private_block(value):
    """Tell whether an IPv4 network lies in the ranges of RFC 1918 or RFC 6598, so that nothing public is shadowed."""
    network = ipaddress.IPv4Network(value)
    ranges = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
    return any(network.subnet_of(ipaddress.IPv4Network(block)) for block in ranges)


def all_networks(values):
    """Tell whether each of a list is a network or an address, of IPv4 or IPv6."""
    try:
        return all(ipaddress.ip_network(value) for value in values)
    except ValueError:
        return False


def within(address, networks):
    """Tell whether an address lies in one of the networks."""
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)


def fullmatch(value, pattern):
    """Tell whether a whole text matches a regular expression (Jinja's ``match`` only looks at its beginning)."""
    return re.fullmatch(pattern, value) is not None


def port(value):
    """Tell whether a value is a port from 1 to 65535, of TCP (``9200``) or of UDP (``50000/udp``)."""
    number = str(value).removesuffix("/udp")
    return re.fullmatch(r"[0-9]{1,5}", number) is not None and 1 <= int(number) <= 65535


class TestModule:
    """The tests of this file."""

    def tests(self):
        return {
            "selected": selected,
            "checked_live": checked_live,
            "ipv4_block": ipv4_block,
            "room_for": room_for,
            "private_block": private_block,
            "all_networks": all_networks,
            "within": within,
            "fullmatch": fullmatch,
            "port": port,
            "docker_builds": docker_builds,
        }
