"""The role that starts and stops the emulator, run by Ansible."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulated_aws import ROOT, Emulator

PLAYBOOK = """
- name: Run the emulator
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Include the role
      ansible.builtin.include_role:
        name: emulator
"""


class Role:
    """Plays the role `emulator` with a state directory and a port of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.state_dir = directory / "state"
        self.port = _free_port()
        self.playbook = directory / "play.yml"
        self.playbook.write_text(PLAYBOOK)
        self.inventory = directory / "inventory.yml"
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self.inventory.write_text(json.dumps({"all": {"hosts": {"localhost": host}}}))

    def play(self, *args: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run the playbook; `variables` are role variables without their prefix."""
        chosen = {"port": self.port, "state_dir": self.state_dir, "python": sys.executable, **variables}
        command = ["ansible-playbook", str(self.playbook), "-i", str(self.inventory), *args]
        for name, value in chosen.items():
            command += ["-e", f"emulator_{name}={value}"]
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
        }
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def answers(self) -> bool:
        """Say whether an emulator answers on the port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_emulator/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


@pytest.fixture
def role(tmp_path: Path) -> Iterator[Role]:
    """The role, whose emulator is stopped at the end of the test."""
    one = Role(tmp_path)
    try:
        yield one
    finally:
        if one.answers():
            os.kill(int((one.state_dir / "pid").read_text()), signal.SIGTERM)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_starts_once_even_in_check_mode_and_stops(role: Role) -> None:
    first = role.play("--check")
    assert "changed=1" in first.stdout, first.stdout
    assert role.answers()
    second = role.play()
    assert second.returncode == 0
    assert "changed=0" in second.stdout, second.stdout

    checked = role.play("--check", state="absent")
    assert checked.returncode == 0, checked.stdout
    assert role.answers(), "check mode stopped it"
    stopped = role.play(state="absent")
    assert stopped.returncode == 0, stopped.stdout
    assert not role.answers()
    assert not role.state_dir.exists()
    again = role.play(state="absent")
    assert "changed=0" in again.stdout, again.stdout


def test_shares_the_emulator_of_another_environment_and_leaves_it(role: Role, emulator: Emulator) -> None:
    taken = int(emulator.endpoint.rpartition(":")[2])
    shared = role.play(port=taken)
    assert "changed=0" in shared.stdout, shared.stdout
    stopped = role.play(port=taken, state="absent")
    assert stopped.returncode == 0, stopped.stdout
    assert emulator.client("sts").get_caller_identity()["Account"]


def test_refuses_a_port_of_another_account(role: Role, emulator: Emulator) -> None:
    taken = int(emulator.endpoint.rpartition(":")[2])
    refused = role.play(port=taken, account="210987654321")
    assert refused.returncode != 0
    assert f"emulator_port {taken} on 127.0.0.1 is held by an emulator of account" in " ".join(refused.stdout.split())


def test_refuses_a_port_of_something_else(role: Role) -> None:
    with socket.create_server(("127.0.0.1", role.port)):
        refused = role.play(start_timeout=20)
    assert refused.returncode != 0
    assert f"cannot listen on 127.0.0.1:{role.port}: Address already in use" in refused.stdout


def test_leaves_a_process_that_is_not_its_own(role: Role) -> None:
    role.state_dir.mkdir()
    (role.state_dir / "CACHEDIR.TAG").touch()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (role.state_dir / "pid").write_text(f"{bystander.pid}\n")
        stopped = role.play(state="absent")
        alive = bystander.poll() is None
        bystander.kill()
    assert stopped.returncode == 0, stopped.stdout
    assert alive


def test_leaves_a_directory_that_no_emulator_made(role: Role, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    refused = role.play(state="absent", state_dir=precious)
    assert refused.returncode != 0
    assert "has no CACHEDIR.TAG" in " ".join(refused.stdout.split())
    assert precious.exists()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("port", 70000, "emulator_port '70000' is not allowed: it must be a port"),
        ("account", "12345", "emulator_account '12345' is not allowed: it must be 12 digits"),
        ("state_dir", "here", "emulator_state_dir 'here' is not allowed: it must be an absolute path"),
    ],
)
def test_bad_variables_are_named(tmp_path: Path, variable: str, value: Any, message: str) -> None:
    refused = Role(tmp_path).play(**{variable: value})
    assert refused.returncode != 0
    assert message in " ".join(refused.stdout.split())
