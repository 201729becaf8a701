# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of a module share: steps that are held to the calls that they may make, and runs that are killed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

READS = re.compile(r"(Describe|Get|Head|List)[A-Z]")


class Module:
    """One module, run against the emulator, which says whether it changed anything."""

    def __init__(self, run_module: Callable[..., dict[str, Any]], emulator: Any, name: str) -> None:
        self.run_module = run_module
        self.emulator = emulator
        self.name = f"mlops.metaflow.{name}"

    def run(self, args: dict[str, Any], check: bool = False, changes: bool = True, **options: Any) -> dict[str, Any]:
        """Run it once: it must report whether it changes anything, and call AWS accordingly."""
        self.emulator.request("POST", "/_emulator/calls/reset")
        result = self.run_module(self.name, args, check=check, **options)
        mutations = self.emulator.mutations()
        if result.get("failed"):
            assert not mutations, mutations
            return result
        assert result["changed"] == changes, result
        assert bool(mutations) == (changes and not check), mutations
        return result

    def refused(self, args: dict[str, Any]) -> str:
        """Run it in check mode and for real; both must refuse before any change, in the same words: return them."""
        said = [self.run(args, check=check, fails=True)["msg"] for check in (True, False)]
        assert said[0] == said[1], said
        return said[0]

    def change(self, args: dict[str, Any]) -> dict[str, Any]:
        """Take four steps (change and again, each checked and real); return the result of the real change.

        Check mode must predict the difference that the real run shows.
        """
        predicted = self.run(args, check=True)
        real = self.run(args)
        assert predicted["diff"] == real["diff"], f"predicted {predicted['diff']}, was {real['diff']}"
        self.run(args, check=True, changes=False)
        again = self.run(args, changes=False)
        key = result_key(real)
        assert again[key] == real[key], f"first {real[key]}, then {again[key]}"
        assert not real[key] or predicted[key].keys() <= real[key].keys(), predicted[key].keys() - real[key].keys()
        return real

    def survives_kills(self, prepare: Callable[[], dict[str, Any]], state: Callable[[], Any]) -> None:
        """Kill a run after its first, second … changing call, and run again: the end is that of a run left alone.

        :param prepare: makes in the empty account what the module builds on, and returns its arguments.
        :param state: returns what there is then, without random ids.
        """
        self.emulator.reset()
        self.run_module(self.name, prepare())
        expected = state()
        for calls in range(1, 50):
            self.emulator.reset()
            args = prepare()
            with killed_after(calls) as kill, suppress(Killed):
                self.run_module(self.name, args)
            if not kill["done"]:
                assert calls > 1
                return
            self.run_module(self.name, args)
            assert state() == expected, f"killed after {calls} changing calls: {state()}"
            self.run(args, changes=False)
        raise AssertionError("the module makes 50 changing calls and more")


def result_key(result: dict[str, Any]) -> str:
    """Return the key of a module's result that holds the resource."""
    (key,) = result.keys() - {"changed", "diff", "invocation", "warnings", "deprecations"}
    return key


class Killed(BaseException):
    """The process has ended here."""


@contextmanager
def killed_after(calls: int) -> Iterator[dict[str, bool]]:
    """End what runs inside right after its ``calls``-th changing call; ``done`` says whether it came to that."""
    kill, left = {"done": False}, [calls]
    original = BaseClient._make_api_call

    def call(self: BaseClient, operation: str, arguments: dict[str, Any]) -> Any:
        answer = original(self, operation, arguments)
        if not READS.match(operation):
            left[0] -= 1
            if left[0] == 0:
                kill["done"] = True
                raise Killed
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", call)
        yield kill


@contextmanager
def answering(operation: str, code: str, message: str = "", times: int = 1000) -> Iterator[None]:
    """Let AWS refuse the first calls of an operation ("HeadBucket") as it does where the emulator can't be got to."""
    original, left = BaseClient._make_api_call, [times]

    def call(self: BaseClient, name: str, arguments: dict[str, Any]) -> Any:
        if name == operation and left[0]:
            left[0] -= 1
            raise ClientError({"Error": {"Code": code, "Message": message}}, name)
        return original(self, name, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", call)
        yield
