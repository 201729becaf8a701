"""A local process is a container in the ways that matter: environment, output, exit status, stop, and no survivors."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from emulator.runtime.processes import RUNNING, SYSTEM_PATH, CannotStart, LocalProcess, kill_all

ENVIRONMENT = {"PATH": SYSTEM_PATH, "GREETING": "hello"}


class Recorder:
    """Collects what a process said and how it ended."""

    def __init__(self):
        self.lines = []
        self.exits = []

    def process(self, directory, *command, environment=ENVIRONMENT):
        return LocalProcess(command, environment, directory / "work", self.lines.append, self.exits.append)

    def run(self, directory, *command, **options):
        process = self.process(directory, *command, **options)
        process.start()
        assert process.wait(10)
        return process


@pytest.fixture
def recorder():
    yield Recorder()
    kill_all()


def wait_for(condition, seconds=10):
    """Wait until the condition holds; fail with what it said last."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, value
        time.sleep(0.02)
    return value


def alive(pid):
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_output_is_captured_line_by_line_in_order(recorder, tmp_path):
    recorder.run(tmp_path, "sh", "-c", "echo one; echo two >&2; printf three")
    assert recorder.lines == ["one", "two", "three"]
    assert recorder.exits == [0]


def test_environment_is_exactly_the_given_one(recorder, tmp_path):
    recorder.run(tmp_path, "/usr/bin/env")
    assert sorted(recorder.lines) == sorted(f"{name}={value}" for name, value in ENVIRONMENT.items())


def test_works_in_its_own_directory_which_goes_with_it(recorder, tmp_path):
    process = recorder.run(tmp_path, "sh", "-c", "pwd; touch file")
    assert recorder.lines == [str(process.directory)]
    assert not process.directory.exists()


@pytest.mark.parametrize(
    ("script", "status"), [("exit 3", 3), ("kill -SEGV $$", 128 + signal.SIGSEGV), ("kill -KILL $$", 137)]
)
def test_exit_status_is_that_of_a_container(recorder, tmp_path, script, status):
    recorder.run(tmp_path, "sh", "-c", script)
    assert recorder.exits == [status]


def test_a_missing_program_cannot_start(recorder, tmp_path):
    with pytest.raises(CannotStart, match='exec: "no-such-program": executable file not found'):
        recorder.process(tmp_path, "no-such-program").start()
    assert not RUNNING


def test_stop_is_a_request_first(recorder, tmp_path):
    process = recorder.process(
        tmp_path, "sh", "-c", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.02; done"
    )
    process.start()
    wait_for(lambda: recorder.lines)
    process.stop(grace=10)
    assert process.wait(5)
    assert (recorder.lines, recorder.exits) == (["up", "bye"], [7])


def test_stop_kills_after_the_grace(recorder, tmp_path):
    process = recorder.process(tmp_path, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done")
    process.start()
    wait_for(lambda: recorder.lines)
    began = time.monotonic()
    process.stop(grace=0.3)
    assert process.wait(5)
    assert recorder.exits == [137]
    assert time.monotonic() - began >= 0.3


def test_daemons_end_with_the_program(recorder, tmp_path):
    recorder.run(tmp_path, "sh", "-c", "setsid sleep 600 & echo $!; sleep 600 & echo $!; exit 0")
    assert len(recorder.lines) == 2
    assert not any(alive(int(pid)) for pid in recorder.lines)


def test_nothing_survives_a_killed_emulator(tmp_path):
    program = textwrap.dedent("""
        import pathlib, sys, threading
        from emulator.runtime.processes import LocalProcess, SYSTEM_PATH
        def start():
            LocalProcess(["sh", "-c", "echo $$; setsid sleep 600 & echo $!; wait"], {"PATH": SYSTEM_PATH},
                         pathlib.Path(sys.argv[1]), lambda line: print(line, flush=True), print).start()
        thread = threading.Thread(target=start); thread.start(); thread.join()
        threading.Event().wait()
    """)
    emulator = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "work")], stdout=subprocess.PIPE, text=True
    )
    pids = [int(emulator.stdout.readline()) for _ in range(2)]
    assert all(alive(pid) for pid in pids)
    os.kill(emulator.pid, signal.SIGKILL)
    emulator.wait()
    wait_for(lambda: not any(alive(pid) for pid in pids))
    emulator.stdout.close()
