"""What the Batch modules do while AWS is at work, by a Batch that plays a script and a clock that takes no time."""

from __future__ import annotations

import importlib
import itertools
import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import resource
from botocore.exceptions import ClientError

MODULES = "ansible_collections.mlops.metaflow.plugins.modules."
NETWORK = {"maxv_cpus": 4, "subnets": ["subnet-1"], "security_group_ids": ["sg-1"]}
ENVIRONMENT = {"name": "main", "compute_resources": {"type": "FARGATE", **NETWORK}}
QUEUE = {"name": "flows", "priority": 1, "compute_environments": ["arn:aws:batch:us-east-1:1:compute-environment/main"]}
ABSENT = {"state": "absent"}
HELD = "An error occurred: Cannot delete, found existing JobQueue relationship"


def environment(status="VALID", state="ENABLED", **keys):
    """Return the environment of ENVIRONMENT, as AWS describes it."""
    resources = {"type": "FARGATE", "maxvCpus": 4, "subnets": ["subnet-1"], "securityGroupIds": ["sg-1"]}
    arn = QUEUE["compute_environments"][0]
    named = {"computeEnvironmentName": "main", "computeEnvironmentArn": arn, "type": "MANAGED"}
    return {**named, "computeResources": resources, "status": status, "state": state, **keys}


def queue(status="VALID", state="ENABLED", **keys):
    """Return the queue of QUEUE, as AWS describes it."""
    order = [{"order": 1, "computeEnvironment": QUEUE["compute_environments"][0]}]
    named = {"jobQueueName": "flows", "jobQueueArn": "arn:flows", "priority": 1, "computeEnvironmentOrder": order}
    return {**named, "status": status, "state": state, **keys}


class Batch:
    """A client whose describe calls answer with one scripted state after the other, the last one for ever."""

    class exceptions:
        ClientException = ClientError

    def __init__(self, environments=(None,), queues=(None,), jobs=((),), errors=()):
        self.scripts = {"environments": list(environments), "queues": list(queues), "jobs": list(jobs)}
        self.errors = list(errors)
        self.calls = []

    def _next(self, key):
        script = self.scripts[key]
        return script.pop(0) if len(script) > 1 else script[0]

    def describe_compute_environments(self, computeEnvironments):
        live = self._next("environments")
        return {"computeEnvironments": [live] if live else []}

    def describe_job_queues(self, jobQueues):
        live = self._next("queues")
        return {"jobQueues": [live] if live else []}

    def get_paginator(self, operation):
        pages = {"describe_job_queues": self._queue_pages, "list_jobs": self._job_pages}
        return type("Paginator", (), {"paginate": staticmethod(pages[operation])})

    def _queue_pages(self):
        return [self.describe_job_queues([])]

    def _job_pages(self, jobQueue, jobStatus):
        return [{"jobSummaryList": [{"jobId": job} for job in self._next("jobs")] if jobStatus == "RUNNING" else []}]

    def delete_compute_environment(self, **arguments):
        self.calls.append(("delete_compute_environment", arguments))
        if self.errors:
            raise ClientError({"Error": {"Code": "ClientException", "Message": self.errors.pop(0)}}, "Delete")

    def __getattr__(self, operation):
        return lambda **arguments: self.calls.append((operation, arguments))


@pytest.fixture
def run(monkeypatch, capsys):
    """Return ``run(module, args, batch)``, which gives the module's result."""
    now = itertools.count()
    monkeypatch.setattr(resource.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(resource.time, "monotonic", lambda: next(now))

    def run(name, args, batch):
        monkeypatch.setattr(AnsibleAWSModule, "client", lambda *_args, **_options: batch)
        with patch_module_args({**args, "region": "us-east-1"}), pytest.raises(SystemExit):
            importlib.import_module(MODULES + name).main()
        return json.loads(capsys.readouterr().out)

    return run


def run_environment(run, args, batch):
    return run("batch_compute_environment", {**ENVIRONMENT, **args}, batch)


def run_queue(run, args, batch):
    return run("batch_job_queue", {**QUEUE, **args}, batch)


def test_creation_is_waited_for(run):
    batch = Batch(environments=[None, environment("CREATING"), environment("CREATING"), environment()])
    result = run_environment(run, {}, batch)
    assert result["changed"] is True
    assert result["compute_environment"]["status"] == "VALID"
    assert [name for name, _ in batch.calls] == ["create_compute_environment"]


def test_an_unchanged_environment_is_waited_for_too(run):
    """A run was killed while AWS was creating."""
    batch = Batch(environments=[environment("CREATING"), environment()])
    result = run_environment(run, {}, batch)
    assert (result["changed"], result["compute_environment"]["status"]) == (False, "VALID")


@pytest.mark.parametrize("script", [[None, environment("CREATING")], [environment("UPDATING")], []])
def test_invalid_is_an_error_with_its_reason(run, script):
    invalid = environment("INVALID", statusReason="CLIENT_ERROR - the role can't be assumed")
    result = run_environment(run, {}, Batch(environments=[*script, invalid]))
    assert result["failed"] is True
    assert result["msg"] == (
        "Failed to bring up Batch compute environment 'main': its status is INVALID: "
        "CLIENT_ERROR - the role can't be assumed"
    )


def test_an_invalid_environment_can_be_mended(run):
    mended = environment()
    mended["computeResources"]["subnets"] = ["subnet-2"]
    batch = Batch(environments=[environment("INVALID"), environment("INVALID"), mended])
    result = run_environment(run, {"compute_resources": {"type": "FARGATE", **NETWORK, "subnets": ["subnet-2"]}}, batch)
    assert result["changed"] is True
    change = {"computeEnvironment": "main", "computeResources": {"subnets": ["subnet-2"]}}
    assert batch.calls == [("update_compute_environment", change)]


def test_a_change_waits_for_the_one_before(run):
    batch = Batch(environments=[environment("UPDATING"), environment("UPDATING"), environment(), environment()])
    run_environment(run, {"compute_environment_state": "DISABLED"}, batch)
    assert batch.scripts["environments"] == [environment()], "the script was played to its end before the change"
    assert batch.calls == [("update_compute_environment", {"computeEnvironment": "main", "state": "DISABLED"})]


def test_a_wait_that_is_too_long_says_what_aws_said(run):
    batch = Batch(environments=[None, environment("CREATING", statusReason="launching")])
    result = run_environment(run, {"wait_timeout": 5}, batch)
    assert "Batch compute environment 'main' to be ready, and it is not (CREATING: launching)" in result["msg"]
    assert "wait_timeout (5 s)" in result["msg"]


def test_without_waiting(run):
    result = run_environment(run, {"wait": False}, Batch(environments=[None, environment("CREATING")]))
    assert result["compute_environment"]["status"] == "CREATING"


def test_an_update_policy_needs_a_valid_environment(run):
    policy = {"terminateJobsOnUpdate": True, "jobExecutionTimeoutMinutes": 30}
    batch = Batch(environments=[None, environment("CREATING"), environment(), environment(updatePolicy=policy)])
    run_environment(run, {"update_policy": {"terminate_jobs_on_update": True}}, batch)
    (created, asked), updated = batch.calls
    assert created == "create_compute_environment"
    assert "updatePolicy" not in asked, "CreateComputeEnvironment has no such parameter"
    assert updated == ("update_compute_environment", {"computeEnvironment": "main", "updatePolicy": policy})


@pytest.mark.parametrize(
    ("live", "wanted", "changed"),
    [
        (None, {"terminate_jobs_on_update": False}, False),
        (None, {"job_execution_timeout_minutes": 60}, True),
        ({"terminateJobsOnUpdate": True, "jobExecutionTimeoutMinutes": 60}, {"terminate_jobs_on_update": True}, False),
        (
            {"terminateJobsOnUpdate": True, "jobExecutionTimeoutMinutes": 60},
            {"job_execution_timeout_minutes": 30},
            True,
        ),
    ],
)
def test_update_policy_of_a_living_environment(run, live, wanted, changed):
    batch = Batch(environments=[environment(**({"updatePolicy": live} if live else {}))])
    assert run_environment(run, {"update_policy": wanted}, batch)["changed"] is changed
    if changed:
        (_update, asked) = batch.calls[0]
        assert asked["updatePolicy"].keys() == {"terminateJobsOnUpdate", "jobExecutionTimeoutMinutes"}


def test_deletion_disables_and_waits_first(run):
    script = [environment(), environment(), environment("UPDATING", "DISABLED"), environment("VALID", "DISABLED")]
    batch = Batch(environments=[*script, environment("DELETING", "DISABLED"), None])
    assert run_environment(run, ABSENT, batch)["changed"] is True
    assert batch.calls == [
        ("update_compute_environment", {"computeEnvironment": "main", "state": "DISABLED"}),
        ("delete_compute_environment", {"computeEnvironment": "main"}),
    ]


def test_deletion_waits_for_a_queue_that_has_just_let_go(run):
    batch = Batch(
        environments=[environment(state="DISABLED")] * 2 + [None], queues=[queue("DELETING")], errors=[HELD, HELD]
    )
    assert run_environment(run, ABSENT, batch)["changed"] is True
    assert [name for name, _ in batch.calls] == ["delete_compute_environment"] * 3


def test_another_refusal_of_a_deletion_is_an_error(run):
    result = run_environment(run, ABSENT, Batch(environments=[environment(state="DISABLED")], errors=["not now"]))
    assert result["msg"].startswith("Failed to delete Batch compute environment 'main'")
    assert "not now" in result["msg"]


def test_a_deletion_under_way_is_only_waited_for(run):
    batch = Batch(environments=[environment("DELETING"), environment("DELETING"), None])
    assert run_environment(run, ABSENT, batch)["changed"] is False
    assert batch.calls == []


def test_creation_waits_for_a_deletion_under_way(run):
    batch = Batch(environments=[environment("DELETING"), environment("DELETING"), None, environment()])
    assert run_environment(run, {}, batch)["changed"] is True
    assert [name for name, _ in batch.calls] == ["create_compute_environment"]


def test_a_queue_waits_for_its_environments(run):
    batch = Batch(environments=[environment("CREATING"), environment()], queues=[None, queue("CREATING"), queue()])
    assert run_queue(run, {}, batch)["changed"] is True
    assert len(batch.scripts["environments"]) == 1
    assert [name for name, _ in batch.calls] == ["create_job_queue"]


def test_a_queue_does_not_take_an_invalid_environment(run):
    batch = Batch(environments=[environment("INVALID", statusReason="no such subnet")])
    result = run_queue(run, {}, batch)
    assert "compute environment main is INVALID: no such subnet" in result["msg"]
    assert batch.calls == []


LIMIT = {"reason": "too big", "max_time_seconds": 600}
ACTION = {"reason": "too big", "maxTimeSeconds": 600, "state": "RUNNABLE", "action": "CANCEL"}


@pytest.mark.parametrize(
    ("live", "wanted", "sent"),
    [
        ([], [LIMIT], [ACTION]),
        ([ACTION], [LIMIT], None),
        ([ACTION], None, None),
        ([ACTION], [], []),
        ([ACTION], [LIMIT | {"max_time_seconds": 900}], [ACTION | {"maxTimeSeconds": 900}]),
    ],
    ids=["set", "equal", "left alone", "removed", "changed"],
)
def test_job_state_time_limits(run, live, wanted, sent):
    batch = Batch(environments=[environment()], queues=[queue(jobStateTimeLimitActions=live)])
    assert run_queue(run, {"job_state_time_limit_actions": wanted}, batch)["changed"] is (sent is not None)
    changes = [] if sent is None else [("update_job_queue", {"jobQueue": "flows", "jobStateTimeLimitActions": sent})]
    assert batch.calls == changes


def test_a_queue_with_jobs_stays(run):
    batch = Batch(queues=[queue()], jobs=[["job-1", "job-2"]])
    result = run_queue(run, ABSENT, batch)
    assert "it has 2 queued or running job(s). Let them end, or set terminate_jobs: true." in result["msg"]
    assert batch.calls == []


def test_jobs_are_terminated_where_the_person_said_so(run):
    script = [queue(), queue(), queue("UPDATING", "DISABLED"), queue("VALID", "DISABLED"), queue("DELETING"), None]
    batch = Batch(queues=script, jobs=[["job-1"], ["job-1"], ["job-1"], []])
    assert run_queue(run, ABSENT | {"terminate_jobs": True}, batch)["changed"] is True
    assert [name for name, _ in batch.calls] == ["update_job_queue", "terminate_job", "delete_job_queue"]
    assert batch.scripts["jobs"] == [[]], "the queue was deleted once its jobs had ended"
