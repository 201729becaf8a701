"""Gaps of moto's own routes."""

from __future__ import annotations

import pytest
from emulated_aws import Emulator


@pytest.mark.gap("moto-api/data")
def test_the_whole_state_can_be_read_with_a_database_in_it(emulator: Emulator) -> None:
    emulator.client("rds").create_db_instance(
        DBInstanceIdentifier="shown", Engine="postgres", EngineVersion="17", DBInstanceClass="db.t4g.small",
        AllocatedStorage=20, MasterUsername="metaflow", MasterUserPassword="not-a-secret",
    )  # fmt: skip
    state = emulator.request("GET", "/moto-api/data.json")
    assert "shown" in [instance.get("db_instance_identifier") for instance in state["rds"]["DBInstance"]]
    assert emulator.request("GET", "/moto-api/data.json") == state
