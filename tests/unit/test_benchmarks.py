"""The benchmark's arithmetic, and what its meter counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import goals, work
from benchmarks.figures import Figures, Measurement, Measurements, Spread
from benchmarks.rounds import METER
from benchmarks.scenarios import Scenario, state_seconds

#: Leaves a process in the background, in a session of its own, that computes for half a second of CPU time.
LEAVES_A_DAEMON = """
import subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.5: pass"
subprocess.Popen([sys.executable, "-c", burn], start_new_session=True)
"""


def meter(tmp_path: Path, program: str, limit: int = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(METER), str(tmp_path / "report"), str(limit), sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_meter_counts_what_a_command_leaves_in_the_background(tmp_path: Path) -> None:
    assert meter(tmp_path, LEAVES_A_DAEMON).returncode == 0
    report = json.loads((tmp_path / "report").read_text())
    assert report["status"] == 0
    assert report["cpu"] >= 0.5
    assert report["memory"] > 2**20


def test_the_meter_reports_a_failing_command(tmp_path: Path) -> None:
    assert meter(tmp_path, "raise SystemExit(3)").returncode == 0
    assert json.loads((tmp_path / "report").read_text())["status"] == 3


def test_the_meter_ends_a_command_that_does_not_end(tmp_path: Path) -> None:
    done = meter(tmp_path, "import signal; signal.pause()", limit=1)
    assert done.returncode == 1
    assert "did not end" in done.stderr
    assert not (tmp_path / "report").exists()


def measurement(contender: str, piece: str, number: int, wall: float) -> Measurement:
    return Measurement(Scenario().name, contender, piece, number, Figures(wall, wall, 10, 2**20))


def test_ratios_are_taken_round_by_round() -> None:
    walls = {"warm": [1.0, 2.0, 6.0], "terraform": [2.0, 8.0, 6.0]}
    measured = Measurements(
        measurement(name, work.SECOND, number, wall) for name in walls for number, wall in enumerate(walls[name])
    )
    ratio = measured.ratio(Scenario().name, "warm", ("terraform", work.SECOND), work.SECOND, "wall")
    assert ratio == Spread(0.5, 0.25, 1.0)
    assert measured.ratio(Scenario().name, "warm", ("terraform", work.CHECK), work.CHECK, "wall") is None
    assert ["wall, second run", "0.50 (0.25-1)", "≤ 0.8 (stretch 0.5)", "met, stretch too"] in goals.rows(
        measured, Scenario()
    )


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.5, "met, stretch too"), (0.51, "met"), (0.8, "met"), (0.81, "not met")]
)
def test_a_goal_is_met_up_to_its_limit(ratio: float, verdict: str) -> None:
    assert goals.Goal("wall", work.SECOND, 0.8, 0.5).verdict(ratio) == verdict


def test_the_critical_path_is_the_longest_chain(tmp_path: Path) -> None:
    file = tmp_path / "states.toml"
    file.write_text("database = 5\nload-balancer = 3\napi-vpc-link = 4\nbatch-job-queue = 4\n")
    scenario = Scenario(states=str(file))
    assert scenario.critical_path(work.APPLY) == 7
    assert scenario.critical_path(work.DESTROY) == 8
    assert scenario.critical_path(work.SECOND) == 0
    assert Scenario(states="1:20").critical_path(work.APPLY) == 21
    assert Scenario().critical_path(work.APPLY) == 0


def test_unknown_state_times_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "states.toml"
    file.write_text("databse = 5\n")
    with pytest.raises(ValueError, match="names databse; known are api-vpc-link"):
        state_seconds(str(file))
    with pytest.raises(ValueError, match=r"'none\.toml' is neither 1:N, nor a number of seconds, nor a file"):
        state_seconds("none.toml")
