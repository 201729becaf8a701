#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# Replaces community.aws.batch_job_queue, which fails in check mode on an empty account ("Unable to get job queue
# information"), reads every failed call as "not there", deletes without DISABLE and so is refused by AWS, waits for
# nothing, compares environments by ARN only, and knows neither tags, scheduling policies nor time limits.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: batch_job_queue
version_added: 0.1.0
short_description: Manage AWS Batch job queues
description:
  - Creates, changes and deletes a job queue of AWS Batch, and waits until AWS has finished.
  - Before a queue gets a compute environment, the module waits until that is V(VALID), as AWS demands.
  - To delete, it disables first. A queue that still has jobs is left alone unless O(terminate_jobs=true).
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the queue, unique in account and region.
    type: str
    required: true
  priority:
    description:
      - Queues with a higher priority are served first where they share a compute environment.
      - Required when O(state=present).
    type: int
  job_queue_state:
    description: Whether the queue takes new jobs. Jobs that it has go on either way.
    type: str
    choices: [ENABLED, DISABLED]
    default: ENABLED
  compute_environments:
    description:
      - Names or ARNs of one to three compute environments, in the order in which they are tried.
      - EC2 and Fargate can't be mixed. Required when O(state=present).
    type: list
    elements: str
  scheduling_policy_arn:
    description:
      - ARN of the fair-share scheduling policy.
      - AWS can replace the policy of a queue, but neither take it away nor give one to a queue that was made without.
    type: str
  job_state_time_limit_actions:
    description:
      - What is done with a job that stands at the head of the queue for too long, for instance because it asks for
        more memory than any instance of the queue has. Such a job blocks those behind it, for ever by default.
      - An empty list removes what is there; left open, it stays as it is.
    type: list
    elements: dict
    suboptions:
      reason:
        description: Text that AWS Batch gives as the job's status reason.
        type: str
        required: true
      max_time_seconds:
        description: How long the job may stand there, from V(600) to V(86400) seconds.
        type: int
        required: true
      state:
        description: The job state that is limited.
        type: str
        choices: [RUNNABLE]
        default: RUNNABLE
      action:
        description: What is done with the job.
        type: str
        choices: [CANCEL]
        default: CANCEL
  terminate_jobs:
    description: Whether O(state=absent) may end the jobs that are queued or running.
    type: bool
    default: false
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure a queue that tries SPOT first and cancels jobs that fit nowhere
  mlops.metaflow.batch_job_queue:
    name: metaflow-default
    priority: 1
    compute_environments:
      - metaflow-spot
      - metaflow-on-demand
    job_state_time_limit_actions:
      - reason: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT
        max_time_seconds: 600
    tags:
      Component: batch

- name: Ensure the queue is gone, whatever runs in it
  mlops.metaflow.batch_job_queue:
    name: metaflow-default
    state: absent
    terminate_jobs: true
"""

RETURN = r"""
job_queue:
  description: The queue, as AWS describes it; in check mode, as it would be.
  returned: always
  type: dict
  contains:
    compute_environment_order:
      description: The compute environments, by ARN.
      type: list
      elements: dict
      sample:
        - order: 1
          compute_environment: arn:aws:batch:us-east-1:123456789012:compute-environment/metaflow-spot
    job_queue_arn:
      description: ARN of the queue.
      type: str
      sample: arn:aws:batch:us-east-1:123456789012:job-queue/metaflow-default
    job_queue_name: {type: str, sample: metaflow-default, description: Name of the queue.}
    job_state_time_limit_actions:
      description: What is done with jobs that wait for too long.
      type: list
      elements: dict
      sample:
        - action: CANCEL
          max_time_seconds: 600
          reason: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT
          state: RUNNABLE
    priority: {type: int, sample: 1, description: Priority of the queue.}
    scheduling_policy_arn:
      description: ARN of the scheduling policy.
      type: str
      sample: arn:aws:batch:us-east-1:123456789012:scheduling-policy/fair
    state: {type: str, sample: ENABLED, description: Whether the queue takes jobs.}
    status: {type: str, sample: VALID, description: What AWS says of the queue.}
    status_reason: {type: str, sample: JobQueue Healthy, description: Why AWS says so.}
    tags: {type: dict, sample: {"Component": "batch"}, description: The queue's tags.}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.batch import BatchResource
from ansible_collections.mlops.metaflow.plugins.module_utils.diff import api_form
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, Failed, options

LIVING_JOBS = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")


class JobQueue(BatchResource):
    """A job queue, keyed by its name."""

    kind = "Batch job queue"
    result_key = "job_queue"
    arn_key = "jobQueueArn"
    unordered = ("tags", "jobStateTimeLimitActions")

    def declare(self):
        declared = {
            "jobQueueName": self.name,
            "priority": self.params["priority"],
            "state": self.params["job_queue_state"],
            "computeEnvironmentOrder": self.compute_environment_order(),
            "schedulingPolicyArn": self.params["scheduling_policy_arn"],
            "jobStateTimeLimitActions": api_form(self.params["job_state_time_limit_actions"]),
            "tags": self.params["tags"],
        }
        return {key: value for key, value in declared.items() if value is not None}

    def compute_environment_order(self):
        """Return the declared environments as AWS shows them: by ARN."""
        arns = (
            name if name.startswith("arn:") else self.arn(f"compute-environment/{name}")
            for name in self.params["compute_environments"]
        )
        return [{"order": order, "computeEnvironment": arn} for order, arn in enumerate(arns, start=1)]

    def refine(self, desired, live):
        """Number the environments as AWS does: any rising numbers mean the same order."""
        if live and arns(live) == arns(desired):
            return {**desired, "computeEnvironmentOrder": live["computeEnvironmentOrder"]}
        return desired

    def refuse(self, live, desired, changes):
        if "schedulingPolicyArn" in changes and not live.get("schedulingPolicyArn"):
            raise Failed(
                "it was made without a scheduling policy, and AWS can't give it one. Drop scheduling_policy_arn, or "
                "make a queue of another name."
            )

    def read(self):
        return self.described(self.client.describe_job_queues(jobQueues=[self.name])["jobQueues"])

    def create(self, desired):
        self.await_environments(desired)
        self.client.create_job_queue(**desired)

    def update(self, live, desired, changes):
        self.at_rest()
        if "computeEnvironmentOrder" in changes:
            self.await_environments(desired)
        self.client.update_job_queue(jobQueue=self.name, **{key: desired[key] for key in changes})

    def await_environments(self, desired):
        """Wait until all environments of the queue are VALID: AWS takes no others."""
        wanted = arns(desired)

        def valid():
            found = self.client.describe_compute_environments(computeEnvironments=wanted)["computeEnvironments"]
            missing = set(wanted) - {environment["computeEnvironmentArn"] for environment in found}
            if missing:
                raise Failed(f"there is no compute environment {', '.join(sorted(missing))}. Create it first.")
            for environment in found:
                if environment["status"] == "INVALID":
                    reason = environment.get("statusReason")
                    raise Failed(f"compute environment {environment['computeEnvironmentName']} is INVALID: {reason}")
            return all(environment["status"] == "VALID" for environment in found)

        self.wait_for("given its compute environments, which must be VALID", valid)

    def set_state(self, state):
        self.client.update_job_queue(jobQueue=self.name, state=state)

    def delete(self, live):
        self.jobs_to_end()
        self.disable(live)
        for job in self.jobs_to_end():
            self.client.terminate_job(jobId=job, reason=f"job queue {self.name} is being deleted")
        self.wait_for("free of jobs", lambda: not self.living_jobs())
        self.client.delete_job_queue(jobQueue=self.name)

    def jobs_to_end(self):
        """Return the jobs that have not ended, or refuse where the person did not say that they may be terminated."""
        jobs = self.living_jobs()
        if jobs and not self.params["terminate_jobs"]:
            raise Failed(f"it has {len(jobs)} queued or running job(s). Let them end, or set terminate_jobs: true.")
        return jobs

    def living_jobs(self):
        """Return the ids of the jobs that have not ended."""
        pages = self.client.get_paginator("list_jobs")
        return [
            job["jobId"]
            for status in LIVING_JOBS
            for page in pages.paginate(jobQueue=self.name, jobStatus=status)
            for job in page["jobSummaryList"]
        ]

    def predict(self, desired):
        return {"jobQueueArn": self.arn(f"job-queue/{self.name}"), "status": "VALID"}


def arns(queue):
    """Return the ARNs of a queue's compute environments in their order."""
    order = sorted(queue["computeEnvironmentOrder"], key=lambda item: item["order"])
    return [item["computeEnvironment"] for item in order]


def main():
    time_limit = {
        "reason": {"required": True},
        "max_time_seconds": {"type": "int", "required": True},
        "state": {"choices": ["RUNNABLE"], "default": "RUNNABLE"},
        "action": {"choices": ["CANCEL"], "default": "CANCEL"},
    }
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            priority={"type": "int"},
            job_queue_state={"choices": ["ENABLED", "DISABLED"], "default": "ENABLED"},
            compute_environments={"type": "list", "elements": "str"},
            scheduling_policy_arn={},
            job_state_time_limit_actions={"type": "list", "elements": "dict", "options": time_limit},
            terminate_jobs={"type": "bool", "default": False},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["priority", "compute_environments"])],
        supports_check_mode=True,
    )
    JobQueue(module).run()


if __name__ == "__main__":
    main()
