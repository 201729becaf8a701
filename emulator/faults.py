"""Faults for tests: calls that are throttled, and calls that take effect but whose answer is lost; also latency.

A fault is set with POST /_emulator/faults:

    {"action": "ec2:CreateVpc", "kind": "drop", "nth": [1]}          the first such call
    {"action": "*", "kind": "throttle", "percent": 30, "seed": 7}    30 % of all calls, the same ones at each run

`action` is service:Action as botocore names them, with the wildcards of fnmatch.
"""

from __future__ import annotations

import fnmatch
import json
import random
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from moto.core.utils import get_service_model

from emulator.calls import Call, Environ

KINDS = ("throttle", "drop", "deny")


@dataclass
class Fault:
    """One fault. `seen` counts the calls of its action, `injected` those that it met."""

    action: str
    kind: str
    nth: list[int] = field(default_factory=list)
    percent: float = 0
    seed: int = 0
    seen: int = 0
    injected: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind '{self.kind}' is not one of {', '.join(KINDS)}")
        if bool(self.nth) == bool(self.percent):
            raise ValueError("give either nth, a list of numbers from 1, or percent, above 0")
        self._random = random.Random(self.seed)  # noqa: S311 - which calls fail is no secret

    def meets(self, call: Call) -> bool:
        """Count a call and say whether the fault happens to it."""
        if not fnmatch.fnmatchcase(f"{call.service}:{call.action}", self.action):
            return False
        self.seen += 1
        met = self.seen in self.nth if self.nth else self._random.random() * 100 < self.percent
        self.injected += met
        return met

    def describe(self) -> dict[str, Any]:
        """Return the fault as GET /_emulator/faults shows it."""
        chosen = {"nth": self.nth} if self.nth else {"percent": self.percent, "seed": self.seed}
        return {"action": self.action, "kind": self.kind, **chosen, "seen": self.seen, "injected": self.injected}


class Faults:
    """The faults that are set. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Set a fault.

        Raises:
            TypeError, ValueError: the description is wrong.
        """
        fault = Fault(**wanted)
        with self._lock:
            self._faults.append(fault)
        return fault.describe()

    def describe(self) -> list[dict[str, Any]]:
        """Return the faults in the order in which they were set."""
        with self._lock:
            return [fault.describe() for fault in self._faults]

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def kind_for(self, call: Call) -> str | None:
        """Return what happens to a call: the kind of the first fault that it meets."""
        with self._lock:
            met = [fault.kind for fault in self._faults if fault.meets(call)]
        return met[0] if met else None


class Injector:
    """WSGI middleware that lets faults and latency happen to AWS calls (those that the recorder has named)."""

    def __init__(self, app: Any, faults: Faults, latency: float) -> None:
        self.app = app
        self.faults = faults
        self.latency = latency

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        call = environ.get("emulator.call")
        if call is None:
            return self.app(environ, start_response)
        time.sleep(self.latency)
        kind = self.faults.kind_for(call)
        if kind == "throttle":
            return _refuse(call, start_response, THROTTLED, "Rate exceeded")
        if kind == "deny":
            return _refuse(call, start_response, DENIED, "You are not authorized to perform this operation")
        if kind == "drop":
            _lose_answer(self.app, environ)
        return self.app(environ, start_response)


def _lose_answer(app: Any, environ: Environ) -> None:
    """Let the call take effect, then break the connection instead of answering."""
    for _ in app(environ, lambda status, headers, *_: None):
        pass  # the answer is produced, and goes nowhere
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("the answer is lost, as a fault demands")


#: protocol of a service -> status and error code, for calls that come too fast and for those that nobody may make.
THROTTLED = {
    "ec2": (503, "RequestLimitExceeded"),
    "query": (400, "Throttling"),
    "rest-xml": (503, "SlowDown"),
    "rest-json": (429, "TooManyRequestsException"),
    "json": (400, "ThrottlingException"),
}
DENIED = {
    "ec2": (403, "UnauthorizedOperation"),
    "query": (403, "AccessDenied"),
    "rest-xml": (403, "AccessDenied"),
    "rest-json": (403, "AccessDeniedException"),
    "json": (400, "AccessDeniedException"),
}

#: protocol of a service -> what its errors stand in; JSON has none.
ENVELOPES = {
    "ec2": "<Response><Errors><Error>{}</Error></Errors></Response>",
    "query": "<ErrorResponse><Error><Type>Sender</Type>{}</Error></ErrorResponse>",
    "rest-xml": "<Error>{}</Error>",
}


def _refuse(call: Call, start_response: Any, errors: dict[str, tuple[int, str]], message: str) -> Iterable[bytes]:
    """Answer with an error, as AWS does in the protocol of the service."""
    protocol = get_service_model(call.service).metadata["protocol"]
    status, code = errors[protocol]
    if protocol in ENVELOPES:
        body = ENVELOPES[protocol].format(f"<Code>{code}</Code><Message>{message}</Message>")
    else:
        body = json.dumps({"__type": code, "message": message})
    start_response(f"{status} Refused", [("Content-Length", str(len(body))), ("x-amzn-ErrorType", code)])
    return [body.encode()]
