"""Fixtures shared by all tests: an emulated AWS account on a free port, one per pytest-xdist worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from emulated_aws import Emulator
from hypothesis import settings

# The same cases at every run, so that a failure is the change's own; no deadline, so that a busy machine is no failure.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plain-moto", action="store_true", help="expect each test of an emulator's gap to fail on moto")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to distribute tests one by one that share a stack: pytest-xdist names a group in the ids of its tests."""
    distributed = getattr(session.config.option, "loadgroup", False)
    loose = [item.nodeid for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
    if distributed and loose:
        raise pytest.UsageError(f"pytest-xdist passes over groups with pytest {pytest.__version__}: {loose[0]}")


@pytest.fixture(scope="session")
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulated AWS account, shared by the tests of one worker; `reset()` empties it."""
    plain = ["--plain"] if request.config.getoption("--plain-moto") else []
    running = Emulator(tmp_path_factory.mktemp("emulator"), *plain)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def module_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be one of Ansible's modules: it gives its own warnings in its result.

    As soon as any test has imported a part of the controller (a plug-in's base class), it would print them instead.
    """
    monkeypatch.setattr(_internal, "is_controller", False)
    monkeypatch.setattr(warnings, "_global_warnings", {})
