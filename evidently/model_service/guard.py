"""What stands before the routes: the token, the limits of size and time, and the clock for /metrics."""

import asyncio
import hmac
import time

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import REQUESTS
from .settings import Settings

#: What needs no token: it says no more than whether the service works.
OPEN = {"/healthz", "/readyz"}


class Refused(Exception):
    """The request is answered here."""

    def __init__(self, status: int, reason: str, **headers: str):
        super().__init__(reason)
        self.response = JSONResponse({"detail": reason}, status, headers)


class Guard:
    """Refuses before a byte of the body is read, or any of it is understood."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app = app
        self._settings = settings
        self._late: set[asyncio.Task] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send)
        try:
            self._check_token(scope)
            body = await self._read(scope, receive)
            await self._run(scope, _replay(body, receive), answer)
        except Refused as refused:
            await refused.response(scope, receive, answer.send_now)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            REQUESTS.labels(scope["method"], route, answer.status).observe(time.perf_counter() - started)

    def _check_token(self, scope: Scope) -> None:
        if scope["path"] in OPEN:
            return
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        admin = _equal(given, self._settings.admin_token)
        known = _equal(given, self._settings.api_token) or admin
        if kind.lower() != "bearer" or not known:
            raise Refused(401, "a valid bearer token is needed", **{"WWW-Authenticate": "Bearer"})
        if not admin and scope["method"] not in ("GET", "HEAD") and scope["path"].startswith("/models"):
            raise Refused(403, "this token may not change which versions are deployed or active")

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._settings.request_bytes
        too_large = Refused(413, f"the body has more than {limit} bytes", Connection="close")
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.request_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the client went away before the end of the body")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_large
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            seconds = self._settings.request_seconds
            raise Refused(408, f"the body did not arrive within {seconds} s", Connection="close") from None

    async def _run(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        task = asyncio.create_task(self._app(scope, receive, answer))
        seconds = self._settings.request_seconds
        await asyncio.wait({task}, timeout=seconds)
        if task.done() or answer.started:
            await task
            return
        # A thread can't be stopped: what runs in one ends by itself (PostgreSQL gives up too), and is not listened to.
        answer.closed = True
        self._late.add(task)
        task.add_done_callback(self._forget)
        task.cancel()
        raise Refused(503, f"no answer within {seconds} s; a prediction may have been stored all the same")

    def _forget(self, task: asyncio.Task) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it any more


class _Answer:
    """The way back to the client, on which nothing more is said after a time-out."""

    def __init__(self, send: Send):
        self._send = send
        self.started = False
        self.closed = False
        self.status = 500  # what the server makes of an exception

    async def __call__(self, message: Message) -> None:
        if not self.closed:
            await self.send_now(message)

    async def send_now(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
        await self._send(message)


def _equal(given: str, token: str) -> bool:
    """Compare in constant time; as bytes, because hmac refuses other texts than ASCII."""
    return hmac.compare_digest(given.encode(), token.encode())


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body once, and then what else the client does."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
