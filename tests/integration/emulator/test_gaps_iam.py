"""Gaps of IAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def iam(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("iam")


@pytest.mark.gap("iam/service-linked-role-names")
def test_a_service_linked_role_has_the_services_own_spelling(iam: Any) -> None:
    role = iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")["Role"]
    assert role["RoleName"] == "AWSServiceRoleForECS"
