"""Fixtures of the gap tests. They share one account, so each test makes resources of its own name."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.error import HTTPError

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from emulated_aws import Emulator

# What a test meets where AWS's behaviour is missing; an emulator that does not start is none of these.
WHAT_A_GAP_RAISES = (
    AssertionError, BotoCoreError, ClientError, HTTPError, KeyError, ResponseParserError, ValueError,
    pytest.fail.Exception,
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gap(name): the test of the gap area/name; it fails on plain moto")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --plain-moto keep the tests of gaps, and let one that passes fail: moto has closed that gap."""
    if config.getoption("--plain-moto"):
        items[:] = [item for item in items if item.get_closest_marker("gap")]
        for item in items:
            item.add_marker(pytest.mark.xfail(reason="a gap of moto", strict=True, raises=WHAT_A_GAP_RAISES))


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def refused() -> Callable[..., AbstractContextManager[None]]:
    """A context in which AWS must refuse a call with this error code (and a message that matches)."""

    @contextmanager
    def expect(code: str, message: str = "") -> Iterator[None]:
        with pytest.raises(ClientError) as caught:
            yield
        error = caught.value.response["Error"]
        assert error["Code"] == code, error
        assert re.search(message, error["Message"]), error

    return expect


class Network:
    """A VPC with two subnets and a security group, as the stack has."""

    def __init__(self, ec2: Any, name: str) -> None:
        self.vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.20.{i}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for i, zone in enumerate("ab")
        ]
        self.group = ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)["GroupId"]
        self._ec2 = ec2

    def open_to_the_internet(self) -> None:
        """Give the subnets a way out, without which the ECS agent of Batch's instances reaches nothing."""
        gateway = self._ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self._ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.vpc)
        mine = [{"Name": "vpc-id", "Values": [self.vpc]}]
        (table,) = self._ec2.describe_route_tables(Filters=mine)["RouteTables"]
        self._ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        for subnet in self.subnets:
            self._ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})


@pytest.fixture
def network(emulator: Emulator, name: str) -> Network:
    """A fresh VPC."""
    return Network(emulator.client("ec2"), name)
