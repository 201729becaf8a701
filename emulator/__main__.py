"""Command line of the emulator: `python -m emulator --state-dir DIR`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from emulator import daemon
from emulator.server import Options, StartError, prepare_state_dir, serve


def main(argv: list[str] | None = None) -> int:
    """Start the emulator, or list the gaps that it closes; returns the exit code."""
    args = _parser().parse_args(argv)
    if args.list_gaps:
        _list_gaps()
        return 0
    if args.stop:
        return _stop(args.pid_file, args.timeout)
    options = Options(
        host=args.host,
        port=args.port,
        state_dir=args.state_dir.absolute(),
        account=args.account,
        pid_file=args.pid_file,
        plain=args.plain,
        state_seconds=args.state_seconds,
        latency_ms=args.latency_ms,
    )
    try:
        prepare_state_dir(options.state_dir)
        ready = daemon.detach(args.log_file) if args.detach else print
        logging.basicConfig(
            level=logging.WARNING,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            filename=None if args.detach else args.log_file,
        )
        serve(options, ready)
    except StartError as error:
        sys.stderr.write(f"emulator: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emulator", description="An AWS account on loopback.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5000, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--state-dir", type=Path, default=Path(".state"), help="the chosen address is in DIR/endpoint")
    parser.add_argument("--pid-file", type=Path)
    parser.add_argument("--log-file", type=Path)
    parser.add_argument("--account", default="123456789012", help="account id (default: %(default)s)")
    parser.add_argument("--detach", action="store_true", help="return once the server answers, and leave it running")
    parser.add_argument(
        "--state-seconds",
        default="0",
        metavar="SECONDS|FILE",
        help="how long changes take: a number for all kinds of resources, or a TOML file (default: %(default)s)",
    )
    parser.add_argument("--latency-ms", type=float, default=0, help="what each call waits (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="leave moto as it is, with its gaps")
    parser.add_argument("--stop", action="store_true", help="end the emulator that was started with this --pid-file")
    parser.add_argument("--timeout", type=float, default=30, help="seconds that --stop waits (default: %(default)s)")
    parser.add_argument("--list-gaps", action="store_true", help="print the differences from moto and exit")
    return parser


def _stop(pid_file: Path, timeout: float) -> int:
    """Say "stopped" where there was something to stop."""
    try:
        stopped = daemon.stop(pid_file, timeout)
    except TimeoutError as error:
        sys.stderr.write(f"emulator: {error}\n")
        return 1
    sys.stdout.write("stopped\n" if stopped else "not running\n")
    return 0


def _list_gaps() -> None:
    from emulator import gaps

    for gap in sorted(gaps.load(), key=lambda gap: (gap.area, gap.name)):
        print(f"{gap.area:<14} {gap.name:<36} {gap.aws}")


if __name__ == "__main__":
    sys.exit(main())
