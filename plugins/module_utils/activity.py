# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a stack does: jobs in its queues, executions of its flows and chains, alarms, and where all that is shown.

Inputs, outputs and causes of executions are left out: they may hold what nobody else shall see.
"""

from __future__ import annotations

from functools import partial

from ansible_collections.mlops.metaflow.plugins.module_utils import discovery, flow_deployment
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import absent_when, tag_map
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import concurrently

JOB_STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")

#: Jobs of one state that are counted; Batch forgets those that ended after a week or more.
MOST_JOBS = 1000

#: Executions of a flow that are shown.
EXECUTIONS = 5

#: Characters of the reason that an alarm is shown with.
LONGEST_REASON = 160


def queues(scope):
    """Return the stack's job queues, each with its number of jobs by state."""
    batch = scope.client("batch")
    pages = batch.get_paginator("describe_job_queues").paginate()
    ours = [queue for page in pages for queue in page["jobQueues"] if scope.owns(queue.get("tags", {}))]
    names = [queue["jobQueueName"] for queue in ours]
    counts = concurrently(
        {(name, state): partial(_count, batch, name, state) for name in names for state in JOB_STATES}
    )
    return [
        {
            "name": queue["jobQueueName"],
            "state": queue["state"],
            "status": queue["status"],
            "jobs": {state: counts[queue["jobQueueName"], state] for state in JOB_STATES},
        }
        for queue in sorted(ours, key=lambda queue: queue["jobQueueName"])
    ]


def _count(batch, queue, state):
    """Return how many jobs of a queue are in a state, at most MOST_JOBS."""
    pages = batch.get_paginator("list_jobs").paginate(
        jobQueue=queue, jobStatus=state, PaginationConfig={"MaxItems": MOST_JOBS}
    )
    return sum(len(page["jobSummaryList"]) for page in pages)


def flows(scope, prefix):
    """Return the state machines of the stack (flows and chains), each with its schedule and last executions.

    Those that failed last come first, then those that run, those that have run, and those that never did.
    """
    states = scope.client("stepfunctions")
    scope.client("events")  # made here once, and not by each thread
    pages = states.get_paginator("list_state_machines").paginate()
    listed = [
        item
        for page in pages
        for item in page["stateMachines"]
        if item["name"].startswith((f"{prefix}_", f"{prefix}-"))
    ]
    found = concurrently({item["name"]: partial(_flow, scope, item, prefix) for item in listed})
    return sorted(filter(None, found.values()), key=lambda flow: (_urgency(flow), flow["name"]))


def _urgency(flow):
    if not flow["executions"]:
        return 3
    return {"FAILED": 0, "TIMED_OUT": 0, "RUNNING": 1}.get(flow["executions"][0]["status"], 2)


def _flow(scope, machine, prefix):
    """Return what is shown of a state machine; None where it is another stack's, or being deleted."""
    states, arn = scope.client("stepfunctions"), machine["stateMachineArn"]
    with absent_when("StateMachineDoesNotExist"):
        tags = tag_map(states.list_tags_for_resource(resourceArn=arn)["tags"])
        if any(tags.get(key, value) != value for key, value in scope.tags.items()):
            return None
        answer = states.list_executions(stateMachineArn=arn, maxResults=EXECUTIONS)
        return {
            "name": machine["name"][len(prefix) + 1 :],
            "state_machine": machine["name"],
            "arn": arn,
            "kind": "chain" if tags.get(discovery.TAG_COMPONENT) == "chains" else "flow",
            "schedule": _schedule(scope, machine["name"]),
            "executions": [_execution(one) for one in answer["executions"]],
        }
    return None


def _execution(one):
    stopped = one.get("stopDate")
    return {
        "name": one["name"],
        "arn": one["executionArn"],
        "status": one["status"],
        "started": one["startDate"].isoformat(),
        "stopped": stopped.isoformat() if stopped else "",
        "seconds": int((stopped - one["startDate"]).total_seconds()) if stopped else None,
    }


def _schedule(scope, name):
    """Return the expression of the rule that starts a state machine; "" where none does."""
    with absent_when("ResourceNotFoundException"):
        rule = scope.client("events").describe_rule(Name=flow_deployment.rule_name(name))
        disabled = " (disabled)" if rule["State"] == "DISABLED" else ""
        return f"{rule['ScheduleExpression']}{disabled}" if rule.get("ScheduleExpression") else ""
    return ""


def alarms(scope, prefix):
    """Return CloudWatch's alarms whose names begin with the stack's prefix; those that ring first."""
    pages = (
        scope.client("cloudwatch")
        .get_paginator("describe_alarms")
        .paginate(AlarmNamePrefix=prefix, AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    )
    found = [one for page in pages for key in ("MetricAlarms", "CompositeAlarms") for one in page.get(key, [])]
    order = ("ALARM", "INSUFFICIENT_DATA", "OK")
    return [
        {
            "name": one["AlarmName"],
            "state": one["StateValue"],
            "description": one.get("AlarmDescription", ""),
            "reason": one.get("StateReason", "")[:LONGEST_REASON],
            "since": one["StateUpdatedTimestamp"].isoformat(),
        }
        for one in sorted(found, key=lambda one: (order.index(one["StateValue"]), one["AlarmName"]))
        if one["AlarmName"][len(prefix) : len(prefix) + 1] in ("", "-", "_", "/", ".", ":", " ")
    ]
