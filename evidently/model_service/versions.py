"""Which versions are deployed, and which one is active: PostgreSQL knows, for all workers and over restarts."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from .store import Manifest
from .tables import activation, model_version


class VersionConflict(Exception):
    """What was asked for does not fit what is deployed; the message says why."""


@dataclass(frozen=True)
class Version:
    """A deployed version."""

    model: str
    version: str
    manifest: Manifest


def lock(connection: Connection, model: str) -> None:
    """Let one transaction at a time change the versions of a model."""
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"model_service.{model}"))))


def deployed(connection: Connection, model: str, version: str) -> Version | None:
    """Return a version, if it is deployed."""
    row = connection.execute(select(model_version).filter_by(model_name=model, version=version)).one_or_none()
    return row and Version(model, version, Manifest(row.sha256, row.reference_sha256))


def active(connection: Connection, model: str) -> Version | None:
    """Return the version that answers now; None before the first switch."""
    latest = select(activation.c.version).filter_by(model_name=model).order_by(activation.c.id.desc()).limit(1)
    version = connection.execute(latest).scalar_one_or_none()
    return version and deployed(connection, model, version)


def describe(connection: Connection, model: str) -> dict:
    """Return a model as the routes show it."""
    current = _activation(connection, model)
    query = select(model_version).filter_by(model_name=model).order_by(model_version.c.deployed_at)
    return {
        "name": model,
        "active": current and current.version,
        "previous": _previous_version(connection, current),
        "versions": [
            {"version": row.version, "sha256": row.sha256, "deployed_at": row.deployed_at.isoformat()}
            for row in connection.execute(query)
        ],
    }


def deploy(connection: Connection, version: Version) -> bool:
    """Note a version and its checksums; return whether that is new."""
    lock(connection, version.model)
    present = deployed(connection, version.model, version.version)
    if present:
        if present != version:
            raise VersionConflict(
                f"version {version.version} is deployed with other files (sha256 {present.manifest.sha256}); a version"
                " never changes: publish these files as another one"
            )
        return False
    values = {
        "model_name": version.model,
        "version": version.version,
        "sha256": version.manifest.sha256,
        "reference_sha256": version.manifest.reference_sha256,
    }
    connection.execute(insert(model_version).values(values))
    return True


def switch(connection: Connection, model: str, version: str) -> bool:
    """Make a deployed version the active one; return whether it was not."""
    lock(connection, model)
    current = _activation(connection, model)
    if current and current.version == version:
        return False
    _activate(connection, model, version, previous_id=current and current.id)
    return True


def rollback_target(connection: Connection, model: str, from_version: str | None) -> str | None:
    """Return the version that a rollback goes back to; None where `from_version` is not the active one any more."""
    current = _activation(connection, model)
    if current and from_version not in (None, current.version):
        return None
    previous = _previous_version(connection, current)
    if previous is None:
        raise VersionConflict(f"{model} has no earlier version to roll back to")
    return previous


def roll_back(connection: Connection, model: str, from_version: str | None) -> bool:
    """Make the version before the active one active; return whether there was something to do."""
    lock(connection, model)
    if rollback_target(connection, model, from_version) is None:
        return False
    previous = _by_id(connection, _activation(connection, model).previous_id)
    # The new entry goes back to what that one went back to: a second rollback is a step further back, not forth again.
    _activate(connection, model, previous.version, previous_id=previous.previous_id)
    return True


def _activation(connection: Connection, model: str):
    query = select(activation).filter_by(model_name=model).order_by(activation.c.id.desc()).limit(1)
    return connection.execute(query).one_or_none()


def _by_id(connection: Connection, number: int):
    return connection.execute(select(activation).filter_by(id=number)).one()


def _previous_version(connection: Connection, current) -> str | None:
    if current is None or current.previous_id is None:
        return None
    return _by_id(connection, current.previous_id).version


def _activate(connection: Connection, model: str, version: str, previous_id: int | None) -> None:
    values = {"model_name": model, "version": version, "previous_id": previous_id}
    connection.execute(insert(activation).values(values))
