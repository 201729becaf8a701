"""A program in a fork ends and speaks as in an interpreter of its own: every case runs in both."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

PROGRAMS = {
    "success": "print('out'); import sys; print('err', file=sys.stderr)",
    "exit code": "import sys; print('x'); sys.exit(3)",
    "exit code beyond a byte": "import sys; sys.exit(256 + 4)",
    "negative exit code": "import sys; sys.exit(-1)",
    "exit without a code": "import sys; sys.exit()",
    "exit with a message": "import sys; sys.exit('the end')",
    "hard exit": "import os, sys; print('x', flush=True); print('lost'); os._exit(7)",
    "exception": "def f():\n    raise ValueError('no')\nf()",
    "chained exception": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error",
    "syntax error": "print('x'\n",
    "interrupt": "raise KeyboardInterrupt",
    "interrupt by signal": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
    "segmentation fault": "import ctypes; print('x', flush=True); ctypes.string_at(0)",
    "abort": "import os; os.abort()",
    "kill": "import os, signal; print('x', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "termination": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "bytes that are no UTF-8": "import os; os.write(1, b'a\\xff\\xfe\\x00b'); os.write(2, b'\\x80')",
    "text that is no UTF-8": "print('\\udc80')",
    "closed stdout": "import os; os.close(1); print('x')",
    "thread that ends later": (
        "import threading\nmain = threading.current_thread()\n"
        "threading.Thread(target=lambda: (main.join(), print('later'))).start()"
    ),
    "atexit": "import atexit; atexit.register(print, 'at exit'); print('x')",
    "atexit that fails": "import atexit; atexit.register(lambda: 1 / 0)",
    "atexit that changes nothing": "import atexit, sys; atexit.register(print, 'at exit'); sys.exit(5)",
    "child that outlives it": "import subprocess; subprocess.Popen(['/bin/sh', '-c', 'sleep 0.2; echo late'])",
    "empty stdin": "import sys; print(repr(sys.stdin.read()), sys.stdin.isatty())",
    "arguments and name": "import sys; print(sys.argv, __name__, '__file__' in globals(), sys.flags, sys.executable)",
    "path": "import sys; print(sys.path, sys.path_hooks, sys.prefix)",
    "streams": (
        "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr):\n"
        "    print(s.name, s.encoding, s.errors, s.line_buffering, s.fileno())"
    ),
    "signals": (
        "import signal\nprint(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "for number in sorted(signal.valid_signals()):\n    print(number, signal.getsignal(number))"
    ),
    "limits": "import resource; print([resource.getrlimit(n) for n in range(16)])",
    "environment": "import os; print(sorted(os.environ.items())); print(sorted(os.environb.items()))",
    "environment of children": "import subprocess; subprocess.run(['env', '-0'])",
    "surroundings": "import os; print(os.getcwd(), oct(os.umask(0)), os.nice(0), os.getuid(), os.getgroups())",
    "locale and time": "import locale, time; print(locale.setlocale(locale.LC_ALL), time.tzname)",
    "globals": "print(sorted(name for name in globals() if name != '_zip_data'), __loader__, __cached__, __builtins__)",
    "modules": "import sys; print(sys.modules['__main__'].__dict__ is globals(), sys.meta_path, sys.warnoptions)",
    "defaults": (
        "import socket, threading, gc, warnings, tempfile, uuid, atexit\n"
        "print(socket.getdefaulttimeout(), threading.enumerate(), gc.isenabled(), gc.get_threshold())\n"
        "print(warnings.filters, tempfile.tempdir, uuid._last_timestamp)"
    ),
}


def ending(code: int, stdout: bytes, stderr: bytes) -> tuple[int, bytes, bytes]:
    """How a program ended, without what differs from process to process: addresses and thread numbers."""
    without = [re.sub(rb"0x[0-9a-f]+|started \d+", b"", output) for output in (stdout, stderr)]
    return code, *without


def run_in_fork(runner, program: str) -> tuple[int, bytes, bytes]:
    outcome = runner.run(program)
    return ending(outcome.exit if outcome.signal is None else -outcome.signal, outcome.stdout, outcome.stderr)


def run_directly(program: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [sys.executable], input=program.encode(), capture_output=True, check=False, umask=0o22, env=dict(os.environ)
    )
    return ending(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_as_in_an_interpreter_of_its_own(runner, program, monkeypatch):
    monkeypatch.setenv("NOT_UTF8", os.fsdecode(b"\xff=\xfe"))
    assert run_in_fork(runner, program) == run_directly(program)


def test_a_hundred_megabytes(runner):
    program = "import sys\nfor i in range(100): sys.stdout.write(f'{i:1048576}')\nsys.stderr.write('e' * 1000000)"
    outcome = runner.run(program)
    expected = hashlib.sha256()
    for i in range(100):
        expected.update(f"{i:1048576}".encode())
    assert (outcome.exit, len(outcome.stdout), len(outcome.stderr)) == (0, 100 << 20, 1000000)
    assert hashlib.sha256(outcome.stdout).digest() == expected.digest()


def test_surroundings_of_the_request(runner, tmp_path):
    program = "import os; print(os.environ['ONLY_HERE'], os.environ.get('HOME'), os.getcwd(), oct(os.umask(0)))"
    environment = {**os.environ, "ONLY_HERE": "1"}
    outcome = runner.run(program, environment=environment, cwd=str(tmp_path), umask=0o77)
    assert outcome.stdout.decode().split() == ["1", os.environ["HOME"], str(tmp_path), "0o77"]


def test_nothing_of_one_module_reaches_another(runner):
    runner.run(
        "import builtins, ctypes, locale, os, random, resource, signal, socket, sys, tempfile\n"
        "os.environ['LEAK'] = '1'; os.chdir('/'); os.umask(0); random.seed(1); signal.signal(signal.SIGTERM, print)\n"
        "sys.path.append('/leak'); sys.modules['leak'] = sys; builtins.leak = 1; tempfile.tempdir = '/leak'\n"
        "socket.setdefaulttimeout(1); resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); leak = open('/dev/null')\n"
    )
    for program in ("environment", "surroundings", "signals", "limits", "path", "defaults", "modules"):
        assert run_in_fork(runner, PROGRAMS[program]) == run_directly(PROGRAMS[program]), program
    assert runner.run("print(leak)").exit == 1
    assert runner.run("import leak").exit == 1


def test_forks_share_no_randomness(runner):
    """random, uuid and tempfile are in the server's memory here, and so is each one's state."""
    preloaded = {"ansible__module_utils__basic": "import random, secrets, tempfile, uuid"}
    module = """
        from ansible.module_utils import basic
        import os, random, secrets, tempfile, uuid
        print(random.random(), random.Random().random(), secrets.token_hex(), uuid.uuid4(), uuid.uuid1())
        print(os.urandom(8).hex(), next(tempfile._get_candidate_names()), tempfile.mktemp())
        """
    first, second = (runner.run_module(test_module=module, **preloaded).stdout.split() for _ in range(2))
    assert len(first) == 8
    assert not set(first) & set(second)


def test_descriptors(runner):
    """A fork has its three streams and the socket of its own request, which its children don't inherit."""
    listing = """import os
for d in range(256):
    try:
        print(os.readlink(f"/proc/self/fd/{d}").partition(":")[0])
    except FileNotFoundError:
        pass
"""
    assert runner.run(listing).stdout.decode().split() == ["pipe", "pipe", "pipe", "socket"]
    children = runner.run(
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {listing!r}], close_fds=False)"
    )
    assert children.stdout.decode().split() == ["pipe", "pipe", "pipe"]


def test_descriptors_beside_others(runner, tmp_path):
    """Nothing of a module that runs at the same time is open in another."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ThreadPoolExecutor() as pool:
        waiting = "import signal; signal.alarm(60); "  # a test that fails must not hang
        waiting += f"open({str(fifo)!r}, 'w').close(); open({str(fifo)!r}).read()"
        held = pool.submit(runner.run, waiting)
        fifo.open().close()
        count = runner.run("import os; print(len(os.listdir('/proc/self/fd')))").stdout
        with fifo.open("w"):
            pass
        assert held.result().exit == 0
    assert runner.run("import os; print(len(os.listdir('/proc/self/fd')))").stdout == count


def test_many_at_once(runner):
    with ThreadPoolExecutor(50) as pool:
        program = "import os, sys; print(os.environ['NUMBER'] * 10000); sys.exit(int(os.environ['NUMBER']))"
        runs = [pool.submit(runner.run, program, environment={**os.environ, "NUMBER": str(i)}) for i in range(50)]
        for number, run in enumerate(runs):
            assert run.result().exit == number
            assert run.result().stdout.decode().strip() == str(number) * 10000
    assert len(runner.pids()) == 1
    assert Path(runner.parent).exists()
