"""Gaps of EventBridge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.events.models import Connection

from emulator.gaps import gap, wrap

#: Of each kind of authorization, the members that are shown to nobody.
SECRETS = {"ApiKeyAuthParameters": "ApiKeyValue", "BasicAuthParameters": "Password"}


@gap("events", "connection-secret", "A connection's description has no password and no value of an API key.")
def connection_secret() -> None:
    @wrap(Connection, "describe")
    def describe(original: Callable[..., dict[str, Any]], self: Any) -> dict[str, Any]:
        shown = original(self)
        parameters = {
            kind: {key: value for key, value in given.items() if key != SECRETS.get(kind)}
            for kind, given in shown["AuthParameters"].items()
        }
        return {**shown, "AuthParameters": parameters}
