"""Gaps of Secrets Manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.mark.gap("secretsmanager/name-of-a-deleted-secret")
def test_the_name_of_a_deleted_secret_is_not_free(emulator: Emulator, name: str, refused: Refused) -> None:
    secrets = emulator.client("secretsmanager")
    secrets.create_secret(Name=name, SecretString="x")
    secrets.delete_secret(SecretId=name)
    with refused("InvalidRequestException", "scheduled for deletion"):
        secrets.create_secret(Name=name, SecretString="y")
    secrets.restore_secret(SecretId=name)
    assert secrets.get_secret_value(SecretId=name)["SecretString"] == "x"
