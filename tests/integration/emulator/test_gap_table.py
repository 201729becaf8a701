"""The table of gaps: each has a test, and moto of another shape is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from emulated_aws import ROOT

HERE = Path(__file__).parent


def listed_gaps() -> list[str]:
    """Return area/name of each line that --list-gaps prints."""
    command = [sys.executable, "-m", "emulator", "--list-gaps"]
    table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    return ["/".join(line.split()[:2]) for line in table.splitlines()]


def test_each_gap_has_a_test_and_each_test_a_gap() -> None:
    marked = re.findall(r"mark\.gap\(\"([^\"]+)\"\)", "".join(f.read_text() for f in HERE.glob("test_gaps_*.py")))
    assert sorted(set(marked)) == sorted(listed_gaps())


@pytest.fixture
def gaps(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the gaps."""
    monkeypatch.syspath_prepend(str(ROOT))
    from emulator import gaps

    return gaps


class Moto:
    """Stands for a class of moto."""

    def act(self, subject: str, reason: str = "") -> str:
        return subject + reason

    @staticmethod
    def rule(value: int) -> int:
        return value


def test_wrap_passes_the_original(gaps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moto, "act", Moto.act)

    @gaps.wrap(Moto, "act")
    def act(original: Any, self: Any, subject: str, *args: Any) -> str:
        return original(self, f"<{subject}>", *args)

    assert Moto().act("a", "b") == "<a>b"


def test_replace_keeps_a_static_method_static(gaps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moto, "rule", Moto.__dict__["rule"])

    @gaps.replace(Moto, "rule")
    def rule(value: int) -> int:
        return value + 1

    assert Moto().rule(1) == 2


@pytest.mark.parametrize(
    ("function", "owner", "name"),
    [
        ("wrap", Moto, "renamed"),
        ("replace", Moto, "renamed"),
        ("wrap", Moto, "act"),
        ("replace", Moto, "act"),
        ("add", Moto, "act"),
    ],
)
def test_another_shape_is_refused(gaps: Any, function: str, owner: type, name: str) -> None:
    with pytest.raises((gaps.ShapeError, AttributeError)):
        getattr(gaps, function)(owner, name)(lambda original, self, other: None)


def test_the_message_names_the_gap(gaps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def close() -> None:
        raise gaps.ShapeError("moto.x has parameters ['a'], not ['b']")

    broken = SimpleNamespace(area="ec2", name="some-gap", close=close)
    monkeypatch.setattr(gaps, "load", lambda: [broken])
    with pytest.raises(gaps.ShapeError, match=r"gap ec2/some-gap does not fit this version of moto: moto\.x has param"):
        gaps.close_all()


def test_a_missing_name_of_moto_names_the_area(gaps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"cannot import {name}")

    monkeypatch.setattr(gaps.importlib, "import_module", refuse)
    with pytest.raises(gaps.ShapeError, match=r"the gaps of apigateway do not fit this version of moto"):
        gaps.load()
