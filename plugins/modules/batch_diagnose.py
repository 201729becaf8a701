#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# Batch says little of a job that stays RUNNABLE, and nothing where the cause lies in the network, a role, a quota or
# the registry. No module reads all of these and draws the conclusion.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: batch_diagnose
version_added: 0.1.0
short_description: Say why jobs of AWS Batch stay RUNNABLE, and end those that wait for ever
description:
  - Reads job queues, their compute environments and jobs, and what these depend on - instance types, subnets, routes,
    VPC endpoints, security groups, instance profiles, roles, images in ECR, quotas of vCPUs, failed launches - and says
    of each job why it has not started, with the mend.
  - Reads only, unless O(terminate=true).
  - Where the caller may not read something, the rest is read all the same, and RV(unchecked) says what was not.
  - Not looked at are network ACLs, DNS settings of the VPC, user data of launch templates, and jobs on EKS.
author:
  - The metaflow-ansible authors
options:
  queues:
    description: Names of the job queues.
    type: list
    elements: str
  tags:
    description: Look at the queues that carry all of these tags.
    type: dict
  job_ids:
    description: Look at these jobs only. By default at all that wait or lately failed to start.
    type: list
    elements: str
    default: []
  reserved_memory_percent:
    description: Percent of an instance's memory that the kernel keeps, and jobs can't use.
    type: float
    default: 5
  terminate:
    description:
      - Whether to end the RUNNABLE jobs that a lasting cause holds - one that does not pass by itself.
      - Jobs that wait for capacity, for vCPUs or behind another job are left alone.
    type: bool
    default: false
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Says which jobs it would end, and ends none.
    support: full
  diff_mode:
    description: Only jobs are ended, and RV(terminated) names them.
    support: none
seealso:
  - module: mlops.metaflow.batch_job_queue
  - module: mlops.metaflow.batch_compute_environment
"""

EXAMPLES = r"""
- name: Say why jobs wait
  mlops.metaflow.batch_diagnose:
    tags: {mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
  register: diagnosis

- name: End the jobs that fit on no instance
  mlops.metaflow.batch_diagnose:
    queues: [metaflow-prod]
    terminate: true
"""

RETURN = r"""
findings:
  description: What is wrong. First what holds jobs.
  returned: success
  type: list
  elements: dict
  contains:
    cause:
      description:
        - Of queues V(queue_disabled), V(queue_invalid), V(queue_empty).
        - Of compute environments V(environment_disabled), V(environment_invalid), V(instance_profile), V(no_route),
          V(no_egress), V(agent_disconnected), V(quota), V(no_spot_capacity), V(no_capacity), V(launch_failed).
        - Of jobs V(no_fitting_instance_type), V(max_vcpus_too_low), V(max_vcpus_reached), V(image_not_pullable),
          V(behind_a_stuck_job), V(misconfiguration), V(machine_starting), V(undetermined).
      type: str
      sample: no_fitting_instance_type
    resource: {type: str, sample: "job train (3f2a…)", description: What it is found on.}
    problem: {type: str, sample: "It asks for 1 vCPU, 500000 MiB …", description: What is wrong.}
    mend: {type: str, sample: "Ask for less …", description: What to do.}
    lasting: {type: bool, sample: true, description: Whether it stays until somebody acts.}
    jobs: {type: list, elements: str, sample: ["3f2a…"], description: Ids of the jobs that it holds.}
jobs:
  description: The jobs that wait, are starting, or failed to start within the last day; the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    job_id: {type: str, sample: 3f2a…, description: The job's id.}
    name: {type: str, sample: train, description: The job's name.}
    queue: {type: str, sample: metaflow-prod, description: Its queue.}
    status: {type: str, sample: RUNNABLE, description: Its status.}
    status_reason: {type: str, sample: "", description: What Batch says.}
    waited: {type: int, sample: 3600, description: Seconds since it was submitted.}
    causes: {type: list, elements: str, sample: [no_fitting_instance_type], description: What holds it.}
logs:
  description: Which logs to read.
  returned: success
  type: list
  elements: dict
  contains:
    what: {type: str, sample: "job train (3f2a…)", description: Whose log.}
    group: {type: str, sample: /aws/batch/job, description: Log group in CloudWatch; empty where it is elsewhere.}
    stream: {type: str, sample: metaflow_1a2b/default/0c3d…, description: "Log stream, or where else the log is."}
terminated:
  description: Ids of the jobs that were ended; in check mode of those that would be.
  returned: success
  type: list
  elements: str
  sample: ["3f2a…"]
unchecked:
  description: What could not be read, and why.
  returned: success
  type: list
  elements: str
  sample: ["quota L-1216C47A: User … is not authorized to perform: servicequotas:GetServiceQuota"]
"""

from contextlib import suppress
from dataclasses import asdict

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import diagnosis
from ansible_collections.mlops.metaflow.plugins.module_utils.diagnosis_evidence import Evidence
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import client_factory

#: Causes by which an instance never came, or never joined: its own log says more.
OF_INSTANCES = ("no_route", "no_egress", "agent_disconnected", "instance_profile", "undetermined")


def wanted(params):
    """Return the function that tells whether a described queue is looked at."""
    if params["tags"] is not None:
        return lambda queue: params["tags"].items() <= queue.get("tags", {}).items()
    return lambda queue: queue["jobQueueName"] in params["queues"]


def logs(findings, jobs):
    """Return which logs to read: those that jobs wrote, and those of instances that no job has reached."""
    found = [
        {"what": f"job {job.name} ({job.id})", "group": job.log_group, "stream": job.log_stream}
        for job in jobs
        if job.log_stream
    ]
    environments = {finding.resource for finding in findings if finding.cause in OF_INSTANCES}
    places = {
        "ECS agent": "/var/log/ecs/ecs-agent.log on an instance, by SSM or the EC2 serial console",
        "first boot": "EC2: get-console-output of an instance",
        "launches": "CloudTrail: events RunInstances and CreateFleet",
    }
    if environments:
        found += [{"what": what, "group": "", "stream": where} for what, where in places.items()]
    return found


def stuck(findings, jobs):
    """Return the ids of the RUNNABLE jobs that a lasting cause holds."""
    held = {job for finding in findings if finding.lasting for job in finding.jobs}
    return [job.id for job in jobs if job.status == "RUNNABLE" and job.id in held]


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "queues": {"type": "list", "elements": "str"},
            "tags": {"type": "dict"},
            "job_ids": {"type": "list", "elements": "str", "default": []},
            "reserved_memory_percent": {"type": "float", "default": 5},
            "terminate": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("queues", "tags")],
        required_one_of=[("queues", "tags")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        evidence = Evidence(client_factory(module), wanted(params), params["reserved_memory_percent"])
        there = {queue.name for queue in evidence.queues}
        missing = [name for name in params["queues"] or [] if name not in there]
        if missing or not there:
            which = f"'{missing[0]}'" if missing else f"with the tags {params['tags']}"
            module.fail_json(msg=f"There is no job queue {which} in {module.region}; converge it first: --tags batch.")
        queues, environments, jobs = evidence.read()
        findings = diagnosis.diagnose(queues, environments, jobs)
        chosen = [job for job in jobs if not params["job_ids"] or job.id in params["job_ids"]]
        to_end = stuck(findings, chosen) if params["terminate"] else []
        if not module.check_mode:
            for job_id in to_end:
                causes = ", ".join(finding.cause for finding in findings if job_id in finding.jobs)
                evidence.batch.terminate_job(jobId=job_id, reason=f"Ended by doctor: {causes}")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg="Failed to diagnose the job queues")

    module.exit_json(
        changed=bool(to_end),
        findings=[{**asdict(finding), "mend": finding.mend, "jobs": list(finding.jobs)} for finding in findings],
        jobs=[
            {
                "job_id": job.id,
                "name": job.name,
                "queue": job.queue,
                "status": job.status,
                "status_reason": job.status_reason,
                "waited": int(job.waited),
                "causes": [finding.cause for finding in findings if job.id in finding.jobs],
            }
            for job in chosen
        ],
        logs=logs(findings, chosen),
        terminated=to_end,
        unchecked=evidence.unchecked,
    )


if __name__ == "__main__":
    main()
