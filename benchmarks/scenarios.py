"""How the emulated account behaves: how long each call takes, and how long AWS takes for changes."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from benchmarks import work
from emulator.states import KINDS

#: About how long AWS takes for a change of a kind, in seconds. (U): not measured by us on a real account.
REALISTIC = {
    "api-vpc-link": 240,
    "batch-compute-environment": 30,
    "batch-job-queue": 30,
    "database": 360,
    "load-balancer": 180,
    "nat-gateway": 120,
    "notebook": 300,
}

#: Changes that must follow one another, whoever asks for them. A queue or environment is disabled, then deleted.
CHAINS = {
    work.APPLY: (
        ("database",),
        ("load-balancer", "api-vpc-link"),
        ("batch-compute-environment", "batch-job-queue"),
        ("nat-gateway",),
    ),
    work.DESTROY: (
        ("database",),
        ("api-vpc-link",),
        ("batch-job-queue", "batch-job-queue", "batch-compute-environment", "batch-compute-environment"),
        ("nat-gateway",),
    ),
}


def state_seconds(given: str) -> dict[str, float]:
    """Return seconds by kind for `1:20` (realistic times divided by 20), a number for all kinds, or a TOML file.

    Raises:
        ValueError: it is none of them, or names an unknown kind.
    """
    if scale := re.fullmatch(r"1:([1-9]\d*)", given):
        return {kind: seconds / int(scale[1]) for kind, seconds in REALISTIC.items()}
    if re.fullmatch(r"\d+(\.\d+)?", given):
        return dict.fromkeys(KINDS, float(given))
    try:
        chosen = tomllib.loads(Path(given).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"'{given}' is neither 1:N, nor a number of seconds, nor a file: {error.strerror}") from error
    if unknown := chosen.keys() - set(KINDS):
        raise ValueError(f"{given} names {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}")
    return {kind: float(seconds) for kind, seconds in chosen.items()}


@dataclass(frozen=True)
class Scenario:
    """A behaviour of the account. `states` is what the user gave for it, empty for changes that take no time."""

    latency_ms: float = 0
    states: str = ""

    @property
    def name(self) -> str:
        """What the tables call it."""
        parts = [f"{self.latency_ms:g} ms for each call"] if self.latency_ms else []
        parts += [f"state times {self.states}"] if self.states else []
        return ", ".join(parts) or "no latency, no state times"

    def arguments(self, directory: Path) -> list[str]:
        """Return the emulator's arguments; a file that they name is written to `directory`."""
        arguments = ["--latency-ms", str(self.latency_ms)]
        if self.states:
            file = directory / "states.toml"
            file.write_text("".join(f"{kind} = {seconds}\n" for kind, seconds in state_seconds(self.states).items()))
            arguments += ["--state-seconds", str(file)]
        return arguments

    def critical_path(self, piece: str) -> float:
        """Return the least seconds that a piece of work can take here, as AWS makes it wait."""
        seconds = state_seconds(self.states) if self.states else {}
        return max((sum(seconds.get(kind, 0) for kind in chain) for chain in CHAINS.get(piece, ())), default=0)
