"""What single parts of this project cost: with more queues or secrets, and component by component."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import work
from benchmarks.contenders import Ansible
from benchmarks.figures import Measurement, Measurements, Spread
from benchmarks.rounds import account, measured
from benchmarks.scenarios import Scenario

#: What the parts of a curve need, and where the record of a converge lies.
_GROUND = "network,datastore,identity"

#: What there may be more of → its component, and the variables for a number of it.
CURVES: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "secrets": (
        "secrets",
        lambda count: {"secrets_flow_values": {f"BENCHMARK_{number}": f"value {number}" for number in range(count)}},
    ),
    "queues": (
        "batch",
        lambda count: {
            "batch_job_queues": [
                {"name": f"q{number}" if number else "", "compute_environments": ["ec2"]} for number in range(count)
            ]
        },
    ),
}

_CURVE_WORK = (work.APPLY, work.SECOND, work.SECOND_FULL)


def measure_curve(curve: str, sizes: list[int], rounds: int, say: Callable[[str], None]) -> Measurements:
    """Converge one component with different numbers of resources, each on an account of its own.

    The measurements' scenario is the curve's name, their contender the size.
    """
    results = Measurements()
    component, variables = CURVES[curve]
    for number in range(1, rounds + 1):
        for size in sizes:
            with account(Scenario()) as (emulator, directory):
                contender = Ansible("warm", component, variables(size))
                contender.start(emulator, directory)
                measured(contender.command(work.APPLY, limit=_GROUND), emulator, directory)
                for piece in _CURVE_WORK:
                    run, figures = measured(contender.command(piece), emulator, directory)
                    contender.require_done(piece, run)
                    say(f"round {number}: {size} {curve}, {piece}: {figures.wall:.1f} s")
                    results.append(Measurement(curve, str(size), piece, number, figures))
    return results


def curve_rows(measurements: Measurements, curve: str, sizes: list[int]) -> Iterator[list[str]]:
    """Yield a row for each piece of work and size: figures, growth since the size before, verdict.

    n times as many must cost less than n times as much. What each further one costs is free of what every run costs.
    """
    for piece in _CURVE_WORK:
        before: tuple[int, Spread] | None = None
        for size in sizes:
            spreads = [measurements.spread(curve, str(size), piece, figure) for figure in ("wall", "cpu", "calls")]
            if None in spreads:
                continue
            wall, cpu, calls = spreads
            each, growth, verdict = "", "", ""
            if before:
                times, cost = size / before[0], wall.median / before[1].median
                each = f"{(wall.median - before[1].median) / (size - before[0]):.3f}"
                growth, verdict = f"{cost:.2f} for {times:g} times", "met" if cost < times else "not met"
            yield [piece, str(size), wall.text(), cpu.text(), calls.text(), each, growth, verdict]
            before = size, wall


def calls_by_component(components: list[str], say: Callable[[str], None]) -> Iterator[list[str]]:
    """Yield a row for each component, run alone on the standing core: calls of all its tasks, and of a second run."""
    with account(Scenario()) as (emulator, directory):
        contender = Ansible("warm", ":".join(components), {})
        contender.start(emulator, directory)
        measured(contender.command(work.APPLY), emulator, directory)
        for limit in [*components, None]:
            calls = []
            for piece in (work.SECOND_FULL, work.SECOND):
                run, figures = measured(contender.command(piece, limit=limit), emulator, directory)
                contender.require_done(piece, run)
                calls.append(str(figures.calls))
            say(f"calls of {limit or 'all together'}: {', '.join(calls)}")
            yield [limit or "all together", *calls]
