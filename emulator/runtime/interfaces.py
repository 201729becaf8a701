"""The network interface of a task in awsvpc mode: an address of its own in the subnet, with security groups."""

import uuid
from collections.abc import Mapping
from typing import Any

from .network import Peer, addresses
from .place import Place


class TaskInterface:
    """The interface of one task, as EC2 and DescribeTasks show it."""

    def __init__(self, place: Place, task_arn: str, network: Mapping[str, Any]) -> None:
        ec2 = place.backend("ec2")
        subnet = ec2.get_subnet(network["subnets"][0])
        groups = network.get("securityGroups") or [ec2.get_default_security_group(subnet.vpc_id).id]
        self._ec2 = ec2
        self._vpc = subnet.vpc_id
        self._interface = ec2.create_network_interface(
            subnet=subnet, private_ip_address="", group_ids=groups, description=task_arn
        )
        self._interface.status = "in-use"
        self.address: str = self._interface.private_ip_address
        self.peer = Peer(tuple(groups), (self.address,))
        self.attachment = self._attachment(subnet.id)
        self.shown_in_container = {"attachmentId": self.attachment["id"], "privateIpv4Address": self.address}

    def open(self, ports: Mapping[int, int]) -> None:
        """Make the ports on which containers listen (container port → local port) known under the address.

        Like on Fargate a port need not be mapped to be reachable: security groups decide.
        """
        addresses.add(self._vpc, self.address, self.peer.groups, ports)

    def detach(self) -> None:
        """Give the address back."""
        addresses.remove(self._vpc, self.address)
        self._ec2.enis.pop(self._interface.id, None)
        self.attachment["status"] = "DELETED"

    def _attachment(self, subnet: str) -> dict[str, Any]:
        details = {
            "subnetId": subnet,
            "networkInterfaceId": self._interface.id,
            "macAddress": self._interface.mac_address,
            "privateIPv4Address": self.address,
        }
        return {
            "id": str(uuid.uuid4()),
            "type": "ElasticNetworkInterface",
            "status": "ATTACHED",
            "details": [{"name": name, "value": value} for name, value in details.items()],
        }
