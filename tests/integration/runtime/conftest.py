"""Fixtures of the tests of the runtime."""

import pytest
from runtime_account import Account


@pytest.fixture(scope="module")
def shared_account(emulator):
    emulator.reset()
    yield Account(emulator)
    emulator.reset()


@pytest.fixture
def account(shared_account):
    yield shared_account
    shared_account.tidy()
