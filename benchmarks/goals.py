"""What this project wants to reach beside Terraform: medians of ratios, and what they may be at most."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import work
from benchmarks.figures import Measurements
from benchmarks.scenarios import Scenario


@dataclass(frozen=True)
class Goal:
    """A figure of a piece of work, over Terraform's, that is at most `limit`, and better at most `stretch`."""

    figure: str
    piece: str
    limit: float
    stretch: float | None = None

    def verdict(self, ratio: float) -> str:
        """`met`, `met, stretch too` or `not met`."""
        if ratio > self.limit:
            return "not met"
        return "met, stretch too" if self.stretch and ratio <= self.stretch else "met"


GOALS = (
    Goal("wall", work.APPLY, 0.25),
    Goal("wall", work.DESTROY, 0.25),
    Goal("wall", work.SECOND, 0.8, 0.5),
    Goal("wall", work.CHECK, 0.8, 0.5),
    Goal("wall", work.REPAIR, 1),
    Goal("cpu", work.SECOND, 1),
    Goal("cpu", work.APPLY, 3, 2),
    Goal("cpu", work.DESTROY, 3, 2),
    *(Goal("memory", piece, 1) for piece in (work.APPLY, work.SECOND, work.CHECK, work.REPAIR, work.DESTROY)),
)

#: Wall time of apply and destroy over the critical path, where changes take time.
CRITICAL_PATH_LIMIT = 1.10


def rows(measurements: Measurements, scenario: Scenario) -> list[list[str]]:
    """Return a row for each goal that was measured: goal, ratio, limit, verdict."""
    found = []
    for goal in GOALS:
        ratio = measurements.ratio(scenario.name, "warm", ("terraform", goal.piece), goal.piece, goal.figure)
        if ratio:
            limit = f"≤ {goal.limit:g}" + (f" (stretch {goal.stretch:g})" if goal.stretch else "")
            found.append([f"{goal.figure}, {goal.piece}", ratio.text(), limit, goal.verdict(ratio.median)])
    return found


def critical_path_rows(measurements: Measurements, scenario: Scenario, contenders: list[str]) -> list[list[str]]:
    """Return a row for each contender and piece of work with a critical path: wall, path, quotient, verdict."""
    found = []
    for piece in (work.APPLY, work.DESTROY):
        path = scenario.critical_path(piece)
        for contender in contenders:
            wall = measurements.spread(scenario.name, contender, piece, "wall")
            if wall and path:
                goal = Goal("wall", piece, CRITICAL_PATH_LIMIT)
                verdict = goal.verdict(wall.median / path) if contender == "warm" else ""
                found.append([f"{piece}, {contender}", wall.text(), f"{path:.1f}", wall.text(path), verdict])
    return found
