"""Does the work on fresh accounts, and takes its measure."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emulated_aws import ROOT, Emulator
from stack_runs import Run

from benchmarks import work
from benchmarks.contenders import Command, Contender, NotInstalledError
from benchmarks.figures import Figures, Measurement, Measurements
from benchmarks.scenarios import Scenario

METER = ROOT / "benchmarks" / "meter.py"
RUN_LIMIT = 3600  # s; the longest, Terraform under state times, takes some minutes


@contextmanager
def account(scenario: Scenario) -> Iterator[tuple[Emulator, Path]]:
    """A fresh account and an empty directory for who works on it. Both are gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
    try:
        emulator = Emulator(directory / "state", *scenario.arguments(directory))
        try:
            yield emulator, directory
        finally:
            emulator.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measured(command: Command, emulator: Emulator, directory: Path) -> tuple[Run, Figures]:
    """Run a command to its end, and return what it wrote and cost.

    Raises:
        RuntimeError: it failed; the message has the end of its output.
    """
    emulator.request("POST", "/_emulator/calls/reset")
    output, report = directory / "output", directory / "figures.json"
    report.unlink(missing_ok=True)
    meter = [sys.executable, str(METER), str(report), str(RUN_LIMIT), *command.arguments]
    with output.open("wb") as written:
        process = subprocess.Popen(
            meter, cwd=command.directory, env=command.environment,
            stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            process.wait()
        except BaseException:
            process.terminate()  # it then ends what it started
            process.wait()
            raise
    text = output.read_text(errors="replace")
    found = json.loads(report.read_text()) if report.exists() else {"status": "none"}
    if found["status"] != 0:
        raise RuntimeError(f"{' '.join(command.arguments)}: exit status {found['status']}\n{text[-6000:]}")
    calls = sum(call["count"] for call in emulator.calls())
    return Run(0, text), Figures(found["wall"], found["cpu"], calls, int(found["memory"]))


def do_rounds(
    contenders: list[Contender], scenarios: list[Scenario], rounds: int, say: Callable[[str], None]
) -> Measurements:
    """Let all contenders do all the work in each round, one after the other, so that noise hits all alike.

    A contender that is not installed is left out, with a word.
    """
    results = Measurements()
    waiting = list(contenders)
    for number in range(1, rounds + 1):
        for scenario in scenarios:
            for contender in list(waiting):
                try:
                    results += do_all_work(contender, scenario, number, say)
                except NotInstalledError as reason:
                    say(f"{contender.name} is left out: {reason}")
                    waiting.remove(contender)
        waiting = waiting[1:] + waiting[:1]  # none is always the first
    return results


def do_all_work(contender: Contender, scenario: Scenario, number: int, say: Callable[[str], None]) -> list[Measurement]:
    """Take one contender through all pieces of work on an account of its own."""
    results = []
    with account(scenario) as (emulator, directory):
        contender.start(emulator, directory)
        for piece in work.ALL:
            command = contender.command(piece)
            if command is None:
                continue
            if piece == work.REPAIR:
                work.take_route_away(emulator)
            run, figures = measured(command, emulator, directory)
            contender.require_done(piece, run)
            if piece == work.REPAIR:
                work.require_repaired(emulator)
            if piece == work.DESTROY:
                work.require_destroyed(emulator)
            say(f"round {number}, {scenario.name}: {contender.name}, {piece}: {figures.wall:.1f} s")
            results.append(Measurement(scenario.name, contender.name, piece, number, figures))
    return results
