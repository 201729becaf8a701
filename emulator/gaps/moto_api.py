"""Gaps of moto's own routes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from moto.core.model_instances import model_data
from moto.moto_api._internal.responses import MotoAPIResponse

from emulator.gaps import gap, replace


@gap("moto-api", "data", "None of AWS: the route that shows the account's whole state answers whatever is in it.")
def data() -> None:
    @replace(MotoAPIResponse, "model_data")
    def show(self: Any, request: Any, full_url: str, headers: Any) -> tuple[int, dict[str, str], str]:
        state = {
            service: {name: [_plain(one) for one in models[name].instances_tracked] for name in sorted(models)}
            for service, models in sorted(model_data.items())
        }
        return 200, {"Content-Type": "application/json"}, json.dumps(state)


def _plain(instance: Any) -> dict[str, Any]:
    """Return the public attributes that JSON can hold."""
    shown = {}
    for name in dir(instance):
        # Some are properties that can only be written, or that look for what is gone; they raise anything.
        with suppress(Exception):
            if not name.startswith("_"):
                value = getattr(instance, name)
                json.dumps(value)
                shown[name] = value
    return shown
