"""Runs the project's playbooks on an emulated account, as a person runs them, with a home of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from account_dump import Account
from emulated_aws import ROOT, Emulator

COMPONENTS = (
    "network", "datastore", "secrets", "identity", "registry",
    "database", "api", "batch", "step_functions", "flow_image", "hosts",
    "metadata_service",
    "client_config",
    "flows", "chains",
)  # fmt: skip

#: Longest time of a run in seconds, so that a test that fails does not hang; a converge takes 30 on an idle machine.
RUN_LIMIT = 900

#: Archives of modules, as a person has them after the first run of all.
ARCHIVES = ROOT / ".cache" / "archives"

#: What a person keeps secret: the value of a secret that flows use. It must never be seen.
CANARY = "canary-9f2c7d41e8b35a60"

_RECAP_LINE = re.compile(r"^(?P<host>[\w-]+) +: (?P<counts>ok=\d+ .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """A playbook run that has ended. `status` is the exit status, `output` all that it wrote."""

    status: int
    output: str

    @cached_property
    def recap(self) -> dict[str, dict[str, int]]:
        """What PLAY RECAP says: component → counts by name ("ok", "changed", "failed" …)."""
        recap = self.output.rpartition("PLAY RECAP")[2]
        return {
            line["host"]: {name: int(count) for name, count in (pair.split("=") for pair in line["counts"].split())}
            for line in _RECAP_LINE.finditer(recap)
        }

    @property
    def changed(self) -> set[str]:
        """The components that the run says to have changed."""
        return {component for component, counts in self.recap.items() if counts["changed"]}

    @property
    def failed(self) -> set[str]:
        """The components that failed."""
        return {component for component, counts in self.recap.items() if counts["failed"]}

    @property
    def unchanged(self) -> set[str]:
        """The components that the run says to equal their last converge."""
        told = re.findall(r"equal those of the last converge: ([\w, ]+)\.", " ".join(self.output.split()))
        return {component for names in told for component in names.split(", ")}

    def succeeded(self) -> Run:
        """Assert that all went well, and show the end of the output otherwise."""
        assert self.status == 0, self.output[-6000:]
        return self

    def refused(self) -> str:
        """Assert that the run failed, and return its output in one line: messages are wrapped and indented."""
        assert self.status != 0, self.output[-6000:]
        return " ".join(self.output.split())


@dataclass
class Stack:
    """One environment on an emulated account: who runs it (`home`), from which inventory, with which variables."""

    emulator: Emulator
    home: Path
    inventory: Path = ROOT / "inventories" / "local"
    variables: dict[str, Any] = field(default_factory=dict)

    def run(self, *options: str, playbook: str = "site.yml", **variables: Any) -> Run:
        """Run a playbook to its end, with further options and variables."""
        return self.start(*options, playbook=playbook, **variables).wait()

    def destroy(self, *options: str, **variables: Any) -> Run:
        """Run playbooks/destroy.yml to its end. The confirmation is a variable like others."""
        return self.run(*options, playbook="playbooks/destroy.yml", **variables)

    def start(self, *options: str, playbook: str = "site.yml", **variables: Any) -> Started:
        """Start a playbook, with further options and variables."""
        return Started(self.command(*options, playbook=playbook, **variables), self.environment())

    def command(self, *options: str, playbook: str = "site.yml", **variables: Any) -> list[str]:
        """The command of a run. Variables go by a file, as a secret on a command line would be one that is shown."""
        self.home.mkdir(exist_ok=True)
        host, port = self.emulator.endpoint.removeprefix("http://").split(":")
        given = {"emulator_host": host, "emulator_port": int(port), **self.variables, **variables}
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=self.home.parent, delete=False) as variables_file:
            json.dump(given, variables_file)
        limit = () if any(option == "--limit" for option in options) else ("--limit", "stack")
        return [
            sys.executable, "-m", "ansible", "playbook", playbook, "-i", str(self.inventory), *limit,
            "-e", f"@{variables_file.name}", *options,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The environment of a person who has nothing set up but the project's virtual environment."""
        unwanted = ("ANSIBLE_", "AWS_", "METAFLOW_", "MOTO_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        own = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary_directory),
            "METAFLOW_WARM_ARCHIVES": str(ARCHIVES),  # nobody's first run
        }
        return {**kept, **own}

    @property
    def temporary_directory(self) -> Path:
        """Where the runs put their temporary files."""
        directory = self.home / "tmp"
        directory.mkdir(exist_ok=True)
        return directory


class Started:
    """A playbook run under way."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        # A file and not a pipe: nobody reads a pipe until the end, and what a killed run leaves would keep it open.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when the run has ended
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )

    @property
    def pid(self) -> int:
        """Process id of the controller."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the controller has ended."""
        return self._process.poll() is not None

    def wait(self, each: Callable[[], None] | None = None, pause: float = 0.05) -> Run:
        """Wait for the end; `each` is called every `pause` seconds meanwhile."""
        limit = time.monotonic() + RUN_LIMIT
        while each and not self.ended and time.monotonic() < limit:
            each()
            time.sleep(pause)
        try:
            status = self._process.wait(max(1.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._log.seek(0)
        output = self._log.read()
        self._log.close()
        return Run(status, output)

    def kill_when(self, condition: Callable[[], bool]) -> bool:
        """End the controller by SIGKILL as soon as the condition holds; return False if it ended before."""
        while not self.ended:
            if condition():
                self.kill()
                return True
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """Let the controller stand still, as a machine that sleeps does."""
        os.kill(self.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """End the controller, and nothing else, by SIGKILL."""
        self._process.kill()
        self._process.wait()


def changes_outside_the_lock(emulator: Emulator) -> list[str]:
    """Return the calls that can change the account, but for those that take and give back the run lock.

    The lock is the only parameter that a run writes to Parameter Store.
    """
    lock = {("ssm", "PutParameter"), ("ssm", "DeleteParameters")}
    return [
        f"{call['service']}:{call['action']} ({call['count']})"
        for call in emulator.mutations()
        if (call["service"], call["action"]) not in lock
    ]


@dataclass(frozen=True)
class Complete:
    """A stack that one run has converged, what the run wrote, and the command lines that were seen meanwhile.

    `files` are those that the run left in its user's home (temporary files among them), with their modes.
    """

    stack: Stack
    run: Run
    command_lines: frozenset[str]
    files: dict[Path, int]

    @classmethod
    def converge(cls, stack: Stack) -> Complete:
        """Converge a stack with every word that Ansible has (-vvv --diff)."""
        seen: set[str] = set()
        run = stack.start("-vvv", "--diff").wait(each=lambda: seen.update(_command_lines()))
        files = {path.relative_to(stack.home): path.stat().st_mode & 0o777 for path in stack.home.rglob("*")}
        return cls(stack, run.succeeded(), frozenset(seen), files)

    @property
    def account(self) -> Account:
        """The account that the stack is in."""
        return Account(self.stack.emulator)


def _command_lines() -> set[str]:
    """The command lines of all processes, as anybody on this machine may read them."""
    lines = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            lines.add((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines
