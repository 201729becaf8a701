"""Whatever runs ends with the account: when it is reset, when the emulator stops, when it is killed."""

import os
import signal
from pathlib import Path

import pytest
from emulated_aws import Emulator
from runtime_account import Account, wait_for
from runtime_stack import Batch


def descendants(pid):
    """The ids of all processes below a process."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in thread.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.fixture
def running(tmp_path):
    """An emulator with a service, a job and what they run."""
    emulator = Emulator(tmp_path / "state")
    account = Account(emulator)
    account.service(account.define(account.server()))
    account.stable()
    batch = Batch(account)
    batch.reached(batch.submit("sh", "-c", "setsid sleep 600 & sleep 600"), "RUNNING")
    # two of the service (init and program), and of the job the init, the shell and its two
    pids = wait_for(lambda: len(found := descendants(emulator.process.pid)) >= 6 and found)
    yield emulator, pids
    emulator.process.kill()
    emulator.process.wait()


def test_reset_ends_everything(running):
    emulator, pids = running
    emulator.reset()
    assert alive(pids) == []
    assert descendants(emulator.process.pid) == []
    assert list((emulator.state_dir / "containers").iterdir()) == []
    assert emulator.client("ecs").list_clusters()["clusterArns"] == []


def test_stopping_the_emulator_ends_everything(running):
    emulator, pids = running
    emulator.stop()
    assert emulator.process.returncode == 0
    assert alive(pids) == []


def test_killing_the_emulator_ends_everything(running):
    emulator, pids = running
    os.kill(emulator.process.pid, signal.SIGKILL)
    emulator.process.wait()
    wait_for(lambda: not alive(pids))
