"""Runs the API and the migration server in one process, until a signal or the end of the process that started it."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.routing import BaseRoute, Mount, Router

from . import migrations
from .api import Api
from .database import Database
from .migration_server import MigrationServer
from .parent import parent_ends
from .responses import not_found
from .settings import Settings
from .store import Store

GRACE = 5  # seconds for requests that are under way at the end


class Server(uvicorn.Server):
    """A server that leaves signals to `serve`: there are two in the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def router(routes: Sequence[BaseRoute], path_prefix: str) -> Router:
    """An ASGI application of these routes, all below the prefix, that answers other paths as aiohttp does."""
    inner = Router(routes, redirect_slashes=False, default=not_found)
    return Router([Mount(path_prefix, inner)], redirect_slashes=False, default=not_found) if path_prefix else inner


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or the parent's end; OSError where a port is taken."""
    database = Database(settings.database)
    try:
        migrations.initialise(database, settings.schema_version)
        migration_server = MigrationServer(database, upgrade_enabled=settings.upgrade_enabled)
        await _serve_all(
            (_listen(settings.host, settings.port), router(Api(Store(database)).routes(), settings.path_prefix)),
            (_listen(settings.host, settings.migration_port), router(migration_server.routes(), settings.path_prefix)),
        )
    finally:
        database.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol's number, as in socket.create_server, asyncio does not set TCP_NODELAY: 40 ms a request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen()
    print("serving on", listener.getsockname()[:2], flush=True)
    return listener


async def _serve_all(*applications: tuple[socket.socket, Router]) -> None:
    listeners = [listener for listener, _ in applications]
    servers = [
        Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE))
        for _, app in applications
    ]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    watch = asyncio.create_task(parent_ends())
    watch.add_done_callback(lambda _: stop())
    await asyncio.gather(*(server.serve([listener]) for server, listener in zip(servers, listeners, strict=True)))
    watch.cancel()
