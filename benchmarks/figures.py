"""What is measured, and how repeated measurements are put together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

#: Figure → its unit in the tables and what a value is divided by for it.
FIGURES = {"wall": ("s", 1), "cpu": ("s", 1), "calls": ("", 1), "memory": ("MiB", 2**20)}


@dataclass(frozen=True)
class Figures:
    """What one run of one contender cost.

    Attributes:
        wall: seconds until the command ended.
        cpu: user and system seconds of all its processes, those in the background among them.
        calls: AWS calls that reached the emulator.
        memory: peak of the PSS summed over all processes, in bytes.
    """

    wall: float
    cpu: float
    calls: int
    memory: int


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of one value or more."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    def text(self, divisor: float = 1) -> str:
        """`3.91 (3.80-4.20)`."""
        return f"{_number(self.median / divisor)} ({_number(self.low / divisor)}-{_number(self.high / divisor)})"


def _number(value: float) -> str:
    """Three digits are as many as a measurement has."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


@dataclass(frozen=True)
class Measurement:
    """One figure set with what it belongs to. `round` numbers the repetitions from 1."""

    scenario: str
    contender: str
    work: str
    round: int
    figures: Figures


class Measurements(list[Measurement]):
    """All that was measured."""

    def spread(self, scenario: str, contender: str, work: str, figure: str) -> Spread | None:
        """Return a figure over the rounds; None where it was not measured."""
        values = self._by_round(scenario, contender, work, figure).values()
        return Spread.of(values) if values else None

    def ratio(self, scenario: str, contender: str, base: tuple[str, str], work: str, figure: str) -> Spread | None:
        """Return a figure over that of `base` (contender, work), round by round: neighbours in time suffer the same."""
        above = self._by_round(scenario, contender, work, figure)
        below = self._by_round(scenario, *base, figure)
        ratios = [above[number] / below[number] for number in above.keys() & below.keys()]
        return Spread.of(ratios) if ratios else None

    def _by_round(self, scenario: str, contender: str, work: str, figure: str) -> dict[int, float]:
        return {
            one.round: getattr(one.figures, figure)
            for one in self
            if (one.scenario, one.contender, one.work) == (scenario, contender, work)
        }
