"""Responses as the real service sends them through its web framework, aiohttp.

Its handlers are of two kinds. A *formatted* one has its answer written as JSON with the service's version in a header,
and errors answered as JSON too. A *bare* one makes its own response, without that header, and what it does not catch
becomes aiohttp's page for errors. JSON is sent as text/plain.
"""

import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from . import SERVICE_VERSION
from .postgres import DatabaseError
from .store import NotFound

VERSION_HEADER = {"METADATA_SERVICE_VERSION": SERVICE_VERSION}

Answer = tuple[int, Any]
Handler = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger(__name__)


def formatted(handler: Callable[[Request], Awaitable[Answer]]) -> Handler:
    """The handler of the first kind around a function that returns a status and a JSON value."""

    async def respond(request: Request) -> Response:
        try:
            status, body = await handler(request)
        except NotFound:
            status, body = 404, {}
        except DatabaseError as error:
            status, body = error.status, json.dumps(error.body)
        except AiohttpPage:
            raise
        except Exception as error:
            logger.exception("%s %s", request.method, request.url.path)
            status, body = 500, internal_error(str(error))
        return json_text(status, body, VERSION_HEADER)

    return respond


def json_text(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON value in the content type that aiohttp gives to text."""
    return PlainTextResponse(json.dumps(body), status, headers)


def internal_error(detail: str) -> dict[str, Any]:
    """The body of an unforeseen error."""
    return {
        "traceback": traceback.format_exc(),
        "detail": detail,
        "status": 500,
        "title": "Internal Server Error",
        "type": "about:blank",
    }


class AiohttpPage(Exception):
    """A formatted handler of the real service breaks in a way that only aiohttp answers."""


class Resource:
    """An ASGI application for one path: a handler for each method."""

    def __init__(self, **handlers: Handler) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        handler = self._handlers.get(request.method)
        if handler is None:
            allowed = {"Allow": ",".join(sorted(self._handlers))}
            return PlainTextResponse("405: Method Not Allowed", 405, allowed)
        try:
            return await handler(request)
        except Exception:
            logger.exception("%s %s", request.method, request.url.path)
            page = "500 Internal Server Error\n\nServer got itself in trouble"
            return PlainTextResponse(page, 500, {"Connection": "close"})


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request for a path that nothing serves."""
    await PlainTextResponse("404: Not Found", 404)(scope, receive, send)
