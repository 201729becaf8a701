"""Local processes in place of containers: start, capture the output, stop, and leave nothing behind.

Each process runs under ``container_init.py``, which ends with the emulator however the emulator ends. It sees exactly
the environment that it is given, works in a directory of its own that goes when it ends (a container's writable layer),
and its standard output and error are read line by line from one pipe, so that their order is kept.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

CONTAINER_INIT = Path(__file__).with_name("container_init.py")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of Docker's default container environment."""

LONGEST_LINE = 256 * 1024
"""Bytes of one CloudWatch log event; a longer line becomes several."""


class CannotStart(Exception):
    """The program of a container is not there or cannot be executed."""


class LocalProcess:
    """One program with its descendants, from start to exit.

    It works in ``working_directory`` below ``directory``, which is removed when it ends. ``on_line`` is called with
    each line of output (without its end of line), ``on_exit`` once, with the exit status, after the last line; both in
    a thread of the process's own.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
        working_directory: str = "",
    ) -> None:
        self.command = list(command)
        self.environment = dict(environment)
        self.directory = directory
        self.working_directory = directory / working_directory.lstrip("/")
        self.exit_code: int | None = None
        self._on_line = on_line
        self._on_exit = on_exit
        self._ended = threading.Event()
        self._killer: threading.Timer | None = None

    def start(self) -> None:
        """Start the program, or raise CannotStart."""
        self._check_program()
        self.working_directory.mkdir(parents=True, exist_ok=True)
        try:
            self._init = subprocess.Popen(  # noqa: S603 - running what the account asks to run is the purpose
                [sys.executable, "-I", "-S", str(CONTAINER_INIT), *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.working_directory,
                env=self.environment,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotStart(str(error)) from error
        RUNNING.add(self)
        threading.Thread(target=self._follow, name=f"follow-{self._init.pid}", daemon=True).start()

    def stop(self, grace: float) -> None:
        """Send SIGTERM now, and SIGKILL after ``grace`` seconds if the program still runs. Returns at once."""
        if self._ended.is_set() or self._killer:
            return
        self._killer = threading.Timer(grace, self.kill)
        self._killer.daemon = True
        self._killer.start()
        self._init.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program and all its descendants at once."""
        if self._init.stdin and not self._init.stdin.closed:
            self._init.stdin.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for the end; whether it has ended."""
        return self._ended.wait(timeout)

    def _check_program(self) -> None:
        """Refuse a program that is not on the PATH of the container."""
        if shutil.which(self.command[0], path=self.environment.get("PATH", SYSTEM_PATH)) is None:
            raise CannotStart(f'exec: "{self.command[0]}": executable file not found in $PATH')

    def _follow(self) -> None:
        """Read the output to its end, then collect the exit status."""
        with self._init.stdout as output:
            for line in iter(lambda: output.readline(LONGEST_LINE), b""):
                self._on_line(line.decode(errors="replace").rstrip("\r\n"))
        status = self._init.wait()
        self.exit_code = status if status >= 0 else 128 - status
        self.kill()
        if self._killer:
            self._killer.cancel()
        shutil.rmtree(self.directory)
        RUNNING.discard(self)
        self._ended.set()
        self._on_exit(self.exit_code)


class Process(Protocol):
    """What runs: a local process, or a container on an engine."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for the end; whether it has ended."""


RUNNING: set[Process] = set()
"""Everything that this emulator has started and that has not ended."""


def kill_all(timeout: float = 10) -> None:
    """Kill every running process and wait up to ``timeout`` seconds for each; raise TimeoutError if one stays."""
    processes = list(RUNNING)
    for process in processes:
        process.kill()
    for process in processes:
        if not process.wait(timeout):
            raise TimeoutError(f"{process!r} does not end")


def container_path(*first: Path) -> str:
    """The PATH of a container: the image's own directories, then the system's."""
    return os.pathsep.join([*map(str, first), SYSTEM_PATH])
