# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The worker's side of the warm connection: start the fork server, hand it a module, collect what the module says.

One request is one connection of a SOCK_SEQPACKET socket (messages keep their bounds):

    worker → server   b"run" with three descriptors: a memory file (a line of JSON, then the payload), stdout, stderr
    server → worker   b"ready"            a fork stands ready; nothing of the module has run yet
                      b"no <reason>"      the server does not run this one
    worker → server   b"go"               from here on the module runs, exactly once
    server → worker   {"exit": N} or {"signal": N}
    worker → server   b"done"             all output is read; a worker that leaves without it wants the module ended

Any trouble before "go" raises Unavailable: nothing has run, so the caller may run the module in another way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import multiprocessing
import os
import selectors
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

SERVER = Path(__file__).with_name("warm_server.py")
READY_TIMEOUT = 60.0  # s; a server that imports botocore's largest models on a busy machine answers within 5 s
_PIPE_SIZE = 1 << 20  # bytes; the largest that an unprivileged Linux process may ask for by default


class UnavailableError(Exception):
    """The fork server cannot run this module; nothing of it has run."""


class DeclinedError(UnavailableError):
    """The fork server works, but this request is one that it leaves to others."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a module ended: exit code or signal number (the other is None), and its output."""

    exit: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes


class ForkServer:
    """The one fork server of this controller and this Python interpreter; started on first use."""

    def __init__(self, parent: Path, interpreter: str, services: list[str]) -> None:
        """parent: a directory of this controller alone; services: those whose models the server may hold in memory."""
        digest = hashlib.sha256(os.fsencode(interpreter)).hexdigest()[:16]
        self._directory = parent / f"warm-{digest}"
        self._interpreter = interpreter
        self._services = services

    def start_ahead(self) -> None:
        """Start the server unless it runs, so that it is ready when the first module comes.

        :raises OSError, UnavailableError: it can't be started; the first module will tell why.
        """
        if sys.platform != "linux" or (self._directory / "socket").exists():
            return
        with open_private_directory(self._directory) as directory, _locked(directory):
            if not (self._directory / "socket").exists():  # another worker was here first
                self._start(directory)

    def run(self, header: dict[str, object], payload: bytes) -> Outcome:
        """Run one module in a fork and return how it ended; raises UnavailableError if it was not run."""
        if sys.platform != "linux":
            raise UnavailableError("the fork server needs Linux, for its memory files and process descriptors")
        with contextlib.ExitStack() as stack:
            try:
                connection, stdout, stderr = self._prepare(stack, header, payload)
                connection.send(b"go")
            except (OSError, EOFError) as error:
                raise UnavailableError(f"{type(error).__name__}: {error} {self._last_words()}".rstrip()) from error
            outcome = _collect(connection, stdout, stderr)
            with contextlib.suppress(OSError):
                connection.send(b"done")
            return outcome

    def _last_words(self) -> str:
        """The last line of the server's log, which names the error that ended it, if it had time for that."""
        try:
            return (self._directory / "log").read_text(errors="replace").strip().rpartition("\n")[2]
        except OSError:
            return ""

    def _prepare(
        self, stack: contextlib.ExitStack, header: dict[str, object], payload: bytes
    ) -> tuple[socket.socket, IO[bytes], IO[bytes]]:
        """Hand over the request and wait for the fork; returns the connection and the pipes of the module's output."""
        directory = stack.enter_context(open_private_directory(self._directory))
        connection = stack.enter_context(self._connect(directory))
        stdout, stdout_end = stack.enter_context(_pipe())
        stderr, stderr_end = stack.enter_context(_pipe())
        with _memory_file(header, payload) as request, stdout_end, stderr_end:
            socket.send_fds(connection, [b"run"], [request.fileno(), stdout_end.fileno(), stderr_end.fileno()])
        _await_ready(connection)
        return connection, stdout, stderr

    def _connect(self, directory: int) -> socket.socket:
        """Connect to the running server, or start one; the lock makes sure that only one worker starts it."""
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return _connect_once(directory)
        with _locked(directory):
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return _connect_once(directory)
            self._start(directory)
            return _connect_once(directory)

    def _start(self, directory: int) -> None:
        """Start the server with a socket that already listens: whoever connects waits in its queue, not in a loop."""
        if not Path(self._interpreter).is_absolute() or not os.access(self._interpreter, os.X_OK):
            raise DeclinedError(f"{self._interpreter} is not the path of an interpreter")
        with contextlib.suppress(FileNotFoundError):
            os.unlink("socket", dir_fd=directory)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
            _controller() as (pid, pidfd),
            (self._directory / "log").open("ab") as log,
        ):
            listener.bind(_socket_address(directory))
            listener.listen(socket.SOMAXCONN)
            inherited = (listener.fileno(), pidfd)
            subprocess.Popen(  # noqa: S603 - the interpreter is the one that Ansible would run the module with
                [self._interpreter, SERVER, *map(str, inherited), str(pid), self._directory, *self._services],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                pass_fds=inherited,
                start_new_session=True,
            )


@contextlib.contextmanager
def open_private_directory(path: Path) -> Iterator[int]:
    """Yield a descriptor of the directory, made if need be; raises UnavailableError unless it is ours alone.

    All that follows goes through the descriptor, so that nobody can put another directory in its place.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{path} is not a directory of ours: {error.strerror}") from error
    try:
        status = os.fstat(directory)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o700:
            raise UnavailableError(f"{path} must belong to uid {os.geteuid()} with mode 0700")
        yield directory
    finally:
        os.close(directory)


def _socket_address(directory: int) -> str:
    """A path through the open directory: safe from replacement, and never longer than a socket's address may be."""
    return f"/proc/self/fd/{directory}/socket"


def _connect_once(directory: int) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(_socket_address(directory))
        _check_owner(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_owner(connection: socket.socket) -> None:
    """Refuse a socket on which another user listens."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", credentials)[1]
    if uid != os.geteuid():
        raise UnavailableError(f"the fork server's socket belongs to uid {uid}")


@contextlib.contextmanager
def _controller() -> Iterator[tuple[int, int]]:
    """Yield the pid of the controller and a pidfd of it: the parent of an Ansible worker, else this very process."""
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent else os.getpid()
    descriptor = os.pidfd_open(pid)
    try:
        if parent and os.getppid() != pid:
            raise UnavailableError("the controller is gone")
        yield pid, descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(directory: int) -> Iterator[None]:
    descriptor = os.open("lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Yield the reading and the writing end of a pipe, as large as the system allows."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(reader, "rb", buffering=0) as output, os.fdopen(writer, "wb", buffering=0) as module_end:
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        yield output, module_end


@contextlib.contextmanager
def _memory_file(header: dict[str, object], payload: bytes) -> Iterator[IO[bytes]]:
    """Yield a file that holds the request in memory: the module's parameters, perhaps secret, touch no disk."""
    with os.fdopen(os.memfd_create("warm-request", os.MFD_CLOEXEC), "wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        file.write(payload)
        file.flush()
        yield file


def _await_ready(connection: socket.socket) -> None:
    connection.settimeout(READY_TIMEOUT)
    answer = connection.recv(4096)
    connection.settimeout(None)
    if answer.startswith(b"no "):
        raise DeclinedError(answer[3:].decode(errors="replace"))
    if answer != b"ready":
        raise EOFError("the fork server ended before it was ready")


def _collect(connection: socket.socket, stdout: IO[bytes], stderr: IO[bytes]) -> Outcome:
    """Read both pipes to their end (as long as anything holds them, as `local` does) and the outcome."""
    output = {stdout: bytearray(), stderr: bytearray()}
    answer: dict[str, int] | None = None
    with selectors.DefaultSelector() as selector:
        for source in (connection, stdout, stderr):
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map():
            for key, _events in selector.select():
                if key.fileobj is connection:
                    answer = _receive_outcome(connection)
                    selector.unregister(connection)
                elif chunk := os.read(key.fd, _PIPE_SIZE):
                    output[key.fileobj] += chunk
                else:
                    selector.unregister(key.fileobj)
    if answer is None:  # the module and the server were both killed, before either could say how
        answer = {"signal": signal.SIGKILL}
    return Outcome(answer.get("exit"), answer.get("signal"), bytes(output[stdout]), bytes(output[stderr]))


def _receive_outcome(connection: socket.socket) -> dict[str, int] | None:
    try:
        message = connection.recv(4096)
    except ConnectionResetError:
        return None
    return json.loads(message) if message else None
