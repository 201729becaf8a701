"""The pieces of work that are measured, in the order in which they are done on one account."""

from __future__ import annotations

from emulated_aws import Emulator

APPLY = "apply"
SECOND = "second run"
SECOND_FULL = "second run, all tasks"
CHECK = "check"
CHECK_FULL = "check, all tasks"
REPAIR = "repair"
DESTROY = "destroy"

ALL = (APPLY, SECOND, SECOND_FULL, CHECK, CHECK_FULL, REPAIR, DESTROY)

#: What Terraform has no work of its own for, and which of its pieces stands beside it.
BESIDE = {SECOND_FULL: SECOND, CHECK_FULL: CHECK}


def take_route_away(emulator: Emulator) -> None:
    """Delete the default route of one private subnet by hand, as drift."""
    table = _tables_with_nat_route(emulator)[0]
    emulator.client("ec2").delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")


def require_repaired(emulator: Emulator) -> None:
    """Raise unless both private subnets have their route again."""
    if len(_tables_with_nat_route(emulator)) != 2:
        raise RuntimeError("the repair did not bring the deleted route back")


def require_destroyed(emulator: Emulator) -> None:
    """Raise if anything that costs money is left."""
    networks = emulator.client("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["false"]}])["Vpcs"]
    databases = emulator.client("rds").describe_db_instances()["DBInstances"]
    buckets = emulator.client("s3").list_buckets()["Buckets"]
    if left := [*networks, *databases, *buckets]:
        raise RuntimeError(f"destroy left {left}")


def _tables_with_nat_route(emulator: Emulator) -> list[str]:
    tables = emulator.client("ec2").describe_route_tables()["RouteTables"]
    return [table["RouteTableId"] for table in tables if any("NatGatewayId" in route for route in table["Routes"])]
