"""The environment of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.metadata_service.settings import DatabaseUnavailable, Settings, SettingsError

MINIMUM = {"EMULATOR_DATABASE_PATH": "/data/file"}


def test_defaults_are_those_of_the_real_service_but_for_the_host() -> None:
    assert Settings.from_environment(MINIMUM) == Settings(
        database=Path("/data/file"),
        schema_version=None,
        host="127.0.0.1",
        port=8080,
        migration_port=8082,
        upgrade_enabled=True,
        path_prefix="",
        log_level="INFO",
    )


def test_everything_given() -> None:
    environment = {
        **MINIMUM,
        "EMULATOR_SCHEMA_VERSION": "1",
        "MF_METADATA_HOST": "0.0.0.0",
        "MF_METADATA_PORT": "1",
        "MF_MIGRATION_PORT": "2",
        "MF_MIGRATION_ENDPOINTS_ENABLED": "0",
        "PATH_PREFIX": "/metadata/",
        "LOGLEVEL": "warning",
    }
    assert Settings.from_environment(environment) == Settings(
        Path("/data/file"), "1", "0.0.0.0", 1, 2, False, "/metadata", "WARNING"
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "EMULATOR_DATABASE_PATH is not set"),
        ({"EMULATOR_DATABASE_PATH": ""}, "EMULATOR_DATABASE_PATH is not set"),
        ({**MINIMUM, "EMULATOR_SCHEMA_VERSION": "0"}, "EMULATOR_SCHEMA_VERSION '0' is unknown"),
        ({**MINIMUM, "MF_MIGRATION_PORT": "x"}, "MF_MIGRATION_PORT 'x' is no integer"),
    ],
)
def test_wrong_environment_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_environment(environment)


def test_refused_connection_comes_before_all_else() -> None:
    with pytest.raises(DatabaseUnavailable, match="FATAL:  nobody"):
        Settings.from_environment({**MINIMUM, "EMULATOR_DATABASE_ERROR": "FATAL:  nobody"})
