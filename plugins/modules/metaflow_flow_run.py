#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# ansible.builtin.command runs a flow too, but knows neither whether it has succeeded before nor whether what it left
# can be read back.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: metaflow_flow_run
version_added: 0.1.0
short_description: Run a flow with one profile of the client configuration, and read the run back
description:
  - Runs C(python <flow> run) in the interpreter that has Metaflow, with one profile and nothing else of the
    configuration, and waits for its end.
  - Then reads the run back through Metaflow's client API - that it succeeded, its steps and its artifacts.
  - A run carries the tag C(source:<digest>) of the flow's file, by which O(unless_successful=true) finds out whether
    this very text has run successfully before.
author:
  - The metaflow-ansible authors
options:
  flow:
    description: The flow's file.
    type: path
    required: true
  flow_name:
    description: The name of its class.
    type: str
    required: true
  parameters:
    description: Parameters of the flow, by name.
    type: dict
    default: {}
  run_options:
    description: More options of C(run), e.g. C(--with=batch) or C(--max-workers=4).
    type: list
    elements: str
    default: []
  unless_successful:
    description: Run only if no run of this flow's text has succeeded with this profile.
    type: bool
    default: false
  metaflow_profile:
    description: Metaflow's profile, as in C(METAFLOW_PROFILE). Without it, the default profile.
    type: str
  home:
    description: The directory of the configuration files, as in C(METAFLOW_HOME).
    type: path
    default: ~/.metaflowconfig
  metaflow_python:
    description:
      - The Python interpreter that Metaflow is installed for.
      - Without it, the interpreter that runs the module.
    type: path
  timeout:
    description: Longest time of the run, in seconds; then it is ended.
    type: int
    default: 600
attributes:
  check_mode:
    description: Says whether it would run the flow, and doesn't.
    support: full
  diff_mode:
    description: A run is nothing that differs.
    support: none
  idempotent:
    description: With O(unless_successful=true).
    support: partial
seealso:
  - module: mlops.metaflow.metaflow_config
  - module: mlops.metaflow.metaflow_verify
"""

EXAMPLES = r"""
- name: Prove the new configuration by a small flow, once
  mlops.metaflow.metaflow_flow_run:
    flow: /srv/flows/hello.py
    flow_name: HelloFlow
    metaflow_profile: prod
    unless_successful: true
"""

RETURN = r"""
run:
  description: The run as the client API shows it; C(null) in check mode where none has succeeded yet.
  returned: success
  type: dict
  sample:
    pathspec: HelloFlow/42
    finished_at: "2026-11-24 15:04:05"
    steps: {start: 1, work: 4, join: 1, end: 1}
    artifacts: [name, summary]
log:
  description: The end of what the run wrote.
  returned: when it ran
  type: list
  elements: str
  sample: ["Workflow finished!"]
"""

import getpass
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_probe import ProbeError, ask

#: How many lines of a run's output are shown; the last ones say what failed.
SHOWN_LINES = 40


def digest(path):
    """Return the tag that marks runs of this text of a flow."""
    return "source:" + hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def environment(home, profile):
    """Return the environment of the run: that of the task, with this profile as the only configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("METAFLOW_")}
    # Metaflow takes the user's name from USER and its like, which cron and containers don't set, and refuses "root".
    user = getpass.getuser()
    kept |= {"METAFLOW_HOME": home, "METAFLOW_USER": "ansible" if user == "root" else user}
    return kept | ({"METAFLOW_PROFILE": profile} if profile else {})


def command(params, python, tag):
    """Return the command that runs the flow."""
    parameters = [f"--{name}={value}" for name, value in params["parameters"].items()]
    return [python, params["flow"], "--no-pylint", "run", f"--tag={tag}", *params["run_options"], *parameters]


def run(module, python, tag):
    """Run the flow in a directory of its own (Metaflow leaves one there); return the end of its output."""
    params = module.params
    with tempfile.TemporaryDirectory() as directory:
        try:
            done = subprocess.run(  # noqa: S603 - running the flow that the person names is the module's purpose
                command(params, python, tag),
                cwd=directory,
                env=environment(params["home"], params["metaflow_profile"]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=params["timeout"],
                check=False,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            output = error.stdout or b""
            module.fail_json(
                msg=f"{params['flow_name']} did not end in {params['timeout']} s and was stopped; raise timeout.",
                log=output.decode(errors="replace").splitlines()[-SHOWN_LINES:],
            )
    log = done.stdout.splitlines()[-SHOWN_LINES:]
    if done.returncode != 0:
        reason = next((line.strip() for line in reversed(log) if line.strip()), "no output")
        module.fail_json(msg=f"{params['flow_name']} failed with exit status {done.returncode}: {reason}", log=log)
    return log


def main():
    module = AnsibleModule(
        argument_spec={
            "flow": {"type": "path", "required": True},
            "flow_name": {"required": True},
            "parameters": {"type": "dict", "default": {}},
            "run_options": {"type": "list", "elements": "str", "default": []},
            "unless_successful": {"type": "bool", "default": False},
            "metaflow_profile": {},
            "home": {"type": "path", "default": "~/.metaflowconfig"},
            "metaflow_python": {"type": "path"},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    python = params["metaflow_python"] or sys.executable
    tag = digest(params["flow"])

    def latest():
        try:
            return ask(
                module, python, "latest_run", params["home"], params["metaflow_profile"],
                flow=params["flow_name"], tags=[tag],
            )["run"]  # fmt: skip
        except ProbeError as error:
            module.fail_json(msg=f"The runs of {params['flow_name']} can't be read: {error}")

    if params["unless_successful"]:
        if module.check_mode and not Path(params["home"], f"config_{params['metaflow_profile']}.json").exists():
            module.exit_json(changed=True, run=None)
        before = latest()
        if before:
            module.exit_json(changed=False, run=before)
    if module.check_mode:
        module.exit_json(changed=True, run=None)
    log = run(module, python, tag)
    after = latest()
    if after is None:
        module.fail_json(msg=f"{params['flow_name']} ended well, but its run can't be read back.", log=log)
    module.exit_json(changed=True, run=after, log=log)


if __name__ == "__main__":
    main()
