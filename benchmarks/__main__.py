"""Command line of the benchmark: `python -m benchmarks`. See docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from stack_runs import COMPONENTS

from benchmarks import parts, report
from benchmarks.contenders import SHAPES, Ansible, Contender, NotInstalledError, Terraform
from benchmarks.figures import Measurements
from benchmarks.rounds import do_rounds
from benchmarks.scenarios import Scenario, state_seconds

CONTENDERS = ("warm", "local", "terraform")

#: What is no AWS resource of the core: see contenders.SHAPES.
_NOT_CORE = {"client_config", "flows", "chains"}


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for, print tables, and return the exit status."""
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that accounts and runs are ended too
    before = report.machine()
    print(f"# Measured on {before['cores']} cores, load {before['load'][0]:.1f} at the start, rounds: {args.rounds}")
    scenarios = [Scenario(latency, states) for states in args.state_seconds for latency in args.latency_ms]
    measurements = do_rounds(_contenders(args), scenarios, args.rounds, say)
    if measurements:
        for scenario in scenarios:
            print("\n" + report.scenario_report(measurements, scenario, list(CONTENDERS)))
    for curve in args.curve:
        found = parts.measure_curve(curve, args.curve_sizes, max(args.rounds, 1), say)
        heading = ["work", curve, "wall s", "cpu s", "calls", "wall s each more", "wall grows", ""]
        print(f"\n## More {curve}\n\n{report.table(heading, parts.curve_rows(found, curve, args.curve_sizes))}")
        measurements += found
    calls: list[list[str]] = []
    if args.components:
        calls = list(parts.calls_by_component([name for name in COMPONENTS if name not in _NOT_CORE], say))
        print("\n## Calls by component\n\n" + report.table(["component", "all tasks", "unchanged"], calls))
    if args.json:
        _write(args.json, before, measurements, calls)
    return 0


def say(line: str) -> None:
    """Tell how far it is, beside the tables."""
    print(line, file=sys.stderr, flush=True)


def _write(file: Path, machine: dict[str, Any], measurements: Measurements, calls: list[list[str]]) -> None:
    content = {
        "command": sys.argv[1:],
        "machine": machine,
        "measurements": report.as_json(measurements),
        "calls_by_component": calls,
    }
    file.write_text(json.dumps(content, indent=2) + "\n")


def _contenders(args: argparse.Namespace) -> list[Contender]:
    limit, variables = SHAPES[args.shape]
    chosen: list[Contender] = [Ansible(name, limit, variables) for name in ("warm", "local") if name in args.only]
    if "terraform" in args.only:
        try:
            chosen.append(Terraform(args.terraform_plugins))
        except NotInstalledError as reason:
            say(f"terraform is left out: {reason}")
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure this project and Terraform side by side on emulated accounts."
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="repetitions; 0: only --components, and --curve once (default: 5)"
    )
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="whom to measure")
    parser.add_argument("--shape", choices=SHAPES, default="core", help="components of this project (default: core)")
    parser.add_argument(
        "--latency-ms", nargs="+", type=float, default=[0], help="what each call waits, e.g. 0 20 50 100"
    )
    parser.add_argument(
        "--state-seconds",
        nargs="+",
        type=_state_seconds,
        default=[""],
        metavar="1:N|SECONDS|FILE",
        help="how long changes take: realistic times divided by N, seconds for all kinds, or a TOML file",
    )
    parser.add_argument("--curve", nargs="+", choices=parts.CURVES, default=[], help="measure more and more of these")
    parser.add_argument("--curve-sizes", nargs="+", type=int, default=[1, 10, 100], help="how many (default: 1 10 100)")
    parser.add_argument("--components", action="store_true", help="count the calls of each component")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements there")
    parser.add_argument(
        "--terraform-plugins",
        type=Path,
        metavar="DIR",
        default=os.environ.get("TERRAFORM_PLUGINS"),
        help="providers, as `terraform providers mirror DIR` lays them out (default: $TERRAFORM_PLUGINS, else as"
        " terraform finds them)",
    )
    return parser


def _state_seconds(given: str) -> str:
    try:
        state_seconds(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return given


if __name__ == "__main__":
    sys.exit(main())
