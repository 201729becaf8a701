"""Runs the server as a daemon of the user: detached, and reported ready (or failed) to the process that started it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def detach(log_file: Path | None) -> Callable[[str], None]:
    """Fork into a session of its own; the starting process waits for the daemon's first word.

    Returns, in the daemon only, a function to say that word with: an endpoint when it serves. When the daemon ends
    without it, the starting process exits with 1 after copying what the daemon wrote to its log.
    """
    log_file = log_file or Path(os.devnull)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    start_of_log = log_file.stat().st_size if log_file.is_file() else 0
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        _wait(reader, log_file, start_of_log)
    os.setsid()
    if os.fork():
        os._exit(0)  # the session leader ends, so the daemon can never get a terminal
    os.close(reader)
    _redirect(log_file)

    def ready(endpoint: str) -> None:
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            pipe.write(endpoint)

    return ready


def _wait(reader: int, log_file: Path, start_of_log: int) -> None:
    with os.fdopen(reader, encoding="utf-8") as pipe:
        endpoint = pipe.read()
    if not endpoint:
        if log_file.is_file():
            sys.stderr.write(log_file.read_bytes()[start_of_log:].decode("utf-8", "replace"))
        sys.exit(1)
    sys.stdout.write(f"{endpoint}\n")
    sys.exit(0)


def _redirect(log_file: Path) -> None:
    devnull = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, source in ((0, devnull), (1, log), (2, log)):
        os.dup2(source, descriptor)
    os.close(devnull)
    os.close(log)


def stop(pid_file: Path, timeout: float) -> bool:
    """End the daemon of a pid file, with all that it runs; returns whether there was one.

    Raises:
        TimeoutError: it has not ended after `timeout` seconds.
    """
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return False
    if not _is_ours(pid, pid_file):
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while _is_ours(pid, pid_file):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} has not ended {timeout:.0f} s after SIGTERM")
        time.sleep(0.05)
    return True


def _is_ours(pid: int, pid_file: Path) -> bool:
    """Whether the process was started with this pid file: the number can belong to another one by now."""
    with suppress(FileNotFoundError, ProcessLookupError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return f"--pid-file={pid_file}" in words
    return False
