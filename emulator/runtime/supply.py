"""Whether a compute environment gets instances: its profile, the way out of its subnets, quotas of vCPUs, capacity.

There is plenty by default. ``POST /_runtime/supply {"scarce": ["SPOT"], "quotas": {"L-1216C47A": 4}}`` makes it scarce.
What Batch does then: https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from moto.core.utils import utcnow
from moto.iam.exceptions import NotFoundException

from .machines import Resources, expand, usable
from .place import Place

NO_CAPACITY = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type [{}]"
)
LAUNCH_WITHOUT_CAPACITY = (
    "Could not launch {} Instances. {} - There is no capacity available that matches your request."
)
LAUNCH_OVER_QUOTA = (
    "You have requested more vCPU capacity than your current vCPU limit of {} allows for the instance bucket that the "
    "specified instance type belongs to. Launching EC2 instance failed: VcpuLimitExceeded"
)

#: First letters of an instance type -> codes of its quotas, on demand and as SPOT. All others count as standard.
QUOTA_CODES = {
    "f": ("L-74FC7D96", "L-88CF9481"), "g": ("L-DB2E81BA", "L-3819A6DF"), "vt": ("L-DB2E81BA", "L-3819A6DF"),
    "p": ("L-417A185B", "L-7212CCBC"), "x": ("L-7295265B", "L-E3A00192"), "inf": ("L-1945791B", "L-B5D1601B"),
    "trn": ("L-2C3B7624", "L-5480EFD2"), "dl": ("L-6E869C2A", "L-85EED4F7"),
}  # fmt: skip
STANDARD_CODES = ("L-1216C47A", "L-34B43A08")
FARGATE_CODES = ("L-3032A538", "L-36FBB829")
PLENTY = 4096.0

AGENT_ENDPOINTS = {"ecs", "ecs-agent", "ecs-telemetry"}


class Supply:
    """What EC2 has to give to this account."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Let there be plenty of everything."""
        self._scarce: set[str] = set()
        self._quotas: dict[str, float] = {}
        self._refused: dict[str, tuple[Any, str, datetime]] = {}

    def set(self, scarce: Iterable[str] | None, quotas: dict[str, float] | None) -> None:
        """Name the types of environments (EC2, SPOT) that get no capacity, and quotas by their code."""
        if scarce is not None:
            self._scarce = set(scarce)
        self._quotas |= quotas or {}
        self._refused.clear()

    def quota(self, code: str) -> float | None:
        """The value of a quota of running vCPUs; None for a code that is none."""
        known = {*STANDARD_CODES, *FARGATE_CODES, *(code for codes in QUOTA_CODES.values() for code in codes)}
        return self._quotas.get(code, PLENTY) if code in known else None

    def refuses(self, environment: Any, asked: Resources) -> str | None:
        """Why EC2 starts no machine for a job of this size: Batch's statusReason, "" where it gives none."""
        kind = environment.compute_resources["type"]
        if "FARGATE" in kind:
            return None
        fitting = [n for n in expand(environment.compute_resources["instanceTypes"]) if asked.fit_into(usable(n))]
        limits = {name: self.quota(quota_code(name, kind)) or 0 for name in fitting}
        if all(usable(name).vcpus > limit for name, limit in limits.items()):
            self._refuse(environment, LAUNCH_OVER_QUOTA.format(int(max(limits.values()))))
            return ""
        if kind in self._scarce:
            name, code = ("Spot", "UnfulfillableCapacity") if kind == "SPOT" else ("", "InsufficientInstanceCapacity")
            self._refuse(environment, LAUNCH_WITHOUT_CAPACITY.format(name, code))
            return NO_CAPACITY.format(fitting[0])
        self._refused.pop(environment.arn, None)
        return None

    def _refuse(self, environment: Any, message: str) -> None:
        if self._refused.get(environment.arn, (None, ""))[1] != message:
            self._refused[environment.arn] = (environment, message, utcnow())

    def activities(self, place: Place) -> list[dict[str, Any]]:
        """The launches that failed there, as Auto Scaling shows them."""
        return [
            {
                "ActivityId": f"{environment.name}-{number}",
                "AutoScalingGroupName": f"{environment.name}-asg-{environment.arn.rpartition('-')[2]}",
                "Cause": "An instance was launched in response to an unhealthy or a missing one.",
                "Description": "Launching a new EC2 instance",
                "Progress": 100,
                "StartTime": when,
                "EndTime": when,
                "StatusCode": "Failed",
                "StatusMessage": message,
            }
            for number, (environment, message, when) in enumerate(self._refused.values())
            if place_of(environment) == place
        ]


supply = Supply()
"""That of the account."""


def quota_code(instance_type: str, kind: str) -> str:
    """The code of the quota that an instance of this type counts against."""
    letters = re.match("[a-z]+", instance_type)
    codes = QUOTA_CODES.get(letters[0] if letters else "", STANDARD_CODES)
    return codes[1 if kind == "SPOT" else 0]


def place_of(environment: Any) -> Place:
    """Where an environment is."""
    region, account = environment.arn.split(":")[3:5]
    return Place(account, region)


def invalid_reason(environment: Any) -> str | None:
    """Why an environment is INVALID: the profile that its instances shall have is gone."""
    profile = (environment.compute_resources or {}).get("instanceRole", "").split("/")[-1]
    if not profile:
        return None
    try:
        place_of(environment).backend("iam").get_instance_profile(profile)
    except NotFoundException:
        return f"CLIENT_ERROR - Invalid IamInstanceProfile: {profile}"
    return None


def agent_connects(environment: Any) -> bool:
    """Whether the ECS agent of the environment's instances reaches ECS, from all of its subnets and groups."""
    resources = environment.compute_resources
    if "FARGATE" in resources["type"]:
        return True
    ec2 = place_of(environment).backend("ec2")
    groups = [ec2.get_security_group_from_id(group) for group in resources.get("securityGroupIds", [])]
    if groups and not any(_lets_https_out(group) for group in groups if group):
        return False
    return any(_has_way_out(ec2, ec2.get_subnet(subnet)) for subnet in resources["subnets"])


def _lets_https_out(group: Any) -> bool:
    return any(
        rule.ip_protocol == "-1" or (rule.ip_protocol == "tcp" and int(rule.from_port) <= 443 <= int(rule.to_port))
        for rule in group.egress_rules
    )


def _has_way_out(ec2: Any, subnet: Any) -> bool:
    """Whether a default route leads out of a subnet, or VPC endpoints for the agent stand in its VPC."""
    served = {
        endpoint.service_name.rpartition(f"{ec2.region_name}.")[2]
        for endpoint in list(ec2.vpc_end_points.values())
        if endpoint.vpc_id == subnet.vpc_id
    }
    return served >= AGENT_ENDPOINTS or any(
        route.destination_cidr_block == "0.0.0.0/0" and _leads_out(ec2, route, subnet) for route in _routes(ec2, subnet)
    )


def _routes(ec2: Any, subnet: Any) -> list[Any]:
    tables = [table for table in list(ec2.route_tables.values()) if table.vpc_id == subnet.vpc_id]
    own = [t for t in tables if any(a.get("SubnetId") == subnet.id for a in t.associations)]
    main = [t for t in tables if t.main_association_id]
    return [route for table in (own or main)[:1] for route in table.routes]


def _leads_out(ec2: Any, route: Any, subnet: Any) -> bool:
    if route.nat_gateway:
        return route.nat_gateway.id in ec2.nat_gateways and route.nat_gateway.state == "available"
    if (route.gateway_id or "").startswith("igw-"):
        return bool(route.gateway.vpc) and str(subnet.map_public_ip_on_launch).lower() == "true"
    return True
