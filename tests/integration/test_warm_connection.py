"""The warm connection under real plays: the same as `local` in all that a task can see, and never in the way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm_plays import PLAYBOOK_COMMAND, ROOT, WARM, Plays

END_LIMIT = 15  # s

#: Ways in which a module can end, as a statement.
ENDINGS = {
    "result": "module.exit_json(changed=True, text='ü', nothing=None)",
    "failure": "module.fail_json(msg='no')",
    "warnings": "module.warn('w'); module.deprecate('d', version='9.0', collection_name='a.b'); module.exit_json()",
    "exception": "raise ValueError('no')",
    "exit without result": "sys.exit(0)",
    "exit with a message": "sys.exit('the end')",
    "exit with a code": "print('{}'); sys.exit(5)",
    "hard exit": "os._exit(3)",
    "hard exit after the result": "print('{\"a\": 1}', flush=True); os._exit(4)",
    "segmentation fault": "ctypes.string_at(0)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "termination": "print('{\"a\": 1}', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
    "interrupt": "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
    "noise around the result": "print('noise'); print('{\"a\": 1}'); print('more noise')",
    "no UTF-8": "os.write(1, b'{\"a\": \"\\xff\\x80\"}'); os.write(2, b'\\xfe'); os._exit(0)",
    "no JSON": "print('x' * 100)",
    "large result": "module.exit_json(text='é' * 10_000_000)",
    "large rubbish": "os.write(2, b'x' * 1_000_000); print('y' * 1_000_000)",
}


@pytest.fixture
def plays(tmp_path):
    return Plays(tmp_path)


def probe(**arguments):
    return {"mlops.testing.probe": arguments}


def as_local(result: dict) -> dict:
    """A result without what differs from process to process.

    Nor with the lines that a traceback quotes: of preloaded code they are there, when those of a payload are deleted.
    """
    text = re.sub(r"/[^\s\"]*?/ansible_[\w.]+_payload_\w+/|/[^\s\"]*/warm-\w+/", "/payload/", json.dumps(result))
    text = re.sub(r"/payload/(\d+|ansible_[\w.]+_payload)\.zip", "/payload.zip", text)
    text = re.sub(r"(\\n    .*?)(?=\\n)", "", text)
    varying = {"warm", "parent", "start", "end", "delta"}
    return {key: value for key, value in json.loads(text).items() if key not in varying}


def wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = select.select([descriptor], [], [], END_LIMIT)[0]
    os.close(descriptor)
    assert ended, f"process {pid} still runs after {END_LIMIT} s"


def servers(directory: Path) -> set[int]:
    """The fork servers, and their forks, of the runs in this directory."""
    found = set()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
            state = (process / "stat").read_text().rpartition(")")[2].split()[0] if words else "Z"
            if b"/warm_server.py" in words and bytes(directory) in words and state != "Z":
                found.add(int(process.name))
    return found


# --- the same results ---


def test_endings(plays):
    tasks = [{"mlops.testing.ends": {"by": by}} for by in ENDINGS.values()]
    warm, local = plays.run(tasks), plays.run(tasks, ansible_connection="local", ansible_pipelining=True)
    assert len(warm.warm_modules) == len(ENDINGS)
    assert not local.warm_modules
    for name, in_fork, directly in zip(ENDINGS, warm.results, local.results, strict=True):
        assert as_local(in_fork) == as_local(directly), name
    assert warm.code == local.code


def test_surroundings(plays):
    tasks = [
        probe(value=1),
        {**probe(variable="FROM_TASK"), "environment": {"FROM_TASK": 'a\'b "c" $HOME\n`id` ü'}},
        {**probe(fail=True), "check_mode": True},
        probe(value={"a": [1, None, "ü"]}),
        {"ansible.builtin.command": "printenv FROM_PLAY"},
        {"ansible.builtin.shell": "pwd; umask; cat; echo $FROM_PLAY >&2", "args": {"stdin": "in"}},
    ]
    warm, local = (
        plays.run(tasks, ansible_connection=connection, environment={"FROM_PLAY": "1"})
        for connection in (WARM, "local")
    )
    assert [as_local(result) for result in warm.results] == [as_local(result) for result in local.results]
    assert [result["warm"] for result in warm.results[:4]] == [True] * 4
    assert [result["warm"] for result in local.results[:4]] == [False] * 4


def test_one_task_sees_nothing_of_another(plays):
    tasks = [
        {**probe(variable="ONLY_ONE"), "environment": {"ONLY_ONE": "secret"}},
        probe(variable="ONLY_ONE"),
    ]
    first, second = plays.run(tasks).results
    assert (first["variable"], second["variable"]) == ("secret", None)
    assert first["parent"] == second["parent"]


def test_secrets_stay_in_memory(plays, tmp_path):
    """No file of the server's holds a module's parameters or its environment."""
    fifo, go_on = tmp_path / "fifo", tmp_path / "go_on"
    os.mkfifo(fifo), os.mkfifo(go_on)
    secret = "correct-horse"
    task = {
        **probe(secret=secret, tell=str(fifo), wait_for=str(go_on)),
        "environment": {"OTHER": secret},
        "no_log": True,
    }
    with plays.start([task]) as process:
        fifo.read_text()
        (server,) = tmp_path.glob("local_tmp/*/warm-*")
        held = [path for path in server.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        go_on.write_text("")
        run = plays.finish(process)
    assert not held
    assert run.code == 0
    assert secret not in run.stdout + run.stderr


# --- what runs as with local ---


def test_what_is_no_pipelined_python_module(plays):
    tasks = [
        {"ansible.builtin.raw": "echo raw; exit 3"},
        {"ansible.builtin.script": {"cmd": str(plays.write("script.sh", "#!/bin/sh\necho script $1")) + " x"}},
        {"mlops.testing.json_arguments": {"value": "v"}},
        {"mlops.testing.old_style": {"value": "v"}},
        {**probe(value="become"), "become": True, "become_method": "ansible.builtin.su"},
        {**probe(value="async"), "async": 30, "poll": 1},
        {**probe(variable="PYTHONPATH"), "environment": {"PYTHONPATH": "/other"}},
        {**probe(variable="TZ"), "environment": {"TZ": "Asia/Tokyo"}},
        {**probe(value="without pipelining"), "vars": {"ansible_pipelining": False}},
        {**probe(value="off"), "vars": {"warm_enabled": False}},
    ]
    warm, local = (plays.run(tasks, ansible_connection=connection) for connection in (WARM, "local"))
    volatile = {"ansible_job_id", "results_file", "module_stderr", "msg"}
    for in_fork, directly in zip(warm.results, local.results, strict=True):
        assert not in_fork.get("warm")
        in_fork, directly = as_local(in_fork), as_local(directly)
        assert {k: v for k, v in in_fork.items() if k not in volatile} == {
            k: v for k, v in directly.items() if k not in volatile
        }
    assert warm.fallbacks == 0
    assert not [name for name in warm.warm_modules if "testing" in name and "probe" not in name]


def test_another_interpreter(plays, tmp_path):
    """… has a server of its own."""
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    tasks = [probe(), {**probe(), "vars": {"ansible_python_interpreter": str(other)}}, probe()]
    first, second, third = plays.run(tasks).results
    assert first["warm"] and second["warm"]
    assert first["parent"] == third["parent"] != second["parent"]


@pytest.mark.parametrize("variable", ["warm_enabled", "ansible_pipelining"])
def test_off_by_one_variable(plays, variable):
    """Nor is a server started, whose directory would be there until the run ends."""
    tasks = [probe(), {"ansible.builtin.shell": f"find {plays.directory}/local_tmp -name 'warm-*'"}]
    on, off = plays.run(tasks), plays.run(tasks, **{variable: False})
    assert on.results[0]["warm"] and on.results[1]["stdout"]
    assert not off.results[0]["warm"] and off.results[1]["stdout"] == ""


#: How a version of ansible-core that nobody has seen may differ, as a statement before ansible-playbook's main().
UNKNOWN = {
    "payload": "m._ANSIBALLZ_CODE = m._ANSIBALLZ_CODE.replace('modlib_path=modlib_path', 'modlib_path = modlib_path')",
    "command": "s.build_module_command = lambda *a, _f=s.build_module_command, **k: 'exec ' + _f(*a, **k)",
}


@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_version_of_ansible_core(plays, change):
    program = f"""if 1:
        import sys
        import ansible.executor.module_common as m
        from ansible.plugins.shell import ShellBase as s
        {change}
        from ansible.cli.playbook import main
        sys.exit(main(["ansible-playbook", *sys.argv[1:]]))
        """
    command = plays.command([probe(value=n) for n in range(5)], "play", {"hosts": 2})
    command = [sys.executable, "-c", program, *command[len(PLAYBOOK_COMMAND) :]]
    done = subprocess.run(command, cwd=plays.directory, env=plays.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("changed: [") == 10
    assert done.stderr.count("The warm connection is not used") == 1
    assert "does not know" in " ".join(done.stderr.split())


def test_server_that_does_not_start(plays, tmp_path):
    """An interpreter that refuses the server but runs modules: one warning, and all modules run."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n[ $# -gt 0 ] && exit 1\nexec {sys.executable}\n")
    python.chmod(0o755)
    run = plays.run([probe(value=n) for n in range(3)], ansible_python_interpreter=str(python))
    assert [result["value"] for result in run.results] == [0, 1, 2]
    assert not any(result["warm"] for result in run.results)
    assert run.fallbacks == 1


def test_a_broken_sdk_is_no_reason_to_serve_nobody(plays, tmp_path, monkeypatch):
    """The server imports it ahead; modules that don't need it run in forks as ever."""
    (tmp_path / "sdk").mkdir()
    (tmp_path / "sdk/boto3.py").write_text("raise AttributeError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "sdk"))
    run = plays.run([probe(value=n) for n in range(3)])
    assert [result["warm"] for result in run.results] == [True] * 3
    assert run.fallbacks == 0


# --- while somebody develops ---


def test_edited_module_utils_run(plays):
    """The second module's payload carries the edited file, which the server does not have in memory."""
    util = plays.collection / "plugins/module_utils/util.py"
    tasks = [
        {"mlops.testing.imports_a": {}},
        {"ansible.builtin.lineinfile": {"path": str(util), "regexp": "VALUE", "line": "VALUE = 2"}},
        {"mlops.testing.imports_b": {}},
        {"mlops.testing.imports_a": {}},
    ]
    warm, local = [], []
    for results, connection in ((warm, WARM), (local, "local")):
        util.write_text("VALUE = 1\n")
        results += [result.get("value") for result in plays.run(tasks, ansible_connection=connection).results]
    assert warm == local == [1, None, 2, 1]  # ansible-core builds a payload once in a run


# --- the archives that are kept from run to run ---

#: A module of a collection whose archives are kept. It is refused before it calls anything.
KEPT = {"mlops.metaflow.stack_lock": {}}


def built(plays: Plays, *before: dict, **environment: str) -> int:
    """Run the module, after other tasks, and return how many archives ansible-core has built."""
    command = plays.command([*before, KEPT, KEPT], "play", {})
    environment = {**plays.environment(), "ANSIBLE_DEBUG": "1", **environment}
    done = subprocess.run(command, cwd=plays.directory, env=environment, capture_output=True, text=True, check=True)
    results = json.loads((plays.directory / "play.results.json").read_text())[len(before) :]
    assert all("missing required arguments: name" in result["msg"] for result in results), results
    return done.stdout.count("ANSIBALLZ: Creating module")


def test_an_archive_is_built_once(plays):
    first, second = built(plays), built(plays)
    assert first - second == 1  # that of the module `copy`, which writes the results, is built by each run
    (kept,) = plays.directory.glob("archives/*/*stack_lock*")
    assert kept.parent.stat().st_mode & 0o777 == kept.parent.parent.stat().st_mode & 0o777 == 0o700


def test_changed_code_is_built_anew(plays):
    """Of the code that an archive may hold, this directory is the one that a test may change."""
    utilities = plays.directory / "module_utils"
    utilities.mkdir()
    (utilities / "mine.py").write_text("VALUE = 1\n")
    first, second = (built(plays, ANSIBLE_MODULE_UTILS=str(utilities)) for _ in range(2))
    (utilities / "mine.py").write_text("VALUE = 12\n")
    assert built(plays, ANSIBLE_MODULE_UTILS=str(utilities)) == first == second + 1


def test_what_was_built_of_code_that_changed_during_the_run_is_not_kept(plays):
    utilities = plays.directory / "module_utils"
    utilities.mkdir()
    edit = {"ansible.builtin.copy": {"content": "VALUE = 1\n", "dest": f"{utilities}/mine.py"}}
    built(plays, edit, ANSIBLE_MODULE_UTILS=str(utilities))
    assert not list(plays.directory.glob("archives/*/*stack_lock*"))
    built(plays, ANSIBLE_MODULE_UTILS=str(utilities))
    assert list(plays.directory.glob("archives/*/*stack_lock*"))


def test_archives_of_somebody_else_are_not_used(plays):
    assert built(plays) > built(plays)
    (plays.directory / "archives").chmod(0o755)
    run = plays.run([KEPT])
    assert "archives must belong to uid" in run.stdout
    assert "stack_lock" in run.warm_modules[0]


def test_archives_that_no_run_had_for_long_are_removed(plays):
    old, used = plays.directory / "archives/old", plays.directory / "archives/used"
    for directory in (old, used):
        directory.mkdir(parents=True)
        (directory / "archive").touch()
    (plays.directory / "archives").chmod(0o700)
    os.utime(old, (0, 0))
    built(plays)
    assert not old.exists()
    assert (used / "archive").exists()


# --- the end of tasks, of controllers and of servers ---


def test_timeout_of_a_task(plays, tmp_path):
    task = {**probe(tell=str(tmp_path / "pid"), wait_for=str(tmp_path / "never")), "timeout": 2}
    os.mkfifo(tmp_path / "never")
    warm = plays.run([task, probe(value="next")])
    wait_for_end(int((tmp_path / "pid").read_text()))
    local = plays.run([task], ansible_connection="local")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # there it goes on
    assert "Timed out after 2 second(s)" in warm.results[0]["msg"]
    assert as_local(warm.results[0]) == as_local(local.results[0])
    assert warm.results[1]["warm"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_end_of_the_controller(plays, tmp_path, number):
    """Modules, server and directory go with it, and its exit code is the same as with local."""
    codes = []
    for connection in (WARM, "local"):
        fifo = tmp_path / f"fifo-{connection}"
        os.mkfifo(fifo)
        never = tmp_path / f"never-{connection}"
        os.mkfifo(never)
        with plays.start([probe(tell=str(fifo), wait_for=str(never))], ansible_connection=connection) as process:
            module = int(fifo.read_text())
            process.send_signal(number)
            if connection == "local" and number == signal.SIGKILL:
                os.kill(module, signal.SIGKILL)
            process.communicate(timeout=END_LIMIT)
            codes.append(process.returncode)
        wait_for_end(module)
        for server in servers(tmp_path):
            wait_for_end(server)
        assert not list(tmp_path.glob("local_tmp/*/warm-*"))
    assert codes[0] == codes[1]


def test_fifty_at_once(plays, tmp_path):
    run = plays.run(
        [
            {
                **probe(append=str(tmp_path / "done"), value="{{ inventory_hostname }}"),
                "environment": {"ME": "{{ value }}"},
            }
        ],
        hosts=50,
        value="{{ inventory_hostname }}",
    )
    assert run.code == 0
    assert len(run.warm_modules) == 50
    assert sorted((tmp_path / "done").read_text().split()) == sorted(f"host{n}" for n in range(50))
    assert run.fallbacks == 0


def test_two_controllers_at_once(plays):
    """Each has a server of its own."""
    tasks = [probe(value=n) for n in range(10)]
    with plays.start(tasks, "one") as one, plays.start(tasks, "two") as two:
        runs = plays.finish(one, "one"), plays.finish(two, "two")
    parents = [{result["parent"] for result in run.results} for run in runs]
    assert [len(found) for found in parents] == [1, 1]
    assert parents[0] != parents[1]
    assert all([result["value"] for result in run.results] == list(range(10)) for run in runs)


def test_server_killed_at_any_moment(plays, tmp_path):
    """Every task runs exactly once, and gives its own result."""
    tasks = [probe(append=str(tmp_path / "done"), value=n) for n in range(40)]
    killed = 0
    with plays.start(tasks) as process:
        limit = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < limit:
            for server in servers(tmp_path):
                # Forks are spared: a module that is killed has failed, with any connection.
                with contextlib.suppress(OSError):
                    if b"warm_server" not in Path(f"/proc/{_parent(server)}/cmdline").read_bytes():
                        os.kill(server, signal.SIGKILL)
                        killed += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01 * (killed % 7))
        run = plays.finish(process)
    assert run.code == 0
    assert killed > 3
    assert (tmp_path / "done").read_text().split() == [str(n) for n in range(40)]
    assert [result["value"] for result in run.results] == list(range(40))
    assert run.fallbacks <= 1


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# --- documentation ---


def documentation(plays, name: str) -> dict:
    command = [Path(sys.executable).with_name("ansible-doc"), "--json", "-t", "connection", name]
    done = subprocess.run(command, env=plays.environment(), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)[name]["doc"]


def test_documentation(plays):
    warm, local = documentation(plays, WARM), documentation(plays, "ansible.builtin.local")
    assert warm["options"]["warm_enabled"]["vars"] == [{"name": "warm_enabled"}]
    for name, option in local["options"].items():  # what the plug-in inherits asks for them
        assert name in warm["options"]
        assert warm["options"][name].get("vars") == option.get("vars")
    assert (ROOT / "plugins/connection/warm.py").exists()
