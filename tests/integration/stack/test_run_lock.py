"""Two runs on one stack: the second stops before its first change; a dead holder does not block."""

from __future__ import annotations

import getpass
import json
import socket
import time

import pytest
from stack_runs import Complete, Started

pytestmark = pytest.mark.xdist_group("complete-stack")

LOCK = "/metaflow/local/run-lock"


def holders(complete: Complete) -> list[str]:
    """Return the leases in the account."""
    return [p["Name"] for p in complete.account.items("ssm", "get_parameters_by_path", "Parameters", Path=LOCK)]


def wait_for_the_lock(complete: Complete, run: Started) -> None:
    limit = time.monotonic() + 120
    while not holders(complete):
        assert not run.ended and time.monotonic() < limit
        time.sleep(0.02)


def test_a_second_run_stops_before_its_first_change_and_a_dead_holder_does_not_block(complete: Complete) -> None:
    first = complete.stack.start(full=True)
    try:
        wait_for_the_lock(complete, first)
        first.stop()
        complete.stack.emulator.request("POST", "/_emulator/calls/reset")
        refused = complete.stack.run(full=True).refused()
        assert complete.stack.emulator.mutations() == []
    finally:
        first.kill()
    holder = f"{getpass.getuser()}@{socket.gethostname()}, process {first.pid}"
    assert f"Another run changes this stack: {holder} on {socket.gethostname()}, until " in refused

    assert holders(complete) != []  # the killed run could not give it back
    complete.stack.run("--tags", "registry", full=True).succeeded()
    assert holders(complete) == []


def test_unlock_removes_the_lock_of_another_run_by_the_environments_name(complete: Complete) -> None:
    client = complete.account.client("ssm")
    lease = {"owner": "ann@laptop", "host": "elsewhere", "pid": 1, "started": None, "expires": int(time.time()) + 3600}
    client.put_parameter(Name=f"{LOCK}/7", Value=json.dumps(lease), Type="String")
    assert "ann@laptop, process 1 on elsewhere" in complete.stack.run("--tags", "registry", full=True).refused()
    assert "name the environment: -e confirm=local" in complete.stack.run(playbook="playbooks/unlock.yml").refused()
    assert holders(complete) != []
    complete.stack.run(playbook="playbooks/unlock.yml", confirm="local").succeeded()
    assert holders(complete) == []
    complete.stack.run("--tags", "registry", full=True).succeeded()
