"""The migration server on port 8082: the state of the database schema, and its upgrade."""

import json
import logging

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from . import migrations
from .database import Database
from .responses import Resource

logger = logging.getLogger(__name__)

OLD_VERSIONS = {"0", "1"}
"""Schema versions for which the real image starts the service of release 1.0.1 in place of the latest."""


class MigrationServer:
    """The routes over a database. The upgrade is only offered when endpoints are enabled, as in the real service."""

    def __init__(self, database: Database, *, upgrade_enabled: bool) -> None:
        self._database = database
        self._upgrade_enabled = upgrade_enabled

    def routes(self) -> list[Route]:
        """All routes of the migration server."""
        resources = {
            "/ping": Resource(GET=self._ping),
            "/version": Resource(GET=self._version),
            "/db_schema_status": Resource(GET=self._status),
        }
        if self._upgrade_enabled:
            resources["/upgrade"] = Resource(PATCH=self._upgrade)
        return [Route(path, resource) for path, resource in resources.items()]

    async def _ping(self, request: Request) -> Response:
        return PlainTextResponse("pong")

    async def _version(self, request: Request) -> Response:
        """The release of the service that fits the schema."""
        old = migrations.current_version(self._database) in OLD_VERSIONS
        return PlainTextResponse("v_1_0_1" if old else "latest")

    async def _status(self, request: Request) -> Response:
        try:
            version = migrations.current_version(self._database)
        except Exception as error:
            logger.exception("cannot read the schema's version")
            return _json(500, {"detail": repr(error)})
        pending = migrations.unapplied(version)
        status = {
            "is_up_to_date": not pending,
            "current_version": version,
            "migration_in_progress": bool(pending),  # the real service takes pending migrations for running ones
            "db_schema_versions": migrations.VERSIONS,
            "unapplied_migrations": pending,
        }
        return _json(200, status)

    async def _upgrade(self, request: Request) -> Response:
        try:
            migrations.upgrade(self._database)
        except Exception:
            logger.exception("the upgrade failed")
            return PlainTextResponse("upgrade failed", 500)
        return PlainTextResponse("upgrade success")


def _json(status: int, body: object) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")
