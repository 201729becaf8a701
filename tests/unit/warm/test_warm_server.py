"""Whom the server serves, when it declines, and when it and its modules end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import warm_client
from conftest import PLUGIN_UTILS, Runner, wait_for_end
from warm_client import DeclinedError, ForkServer, UnavailableError

FORK = multiprocessing.get_context("fork")  # as Ansible starts its workers


@pytest.fixture
def started(runner):
    """A server that has served once, and the directory of its own."""
    assert runner.run("print(1)").exit == 0
    (directory,) = runner.parent.glob("warm-*")
    return runner, directory


def connect(directory: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(10)
    connection.connect(str(directory / "socket"))
    return connection


def in_worker(function, *arguments) -> multiprocessing.Process:
    """Start a process like a worker of Ansible's: its parent is the controller, this process."""
    worker = FORK.Process(target=function, args=arguments)
    worker.start()
    return worker


# --- whom it serves ---


def test_directory_and_socket_are_private(started):
    _runner, directory = started
    for path in (directory, *directory.iterdir()):
        status = path.lstat()
        assert status.st_uid == os.geteuid()
        assert not stat.S_ISLNK(status.st_mode)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o777, 0o600])
def test_directory_that_others_may_enter(started, mode):
    runner, directory = started
    directory.chmod(mode)
    with pytest.raises(UnavailableError, match="must belong to uid"):
        runner.run("print(1)")
    directory.chmod(0o700)
    assert runner.run("print(1)").exit == 0


def test_symbolic_link_in_place_of_the_directory(runner, tmp_path):
    runner.run("print(1)")
    (directory,) = runner.parent.glob("warm-*")
    elsewhere = directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(elsewhere)
    with pytest.raises(UnavailableError, match="not a directory of ours"):
        runner.run("print(1)")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_directory_of_another_user(started):
    runner, directory = started
    os.chown(directory, 65534, -1)
    with pytest.raises(UnavailableError, match="must belong to uid"):
        runner.run("print(1)")
    os.chown(directory, os.geteuid(), -1)


CALL = "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]); "
CALL += "s.send(b'x'); print(s.recv(100))"


def test_process_of_another_controller(started):
    """A child of the controller's child is no worker of the controller."""
    runner, directory = started
    worker = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    command = [sys.executable, "-c", worker, CALL, str(directory / "socket")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "refused" in (directory / "log").read_text()
    assert done.stdout in ("b''\n", "") and "ready" not in done.stdout
    assert runner.run("print(1)").exit == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_process_of_another_user(started):
    """Even where the doors stand open, as here, the caller's credentials are checked."""
    runner, directory = started

    def call_as_nobody():
        os.setuid(65534)
        with connect(directory) as connection:
            assert connection.recv(100) == b""

    opened = [directory, *(parent for parent in directory.parents if parent.stat().st_uid == os.geteuid())]
    modes = {path: path.stat().st_mode for path in opened}
    for path in opened:
        path.chmod(modes[path] | 0o011)
    (directory / "socket").chmod(0o777)
    try:
        worker = in_worker(call_as_nobody)
        worker.join()
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert worker.exitcode == 0
    assert "of uid 65534: no worker" in (directory / "log").read_text()
    assert runner.run("print(1)").exit == 0


def test_rubbish_is_not_answered(started):
    runner, directory = started
    with connect(directory) as connection:
        connection.send(b"rubbish")
        assert connection.recv(100) == b""
    assert runner.run("print(1)").exit == 0
    assert len(runner.pids()) == 1


def test_caller_that_says_nothing_holds_up_nobody(started):
    runner, directory = started
    with connect(directory):
        assert runner.run("print(1)").exit == 0


# --- when it declines ---


@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_PRELOAD", "LC_ALL", "TZ", "HOME", "PYTHONHASHSEED"])
def test_environment_for_an_interpreter_that_starts(started, name):
    runner, _directory = started
    with pytest.raises(DeclinedError, match="an interpreter of its own"):
        runner.run("print(1)", environment={**os.environ, name: "/other"})


def test_missing_working_directory(started):
    runner, _directory = started
    with pytest.raises(DeclinedError, match="working directory"):
        runner.run("print(1)", cwd="/does/not/exist")


@pytest.mark.parametrize("interpreter", ["python3", "/does/not/exist", "/dev/null"])
def test_no_interpreter(tmp_path, interpreter):
    runner = Runner(tmp_path)
    runner.server = ForkServer(tmp_path, interpreter, [])
    with pytest.raises(DeclinedError, match="not the path of an interpreter"):
        runner.run("print(1)")


def test_program_that_is_no_interpreter(tmp_path):
    runner = Runner(tmp_path)
    runner.server = ForkServer(tmp_path, "/bin/false", [])
    with pytest.raises(UnavailableError) as caught:
        runner.run("print(1)")
    assert not isinstance(caught.value, DeclinedError)


def test_packages_that_were_installed_meanwhile(tmp_path, monkeypatch):
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(packages))
    runner = Runner(tmp_path)
    runner.run("print(1)")
    before = runner.pids()
    (packages / "fresh.py").write_text("")
    with pytest.raises(DeclinedError, match="packages or the host's name changed"):
        runner.run("import fresh")
    assert runner.run("import fresh").exit == 0
    for pid in before:
        wait_for_end(pid)
    assert len(runner.pids()) == 1
    runner.stop()


def test_interpreters_have_servers_of_their_own(started, tmp_path):
    runner, _directory = started
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    runner.server = ForkServer(tmp_path, str(other), [])
    assert runner.run("import sys; print(sys.executable)").stdout.decode().strip() == str(other)
    assert len(runner.pids()) == 2


# --- when it and its modules end ---

CONTROLLER = """
import os, sys, threading
sys.path.insert(0, {plugin_utils!r}); sys.path.insert(0, {tests!r})
from pathlib import Path
from conftest import Runner
runner = Runner(Path(sys.argv[1]))
program = f"import os, time; open({{sys.argv[2]!r}}, 'w').write(str(os.getpid())); time.sleep(600)"
threading.Thread(target=runner.run, args=(program,), daemon=True).start()
with open(sys.argv[2]) as fifo:
    print(*runner.pids(), fifo.read(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ends_with_its_controller(tmp_path, number):
    """… and so do the modules that it runs, and its directory."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    parent = tmp_path / "parent"
    parent.mkdir()
    source = CONTROLLER.format(plugin_utils=str(PLUGIN_UTILS), tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", source, str(parent), str(fifo)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as controller:
        server, module = map(int, controller.stdout.readline().split())
        controller.send_signal(number)
    wait_for_end(module)
    wait_for_end(server)
    assert not list(parent.iterdir())


@pytest.mark.parametrize("stubborn", [False, True])
def test_module_ends_with_its_worker(started, tmp_path, stubborn):
    """By an interrupt, which lets it clean up; and if it takes no notice, by force."""
    runner, _directory = started
    fifo, clean = tmp_path / "fifo", tmp_path / "clean"
    os.mkfifo(fifo)
    program = f"""
        import os, signal, time
        if {stubborn}: signal.signal(signal.SIGINT, signal.SIG_IGN)
        child = os.fork()
        if not child: time.sleep(600)
        try:
            open({str(fifo)!r}, "w").write(f"{{os.getpid()}} {{child}}")
            time.sleep(600)
        finally:
            open({str(clean)!r}, "w")
        """
    worker = in_worker(runner.run, textwrap.dedent(program))
    pids = fifo.read_text().split()  # waits for the program
    worker.kill()
    for pid in pids:
        wait_for_end(int(pid))
    assert clean.exists() != stubborn
    worker.join()
    assert runner.run("print(1)").exit == 0


def test_child_that_a_finished_module_leaves_goes_on(started):
    """As with `local`: a service that a module starts stays."""
    runner, _directory = started
    program = "import subprocess; n = subprocess.DEVNULL\n"
    program += "print(subprocess.Popen(['sleep', '600'], stdin=n, stdout=n, stderr=n).pid)"
    children = [int(runner.run(program).stdout) for _ in range(20)]
    runner.run("print(1)")
    try:
        for child in children:
            assert "sleep" in Path(f"/proc/{child}/cmdline").read_text()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_module_survives_the_server(started, tmp_path):
    runner, _directory = started
    fifo, go_on = tmp_path / "fifo", tmp_path / "go_on"
    os.mkfifo(fifo), os.mkfifo(go_on)
    program = f"""
        import os, signal
        signal.alarm(60)  # a test that fails must not hang
        open({str(fifo)!r}, "w").write(str(os.getpid()))
        open({str(go_on)!r}).read()
        print("end")
        raise SystemExit(3)
        """
    with ThreadPoolExecutor() as pool:
        running = pool.submit(runner.run, textwrap.dedent(program))
        fifo.read_text()  # waits for the program
        (server,) = runner.pids()
        os.kill(server, signal.SIGKILL)
        wait_for_end(server)
        assert runner.run("print(1)").exit == 0  # another has started
        go_on.write_text("")
        outcome = running.result()
    assert (outcome.exit, outcome.stdout) == (3, b"end\n")
    assert runner.pids() != [server]


def test_server_and_module_killed(started, tmp_path):
    """Nobody is left to say how the module ended, so that is said."""
    runner, _directory = started
    program = "import os, signal; print('x', flush=True); os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)"
    outcome = runner.run(program)
    assert (outcome.exit, outcome.signal, outcome.stdout) == (None, signal.SIGKILL, b"x\n")


def test_worker_that_gives_up_before_it_says_go(started, monkeypatch):
    """Nothing of the module runs, so that the caller may run it elsewhere."""
    runner, _directory = started
    (server,) = runner.pids()
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(warm_client, "READY_TIMEOUT", 0.2)
    witness = runner.parent / "witness"
    with pytest.raises(UnavailableError, match="Timeout"):
        runner.run(f"open({str(witness)!r}, 'w')")
    os.kill(server, signal.SIGCONT)
    monkeypatch.undo()
    assert runner.run("print(1)").exit == 0
    assert not witness.exists()


def test_starts_once_for_many_workers(runner):
    workers = [in_worker(runner.run, "print(1)") for _ in range(12)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(runner.pids()) == 1


def test_server_killed_again_and_again(runner):
    """Whenever it dies, the module has run once or not at all, and the caller knows which."""
    done = runner.parent / "done"
    for number in range(30):
        killer = None
        if pids := runner.pids():
            killer = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.00{number % 10}; kill -9 {pids[0]}"])
        try:
            outcome = runner.run(f"open({str(done)!r}, 'a').write('{number} ')")
            assert outcome.exit == 0
        except UnavailableError:
            with done.open("a") as file:
                file.write(f"{number} ")
        if killer:
            killer.wait()
    assert done.read_text().split() == [str(number) for number in range(30)]
