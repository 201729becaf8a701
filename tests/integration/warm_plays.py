"""Plays whose results can be compared between connections, and a collection of modules that end in many ways."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WARM = "mlops.metaflow.warm"
PLAYBOOK_COMMAND = [sys.executable, "-m", "ansible.cli.playbook"]
#: What a run may take (s), so that a test that fails does not hang. The longest is one of 70 tasks through `local`.
RUN_LIMIT = 900

MODULES = {
    # Says what surrounds it, waits if asked to, and returns what it is given.
    "probe.py": """
        #!/usr/bin/python
        import os, sys
        from ansible.module_utils.basic import AnsibleModule

        module = AnsibleModule({
            "value": {"type": "raw"}, "secret": {"type": "str", "no_log": True}, "variable": {"type": "str"},
            "tell": {"type": "str"}, "wait_for": {"type": "str"}, "append": {"type": "str"}, "fail": {"type": "bool"},
        }, supports_check_mode=True)
        p = module.params
        if p["append"]:
            with open(p["append"], "a") as file:
                file.write(f"{p['value']}\\n")
        if p["tell"]:
            with open(p["tell"], "w") as file:
                file.write(f"{os.getpid()}")
        if p["wait_for"]:
            with open(p["wait_for"]) as file:
                file.read()
        umask = os.umask(0)
        with open(f"/proc/{os.getppid()}/cmdline") as file:
            warm = "/warm_server.py" in file.read()
        variable = os.environ.get(p["variable"] or "HOME")
        answer = dict(value=p["value"], variable=variable, warm=warm, parent=os.getppid(), cwd=os.getcwd(), umask=umask,
                      check=module.check_mode, interpreter=sys.executable)
        module.fail_json(msg="asked to", **answer) if p["fail"] else module.exit_json(changed=True, **answer)
        """,
    # Ends as a Python expression says.
    "ends.py": """
        #!/usr/bin/python
        import ctypes, os, signal, sys, time
        from ansible.module_utils.basic import AnsibleModule

        module = AnsibleModule({"by": {"type": "str"}})
        print("some noise", file=sys.stderr)
        exec(module.params["by"])
        """,
    "imports_a.py": """
        #!/usr/bin/python
        from ansible.module_utils.basic import AnsibleModule
        from ansible_collections.mlops.testing.plugins.module_utils.util import VALUE
        AnsibleModule({}).exit_json(value=VALUE)
        """,
    "imports_b.py": """
        #!/usr/bin/python
        from ansible.module_utils.basic import AnsibleModule
        from ansible_collections.mlops.testing.plugins.module_utils.util import VALUE
        AnsibleModule({}).exit_json(value=VALUE)
        """,
    "json_arguments.py": """
        #!/usr/bin/python
        # WANT_JSON
        import json, sys
        print(json.dumps({"given": json.load(open(sys.argv[1]))["value"]}))
        """,
    "old_style.sh": """
        #!/bin/sh
        . "$1"
        echo "{\\"given\\": \\"$value\\"}"
        """,
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run of ansible-playbook gave: the registered results, one a task, and what it printed."""

    code: int
    results: list[dict[str, Any]]
    stdout: str
    stderr: str

    @property
    def warm_modules(self) -> list[str]:
        """The full names of the modules that ran in forks, in order."""
        return [line.split()[2] for line in self.stdout.splitlines() if " WARM: ansible" in line]

    @property
    def fallbacks(self) -> int:
        """How often a warning said that the warm connection is not used."""
        return self.stderr.count("The warm connection is not used")


class Plays:
    """Runs tasks with either connection, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.collection = directory / "collections/ansible_collections/mlops/testing"
        (directory / "empty.cfg").touch()
        for name, source in MODULES.items():
            self.write(f"plugins/modules/{name}", source)
        self.write("plugins/module_utils/util.py", "VALUE = 1")
        (directory / "collections/ansible_collections/mlops/metaflow").symlink_to(ROOT)

    def write(self, name: str, source: str) -> Path:
        """Write a file of the testing collection."""
        path = self.collection / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source).lstrip())
        return path

    def start(self, tasks: list[dict[str, Any]], name: str = "play", **variables: Any) -> subprocess.Popen:
        """Start ansible-playbook on these tasks; `ignore_errors` stands on each."""
        return subprocess.Popen(
            [*self.command(tasks, name, variables), "-vvv"],
            cwd=self.directory,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, tasks: list[dict[str, Any]], name: str = "play", **variables: Any) -> Run:
        """Run these tasks to their end and return what they gave."""
        with self.start(tasks, name, **variables) as process:
            return self.finish(process, name)

    def finish(self, process: subprocess.Popen, name: str = "play") -> Run:
        """Wait for a started run."""
        try:
            stdout, stderr = process.communicate(timeout=RUN_LIMIT)
        finally:
            process.kill()
        written = self.directory / f"{name}.results.json"
        results = json.loads(written.read_text()) if written.exists() else []
        return Run(process.returncode, results, stdout, stderr)

    def environment(self) -> dict[str, str]:
        """The environment of a run: nothing of the person's own configuration."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "AWS_"))}
        return {
            **kept,
            "ANSIBLE_CONFIG": f"{self.directory}/empty.cfg",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_COLLECTIONS_PATH": f"{self.directory}/collections",
            "ANSIBLE_LOCAL_TEMP": f"{self.directory}/local_tmp",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_FORKS": "50",
            "METAFLOW_WARM_ARCHIVES": f"{self.directory}/archives",
        }

    def command(self, tasks: list[dict[str, Any]], name: str, variables: dict[str, Any]) -> list[str]:
        """The command line that runs these tasks, whose play and inventory it writes."""
        play: dict[str, Any] = {"hosts": "all", "gather_facts": False, "strategy": "linear"}
        for keyword in ("module_defaults", "environment", "strategy"):
            if keyword in variables:
                play[keyword] = variables.pop(keyword)
        hosts = variables.pop("hosts", 1)
        registers = [task.get("register", f"result_{number}") for number, task in enumerate(tasks)]
        play["tasks"] = [
            {"ignore_errors": True, "register": register, **task}
            for register, task in zip(registers, tasks, strict=True)
        ]
        if hosts == 1:
            results = "{{ [" + ", ".join(registers) + "] | to_json }}"
            written = {"content": results, "dest": f"{self.directory}/{name}.results.json"}
            plain = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
            play["tasks"].append({"ansible.builtin.copy": written, "vars": plain})
        defaults = {"ansible_connection": WARM, "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": {f"host{n}": {} for n in range(hosts)}, "vars": {**defaults, **variables}}}
        (self.directory / f"{name}.results.json").unlink(missing_ok=True)
        (self.directory / f"{name}.json").write_text(json.dumps([play]))
        (self.directory / f"{name}.hosts.yml").write_text(json.dumps(inventory))
        return [*PLAYBOOK_COMMAND, f"{name}.json", "-i", f"{name}.hosts.yml"]
