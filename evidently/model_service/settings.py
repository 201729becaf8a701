"""The settings of the service: its environment. Secrets are read from files, whose paths the environment has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .failure import Failure


class SettingsError(Failure):
    """The environment is incomplete or wrong; the message says how to mend it."""


def read_secret(environment: Mapping[str, str], variable: str) -> str:
    """Return the first line of the file that a variable names."""
    path = environment.get(variable, "")
    if not path:
        raise SettingsError(f"{variable} is not set: name the file that holds the secret")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error.__class__.__name__}") from None
    if not lines or not lines[0].strip():
        raise SettingsError(f"{variable}: the first line of {path} is empty")
    return lines[0].strip()


def read_number(environment: Mapping[str, str], variable: str, default: int) -> int:
    """Return a whole number above zero."""
    text = environment.get(variable) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise SettingsError(f"{variable} '{text}' must be a whole number above 0, e.g. {default}")
    return int(text)


def read_text(environment: Mapping[str, str], variable: str) -> str:
    """Return a variable that must not be empty."""
    if not environment.get(variable):
        raise SettingsError(f"{variable} is not set")
    return environment[variable]


@dataclass(frozen=True)
class DatabaseSettings:
    """The database. Its address, name, user and TLS come from libpq's own variables (PGHOST, PGSSLMODE, …)."""

    password: str = field(repr=False)
    request_seconds: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "DatabaseSettings":
        return cls(
            password=read_secret(environment, "DATABASE_PASSWORD_FILE"),
            request_seconds=read_number(environment, "REQUEST_SECONDS", 30),
        )


@dataclass(frozen=True)
class StoreSettings:
    """Where the models lie. Region, credentials and endpoint come from the AWS SDK's own variables."""

    bucket: str
    prefix: str
    cache: Path
    largest_file: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "StoreSettings":
        return cls(
            bucket=read_text(environment, "MODELS_BUCKET"),
            prefix=environment.get("MODELS_PREFIX", "models").strip("/"),
            cache=Path(environment.get("MODELS_CACHE") or "/var/cache/model-service"),
            largest_file=read_number(environment, "MODELS_LARGEST_BYTES", 1 << 30),
        )


@dataclass(frozen=True)
class Settings:
    """All that the service needs."""

    database: DatabaseSettings
    store: StoreSettings
    api_token: str = field(repr=False)
    admin_token: str = field(repr=False)
    request_bytes: int
    request_seconds: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        api_token = read_secret(environment, "API_TOKEN_FILE")
        admin = "ADMIN_TOKEN_FILE" in environment
        return cls(
            database=DatabaseSettings.from_environment(environment),
            store=StoreSettings.from_environment(environment),
            api_token=api_token,
            admin_token=read_secret(environment, "ADMIN_TOKEN_FILE") if admin else api_token,
            request_bytes=read_number(environment, "REQUEST_BYTES", 5 << 20),
            request_seconds=read_number(environment, "REQUEST_SECONDS", 30),
        )
