# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module stack_lock against the emulator: one holder at a time, and no dead one for long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.mlops.metaflow.plugins.modules import stack_lock
from steps import answering

ROOT = Path(__file__).parents[3]
MODULE = "mlops.metaflow.stack_lock"
NAME = "/metaflow/test/run-lock"
# Two runs: this process and the one that started it, which live as long as the test.
FIRST = {"name": NAME, "owner": "ann@laptop", "pid": os.getpid()}
SECOND = {"name": NAME, "owner": "bob@ci", "pid": os.getppid()}
GIVEN_BACK = {"state": "absent"}


@pytest.fixture
def ssm(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("ssm")


@pytest.fixture
def lock(run_module, ssm):
    """Return ``lock(args, …)``, which runs the module; taking and giving back is no change of the stack."""

    def lock(args, **options):
        result = run_module(MODULE, args, **options)
        assert result.get("failed") or not result["changed"]
        return result

    return lock


def leases(ssm):
    """Return the leases that exist: number → lease."""
    found = ssm.get_parameters_by_path(Path=NAME)["Parameters"]
    return {int(p["Name"].rpartition("/")[2]): json.loads(p["Value"]) for p in found}


def test_the_second_run_is_refused_until_the_first_gives_the_lock_back(lock, ssm):
    lease = lock(FIRST | {"tags": {"mlops.metaflow/stack": "metaflow"}})["lease"]
    assert leases(ssm) == {1: lease}
    refused = lock(SECOND, fails=True)
    assert f"ann@laptop, process {os.getpid()} on " in refused["msg"]
    assert refused["lease"] == lease
    lock(FIRST | GIVEN_BACK)
    assert leases(ssm) == {}
    assert lock(SECOND)["lease"]["owner"] == "bob@ci"


def test_the_lease_carries_the_tags(lock, ssm):
    lock(FIRST | {"tags": {"mlops.metaflow/stack": "metaflow"}})
    tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=f"{NAME}/1")["TagList"]
    assert tags == [{"Key": "mlops.metaflow/stack", "Value": "metaflow"}]


def test_the_holder_renews_its_lease(lock, ssm):
    first = lock(FIRST | {"lease_seconds": 60})["lease"]
    again = lock(FIRST | {"lease_seconds": 600})["lease"]
    assert again["expires"] > first["expires"]
    assert leases(ssm) == {1: again}


def test_a_holder_whose_process_has_ended_is_succeeded_at_once(lock, ssm):
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock(FIRST | {"pid": ended.pid})
    assert "Another run" in lock(SECOND, fails=True)["msg"]
    ended.kill()
    ended.communicate()
    assert lock(SECOND)["lease"]["owner"] == "bob@ci"
    assert [lease["owner"] for lease in leases(ssm).values()] == ["bob@ci"]


def test_a_holder_on_another_machine_is_succeeded_when_its_lease_has_expired(lock, ssm):
    elsewhere = {**lock(FIRST)["lease"], "host": "elsewhere"}
    ssm.put_parameter(Name=f"{NAME}/1", Value=json.dumps(elsewhere), Type="String", Overwrite=True)
    assert "on elsewhere" in lock(SECOND, fails=True)["msg"]
    ssm.put_parameter(Name=f"{NAME}/1", Value=json.dumps({**elsewhere, "expires": 1}), Type="String", Overwrite=True)
    assert lock(SECOND)["lease"]["owner"] == "bob@ci"


def test_giving_back_leaves_the_lease_of_another_run(lock, ssm):
    lock(FIRST)
    assert lock(SECOND | GIVEN_BACK)["lease"]["owner"] == "ann@laptop"
    assert len(leases(ssm)) == 1


def test_giving_back_what_nobody_holds_is_no_error(lock, ssm):
    assert lock(FIRST | GIVEN_BACK)["lease"] is None


def test_force_removes_the_lease_of_another_run(run_module, lock, ssm):
    lock(FIRST)
    removed = run_module(MODULE, SECOND | GIVEN_BACK | {"force": True})
    assert removed["changed"] and removed["lease"] is None
    assert leases(ssm) == {}
    assert not run_module(MODULE, SECOND | GIVEN_BACK | {"force": True})["changed"]


def test_check_mode_looks_and_writes_nothing(lock, ssm, emulator):
    assert lock(FIRST, check=True)["lease"] is None
    lock(FIRST)
    emulator.request("POST", "/_emulator/calls/reset")
    assert "ann@laptop" in lock(SECOND, check=True, fails=True)["msg"]
    assert lock(FIRST, check=True)["lease"]["owner"] == "ann@laptop"
    lock(FIRST | GIVEN_BACK, check=True)
    assert emulator.mutations() == []


def test_what_a_killed_take_over_has_left_is_tidied_up(lock, ssm):
    """Between two calls of a take-over two leases exist; the higher number counts."""
    dead = {**lock(FIRST)["lease"], "pid": 2**22 + 1}
    for number in range(1, 14):
        ssm.put_parameter(Name=f"{NAME}/{number}", Value=json.dumps(dead), Type="String", Overwrite=True)
    assert lock(SECOND)["lease"]["owner"] == "bob@ci"
    assert list(leases(ssm)) == [14]


def test_the_slower_of_two_takers_that_saw_no_lease_is_refused(lock, ssm, monkeypatch):
    """Another run takes the lock between this one's looking and its taking."""
    create = stack_lock.Lock.create

    def overtaken(self, number, lease, tags):
        other = {**lease, "owner": "bob@ci", "pid": os.getppid()}
        other["started"] = stack_lock.process_started(os.getppid())
        assert create(self, number, other, tags)
        return create(self, number, lease, tags)

    monkeypatch.setattr(stack_lock.Lock, "create", overtaken)
    assert "bob@ci" in lock(FIRST, fails=True)["msg"]
    assert [lease["owner"] for lease in leases(ssm).values()] == ["bob@ci"]


def test_the_slower_taker_goes_on_where_the_quicker_one_has_ended_already(lock, ssm, monkeypatch):
    create = stack_lock.Lock.create
    refusals = [False]

    def overtaken(self, number, lease, tags):
        return refusals.pop() if refusals else create(self, number, lease, tags)

    monkeypatch.setattr(stack_lock.Lock, "create", overtaken)
    taken = lock(FIRST)["lease"]
    assert leases(ssm) == {1: taken}


def test_a_taker_that_numbers_from_an_old_reading_steps_back(lock, ssm, monkeypatch):
    """Others have taken and given back meanwhile, so that its number is free, but not the highest."""
    create = stack_lock.Lock.create

    def outdated(self, number, lease, tags):
        other = {**lease, "owner": "bob@ci", "pid": os.getppid()}
        assert create(self, number + 1, other, tags)
        return create(self, number, lease, tags)

    monkeypatch.setattr(stack_lock.Lock, "create", outdated)
    assert "bob@ci" in lock(FIRST, fails=True)["msg"]
    assert [lease["owner"] for lease in leases(ssm).values()] == ["bob@ci"]


def test_of_takers_at_the_same_time_one_gets_the_lock(ssm, aws_environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "collections")}
    module = ROOT / "plugins" / "modules" / "stack_lock.py"
    with ExitStack() as stack:
        runs = [stack.enter_context(subprocess.Popen(["sleep", "300"])) for _ in range(4)]  # who would hold the lock
        stack.callback(lambda: [run.kill() for run in runs])
        takers = [
            subprocess.Popen(
                [sys.executable, module, json.dumps({"ANSIBLE_MODULE_ARGS": FIRST | {"pid": run.pid}})],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True,
            )
            for run in runs
        ]  # fmt: skip
        results = [json.loads(taker.communicate(timeout=120)[0]) for taker in takers]
    winners = [result["lease"] for result in results if not result.get("failed")]
    assert len(winners) == 1
    assert list(leases(ssm).values()) == winners
    assert all("Another run changes this stack" in r["msg"] for r in results if r.get("failed"))


def test_what_aws_refuses_is_passed_on(run_module, ssm):
    with answering("PutParameter", "AccessDeniedException", "You may not."):
        message = run_module(MODULE, FIRST, fails=True)["msg"]
    assert message.startswith(f"Failed to use the lock '{NAME}': ") and "You may not." in message
