"""Runs one command and reports what it cost, with all processes that it leaves behind: `python -m benchmarks.meter`.

Linux gives orphans to the nearest ancestor that asked for them (PR_SET_CHILD_SUBREAPER), here to this process. So a
server that a command starts in the background stays below it, and the CPU time of every process is in the account of
this one's children when all have ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LEFT_BEHIND_LIMIT = 30  # s that background processes may outlive their command
SAMPLE_PAUSE = 0.2  # s between two samples of the memory


class MemorySampler(threading.Thread):
    """Keeps the peak of the memory (PSS, bytes) of all processes below this one.

    PSS divides a page by the number of processes that share it, so that a sum counts what forks share once.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_PAUSE):
            self.peak = max(self.peak, sum(map(_memory, descendants(os.getpid()))))

    def end(self) -> int:
        """Take no more samples, and return the peak."""
        self._ended.set()
        self.join()
        return self.peak


def descendants(ancestor: int) -> list[int]:
    """Return the ids of all processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            # The name, in parentheses, may hold spaces and parentheses; state and parent follow it.
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    waiting = [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _memory(pid: int) -> int:
    """Return the PSS of a process in bytes; 0 when it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def measure(command: list[str], limit: int) -> dict[str, float]:
    """Run a command and return its status, wall and CPU time (s), peak memory (bytes).

    Raises:
        TimeoutError: it took longer than `limit` seconds, or left processes that do not end. All are killed then.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, _give_up)
    sampler = MemorySampler()
    started = time.monotonic()
    main = os.posix_spawnp(command[0], command, os.environ)
    sampler.start()
    try:
        signal.alarm(limit)
        status = _wait_for(main)
        wall = time.monotonic() - started
        signal.alarm(LEFT_BEHIND_LIMIT)
        _wait_for_all()
        signal.alarm(0)
    except BaseException:
        for number in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _kill_all()
        raise
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"status": status, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": sampler.end()}


def _give_up(number: int, _frame: object) -> NoReturn:
    raise TimeoutError("ended by SIGTERM" if number == signal.SIGTERM else "the command or what it left did not end")


def _wait_for(main: int) -> int:
    """Return the exit status of a child when it has ended; reap whatever ends before."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == main:
            return os.waitstatus_to_exitcode(status)


def _wait_for_all() -> None:
    with suppress(ChildProcessError):  # there is none any more
        while True:
            os.waitpid(-1, 0)


def _kill_all() -> None:
    while below := descendants(os.getpid()):
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)


def main(arguments: list[str]) -> int:
    """REPORT LIMIT COMMAND…: measure the command and write the figures, as JSON, to the file REPORT."""
    report, limit, *command = arguments
    Path(report).write_text(json.dumps(measure(command, int(limit))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
