"""Gaps of EventBridge."""

from __future__ import annotations

import pytest
from emulated_aws import Emulator


@pytest.mark.gap("events/connection-secret")
def test_a_connection_shows_no_key(emulator: Emulator, name: str) -> None:
    events = emulator.client("events")
    key = {"ApiKeyName": "Authorization", "ApiKeyValue": "hidden"}
    events.create_connection(Name=name, AuthorizationType="API_KEY", AuthParameters={"ApiKeyAuthParameters": key})
    shown = events.describe_connection(Name=name)
    assert shown["AuthParameters"] == {"ApiKeyAuthParameters": {"ApiKeyName": "Authorization"}}
