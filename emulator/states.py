"""Lets resources take time: which state they are in meanwhile, and what happens when that time is over.

By default every resource is final at its first read. `--state-seconds` gives seconds for all kinds, or a TOML file with
seconds for some: `database = 300`.
"""

from __future__ import annotations

import math
import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

KINDS = (
    "api-vpc-link",
    "batch-compute-environment",
    "batch-job-queue",
    "database",
    "load-balancer",
    "nat-gateway",
    "notebook",
)


@dataclass(frozen=True)
class Timeline:
    """The intermediate states of a resource, each for an equal part of the time."""

    states: tuple[str, ...]
    began: float
    seconds: float

    def state(self) -> str | None:
        """Return the state of now, None when the time is over."""
        passed = time.monotonic() - self.began
        if passed >= self.seconds:
            return None
        return self.states[int(passed / self.seconds * len(self.states))]


_seconds: dict[str, float] = {}
_timelines: WeakKeyDictionary[Any, Timeline] = WeakKeyDictionary()
_due: list[tuple[float, Callable[[], None]]] = []
_lock = threading.RLock()


def configure(setting: str) -> None:
    """Set how long changes take: a number of seconds, or the path of a TOML file.

    Raises:
        ValueError: the file is missing or wrong, or the number is negative.
    """
    try:
        chosen: dict[str, Any] = dict.fromkeys(KINDS, float(setting))
    except ValueError:
        try:
            chosen = tomllib.loads(Path(setting).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"'{setting}' is neither a number of seconds nor a file: {error.strerror}") from error
    for kind, value in chosen.items():
        if kind not in KINDS:
            raise ValueError(f"'{kind}' takes no time; known are {', '.join(KINDS)}")
        if not isinstance(value, int | float) or value < 0:
            raise ValueError(f"{kind} = {value!r}: give seconds, 0 or more")
    _seconds.clear()
    _seconds.update(chosen)


def takes_time(kind: str) -> bool:
    """Say whether changes of this kind are not final at once."""
    return _seconds.get(kind, 0) > 0


def begin(resource: Any, kind: str, *states: str) -> None:
    """Let a resource be in these states, one after the other, for the time of its kind."""
    if takes_time(kind):
        _timelines[resource] = Timeline(states, time.monotonic(), _seconds[kind])


def is_new(resource: Any) -> bool:
    """Say whether a resource has never taken time yet."""
    return resource not in _timelines


def current(resource: Any) -> str | None:
    """Return the intermediate state of a resource, None when it is in its final one."""
    timeline = _timelines.get(resource)
    return timeline.state() if timeline else None


def end(resource: Any, kind: str, state: str, action: Callable[[], None]) -> None:
    """Let a resource be in a state until an action ends it, when the time of its kind is over.

    The action is done before the first request after that; an answer never falls between the two.
    """
    with _lock:
        _timelines[resource] = Timeline((state,), time.monotonic(), math.inf)

        def finish() -> None:
            _timelines.pop(resource, None)
            action()

        _due.append((time.monotonic() + _seconds[kind], finish))


def finish_due() -> None:
    """Do what is due by now."""
    with _lock:
        now = time.monotonic()
        due = [action for when, action in _due if when <= now]
        _due[:] = [(when, action) for when, action in _due if when > now]
        for action in due:
            action()


def reset() -> None:
    """Forget what is going on; the settings stay."""
    with _lock:
        _timelines.clear()
        _due.clear()


class TimedState:
    """Stands for the attribute of a model that holds its state, and shows the intermediate one while there is one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, resource: Any, owner: type | None = None) -> Any:
        if resource is None:
            return self
        return current(resource) or resource.__dict__[self.name]

    def __set__(self, resource: Any, value: Any) -> None:
        resource.__dict__[self.name] = value
