"""The API and the migration server called in the test's own process, over a database in a temporary directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.routing import Router

from emulator.metadata_service import migrations
from emulator.metadata_service.api import Api
from emulator.metadata_service.database import Database
from emulator.metadata_service.migration_server import MigrationServer
from emulator.metadata_service.server import router
from emulator.metadata_service.store import Store


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


class Client:
    """Sends requests to an ASGI application."""

    def __init__(self, application: Router, runner: asyncio.Runner) -> None:
        self._application = application
        self._runner = runner

    def get(self, path: str) -> Answer:
        """GET."""
        return self.send("GET", path)

    def post(self, path: str, body: Any = None) -> Answer:
        """POST, of JSON."""
        return self.send("POST", path, json.dumps({} if body is None else body).encode())

    def patch(self, path: str, body: Any = None) -> Answer:
        """PATCH, of JSON."""
        return self.send("PATCH", path, json.dumps({} if body is None else body).encode())

    def send(self, method: str, url: str, body: bytes = b"") -> Answer:
        """Any request."""
        return self._runner.run(self._send(method, url, body))

    async def _send(self, method: str, url: str, body: bytes) -> Answer:
        parts = urlsplit(url)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": [],
            "scheme": "http",
            "server": ("service", 80),
        }
        await self._application(scope, receive, send)
        start, *chunks = sent
        headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], headers, b"".join(chunk["body"] for chunk in chunks).decode())


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all requests."""
    with asyncio.Runner() as running:
        yield running


@pytest.fixture
def empty_database(tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    database = Database(tmp_path / "database")
    yield database
    database.close()


@pytest.fixture
def database(empty_database: Database) -> Database:
    """A database of the newest schema."""
    migrations.initialise(empty_database, None)
    return empty_database


@pytest.fixture
def api_over(runner: asyncio.Runner) -> Callable[..., Client]:
    """Makes the API over a database."""

    def make(database: Database, path_prefix: str = "") -> Client:
        return Client(router(Api(Store(database)).routes(), path_prefix), runner)

    return make


@pytest.fixture
def migration_server_over(runner: asyncio.Runner) -> Callable[..., Client]:
    """Makes the migration server over a database."""

    def make(database: Database, *, upgrade_enabled: bool = True) -> Client:
        return Client(router(MigrationServer(database, upgrade_enabled=upgrade_enabled).routes(), ""), runner)

    return make


@pytest.fixture
def api(database: Database, api_over: Callable[..., Client]) -> Client:
    """The API over an empty database of the newest schema."""
    return api_over(database)
