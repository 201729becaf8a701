"""Fixtures shared by all tests: an emulated AWS account on a free port, one per pytest-xdist worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emulated_aws import Emulator


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulated AWS account, shared by the tests of one worker; `reset()` empties it."""
    running = Emulator(tmp_path_factory.mktemp("emulator"))
    try:
        yield running
    finally:
        running.stop()
