"""The stand-in of the metadata service as a process: a real flow of the installed Metaflow, and life and death."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "emulator.metadata_service"]
FLOW_LIMIT = 240  # seconds; a run takes 10 to 20 on an idle machine
STOP_LIMIT = 20  # seconds

FLOW = """
import os
from metaflow import FlowSpec, step

class ShapesFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.fan, self.plain)

    @step
    def fan(self):
        self.items = ["a b", "c"]
        self.next(self.work, foreach="items")

    @step
    def work(self):
        self.doubled = self.input * 2
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.result = sorted(branch.doubled for branch in inputs)
        self.next(self.meet)

    @step
    def plain(self):
        self.result = "plain"
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.results = [inputs.gather.result, inputs.plain.result]
        self.next(self.end)

    @step
    def end(self):
        if "BREAK" in os.environ:
            raise RuntimeError("asked to")

if __name__ == "__main__":
    ShapesFlow()
"""

READER = """
import json, sys
from metaflow import Flow, Run, namespace
from metaflow.metadata_provider.metadata import MetadataProvider
from metaflow.plugins.metadata_providers.service import ServiceMetadataProvider

namespace(None)
flow = Flow("ShapesFlow")
broken, resumed = sorted(flow, key=lambda run: int(run.id))
resumed.add_tags(["reviewed", "good"])
resumed.remove_tag("good")
again = Run(resumed.pathspec)
print(json.dumps({
    "successful": [broken.successful, again.successful],
    "finished": [broken.finished, again.finished],
    "latest": flow.latest_successful_run.id,
    "steps": sorted(step.id for step in again),
    "work": sorted(task.data.doubled for task in again["work"]),
    "stacks": sorted(task.metadata_dict["foreach-stack"] for task in broken["work"]),
    "data": again.data.results,
    "origin": again["start"].task.metadata_dict["origin-run-id"],
    "tags": sorted(again.user_tags),
    "step_tags": sorted(again["end"].user_tags),
    "artifact_tags": sorted(again["end"].task["results"].user_tags),
    "attempt": again["end"].task.current_attempt,
    "filtered": [
        len(ServiceMetadataProvider.filter_tasks_by_metadata("ShapesFlow", broken.id, "work", "foreach-stack", pattern))
        for pattern in (".*", ".*items.*", "nothing")
    ],
}))
"""


class Service:
    """A running stand-in."""

    def __init__(self, database: Path, **environment: str) -> None:
        self.process = start(database, **environment)
        self.api, self.migration = (self._address() for _ in range(2))

    def _address(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"serving on \('127\.0\.0\.1', (\d+)\)\n", line)
        assert found, f"{line}{self.process.stdout.read()}"
        return f"http://127.0.0.1:{found[1]}"

    def stop(self) -> int:
        """Send SIGTERM; the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_LIMIT)
        finally:
            self.process.kill()


def start(database: Path | None, **environment: str) -> subprocess.Popen[str]:
    """Start the command on free ports with nothing else of our environment than what Python needs."""
    given = {
        "PATH": os.environ["PATH"],
        "MF_METADATA_PORT": "0",
        "MF_MIGRATION_PORT": "0",
        "LOGLEVEL": "WARNING",
        **({"EMULATOR_DATABASE_PATH": str(database)} if database else {}),
        **environment,
    }
    return subprocess.Popen(COMMAND, cwd=ROOT, env=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A stand-in with a fresh database."""
    running = Service(tmp_path / "database")
    yield running
    assert running.stop() == 0


def metaflow(service: Service, directory: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with Metaflow configured for the service, in the directory."""
    settings = {
        "DEFAULT_METADATA": "service",
        "SERVICE_URL": service.api,
        "DEFAULT_DATASTORE": "local",
        "DATASTORE_SYSROOT_LOCAL": str(directory),
        "USER": "tester",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            **{f"METAFLOW_{name}": value for name, value in settings.items()},
            **environment,
        },
        text=True,
        capture_output=True,
        timeout=FLOW_LIMIT,
        check=False,
    )


def test_real_flow_runs_resumes_and_is_read_back(service: Service, tmp_path: Path) -> None:
    flow = tmp_path / "shapes.py"
    flow.write_text(FLOW)
    common = ("--no-pylint", "--quiet")
    broken = metaflow(service, tmp_path, str(flow), *common, "run", "--tag", "first", BREAK="1")
    assert broken.returncode == 1, broken.stderr
    assert "asked to" in broken.stderr + broken.stdout
    resumed = metaflow(service, tmp_path, str(flow), *common, "resume", "--tag", "second")
    assert resumed.returncode == 0, resumed.stderr

    reader = metaflow(service, tmp_path, "-c", READER)
    assert reader.returncode == 0, reader.stderr
    seen: dict[str, Any] = json.loads(reader.stdout)

    first, second = sorted(run["run_number"] for run in get(service, "/flows/ShapesFlow/runs"))
    assert seen == {
        "successful": [False, True],
        "finished": [False, True],
        "latest": str(second),
        "steps": ["end", "fan", "gather", "meet", "plain", "start", "work"],
        "work": ["a ba b", "cc"],
        "stacks": ['{"items=a b"}', "{items=c}"],
        "data": [["a ba b", "cc"], "plain"],
        "origin": str(first),
        "tags": ["reviewed", "second"],
        "step_tags": ["reviewed", "second"],
        "artifact_tags": ["reviewed", "second"],
        "attempt": 0,
        "filtered": [2, 2, 0],
    }
    assert all(run["last_heartbeat_ts"] for run in get(service, "/flows/ShapesFlow/runs"))


def get(service: Service, path: str) -> Any:
    """The JSON answer of the API."""
    return requests.get(f"{service.api}{path}", timeout=10).json()


def test_schema_is_upgraded_while_the_api_serves_and_survives_a_restart(tmp_path: Path) -> None:
    database = tmp_path / "database"
    old = Service(database, EMULATOR_SCHEMA_VERSION="20200603104139")
    try:
        before = requests.get(f"{old.migration}/db_schema_status", timeout=10).json()
        assert requests.post(f"{old.api}/flows/Kept", json={}, timeout=10).status_code == 200
        assert requests.patch(f"{old.migration}/upgrade", timeout=10).text == "upgrade success"
        after = requests.get(f"{old.migration}/db_schema_status", timeout=10).json()
    finally:
        assert old.stop() == 0
    assert (before["is_up_to_date"], before["current_version"]) == (False, "20200603104139")
    assert (after["is_up_to_date"], after["unapplied_migrations"]) == (True, [])

    # The wish for an old schema is for an empty database only.
    restarted = Service(database, EMULATOR_SCHEMA_VERSION="1")
    try:
        assert [flow["flow_id"] for flow in get(restarted, "/flows")] == ["Kept"]
        assert requests.get(f"{restarted.migration}/db_schema_status", timeout=10).json() == after
    finally:
        assert restarted.stop() == 0


def test_two_services_share_a_database_during_a_rolling_deployment(tmp_path: Path) -> None:
    services = [Service(tmp_path / "database") for _ in range(2)]
    try:
        requests.post(f"{services[0].api}/flows/F", json={}, timeout=10).raise_for_status()
        numbers = [
            requests.post(f"{services[turn % 2].api}/flows/F/run", json={}, timeout=10).json()["run_number"]
            for turn in range(6)
        ]
    finally:
        assert [service.stop() for service in services] == [0, 0]
    assert numbers == [1, 2, 3, 4, 5, 6]


def test_many_clients_at_once(service: Service) -> None:
    clients, each = 16, 15
    for path in ("/flows/F", "/flows/F/run", "/flows/F/runs/1/steps/s/step"):
        requests.post(f"{service.api}{path}", json={}, timeout=10).raise_for_status()
    step = f"{service.api}/flows/F/runs/1/steps/s"

    def work(_: int) -> list[int]:
        numbers = []
        with requests.Session() as session:
            for _ in range(each):
                task = session.post(f"{step}/task", json={}, timeout=30).json()["task_id"]
                data = [{"field_name": f"f{index}", "value": str(task)} for index in range(5)]
                created = session.post(f"{step}/tasks/{task}/metadata", json=data, timeout=30)
                assert created.json() == {"metadata_created": 5}
                numbers.append(task)
        return numbers

    with ThreadPoolExecutor(clients) as pool:
        numbers = [number for part in pool.map(work, range(clients)) for number in part]
    assert sorted(numbers) == list(range(1, clients * each + 1))
    found = get(service, "/flows/F/runs/1/metadata")
    assert sorted((row["task_id"], row["value"]) for row in found) == sorted(
        (number, str(number)) for number in numbers for _ in range(5)
    )


def test_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    # Another Python starts the service and reports its pid; it is killed, as an emulator may be.
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess; p = subprocess.Popen({COMMAND!r}); print(p.pid, flush=True); p.wait()",
        ],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "MF_METADATA_PORT": "0",
            "MF_MIGRATION_PORT": "0",
            "LOGLEVEL": "WARNING",
            "EMULATOR_DATABASE_PATH": str(tmp_path / "database"),
        },
        text=True,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = os.pidfd_open(int(parent.stdout.readline()))
    try:
        assert all(parent.stdout.readline().startswith("serving on") for _ in range(2))
        parent.kill()
        parent.wait(STOP_LIMIT)
        ended, _, _ = select.select([child], [], [], STOP_LIMIT)
        assert ended == [child]
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)


def test_taken_port_is_named(service: Service, tmp_path: Path) -> None:
    port = service.api.rpartition(":")[2]
    process = start(tmp_path / "other", MF_METADATA_PORT=port)
    output, _ = process.communicate(timeout=STOP_LIMIT)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in output


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "EMULATOR_DATABASE_PATH is not set"),
        (
            {
                "EMULATOR_DATABASE_PATH": "unused",
                "EMULATOR_DATABASE_ERROR": 'FATAL:  password authentication failed for user "metaflow"',
            },
            'FATAL:  password authentication failed for user "metaflow"',
        ),
        (
            {"EMULATOR_DATABASE_PATH": "unused", "EMULATOR_SCHEMA_VERSION": "7"},
            "EMULATOR_SCHEMA_VERSION '7' is unknown",
        ),
        ({"EMULATOR_DATABASE_PATH": "unused", "MF_METADATA_PORT": "http"}, "MF_METADATA_PORT 'http' is no integer"),
        ({"EMULATOR_DATABASE_PATH": "/nowhere/database"}, "unable to open database file"),
    ],
)
def test_refuses_to_start(environment: dict[str, str], message: str) -> None:
    process = start(None, **environment)
    output, _ = process.communicate(timeout=STOP_LIMIT)
    assert process.returncode == 1
    assert message in output
