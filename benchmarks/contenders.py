"""Who is measured: this project, with each connection plug-in, and Terraform."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from emulated_aws import ROOT, Emulator
from stack_runs import Run, Stack

from benchmarks import work

TERRAFORM_FILES = ROOT / "benchmarks" / "terraform"

#: Which components are run, and with which variables. Terraform's files are the core: AWS resources and nothing else.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "core": ("stack:!clients:!workloads", {}),
    "full": (
        "stack",
        {
            "flows_source": str(ROOT / "tests" / "integration" / "stack" / "flows"),
            "flows_list": [{"name": "letters", "file": "letters.py", "with": ["retry"]}],
        },
    ),
}

_CONNECTIONS = {"warm": "mlops.metaflow.warm", "local": "ansible.builtin.local"}


class NotInstalledError(Exception):
    """A contender can't be measured here; the message says why."""


@dataclass(frozen=True)
class Command:
    """A command to be measured, and where it runs."""

    arguments: list[str]
    environment: dict[str, str]
    directory: Path


class Contender(Protocol):
    """Does the pieces of work on an account."""

    name: str

    def start(self, emulator: Emulator, directory: Path) -> None:
        """Take over an empty account; `directory` is empty too. Nothing of this is measured."""

    def command(self, piece: str) -> Command | None:
        """Return the command of a piece of work; None if there is no such piece."""

    def require_done(self, piece: str, run: Run) -> None:
        """Raise if a run that succeeded says that it did something else than the piece of work."""


class Ansible:
    """This project, with the connection plug-in `warm` or `local`, on the components of `limit`."""

    def __init__(self, connection: str, limit: str, variables: dict[str, Any]) -> None:
        self.name = connection
        self._limit = limit
        self._variables = {"ansible_connection": _CONNECTIONS[connection], **variables}

    def start(self, emulator: Emulator, directory: Path) -> None:
        self._stack = Stack(emulator, directory / "home", variables=self._variables)

    def command(self, piece: str, limit: str | None = None) -> Command:
        """Return the command of a piece of work, on other components if `limit` names them."""
        options = ["--limit", limit or self._limit]
        variables: dict[str, Any] = {}
        if piece in (work.CHECK, work.CHECK_FULL):
            options += ["--check", "--diff"]
        if piece in (work.SECOND_FULL, work.CHECK_FULL):
            variables["full"] = True
        if piece == work.DESTROY:
            return self._run(*options, playbook="playbooks/destroy.yml", confirm="local")
        return self._run(*options, **variables)

    def _run(self, *options: str, playbook: str = "site.yml", **variables: Any) -> Command:
        return Command(self._stack.command(*options, playbook=playbook, **variables), self._stack.environment(), ROOT)

    def require_done(self, piece: str, run: Run) -> None:
        expected = {work.REPAIR: {"network"}}.get(piece, set())
        if piece not in (work.APPLY, work.DESTROY) and run.changed != expected:
            raise RuntimeError(f"{self.name}, {piece}: changed {run.changed or 'nothing'}\n{run.output[-4000:]}")


class Terraform:
    """Terraform with the resources of benchmarks/terraform."""

    name = "terraform"

    def __init__(self, plugins: Path | None = None) -> None:
        """`plugins`: a directory of providers (`terraform providers mirror` makes one); else as Terraform finds them.

        Raises:
            NotInstalledError: there is no terraform.
        """
        self._plugins = plugins
        self._program = shutil.which("terraform")
        if not self._program:
            raise NotInstalledError("no terraform on the PATH")

    def start(self, emulator: Emulator, directory: Path) -> None:
        """Copy the files and install the provider.

        Raises:
            NotInstalledError: the provider is not to be had.
        """
        self._directory = directory / "terraform"
        self._directory.mkdir()
        for file in TERRAFORM_FILES.glob("*.tf"):
            shutil.copy(file, self._directory)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._environment = {**kept, "AWS_ENDPOINT_URL": emulator.endpoint, "CHECKPOINT_DISABLE": "1"}
        plugins = [f"-plugin-dir={self._plugins.absolute()}"] if self._plugins else []
        done = subprocess.run(
            [self._program, "init", "-input=false", "-no-color", *plugins],
            cwd=self._directory, env=self._environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise NotInstalledError(f"terraform init failed: {' '.join(done.stderr.split())[:400]}")

    def command(self, piece: str) -> Command | None:
        arguments = {
            work.APPLY: ["apply", "-auto-approve"],
            work.SECOND: ["apply", "-auto-approve"],
            work.CHECK: ["plan"],
            work.REPAIR: ["apply", "-auto-approve"],
            work.DESTROY: ["destroy", "-auto-approve"],
        }.get(piece)
        if not arguments:
            return None
        return Command([self._program, *arguments, "-input=false", "-no-color"], self._environment, self._directory)

    def require_done(self, piece: str, run: Run) -> None:
        expected = {
            work.SECOND: "No changes.",
            work.CHECK: "No changes.",
            work.REPAIR: "Resources: 1 added, 0 changed, 0 destroyed.",
        }.get(piece, "")
        if expected not in run.output:
            raise RuntimeError(f"{self.name}, {piece}: '{expected}' was expected\n{run.output[-4000:]}")
