# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a fork of the warm server does: become the process that `local` would have started, and run its payload."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import dataclasses
import functools
import importlib.machinery
import json
import os
import signal
import socket
import sys
import threading
import types
from pathlib import Path
from typing import NoReturn

from warm_library import Archive, Library

_OWN_DIRECTORY = f"{Path(__file__).parent}/"
# What an interpreter gives the program that it reads from stdin, besides the name.
_MAIN_ATTRIBUTES = {
    "__annotations__": {},
    "__builtins__": builtins,
    "__cached__": None,
    "__file__": "<stdin>",
    "__loader__": importlib.machinery.BuiltinImporter,
}


@dataclasses.dataclass
class Request:
    """A module to run: its payload, where the base64 text of its archive lies in it, and what surrounds it."""

    payload: bytes
    zip_start: int
    zip_end: int
    stdout: int
    stderr: int
    environment: dict[str, str]
    cwd: str
    umask: int

    @functools.cached_property
    def archive(self) -> Archive:
        """The archive in the payload."""
        return Archive(self.payload[self.zip_start : self.zip_end])

    def program(self) -> tuple[bytes, dict[str, str]]:
        """The payload with a name in place of the archive's literal, and the name's value.

        Compiling the literal, up to a megabyte of text, would take longer than all else between fork and module.
        """
        head, tail = self.payload[: self.zip_start - 1], self.payload[self.zip_end + 1 :]
        return head + b"_zip_data" + tail, {"_zip_data": self.payload[self.zip_start : self.zip_end].decode()}


def become_module(request: Request, worker: socket.socket, library: Library) -> NoReturn:
    """In a fork: take the request's surroundings, wait for the worker's word, run the payload, say how it ended."""
    os.setpgid(0, 0)  # so that an interrupt reaches the module's own children too
    worker.setblocking(True)
    _take_surroundings(request)
    library.adopt(request.archive)
    program, names = request.program()
    _replace_standard_streams(request)  # last, so that an error until here reaches the server's log
    worker.send(b"ready")
    if worker.recv(16) != b"go":
        os._exit(0)
    code = run_program(program, names)
    with contextlib.suppress(OSError):
        worker.send(json.dumps({"exit": code}).encode())
    os._exit(code)


def _take_surroundings(request: Request) -> None:
    os.chdir(request.cwd)
    os.umask(request.umask)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv[:] = [""]
    sys.path.insert(0, "")  # as in every interpreter that reads its program from stdin


def _replace_standard_streams(request: Request) -> None:
    """Put the worker's pipes in place of the server's streams; Python's objects for them stay, they are unused."""
    drained, writer = os.pipe()
    os.close(writer)
    for source, target in ((drained, 0), (request.stdout, 1), (request.stderr, 2)):
        os.dup2(source, target)
        os.close(source)


def run_program(source: bytes, names: dict[str, str]) -> int:
    """Run a program as `python < program` does, to the end of the interpreter, and return its exit code."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    vars(main).update(_MAIN_ATTRIBUTES, **names)
    interrupted = False
    code = 0
    try:
        exec(compile(source, "<stdin>", "exec", dont_inherit=True), vars(main))  # noqa: S102 - its very purpose
    except SystemExit as end:
        code = _exit_code(end)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        code = 1
        error.__traceback__ = _without_own_frames(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
    code = _finalize(code)
    if interrupted:  # as the interpreter does, so that whoever waits sees the signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return code


def _without_own_frames(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """The traceback as it is without a fork server: its files are those beside this one."""
    if traceback is None:
        return None
    traceback.tb_next = _without_own_frames(traceback.tb_next)
    own = traceback.tb_frame.f_code.co_filename.startswith(_OWN_DIRECTORY)
    return traceback.tb_next if own else traceback


def _exit_code(end: SystemExit) -> int:
    """The exit code of sys.exit(…). Source: handle_system_exit() in Python/pythonrun.c."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    sys.stderr.write(f"{end.code}\n")
    return 1


def _finalize(code: int) -> int:
    """Do what the end of an interpreter does that others can see. Source: Py_FinalizeEx() in Python/pylifecycle.c.

    The two private functions are the ones that multiprocessing calls at the end of its own forks.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = 120
    return code
