# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads from the history of an execution which jobs, and which executions that it started, failed."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class FailedJob:
    """A Batch job that ended a state: the state's name, the job, why, and the stream of its last attempt's log.

    Or an execution that did, started by ``startExecution.sync``, whose own history says which jobs failed.
    """

    step: str
    job_id: str
    reason: str
    log_stream: str
    execution_arn: str = ""


def failed_jobs(events):
    """Return the :class:`FailedJob` of each task that failed.

    A task's failure carries the job, or the execution, as JSON in its cause (Step Functions, ``batch:submitJob.sync``
    and ``states:startExecution.sync``); one that AWS couldn't even submit has a sentence there.
    """
    by_id = {event["id"]: event for event in events}
    found = []
    for event in events:
        kind = event["type"]
        if kind not in ("TaskFailed", "TaskTimedOut", "TaskSubmitFailed", "TaskStartFailed"):
            continue
        details = event.get(f"{kind[0].lower()}{kind[1:]}EventDetails", {})
        job = _job(details.get("cause", ""))
        if "ExecutionArn" in job:
            ended = f"its execution ended as {job.get('Status', 'FAILED')}"
            found.append(FailedJob(_state(event, by_id), "", ended, "", job["ExecutionArn"]))
            continue
        container = job.get("Container", {})
        status = f", exit status {container['ExitCode']}" if "ExitCode" in container else ""
        reason = container.get("Reason") or job.get("StatusReason") or details.get("cause") or details.get("error", "")
        found.append(
            FailedJob(
                _state(event, by_id), job.get("JobId", ""), f"{reason}{status}", container.get("LogStreamName", "")
            )
        )
    return found


def _job(cause):
    try:
        job = json.loads(cause)
    except ValueError:
        return {}
    return job if isinstance(job, dict) else {}


def _state(event, by_id):
    """Return the name of the state that an event belongs to: that of the entry before it."""
    while event is not None:
        if "stateEnteredEventDetails" in event:
            return event["stateEnteredEventDetails"]["name"]
        event = by_id.get(event.get("previousEventId"))
    return ""
