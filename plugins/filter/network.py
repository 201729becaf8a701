# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for a VPC's subnets and for the ports of security groups.

ansible.utils has ipsubnet, but it needs the library netaddr on the controller; the standard library does here.
"""

from __future__ import annotations

import ipaddress
from itertools import cycle

from ansible.errors import AnsibleFilterError


def subnets(vpc_cidr, prefix, public_names, private_names, zones):
    """Cut a VPC's range into its public and then its private subnets, each kind spread over the zones.

    :param str vpc_cidr: e.g. ``10.20.0.0/16``.
    :param int prefix: prefix length of every subnet, e.g. 24.
    :param list public_names: names of the public subnets.
    :param list private_names: names of the private subnets.
    :param list zones: availability zones, e.g. ``["eu-west-1a", "eu-west-1b"]``.
    :returns: ``[{"name": …, "cidr": …, "availability_zone": …, "public": …}]`` in the order of the names.
    :raises AnsibleFilterError: if the range is too small.
    """
    try:
        blocks = ipaddress.ip_network(vpc_cidr).subnets(new_prefix=prefix)
        result = []
        for public, names in ((True, public_names), (False, private_names)):
            zone = cycle(zones)
            result += [
                {"name": name, "cidr": str(next(blocks)), "availability_zone": next(zone), "public": public}
                for name in names
            ]
    except (ValueError, StopIteration) as error:
        reason = str(error) or "it is too small"
        raise AnsibleFilterError(f"{vpc_cidr} has no room for the subnets of /{prefix}: {reason}") from error
    return result


def ports(values, proto):
    """Return the numbers of those ports that are of a protocol.

    :param list values: e.g. ``[9200, "50000/udp"]``; without a protocol it is TCP.
    :param str proto: ``tcp`` or ``udp``.
    """
    split = [str(value).partition("/") for value in values]
    return [int(number) for number, _, found in split if (found or "tcp") == proto]


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"subnets": subnets, "ports": ports}
