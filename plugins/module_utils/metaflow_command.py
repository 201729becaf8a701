# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs commands of flows in the interpreter that has Metaflow: for real, or as a rehearsal that writes nothing."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.mlops.metaflow.plugins.module_utils import held_back

#: How many lines of a command's output are shown; the last ones say what failed.
SHOWN_LINES = 20

# What Metaflow's extensions (kinds of cards, decorators) install: it packs them with the code of a flow.
_VERSIONS = """
import importlib.metadata, sys

def extends_metaflow(distribution):
    return "metaflow_extensions" in (distribution.read_text("RECORD") or distribution.read_text("top_level.txt") or "")

found = [one.metadata for one in importlib.metadata.distributions() if extends_metaflow(one)]
extensions = sorted({f"{one['Name']}=={one['Version']}" for one in found})
print(importlib.metadata.version("metaflow"), "%d.%d" % sys.version_info[:2], *extensions)
"""


class CommandError(Exception):
    """A command of Metaflow failed; the text is the end of what it said."""


@dataclass(frozen=True)
class Metaflow:
    """An installed Metaflow, with the configuration of one profile.

    :param python: its interpreter.
    :param home: directory of the configuration (METAFLOW_HOME).
    :param profile: Metaflow's profile, None for the default one.
    :param owner: who owns what is deployed (METAFLOW_USER).
    :param timeout: longest time of a command in seconds.
    :param aws: environment variables by which the command reaches AWS as the module does.
    """

    python: str
    home: str
    profile: str | None
    owner: str
    timeout: int = 300
    aws: dict[str, str] = field(default_factory=dict)

    def versions(self):
        """Return the versions of Metaflow, its Python and its extensions ("2.19.39 3.11 metaflow-card-html==1.0.3")."""
        return self._run([self.python, "-c", _VERSIONS], "/", {}).strip()

    def deploy(self, flow, arguments):
        """Run a command of a flow, in the flow's folder as a person does; return what it wrote.

        :param Path flow: the flow's file.
        :raises CommandError: if it fails or takes too long.
        """
        with tempfile.TemporaryDirectory() as scratch:
            return self._run([self.python, flow.name, *arguments], flow.parent, {"METAFLOW_TOKEN_HOME": scratch})

    def rehearse(self, flow, arguments):
        """Run a command of a flow with all that it would write held back; return those calls, in their order."""
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, "sitecustomize.py").write_text(inspect.getsource(held_back))
            calls = Path(scratch, "calls")
            calls.touch()
            variables = {
                "METAFLOW_TOKEN_HOME": scratch,
                held_back.RECORD: str(calls),
                "PYTHONPATH": os.pathsep.join(filter(None, [scratch, os.environ.get("PYTHONPATH")])),
            }
            self._run([self.python, flow.name, *arguments], flow.parent, variables)
            return [json.loads(line) for line in calls.read_text().splitlines()]

    def _run(self, command, directory, variables):
        try:
            done = subprocess.run(  # noqa: S603 - running the flows that the person names is the purpose
                command,
                cwd=directory,
                env=self._environment() | variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self.timeout,
                check=False,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"no end after {self.timeout} s; it was stopped. Raise timeout.") from error
        except OSError as error:
            raise CommandError(f"{self.python} could not be started: {error.strerror}") from error
        if done.returncode != 0:
            lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
            raise CommandError("\n".join(lines[-SHOWN_LINES:]) or f"exit status {done.returncode}, no output")
        return done.stdout

    def _environment(self):
        """Return the environment of the task, with this profile as Metaflow's only configuration."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("METAFLOW_")}
        kept |= {"METAFLOW_HOME": self.home, "METAFLOW_USER": self.owner, "PYTHONDONTWRITEBYTECODE": "1"}
        # Else the reason of a failure stands below a production token, which a rehearsal makes up and throws away.
        kept |= {"METAFLOW_QUIET": "1"}
        return kept | ({"METAFLOW_PROFILE": self.profile} if self.profile else {}) | self.aws
