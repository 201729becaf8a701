"""Which versions of Metaflow send heartbeats."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.metadata_service.client import sends_heartbeats


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.5", False),
        ("1", False),
        ("1.13", False),
        ("1.14.0", True),
        ("1.22.1", True),
        ("2", False),
        ("2.0.5", False),
        ("2.2.11", False),
        ("2.2.12", True),
        ("2.2.12+ab1234", True),
        ("2.3", True),
        ("2.12.24.post9-git2a5367b+ob(v1)", True),
        ("2.19.39", True),
        ("3", True),
        ("", False),
        ("unknown", False),
    ],
)
def test_version_tag(version: str, expected: bool) -> None:
    assert sends_heartbeats(["runtime:dev", f"metaflow_version:{version}"]) is expected


@pytest.mark.parametrize("system_tags", [None, [], ["2.19.39"], "metaflow_version:2.19.39", [5], {"a": 1}])
def test_no_version_tag(system_tags: Any) -> None:
    assert sends_heartbeats(system_tags) is False
