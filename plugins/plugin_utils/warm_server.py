# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The fork server of the warm connection: one preloaded interpreter that forks a process for each module.

Started by warm_client.py, which also documents the protocol. It runs no module itself: it reads a request, imports what
the request's module would import first, forks, and watches. It serves one user and the workers of one controller, and
ends with that controller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

# A script's own directory is first on its path; the modules that run in the forks must find nothing there.
_HERE = sys.path[0]
from warm_fork import Request, become_module
from warm_library import Archive, Library, installed_packages
from warm_models import Models

sys.path.remove(_HERE)

GRACE = 5.0  # s between the interrupt of a module whose worker left, and its end by SIGKILL
LEARN_LIMIT = 60  # s for the imports before a fork; a server that hangs there would miss the end of its controller

# What an interpreter or a C library reads when it starts or when a library is imported. Set for one task alone, they
# need an interpreter of their own. (HOME: botocore fixes the place of a user's own models on import.)
_STARTUP_VARIABLE = re.compile(
    "PYTHON.*|LD_.*|LC_.*|LANG|LANGUAGE|TZ|MALLOC_.*|GLIBC_TUNABLES|OPENSSL_.*|HOME|UNIXCONFDIR|UNIXUSRLIBDIR"
)


class DeclinedError(Exception):
    """A request that is to be run elsewhere; the reason is told to the worker."""


@dataclasses.dataclass(eq=False)
class Job:
    """A running fork and the worker that waits for it."""

    pid: int
    process: int  # pidfd
    worker: socket.socket
    deadline: float | None = None  # monotonic, s; set when it was told to end


class Server:
    """The event loop. It owns its directory, and removes it in the end."""

    def __init__(self, listener: socket.socket, controller: int, controller_pid: int, directory: Path) -> None:
        """controller: a pidfd; controller_pid: the same process by number, for the check of who calls."""
        self._listener, self._controller, self._controller_pid = listener, controller, controller_pid
        self._directory = directory
        self._library = Library(directory)
        self._machine = _machine()
        self._startup = _startup_variables(dict(os.environ))
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._waiting: set[socket.socket] = set()  # connected, request not read yet
        self._jobs: set[Job] = set()
        self._serving = True
        self._reads_ahead = True
        self._watch(listener.fileno(), select.EPOLLIN, self._accept)
        self._watch(controller, select.EPOLLIN, self._stop)

    def serve(self, models: Models) -> None:
        """Serve until the controller ends."""
        self._models = models
        while self._serving or self._jobs:
            reading = self._serving and self._reads_ahead and not models.complete
            events = self._poll.poll(0 if reading else self._until_deadline())
            for descriptor, _event in events:
                if handler := self._handlers.get(descriptor):  # an earlier one of this round may have removed it
                    handler()
            if reading and not events:
                self._read_ahead()
            self._kill_overdue()

    def _stop(self) -> None:
        """The controller ended: accept nothing more, interrupt what runs, leave nothing behind."""
        self._unwatch(self._controller)
        self._retire()
        for job in self._jobs:
            self._interrupt(job)
        shutil.rmtree(self._directory, ignore_errors=True)  # the controller's own clean-up may do the same right now

    def _retire(self) -> None:
        """Accept nothing more; what runs may finish, and another server may take the place."""
        if self._serving:
            self._serving = False
            self._unwatch(self._listener.fileno())
            self._listener.close()
            (self._directory / "socket").unlink(missing_ok=True)

    def _watch(self, descriptor: int, events: int, handler: Callable[[], None]) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, events)

    def _unwatch(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None):
            self._poll.unregister(descriptor)

    def _accept(self) -> None:
        worker, _address = self._listener.accept()
        pid, uid, _gid = struct.unpack("3i", worker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.geteuid() or self._controller_pid not in (pid, _parent(pid)):
            _log(f"refused process {pid} of uid {uid}: no worker of controller {self._controller_pid}")
            worker.close()
            return
        worker.setblocking(False)
        self._waiting.add(worker)
        self._watch(worker.fileno(), select.EPOLLIN, functools.partial(self._start, worker))

    def _start(self, worker: socket.socket) -> None:
        """Read a worker's request and fork for it; whatever goes wrong, the worker learns that nothing was run."""
        self._unwatch(worker.fileno())
        self._waiting.discard(worker)
        try:
            with _receive(worker) as request:
                self._check(request)
                self._learn(request.archive)
                self._jobs.add(self._fork(request, worker))
        except DeclinedError as reason:
            with contextlib.suppress(OSError):
                worker.send(f"no {reason}".encode())
            worker.close()
        except Exception:
            _log(traceback.format_exc())
            worker.close()

    def _check(self, request: Request) -> None:
        if _machine() != self._machine:
            self._retire()
            raise DeclinedError("Python packages or the host's name changed since the fork server started")
        if _startup_variables(request.environment) != self._startup:
            raise DeclinedError("its environment needs an interpreter of its own")
        if not Path(request.cwd).is_dir():
            raise DeclinedError("its working directory does not exist")

    def _learn(self, archive: Archive) -> None:
        signal.alarm(LEARN_LIMIT)
        self._library.learn(archive)
        self._models.learn(archive)
        signal.alarm(0)

    def _read_ahead(self) -> None:
        signal.alarm(LEARN_LIMIT)
        try:
            self._models.read_ahead()
        except Exception:  # no reason to serve nobody
            _log(traceback.format_exc())
            self._reads_ahead = False
        signal.alarm(0)

    def _fork(self, request: Request, worker: socket.socket) -> Job:
        pid = os.fork()
        if pid == 0:
            try:
                self._close_all()
                become_module(request, worker, self._library)
            except BaseException:
                _log(traceback.format_exc())
            finally:
                os._exit(1)
        with contextlib.suppress(OSError):  # the fork does the same; the first of the two counts
            os.setpgid(pid, pid)
        job = Job(pid, os.pidfd_open(pid), worker)
        self._watch(job.process, select.EPOLLIN, functools.partial(self._reap, job))
        self._watch(worker.fileno(), select.EPOLLRDHUP, functools.partial(self._worker_left, job))
        return job

    def _close_all(self) -> None:
        """In a fork: close what belongs to the server and to other modules."""
        self._poll.close()
        self._listener.close()
        os.close(self._controller)
        for worker in self._waiting:
            worker.close()
        for job in self._jobs:
            os.close(job.process)
            job.worker.close()

    def _reap(self, job: Job) -> None:
        """A fork ended: tell the worker how. (A module that ended in the usual way has said so itself before.)"""
        if job.deadline is not None:  # interrupted: nothing of its group stays. The number is its own until waitpid.
            _signal_group(job, signal.SIGKILL)
        _pid, status = os.waitpid(job.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        answer = {"exit": code} if code >= 0 else {"signal": -code}
        with contextlib.suppress(OSError):
            job.worker.send(json.dumps(answer).encode())
        for descriptor in (job.worker.fileno(), job.process):
            self._unwatch(descriptor)
        job.worker.close()
        os.close(job.process)
        self._jobs.discard(job)

    def _worker_left(self, job: Job) -> None:
        """A worker closed its end: after b"done" all is well, without it its task was ended from outside."""
        messages = []
        with contextlib.suppress(OSError):
            while message := job.worker.recv(16):
                messages.append(message)
        self._unwatch(job.worker.fileno())
        if b"done" not in messages:
            self._interrupt(job)

    def _interrupt(self, job: Job) -> None:
        if job.deadline is None:
            job.deadline = time.monotonic() + GRACE
            _signal_group(job, signal.SIGINT)

    def _until_deadline(self) -> float | None:
        deadlines = [job.deadline for job in self._jobs if job.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _kill_overdue(self) -> None:
        for job in self._jobs:
            if job.deadline is not None and job.deadline <= time.monotonic():
                job.deadline += GRACE
                _signal_group(job, signal.SIGKILL)


@contextlib.contextmanager
def _receive(worker: socket.socket) -> Iterator[Request]:
    """Yield the request that a worker sent; its descriptors are closed afterwards (a fork has copies)."""
    message, descriptors, _flags, _address = socket.recv_fds(worker, 16, 3)
    try:
        if message != b"run" or len(descriptors) != 3:
            raise ValueError(f"not a request: {message!r} with {len(descriptors)} descriptors")
        with os.fdopen(descriptors.pop(0), "rb") as content:
            content.seek(0)
            header, payload = json.loads(content.readline()), content.read()
        stdout, stderr = descriptors
        yield Request(stdout=stdout, stderr=stderr, payload=payload, **header)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _machine() -> tuple[object, ...]:
    """What imported code may have found out about the machine, and that may change during a run."""
    return installed_packages(), os.uname()


def _startup_variables(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if _STARTUP_VARIABLE.fullmatch(name)}


def _parent(pid: int) -> int | None:
    """The parent of a process, None if it is gone. Source: proc_pid_stat(5), the fourth field."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[1])


def _signal_group(job: Job, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, number)


def _log(text: str) -> None:
    print(f"fork server {os.getpid()}: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Serve with what warm_client.py passes: two descriptors, the controller's pid, the directory, the services."""
    listener, controller, controller_pid = map(int, arguments[:3])
    directory, *services = arguments[3:]
    for descriptor in (listener, controller):
        os.set_inheritable(descriptor, False)
    server = Server(socket.socket(fileno=listener), controller, controller_pid, Path(directory))
    server.serve(Models(services))


if __name__ == "__main__":
    main(sys.argv[1:])
