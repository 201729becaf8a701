"""Stacks that the tests of this directory share: a converge takes half a minute, so few of them must do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated_aws import ROOT, Emulator
from stack_runs import CANARY, Complete, Stack

#: Groups of tests by the time that they take, the longest first.
GROUPS = ["complete-stack", "hosts", "interrupted", "changed-variables", "adopted", "bad-input"]

#: What the complete stack deploys. The schedule's year is far away, so that nothing runs by itself.
FLOWS = {
    "flows_source": str(ROOT / "tests" / "integration" / "stack" / "flows"),
    "flows_list": [{"name": "hello", "file": "hello.py", "schedule": "0 6 * * ? 2099", "tags": ["tested"]}],
}

#: A chain of that flow, with all that the component makes.
CHAINS = {
    "chains_list": [
        {
            "name": "nightly",
            "schedule": "cron(0 6 * * ? 2099)",
            "parameters": {"fail": "false"},
            "steps": [{"flow": "HelloFlow", "timeout": 600, "parameters": {"fail": {"parameter": "fail"}}}],
        },
    ],
    "chains_triggers": [{"name": "once-more", "after": "OtherFlow", "start": "HelloFlow"}],
    "chains_notice_topic_arn": "arn:aws:sns:us-east-1:123456789012:failures",
    "chains_notice_webhook_url": "https://hooks.example.com/failures",
    "chains_notice_webhook_secret": "CANARY",
}

#: Its image of flows, whose build gets a secret.
IMAGE = {
    "flow_image_requirements": str(ROOT / "tests" / "integration" / "stack" / "requirements.txt"),
    "flow_image_build_secrets": ["CANARY"],
    "flow_image_builder": "codebuild",  # where an engine runs too: it has no base image
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the groups of tests that take longest: the last one running alone would leave a processor idle."""
    items.sort(key=lambda item: GROUPS.index(group_of(item)) if group_of(item) in GROUPS else len(GROUPS))


def group_of(item: pytest.Item) -> str:
    """Return the group whose tests one process runs one after the other; an empty text for none."""
    marker = item.get_closest_marker("xdist_group")
    return marker.args[0] if marker else ""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An empty account, for one file of tests."""
    running = Emulator(tmp_path_factory.mktemp("account") / "state")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def stack(account: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The environment `local` on that account, not converged yet."""
    return Stack(account, tmp_path_factory.mktemp("stack") / "home")


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Complete]:
    """The complete stack, converged with every word that Ansible has (-vvv --diff).

    The tests of the group "complete-stack" share it; each leaves it complete.
    """
    emulator = Emulator(tmp_path_factory.mktemp("complete-account") / "state")
    try:
        home = tmp_path_factory.mktemp("complete") / "home"
        variables = {"secrets_flow_values": {"CANARY": CANARY}, **IMAGE, **FLOWS, **CHAINS}
        stack = Stack(emulator, home, variables=variables)
        yield Complete.converge(stack)
    finally:
        emulator.stop()


@pytest.fixture
def inventory_copy(tmp_path: Path) -> Path:
    """A copy of inventories/local, to be changed."""
    copy = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventories" / "local", copy, ignore=shutil.ignore_patterns(".state"))
    return copy
