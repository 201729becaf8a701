"""Real fork servers, on programs that stand for modules. Ansible joins in tests/integration/test_warm_connection.py."""

from __future__ import annotations

import base64
import io
import os
import select
import signal
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

PLUGIN_UTILS = Path(__file__).parents[3] / "plugins/plugin_utils"
if str(PLUGIN_UTILS) not in sys.path:  # the server's modules import each other as neighbours
    sys.path.append(str(PLUGIN_UTILS))

from warm_client import ForkServer, Outcome  # noqa: E402 - found through the path above

#: Stands for the wrapper of ansible-core: unpacks the archive, and hands over to the loader in it.
WRAPPER = """
import os, sys, tempfile
def _ansiballz_main(zip_data):
    import base64
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "payload.zip")
        with open(path, "wb") as file:
            file.write(base64.b64decode(zip_data))
        sys.path.insert(0, path)
        from ansible.module_utils._internal._ansiballz import _loader
        _loader.run_module(modlib_path=path)
_ansiballz_main("""
#: Stands for ansible-core's loader: runs the module's code.
LOADER = "def run_module(*, modlib_path):\n    import test_module\n"
LOADER_NAME = "ansible/module_utils/_internal/_ansiballz/_loader.py"
SERVER_END_LIMIT = 10  # s


def encode(files: dict[str, str]) -> str:
    """A zip archive of these files and of an empty __init__.py in each of their packages, in base64."""
    packages = {f"{parent}/__init__.py": "" for name in files for parent in list(Path(name).parents)[:-1]}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in {**packages, **files}.items():
            archive.writestr(name, source)
    return base64.b64encode(buffer.getvalue()).decode()


EMPTY = encode({})


class Runner:
    """Runs programs in forks of one server, whose controller is this process."""

    def __init__(self, directory: Path) -> None:
        self.parent = directory
        self.server = ForkServer(directory, sys.executable, ["sts"])

    def run(self, program: str, archive: str = EMPTY, end: str = "'\n", **surroundings: object) -> Outcome:
        """Run a program in surroundings other than the usual ones, if any are given."""
        before = f"{program}\nzip_data='".encode()
        header = {
            "zip_start": len(before),
            "zip_end": len(before) + len(archive),
            "environment": dict(os.environ),
            "cwd": str(Path.cwd()),
            "umask": 0o22,
        }
        return self.server.run({**header, **surroundings}, before + archive.encode() + end.encode())

    def run_module(self, **files: str) -> Outcome:
        """Run test_module.py among these files as ansible-core runs a module. `__` in a file's key stands for `/`."""
        sources = {f"{key.replace('__', '/')}.py": textwrap.dedent(source) for key, source in files.items()}
        return self.run(WRAPPER, encode({LOADER_NAME: LOADER, **sources}), "')\n")

    def pids(self) -> list[int]:
        """The fork servers below this directory that run."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_server(entry)]

    def _is_server(self, process: Path) -> bool:
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            state, parent, *_ = (process / "stat").read_text().rpartition(")")[2].split()
            of_server = b"/warm_server.py" in (process.parent / parent / "cmdline").read_bytes()
        except OSError:  # ended meanwhile
            return False
        # A fork has the server's command line too, and the server for a parent.
        return state != "Z" and not of_server and any(word.startswith(bytes(self.parent)) for word in words[5:6])

    def stop(self) -> None:
        """Kill what still runs."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)


@pytest.fixture
def runner(tmp_path):
    """A fork server of its own for the test."""
    running = Runner(tmp_path)
    yield running
    running.stop()


def wait_for_end(pid: int, limit: float = SERVER_END_LIMIT) -> None:
    """Wait until a process has ended, at most `limit` s."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = select.select([descriptor], [], [], limit)[0]
    os.close(descriptor)
    assert ended, f"process {pid} still runs after {limit} s"
