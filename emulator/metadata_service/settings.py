"""The settings of the service: the environment that an ECS task definition gives it, and the emulator's additions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .migrations import VERSIONS


class SettingsError(Exception):
    """The environment is incomplete or wrong; the message says how to mend it."""


class DatabaseUnavailable(Exception):
    """The database refuses the connection; the message is what PostgreSQL or its client library says."""


@dataclass(frozen=True)
class Settings:
    """Where the service listens, and on which database it works."""

    database: Path
    schema_version: str | None  # at which an empty database begins; None is the newest
    host: str
    port: int
    migration_port: int
    upgrade_enabled: bool
    path_prefix: str  # "" or "/…"
    log_level: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the environment, or raise SettingsError or DatabaseUnavailable."""
        if refusal := environment.get("EMULATOR_DATABASE_ERROR"):
            raise DatabaseUnavailable(refusal)
        return cls(
            database=_database(environment),
            schema_version=_schema_version(environment),
            # The real service listens everywhere; it has a container's network to itself.
            host=environment.get("MF_METADATA_HOST", "127.0.0.1"),
            port=_integer(environment, "MF_METADATA_PORT", 8080),
            migration_port=_integer(environment, "MF_MIGRATION_PORT", 8082),
            upgrade_enabled=bool(_integer(environment, "MF_MIGRATION_ENDPOINTS_ENABLED", 1)),
            path_prefix=_prefix(environment.get("PATH_PREFIX", "")),
            log_level=environment.get("LOGLEVEL", "INFO").upper(),
        )


def _database(environment: Mapping[str, str]) -> Path:
    path = environment.get("EMULATOR_DATABASE_PATH")
    if not path:
        raise SettingsError(
            "EMULATOR_DATABASE_PATH is not set. Fix: start the service through the emulator, which sets it once the"
            " MF_METADATA_DB_* settings fit the account's database, or set it to the path of an SQLite file."
        )
    return Path(path)


def _schema_version(environment: Mapping[str, str]) -> str | None:
    version = environment.get("EMULATOR_SCHEMA_VERSION") or None
    if version not in (None, *VERSIONS):
        raise SettingsError(f"EMULATOR_SCHEMA_VERSION '{version}' is unknown. Fix: use one of {', '.join(VERSIONS)}.")
    return version


def _integer(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise SettingsError(f"{name} '{value}' is no integer.") from None


def _prefix(given: str) -> str:
    inner = given.strip("/")
    return f"/{inner}" if inner else ""
