"""The emulator's own routes under /_emulator/, answered in JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from emulator.calls import CallLog, Environ
from emulator.faults import Faults

PREFIX = "/_emulator/"


class Control:
    """WSGI middleware that answers the control routes and hands on everything else."""

    def __init__(self, app: Any, log: CallLog, faults: Faults, state_dir: str, account: str) -> None:
        self.app = app
        self.state_dir = state_dir
        self.account = account
        self.routes: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "health"): self._health,
            ("GET", "calls"): lambda _: {"calls": log.totals()},
            ("GET", "calls/log"): lambda _: {"calls": log.latest()},
            ("POST", "calls/reset"): lambda _: log.reset(),
            ("GET", "faults"): lambda _: {"faults": faults.describe()},
            ("POST", "faults"): faults.add,
            ("DELETE", "faults"): lambda _: faults.clear(),
        }

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.startswith(PREFIX):
            return self.app(environ, start_response)
        status, answer = self._answer(environ["REQUEST_METHOD"], path.removeprefix(PREFIX), environ)
        body = json.dumps(answer).encode()
        start_response(
            f"{status.value} {status.phrase}",
            [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
        )
        return [body]

    def _answer(self, method: str, route: str, environ: Environ) -> tuple[HTTPStatus, Any]:
        handler = self.routes.get((method, route))
        if handler is None:
            known = sorted(f"{m} {PREFIX}{r}" for m, r in self.routes)
            return HTTPStatus.NOT_FOUND, {"error": f"no route {method} {PREFIX}{route}", "routes": known}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            return HTTPStatus.OK, handler(json.loads(body) if body else None)
        except (KeyError, TypeError, ValueError) as error:
            return HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"}

    def _health(self, _: Any) -> dict[str, Any]:
        return {"status": "ok", "pid": os.getpid(), "state_dir": self.state_dir, "account": self.account}
