#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# No collection submits a job: community.aws has modules of Batch's environments, queues and definitions only.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: batch_job
version_added: 0.1.0
short_description: Submit a job to AWS Batch, await its end, and read its log
description:
  - Submits a job of a definition that is there, or of an image, and waits until it has ended.
  - Fails when the job fails, with exit code, reason and the end of its log.
  - With O(image) the job gets a definition of its name. One that is there and equal is used again.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the job, and with O(image) of its definition.
    type: str
    required: true
  queue:
    description: Name of the job queue.
    type: str
    required: true
  definition:
    description: Name (the latest active revision), name and revision (C(train:3)), or ARN of a job definition.
    type: str
  image:
    description: Image of the container, where there is no definition. O(vcpus) and O(memory) are required then.
    type: str
  job_role:
    description: With O(image), ARN of the role as which the job acts.
    type: str
  execution_role:
    description: With O(image), ARN of the role that pulls the image and writes the log. Fargate needs it.
    type: str
  command:
    description: Command and arguments. By default those of the definition, or the image's own.
    type: list
    elements: str
  environment:
    description:
      - Environment variables, added to those of the definition.
      - Not the place for secrets, since Batch shows them to everybody who may see the job.
    type: dict
    default: {}
  vcpus:
    description: How many vCPUs. By default as the definition says.
    type: float
  memory:
    description: MiB of memory. By default as the definition says.
    type: int
  gpus:
    description: How many GPUs.
    type: int
  timeout:
    description: Longest time of an attempt in seconds, from 60; then Batch ends it. By default as the definition says.
    type: int
  attempts:
    description: How often the job is tried, from 1 to 10. By default as the definition says.
    type: int
  tags:
    description: Tags of the job, and with O(image) of its definition.
    type: dict
    default: {}
  wait:
    description: Whether to wait until the job has ended.
    type: bool
    default: true
  wait_timeout:
    description: Longest time to wait, in seconds. The job goes on after it.
    type: int
    default: 3600
  log_lines:
    description: How many lines of the end of the log are returned.
    type: int
    default: 100
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Checks queue and definition, and submits nothing.
    support: full
  diff_mode:
    description: A job is nothing that differs.
    support: none
  idempotent:
    description: Every call submits a job.
    support: none
seealso:
  - module: mlops.metaflow.batch_diagnose
"""

EXAMPLES = r"""
- name: Run the nightly clean-up
  mlops.metaflow.batch_job:
    name: clean-up
    queue: metaflow-prod
    definition: clean-up
    environment: {KEEP_DAYS: "30"}

- name: See what Python the image has
  mlops.metaflow.batch_job:
    name: which-python
    queue: metaflow-prod-spot
    image: python:3.12-slim
    command: [python, --version]
    vcpus: 1
    memory: 512
    timeout: 300
"""

RETURN = r"""
job:
  description: The job; empty in check mode. Also there when it failed.
  returned: always
  type: dict
  contains:
    job_id: {type: str, sample: 3f2a…, description: Its id.}
    name: {type: str, sample: clean-up, description: Its name.}
    queue: {type: str, sample: metaflow-prod, description: Its queue.}
    definition: {type: str, sample: "arn:aws:batch:…:job-definition/clean-up:3", description: ARN of its definition.}
    status: {type: str, sample: SUCCEEDED, description: Its status.}
    status_reason: {type: str, sample: Essential container in task exited, description: What Batch says of it.}
    reason: {type: str, sample: "CannotPullContainerError: …", description: What ECS says of the container.}
    exit_code: {type: int, sample: 0, description: "Exit code of the last attempt; C(null) where there is none."}
    attempts: {type: int, sample: 1, description: How often it was tried.}
    seconds: {type: int, sample: 42, description: How long the last attempt ran.}
    log_group: {type: str, sample: /aws/batch/job, description: Log group in CloudWatch.}
    log_stream: {type: str, sample: clean-up/default/0c3d…, description: Log stream of the last attempt.}
log:
  description: The end of its log.
  returned: always
  type: list
  elements: str
  sample: ["removed 17 runs"]
"""

import re
import time
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import absent_when
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import patient_client

#: Where Batch writes the output of jobs whose definition names no other group.
LOG_GROUP = "/aws/batch/job"

ENDED = ("SUCCEEDED", "FAILED")

#: Batch's rule for names of jobs and definitions.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

#: Seconds between two looks at the job.
LONGEST_PAUSE = 10

#: Lines of the log that stand in the message of a failure.
LINES_IN_MESSAGE = 5


class BadInput(Exception):
    """What the person asked for can't be; the text says what is allowed."""


def check(params):
    """Raise :class:`BadInput` where an option has a value that Batch refuses."""
    rules = {
        "name": (NAME.fullmatch(params["name"]), "1 to 128 letters, digits, hyphens and underscores"),
        "vcpus": (params["vcpus"] is None or params["vcpus"] > 0, "more than 0"),
        "memory": (params["memory"] is None or params["memory"] >= 4, "4 MiB or more"),
        "gpus": (params["gpus"] is None or params["gpus"] >= 1, "1 or more"),
        "timeout": (params["timeout"] is None or params["timeout"] >= 60, "60 seconds or more"),
        "attempts": (params["attempts"] is None or 1 <= params["attempts"] <= 10, "1 to 10"),
        "wait_timeout": (params["wait_timeout"] > 0, "more than 0 seconds"),
        "log_lines": (0 <= params["log_lines"] <= 10_000, "0 to 10000"),
    }
    for option, (holds, allowed) in rules.items():
        if not holds:
            raise BadInput(f"{option} {params[option]!r} is not allowed: it must be {allowed}.")


def requirements(params):
    """Return Batch's ``resourceRequirements`` of what the person asked for."""
    vcpus = None if params["vcpus"] is None else f"{params['vcpus']:g}"
    asked = {"VCPU": vcpus, "MEMORY": params["memory"], "GPU": params["gpus"]}
    return [{"type": kind, "value": str(value)} for kind, value in asked.items() if value is not None]


def overrides(params):
    """Return Batch's ``containerOverrides``: what differs from the definition."""
    found = {"environment": [{"name": name, "value": str(value)} for name, value in params["environment"].items()]}
    if params["command"]:
        found["command"] = params["command"]
    # The definition of an image has the sizes already.
    if requirements(params) and not params["image"]:
        found["resourceRequirements"] = requirements(params)
    return {key: value for key, value in found.items() if value}


def declared(params, on_fargate):
    """Return the definition of an image, as RegisterJobDefinition takes it."""
    container = {"image": params["image"], "resourceRequirements": requirements(params)}
    for key, option in (("jobRoleArn", "job_role"), ("executionRoleArn", "execution_role")):
        if params[option]:
            container[key] = params[option]
    if on_fargate:
        # In a public subnet there is no other way to the registry; in a private one it does no harm.
        container["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
    return {
        "jobDefinitionName": params["name"],
        "type": "container",
        "platformCapabilities": ["FARGATE" if on_fargate else "EC2"],
        "containerProperties": container,
    }


def is_same(declared, live):
    """Tell whether a live definition says what is declared."""
    container, ours = live.get("containerProperties", {}), declared["containerProperties"]
    kept = ("image", "jobRoleArn", "executionRoleArn", "networkConfiguration")
    return (
        _sizes(ours) == _sizes(container)
        and all((ours.get(key) or None) == (container.get(key) or None) for key in kept)
        and not container.get("command")
        and not container.get("environment")
        and (live.get("platformCapabilities") or ["EC2"]) == declared["platformCapabilities"]
    )


def _sizes(container):
    return {one["type"]: float(one["value"]) for one in container.get("resourceRequirements", [])}


class Submission:
    """One job on its way from the options to its end."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.batch = patient_client(module, "batch")

    def run(self):
        """Submit the job, wait for its end, and end the module."""
        check(self.params)
        queue = self.queue()
        definition = self.image_definition(queue) if self.params["image"] else self.definition()
        if self.module.check_mode:
            self.module.exit_json(changed=True, job={}, log=[])
        if definition is None:
            definition = self.register(queue)
        job_id = self.submit(definition)
        if self.params["wait"]:
            self.wait(job_id)
        shown, log = self.shown(job_id)
        if shown["status"] == "FAILED":
            self.module.fail_json(msg=failure(shown, log), changed=True, job=shown, log=log)
        self.module.exit_json(changed=True, job=shown, log=log)

    def queue(self):
        """Return the described queue; it must be there and take jobs."""
        name = self.params["queue"]
        found = self.batch.describe_job_queues(jobQueues=[name])["jobQueues"]
        if not found:
            pages = self.batch.get_paginator("describe_job_queues").paginate()
            there = sorted(queue["jobQueueName"] for page in pages for queue in page["jobQueues"])
            raise BadInput(f"There is no job queue '{name}' in {self.module.region}; there are {_listed(there)}.")
        if found[0]["state"] != "ENABLED":
            raise BadInput(f"The job queue '{name}' is DISABLED, and takes no jobs. --tags batch enables the stack's.")
        return found[0]

    def on_fargate(self, queue):
        """Tell whether the queue's environments are of Fargate; a queue never mixes them."""
        arns = [entry["computeEnvironment"] for entry in queue["computeEnvironmentOrder"]]
        found = self.batch.describe_compute_environments(computeEnvironments=arns)["computeEnvironments"]
        return any("FARGATE" in item.get("computeResources", {}).get("type", "") for item in found)

    def definition(self):
        """Return the ARN of the definition asked for: its latest active revision where none is given."""
        name = self.params["definition"]
        if name.startswith("arn:"):
            found = self.batch.describe_job_definitions(jobDefinitions=[name])["jobDefinitions"]
        else:
            base, _, revision = name.partition(":")
            found = [item for item in self.revisions(base) if not revision or str(item["revision"]) == revision]
        if not found:
            pages = self.batch.get_paginator("describe_job_definitions").paginate(status="ACTIVE")
            there = sorted({item["jobDefinitionName"] for page in pages for item in page["jobDefinitions"]})
            raise BadInput(
                f"There is no active job definition '{name}' in {self.module.region}; there are {_listed(there)}."
            )
        return found[0]["jobDefinitionArn"]

    def revisions(self, name):
        """Return the active revisions of a definition, the latest first."""
        pages = self.batch.get_paginator("describe_job_definitions").paginate(jobDefinitionName=name, status="ACTIVE")
        found = [item for page in pages for item in page["jobDefinitions"]]
        return sorted(found, key=lambda item: -item["revision"])

    def image_definition(self, queue):
        """Return the ARN of the definition of the job's name if it is as declared, or None."""
        if self.on_fargate(queue) and not self.params["execution_role"]:
            raise BadInput(f"The job queue '{self.params['queue']}' is of Fargate: give execution_role.")
        wanted = declared(self.params, self.on_fargate(queue))
        latest = next(iter(self.revisions(self.params["name"])), None)
        return latest["jobDefinitionArn"] if latest and is_same(wanted, latest) else None

    def register(self, queue):
        """Register the definition of the image; return its ARN."""
        wanted = declared(self.params, self.on_fargate(queue))
        return self.batch.register_job_definition(**wanted, tags=self.params["tags"])["jobDefinitionArn"]

    def submit(self, definition):
        """Submit the job; return its id."""
        asked = {
            "jobName": self.params["name"],
            "jobQueue": self.params["queue"],
            "jobDefinition": definition,
            "containerOverrides": overrides(self.params),
            "tags": self.params["tags"],
        }
        if self.params["timeout"]:
            asked["timeout"] = {"attemptDurationSeconds": self.params["timeout"]}
        if self.params["attempts"]:
            asked["retryStrategy"] = {"attempts": self.params["attempts"]}
        return self.batch.submit_job(**asked)["jobId"]

    def described(self, job_id):
        return self.batch.describe_jobs(jobs=[job_id])["jobs"][0]

    def wait(self, job_id):
        """Wait until the job has ended; fail at the limit, and say what it waits for."""
        started, pause = time.monotonic(), 0.5
        while (job := self.described(job_id))["status"] not in ENDED:
            elapsed = time.monotonic() - started
            if elapsed > self.params["wait_timeout"]:
                shown, log = self.shown(job_id)
                why = f": {job['statusReason']}" if job.get("statusReason") else ""
                hint = " playbooks/doctor.yml says why." if job["status"] == "RUNNABLE" else ""
                self.module.fail_json(
                    msg=f"Waited {elapsed:.0f} s for the job {job['jobName']} ({job_id}) to end, and it is "
                    f"{job['status']}{why}. It goes on; `aws batch terminate-job` ends it.{hint}",
                    changed=True,
                    job=shown,
                    log=log,
                )
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def shown(self, job_id):
        """Return the job as the module shows it, and the end of its log."""
        job = self.described(job_id)
        container = job.get("container", {})
        options = container.get("logConfiguration", {}).get("options", {})
        shown = {
            "job_id": job_id,
            "name": job["jobName"],
            "queue": self.params["queue"],
            "definition": job["jobDefinition"],
            "status": job["status"],
            "status_reason": job.get("statusReason", ""),
            "reason": container.get("reason", ""),
            "exit_code": container.get("exitCode"),
            "attempts": len(job.get("attempts", [])),
            "seconds": int((job.get("stoppedAt", 0) - job.get("startedAt", 0)) / 1000) if job.get("startedAt") else 0,
            "log_group": options.get("awslogs-group", LOG_GROUP),
            "log_stream": container.get("logStreamName", ""),
        }
        return shown, self.log(shown["log_group"], shown["log_stream"])

    def log(self, group, stream):
        """Return the end of a log; nothing where the job didn't come to write one."""
        if not stream or not self.params["log_lines"]:
            return []
        with absent_when("ResourceNotFoundException"):
            answer = patient_client(self.module, "logs").get_log_events(
                logGroupName=group, logStreamName=stream, limit=self.params["log_lines"], startFromHead=False
            )
            return [event["message"] for event in answer["events"]]
        return []


def failure(job, log):
    """Return the sentence that says why a job failed, with the last lines of its log."""
    code = "" if job["exit_code"] is None else f" with exit code {job['exit_code']}"
    reasons = ". ".join(filter(None, (job["status_reason"], job["reason"]))) or "Batch gives no reason"
    tail = "".join(f"\n  {line}" for line in log[-LINES_IN_MESSAGE:])
    ends = f"\nThe end of its log ({job['log_group']}, {job['log_stream']}):{tail}" if log else " It wrote no log."
    attempts = f" after {job['attempts']} attempts" if job["attempts"] > 1 else ""
    return f"The job {job['name']} ({job['job_id']}) failed{attempts}{code}: {reasons}.{ends}"


def _listed(names):
    return ", ".join(names) or "none"


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "queue": {"required": True},
            "definition": {},
            "image": {},
            "job_role": {},
            "execution_role": {},
            "command": {"type": "list", "elements": "str"},
            "environment": {"type": "dict", "default": {}},
            "vcpus": {"type": "float"},
            "memory": {"type": "int"},
            "gpus": {"type": "int"},
            "timeout": {"type": "int"},
            "attempts": {"type": "int"},
            "tags": {"type": "dict", "default": {}},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 3600},
            "log_lines": {"type": "int", "default": 100},
        },
        mutually_exclusive=[("definition", "image")],
        required_one_of=[("definition", "image")],
        required_by={"image": ("vcpus", "memory")},
        supports_check_mode=True,
    )
    try:
        Submission(module).run()
    except BadInput as error:
        module.fail_json(msg=str(error), job={}, log=[])
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg=f"Failed to run the job '{module.params['name']}'")


if __name__ == "__main__":
    main()
