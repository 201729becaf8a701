"""The gaps between moto and AWS, and the small changes to moto that close them.

A gap is a function with `@gap(area, name, what AWS does)`. At start each is called once and changes moto with `wrap`,
`replace` or `add`; these compare the signature with the one that the change was written for, so that a new version of
moto of another shape fails at start and not somewhere in a deployment.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class ShapeError(RuntimeError):
    """moto's code is not what a gap was written for."""


@dataclass(frozen=True)
class Gap:
    """One difference between moto and AWS. `aws` says in a sentence what AWS does."""

    area: str
    name: str
    aws: str
    close: Callable[[], None]


_gaps: list[Gap] = []


def gap(area: str, name: str, aws: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a function that closes a gap."""

    def register(close: Callable[[], None]) -> Callable[[], None]:
        _gaps.append(Gap(area, name, aws, close))
        return close

    return register


def load() -> list[Gap]:
    """Import every area and return the gaps in the order of their definitions, in which they are also closed.

    Where two change the same function, the later one is the outer one.

    Raises:
        ShapeError: moto lacks a module or a name that an area imports.
    """
    for module in pkgutil.iter_modules(__path__):
        try:
            importlib.import_module(f"{__name__}.{module.name}")
        except ImportError as error:
            raise ShapeError(f"the gaps of {module.name} do not fit this version of moto: {error}") from error
    return list(_gaps)


def close_all() -> None:
    """Close every gap.

    Raises:
        ShapeError: moto's code has changed; the message names the gap.
    """
    for one in load():
        try:
            one.close()
        except (ShapeError, AttributeError, ImportError, KeyError) as error:
            raise ShapeError(f"gap {one.area}/{one.name} does not fit this version of moto: {error}") from error


def wrap(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put the decorated function around `owner.name`; it receives the original as its first argument.

    Its other parameters must be those of the original (`*args, **kwargs` stand for the rest).
    """

    def decorate(new: Callable[..., Any]) -> Callable[..., Any]:
        original = getattr(owner, name)
        _check(owner, name, original, list(inspect.signature(new).parameters.values())[1:])

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return new(original, *args, **kwargs)

        _set(owner, name, wrapped)
        return new

    return decorate


def replace(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put the decorated function in place of `owner.name`, which must have the same parameters."""

    def decorate(new: Callable[..., Any]) -> Callable[..., Any]:
        _check(owner, name, getattr(owner, name), list(inspect.signature(new).parameters.values()))
        _set(owner, name, new)
        return new

    return decorate


def before(owner: Any, name: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Run the decorated check before the operation `owner.name(self)`; the check refuses by raising."""

    def decorate(check: Callable[[Any], None]) -> Callable[[Any], None]:
        @wrap(owner, name)
        def checked(original: Callable[..., Any], self: Any) -> Any:
            check(self)
            return original(self)

        return check

    return decorate


def add(owner: Any, name: str) -> Callable[[Any], Any]:
    """Give `owner` an attribute that it must not have yet: when moto brings it, the gap has to go."""

    def decorate(new: Any) -> Any:
        if hasattr(owner, name):
            raise ShapeError(f"{_label(owner)}.{name} exists now")
        setattr(owner, name, new)
        return new

    return decorate


def _set(owner: Any, name: str, function: Callable[..., Any]) -> None:
    is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
    setattr(owner, name, staticmethod(function) if is_static else function)


def _check(owner: Any, name: str, original: Any, expected: list[inspect.Parameter]) -> None:
    actual = [p.name for p in inspect.signature(original).parameters.values()]
    names = [p.name for p in expected if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    rest_is_open = len(names) != len(expected)
    if names != actual and not (rest_is_open and names == actual[: len(names)]):
        raise ShapeError(f"{_label(owner)}.{name} has parameters {actual}, not {names}")


def _label(owner: Any) -> str:
    return f"{owner.__module__}.{owner.__qualname__}" if inspect.isclass(owner) else str(owner)
