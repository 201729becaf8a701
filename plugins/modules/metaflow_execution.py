#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# `python flow.py step-functions trigger` needs the flow's file and its environment, and doesn't wait.
# community.aws.stepfunctions_state_machine_execution says neither what failed nor where its log is.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: metaflow_execution
version_added: 0.1.0
short_description: Start an execution of a deployed flow, or look at one
description:
  - Starts the state machine of a deployed flow with values of its parameters, as C(step-functions trigger) does.
  - Or starts another state machine, a chain of flows, with the parameters as its input.
  - Or says how an execution stands. Of one that failed it says which jobs failed and why, with the end of their logs.
    Of a chain these are the jobs of the flows that it started.
author:
  - The metaflow-ansible authors
options:
  flow:
    description: Start this flow, named as for M(mlops.metaflow.metaflow_flow), or by its state machine's name.
    type: str
  prefix:
    description: How the names of the stack's state machines begin. Needed with O(flow).
    type: str
  tags:
    description: The tags of the stack's flows, as for M(mlops.metaflow.metaflow_flow). Needed with O(flow).
    type: dict
  state_machine_arn:
    description: Start this state machine.
    type: str
  parameters:
    description: Values of the parameters of the flow or the chain; the others have their defaults.
    type: dict
    default: {}
  execution_arn:
    description: Look at this execution.
    type: str
  wait:
    description: Whether to wait until it has ended.
    type: bool
    default: false
  wait_timeout:
    description: Longest time to wait, in seconds. The execution goes on after it.
    type: int
    default: 3600
  metaflow_profile:
    description: Metaflow's profile, whose C(METAFLOW_UI_URL) the address of the run is made of.
    type: str
  home:
    description: The directory of the configuration files, as in C(METAFLOW_HOME).
    type: path
    default: ~/.metaflowconfig
  log_lines:
    description: How many lines of a failed job's log are returned.
    type: int
    default: 40
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Starts nothing.
    support: full
  diff_mode:
    description: An execution is nothing that differs.
    support: none
  idempotent:
    description: Every call with O(flow) or O(state_machine_arn) starts an execution.
    support: none
seealso:
  - module: mlops.metaflow.metaflow_flow
"""

EXAMPLES = r"""
- name: Start the flow
  mlops.metaflow.metaflow_execution:
    flow: download
    prefix: metaflow-prod
    tags: {mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod, mlops.metaflow/component: flows}
    parameters: {limit: 10}
  register: started

- name: Start a chain
  mlops.metaflow.metaflow_execution:
    state_machine_arn: arn:aws:states:eu-west-1:123456789012:stateMachine:metaflow-prod-chain-nightly

- name: Await its end
  mlops.metaflow.metaflow_execution:
    execution_arn: "{{ started.execution.execution_arn }}"
    wait: true
"""

RETURN = r"""
execution:
  description: The execution; empty in check mode where it would be started.
  returned: success
  type: dict
  contains:
    execution_arn:
      description: Its ARN.
      type: str
      sample: arn:aws:states:eu-west-1:123456789012:execution:metaflow-prod_DownloadFlow:0b1f3c1e
    status: {type: str, sample: FAILED, description: "RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED."}
    pathspec:
      description: The run in Metaflow's client API; of a chain, the names of its state machine and of the execution.
      type: str
      sample: DownloadFlow/sfn-0b1f3c1e
    url: {type: str, sample: "https://…", description: "Its page in Metaflow's UI, or in AWS's console."}
    error: {type: str, sample: States.TaskFailed, description: The execution's error; empty if there is none.}
    started: {type: str, sample: "2026-11-24T15:04:05+00:00", description: When it started.}
    stopped: {type: str, sample: "2026-11-24T15:14:05+00:00", description: When it ended; empty while it runs.}
    failures:
      description: The jobs that failed for good.
      type: list
      elements: dict
      contains:
        step: {type: str, sample: train, description: "The state; in a chain with that of the flow, TrainFlow/train."}
        job_id: {type: str, sample: 3f2a…, description: The Batch job.}
        reason: {type: str, sample: "Task failed, exit status 1", description: "Batch's reason, with the exit status."}
        log: {type: list, elements: str, sample: ["ValueError: no data"], description: The end of the job's log.}
"""

import json
import time
import uuid
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import metaflow_config
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import absent_when, client_factory
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_deployment import (
    TAG_FLOW,
    TAG_PARAMETERS,
    execution_input,
    flow_name,
    is_marked,
    unknown_parameters,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_parameters import texts, value_problems
from ansible_collections.mlops.metaflow.plugins.module_utils.job_failure import failed_jobs
from ansible_collections.mlops.metaflow.plugins.module_utils.live_flows import Account
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import patient_client

#: Where Batch sends the log of a job whose definition says nothing else; Metaflow's never do by themselves.
LOG_GROUP = "/aws/batch/job"

#: Seconds between two looks at an execution.
LONGEST_PAUSE = 15


class Execution:
    """Executions of one account, as the module reaches it."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.states = patient_client(module, "stepfunctions")

    def start_flow(self, flow):
        """Start a deployed flow; return the execution's ARN."""
        machines = Account(client_factory(self.module)).machines(self.params["prefix"] + "_").values()
        ours = {machine.tags[TAG_FLOW]: machine for machine in machines if is_marked(machine.tags, self.params["tags"])}
        machine = ours.get(flow) or next((machine for machine in machines if machine.name == flow), None)
        if machine is None:
            there = ", ".join(sorted(ours)) or "none"
            self.module.fail_json(
                msg=f"The flow '{flow}' is not deployed in {self.module.region}; deployed are: {there}."
            )
        unknown = unknown_parameters(self.params["parameters"], machine.tags)
        if unknown:
            has = machine.tags[TAG_PARAMETERS] or "none"
            self.module.fail_json(msg=f"The flow '{flow}' has no parameter {', '.join(unknown)}; it has: {has}.")
        return self.start(machine.arn, execution_input(self.params["parameters"]))

    def start(self, machine_arn, given):
        """Start a state machine with an input; return the execution's ARN."""
        if self.module.check_mode:
            self.module.exit_json(changed=True, execution={})
        # A name of our own makes the call repeatable: asked twice, AWS starts it once.
        answer = self.states.start_execution(stateMachineArn=machine_arn, name=str(uuid.uuid4()), input=given)
        return answer["executionArn"]

    def wait(self, arn):
        """Wait until the execution has ended; fail at the limit."""
        started, pause = time.monotonic(), 1.0
        while self.states.describe_execution(executionArn=arn)["status"] == "RUNNING":
            elapsed = time.monotonic() - started
            if elapsed > self.params["wait_timeout"]:
                shown = self.describe(arn)
                self.module.fail_json(
                    execution=shown,
                    msg=f"Waited {elapsed:.0f} s for {shown['pathspec']} to end. It goes on: {shown['url']}",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def describe(self, arn):
        """Return the execution as the module shows it."""
        live = self.states.describe_execution(executionArn=arn)
        machine = self.states.describe_state_machine(stateMachineArn=live["stateMachineArn"])
        flow = flow_name(json.loads(machine["definition"]))
        name = live["stateMachineArn"].rpartition(":")[2]
        run = f"sfn-{live['name']}"
        failed = live["status"] not in ("RUNNING", "SUCCEEDED")
        return {
            "execution_arn": arn,
            "status": live["status"],
            "pathspec": f"{flow}/{run}" if flow else f"{name}/{live['name']}",
            "url": self.url(flow, run, arn),
            "error": live.get("error", ""),
            "started": live["startDate"].isoformat(),
            "stopped": live["stopDate"].isoformat() if "stopDate" in live else "",
            "failures": self.failures(arn) if failed else [],
        }

    def url(self, flow, run, arn):
        """Return the address of the run's page."""
        path = Path(metaflow_config.path_of(self.params["home"], self.params["metaflow_profile"]))
        config = metaflow_config.parse(path.read_bytes(), path) if path.exists() else {}
        if flow and config.get("METAFLOW_UI_URL"):
            return f"{config['METAFLOW_UI_URL'].rstrip('/')}/{flow}/{run}"
        region = self.module.region
        return f"https://{region}.console.aws.amazon.com/states/home?region={region}#/v2/executions/details/{arn}"

    def failures(self, arn):
        """Return the jobs that made an execution fail, with the end of their logs."""
        pages = self.states.get_paginator("get_execution_history").paginate(executionArn=arn)
        found = []
        for job in failed_jobs([event for page in pages for event in page["events"]]):
            inner = self.failures(job.execution_arn) if job.execution_arn else []
            found += [{**failure, "step": f"{job.step}/{failure['step']}"} for failure in inner] or [
                {"step": job.step, "job_id": job.job_id, "reason": job.reason, "log": self.log(job.log_stream)}
            ]
        return found

    def log(self, stream):
        """Return the end of a job's log; nothing where the job didn't come to write one."""
        if not stream or not self.params["log_lines"]:
            return []
        with absent_when("ResourceNotFoundException"):
            answer = patient_client(self.module, "logs").get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, limit=self.params["log_lines"], startFromHead=False
            )
            return [event["message"] for event in answer["events"]]
        return []


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "flow": {},
            "prefix": {},
            "tags": {"type": "dict"},
            "state_machine_arn": {},
            "parameters": {"type": "dict", "default": {}},
            "execution_arn": {},
            "wait": {"type": "bool", "default": False},
            "wait_timeout": {"type": "int", "default": 3600},
            "metaflow_profile": {},
            "home": {"type": "path", "default": "~/.metaflowconfig"},
            "log_lines": {"type": "int", "default": 40},
        },
        mutually_exclusive=[("flow", "state_machine_arn", "execution_arn")],
        required_one_of=[("flow", "state_machine_arn", "execution_arn")],
        required_by={"flow": ("prefix", "tags")},
        supports_check_mode=True,
    )
    problems = list(value_problems(module.params["parameters"]))
    if problems:
        module.fail_json(msg=f"Nothing was started: {'; '.join(problems)}.")
    arn, starts = module.params["execution_arn"], not module.params["execution_arn"]
    try:
        execution = Execution(module)
        if module.params["flow"]:
            arn = execution.start_flow(module.params["flow"])
        elif starts:
            arn = execution.start(module.params["state_machine_arn"], json.dumps(texts(module.params["parameters"])))
        if module.params["wait"]:
            execution.wait(arn)
        module.exit_json(changed=starts, execution=execution.describe(arn))
    except metaflow_config.ConfigError as error:
        module.fail_json(msg=str(error))
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg=f"Failed to {'start' if starts else 'read'} the execution")


if __name__ == "__main__":
    main()
