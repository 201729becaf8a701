"""Puts the figures into tables, and into JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from ansible.release import __version__ as ansible_version
from emulated_aws import ROOT

from benchmarks import goals, work
from benchmarks.figures import FIGURES, Measurements
from benchmarks.scenarios import Scenario


def table(heading: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table whose columns are aligned."""
    lines = [heading, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    padded = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in [padded[0], rule, *padded[1:]])


def scenario_report(measurements: Measurements, scenario: Scenario, contenders: list[str]) -> str:
    """Return all that is to be said of a scenario: figures and ratios, goals, critical path."""
    measured = {one.contender for one in measurements if one.scenario == scenario.name}
    present = [name for name in contenders if name in measured]
    parts = [f"## {scenario.name}", _figures(measurements, scenario, present)]
    if goal_rows := goals.rows(measurements, scenario):
        parts.append(table(["goal: warm/terraform", "ratio", "at most", ""], goal_rows))
    if path_rows := goals.critical_path_rows(measurements, scenario, present):
        limit = f"wall/path (goal ≤ {goals.CRITICAL_PATH_LIMIT:.2f})"
        parts.append(table(["critical path", "wall s", "path s", limit, ""], path_rows))
    return "\n\n".join(parts)


def _figures(measurements: Measurements, scenario: Scenario, contenders: list[str]) -> str:
    """Return a row for each piece of work and figure: each contender's, then the ratios to the last one's."""
    *above, base = contenders
    heading = ["work", "figure", *contenders, *(f"{name}/{base}" for name in above)]
    rows = []
    for piece in work.ALL:
        for figure, (unit, divisor) in FIGURES.items():
            spreads = [measurements.spread(scenario.name, name, piece, figure) for name in contenders]
            if not any(spreads):
                continue
            beside = (base, work.BESIDE.get(piece, piece) if base == "terraform" else piece)
            ratios = [measurements.ratio(scenario.name, name, beside, piece, figure) for name in above]
            cells = [spread.text(divisor) if spread else "" for spread in spreads]
            rows.append(
                [piece, f"{figure} {unit}".strip(), *cells, *(ratio.text() if ratio else "" for ratio in ratios)]
            )
    return table(heading, rows)


def machine() -> dict[str, Any]:
    """Return where and with what was measured."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "ansible-core": ansible_version,
        "commit": commit.stdout.strip(),
    }


def as_json(measurements: Measurements) -> list[dict[str, Any]]:
    """Return the measurements one by one, for further arithmetic: seconds, bytes, calls."""
    return [asdict(one) for one in measurements]
