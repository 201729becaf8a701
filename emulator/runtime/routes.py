"""The paths that are not AWS's API: what containers ask for, and what tests set.

/_runtime/credentials/{token}        GET: the credentials of a task role, as the SDKs fetch them on ECS
/_runtime/metadata/{container}       GET: the task metadata endpoint
/_runtime/clock                      POST {"advance": seconds}: put the clock of EventBridge's schedules forward
/_runtime/databases/{instance id}    POST {"schema_version": …}: what a fresh database of the instance begins with
/_runtime/supply                     POST {"scarce": […], "quotas": {…}}: what EC2 has no capacity for, quotas of vCPUs
"""

import json
from collections.abc import Iterable
from typing import Any

from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from . import credentials, metadata
from .database import Databases
from .eventbridge import EventBridge
from .supply import supply


class Routes:
    """Answers the paths of the runtime, and hands on all others."""

    def __init__(self, app: Any, databases: Databases, events: EventBridge) -> None:
        self._app = app
        self._events = events
        self._databases = databases
        self._routes = Map(
            [
                Rule(f"{credentials.ROUTE}<token>", methods=["GET"], endpoint=self._credentials),
                Rule(f"{metadata.ROUTE}<container>", methods=["GET"], endpoint=self._metadata),
                Rule("/_runtime/clock", methods=["POST"], endpoint=self._clock),
                Rule("/_runtime/databases/<instance>", methods=["POST"], endpoint=self._database),
                Rule("/_runtime/supply", methods=["POST"], endpoint=self._supply),
            ],
            strict_slashes=False,
        )

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith("/_runtime/"):
            return self._app(environ, start_response)
        request = Request(environ)
        try:
            handler, arguments = self._routes.bind_to_environ(environ).match()
            response = handler(request, **arguments)
        except HTTPException as error:
            response = error.get_response(environ)
        return response(environ, start_response)

    def _credentials(self, request: Request, token: str) -> Response:
        found = credentials.fetch(credentials.ROUTE + token)
        if found is None:
            raise NotFound
        return _json(found)

    def _metadata(self, request: Request, container: str) -> Response:
        found = metadata.read(container)
        if found is None:
            raise NotFound
        return _json(found)

    def _clock(self, request: Request) -> Response:
        return _json({"now": self._events.advance(float(request.get_json()["advance"])).isoformat()})

    def _database(self, request: Request, instance: str) -> Response:
        version = request.get_json()["schema_version"]
        self._databases.set_schema_version(instance, str(version))
        return _json({"instance": instance, "schema_version": str(version)})

    def _supply(self, request: Request) -> Response:
        asked = request.get_json()
        supply.set(asked.get("scarce"), asked.get("quotas"))
        return _json(asked)


def _json(document: Any) -> Response:
    return Response(json.dumps(document), mimetype="application/json")
