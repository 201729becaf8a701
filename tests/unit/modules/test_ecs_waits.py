# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the ECS modules do while AWS is at work, by an ECS that plays a script and a clock that takes no time."""

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
CLUSTER = {"name": "flows", "wait_timeout": 50}
DEFINITION = "arn:aws:ecs:us-east-1:1:task-definition/app:"
SERVICE = {"name": "app", "cluster": "flows", "task_definition": f"{DEFINITION}2", "wait_timeout": 50}
ABSENT = {"state": "absent"}


def cluster(status="ACTIVE", **keys):
    """Return the cluster of CLUSTER, as AWS describes it."""
    return {"clusterName": "flows", "clusterArn": "arn:flows", "status": status, "capacityProviders": [], **keys}


def deployment(number, status="PRIMARY", state="COMPLETED", reason=""):
    return {"id": f"ecs-svc/{number}", "status": status, "rolloutState": state, "rolloutStateReason": reason}


def service(*deployments, running=1, revision=2, **keys):
    """Return the service of SERVICE, as AWS describes it."""
    return {
        "serviceName": "app",
        "serviceArn": "arn:app",
        "status": "ACTIVE",
        "taskDefinition": f"{DEFINITION}{revision}",
        "desiredCount": 1,
        "runningCount": running,
        "schedulingStrategy": "REPLICA",
        "deployments": list(deployments),
        "events": [{"message": "(service app) was unable to place a task."}],
        **keys,
    }


STOPPED = {
    "taskArn": "arn:aws:ecs:us-east-1:1:task/flows/t1",
    "group": "service:app",
    "lastStatus": "STOPPED",
    "startedBy": "ecs-svc/2",
    "stoppedAt": 1,
    "stoppedReason": "CannotPullContainerError: no such image",
}


class Ecs:
    """A client whose describe calls answer with one scripted state after the other, the last one for ever."""

    def __init__(self, clusters=(None,), services=(None,), tasks=((),), errors=()):
        self.scripts = {"clusters": list(clusters), "services": list(services), "tasks": list(tasks)}
        self.errors = dict(errors)
        self.calls = []

    def _next(self, key):
        script = self.scripts[key]
        return script.pop(0) if len(script) > 1 else script[0]

    def describe_clusters(self, clusters, include):
        live = self._next("clusters")
        return {"clusters": [live] if live else [], "failures": []}

    def describe_services(self, cluster, services, include):
        live = self._next("services")
        return {"services": [live] if live else [], "failures": []}

    def describe_tasks(self, cluster, tasks):
        return {"tasks": tasks}

    def get_paginator(self, operation):
        pages = {"list_tasks": self._task_pages, "list_services": lambda **_filters: [{"serviceArns": []}]}
        return type("Paginator", (), {"paginate": staticmethod(pages[operation])})

    def _task_pages(self, cluster, desiredStatus="RUNNING", **_filters):
        return [{"taskArns": list(self._next("tasks")) if desiredStatus == "STOPPED" else []}]

    def update_service(self, **arguments):
        self.calls.append(("update_service", arguments))
        return {"service": service(deployment(2, state="IN_PROGRESS"))}

    def __getattr__(self, operation):
        def call(**arguments):
            self.calls.append((operation, arguments))
            errors = self.errors.get(operation)
            if errors:
                code, message = errors.pop(0)
                raise ClientError({"Error": {"Code": code, "Message": message}}, operation)

        return call

    @property
    def called(self):
        return [name for name, _ in self.calls]


@pytest.fixture
def run(monkeypatch, capsys):
    """Return ``run(module, args, client)``, which gives the module's result."""
    now = itertools.count()
    monkeypatch.setattr(resource.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(resource.time, "monotonic", lambda: next(now))

    def run(name, args, client):
        monkeypatch.setattr(AnsibleAWSModule, "client", lambda *_args, **_options: client)
        with patch_module_args({**args, "region": "us-east-1"}), pytest.raises(SystemExit):
            importlib.import_module(MODULES + name).main()
        return json.loads(capsys.readouterr().out)

    return run


def run_cluster(run, args, client):
    return run("ecs_cluster", {**CLUSTER, **args}, client)


def run_service(run, args, client):
    return run("ecs_service", {**SERVICE, **args}, client)


def test_a_cluster_that_is_provisioned_is_waited_for(run):
    ecs = Ecs(clusters=[None, cluster("PROVISIONING"), cluster("PROVISIONING"), cluster()])
    result = run_cluster(run, {"capacity_providers": ["FARGATE"]}, ecs)
    assert (result["changed"], result["cluster"]["status"]) == (True, "ACTIVE")
    assert ecs.called == ["create_cluster"]


def test_one_that_another_run_has_made_is_waited_for_before_it_is_changed(run):
    attaching = cluster(attachmentsStatus="UPDATE_IN_PROGRESS")
    after = cluster(capacityProviders=["FARGATE"], attachmentsStatus="UPDATE_COMPLETE")
    ecs = Ecs(clusters=[cluster("PROVISIONING"), cluster("PROVISIONING"), attaching, cluster(), attaching, after])
    result = run_cluster(run, {"capacity_providers": ["FARGATE"]}, ecs)
    assert result["cluster"]["capacity_providers"] == ["FARGATE"]
    assert ecs.called == ["put_cluster_capacity_providers"]
    assert ecs.scripts["clusters"] == [after]


@pytest.mark.parametrize("live", [cluster("FAILED"), cluster(attachmentsStatus="UPDATE_FAILED")])
def test_a_cluster_that_could_not_be_set_up_is_told(run, live):
    result = run_cluster(run, {}, Ecs(clusters=[live]))
    assert "Failed to bring up ECS cluster 'flows': AWS could not set up its capacity providers" in result["msg"]
    assert "FAILED" in result["msg"]


def test_a_cluster_that_is_being_deleted_is_waited_for(run):
    script = [cluster("DEPROVISIONING"), cluster("DEPROVISIONING"), cluster("INACTIVE")]
    ecs = Ecs(clusters=[*script, cluster()])
    assert run_cluster(run, {}, ecs)["changed"] is True
    assert ecs.called == ["create_cluster"]
    ecs = Ecs(clusters=script)
    assert run_cluster(run, ABSENT, ecs)["changed"] is False
    assert ecs.calls == []


ROLE = ("InvalidParameterException", "Unable to assume the service linked role. Please verify that it exists.")


def test_an_accounts_first_cluster_waits_for_its_role(run):
    ecs = Ecs(clusters=[None, cluster()], errors={"create_cluster": [ROLE, ROLE]})
    assert run_cluster(run, {}, ecs)["changed"] is True
    assert ecs.called == ["create_cluster"] * 3


@pytest.mark.parametrize(("error", "calls"), [(ROLE, 5), (("InvalidParameterException", "Invalid name."), 1)])
def test_but_not_for_ever_and_not_for_other_errors(run, error, calls):
    ecs = Ecs(errors={"create_cluster": [error] * 9})
    assert error[1] in run_cluster(run, {}, ecs)["msg"]
    assert ecs.called == ["create_cluster"] * calls


OLD = service(deployment(1), revision=1)
ROLLING = service(deployment(2, state="IN_PROGRESS"), deployment(1, "ACTIVE"))
STARTED = service(deployment(2, state="COMPLETED"), running=0)
FAILED = deployment(2, "ACTIVE", "FAILED", "circuit breaker: tasks failed to start.")
BACK = deployment(3, state="IN_PROGRESS", reason="circuit breaker: rolling back.")


def test_a_rollout_is_waited_for_and_an_answer_of_before_it_is_none(run):
    ecs = Ecs(services=[OLD, OLD, ROLLING, STARTED, service(deployment(2))])
    result = run_service(run, {}, ecs)
    assert (result["service"]["rollout_state"], result["service"]["running_count"]) == ("COMPLETED", 1)
    assert ecs.scripts["services"] == [service(deployment(2))]
    change = {"cluster": "flows", "service": "app", "taskDefinition": f"{DEFINITION}2"}
    assert ecs.calls == [("update_service", change)]


# what AWS shows after the update
ENDS = {
    "failed": [service(FAILED | {"status": "PRIMARY"}, deployment(1, "ACTIVE"))],
    "rolling back": [service(BACK, FAILED, revision=1)],
    "rolled back": [ROLLING, service(deployment(3), revision=1)],
    "back to the deployment of before": [ROLLING, service(deployment(1), FAILED, revision=1)],
}


@pytest.mark.parametrize("end", ENDS)
def test_a_rollout_that_failed_is_an_error(run, end):
    ecs = Ecs(services=[OLD, *ENDS[end]], tasks=[[STOPPED | {"startedBy": "ecs-svc/1"}, STOPPED]])
    said = run_service(run, {}, ecs)["msg"]
    assert "Failed to bring up ECS service 'app': its deployment ecs-svc/2 " in said
    assert "(t1): CannotPullContainerError: no such image. Last events: (service app) was unable" in said


def test_a_failed_rollout_is_begun_again(run):
    ecs = Ecs(services=[service(FAILED | {"status": "PRIMARY"}, running=0), ROLLING, service(deployment(2))])
    result = run_service(run, {}, ecs)
    assert result["diff"]["before"]["rolloutState"] == "FAILED"
    assert result["diff"]["after"]["rolloutState"] == "COMPLETED"
    assert ecs.calls == [("update_service", {"cluster": "flows", "service": "app", "forceNewDeployment": True})]


def test_a_service_without_change_that_is_not_steady_is_waited_for(run):
    ecs = Ecs(services=[service(deployment(1), running=0), service(deployment(1))])
    assert run_service(run, {}, ecs)["changed"] is False
    assert ecs.scripts["services"] == [service(deployment(1))]


def test_a_rollout_that_was_found_and_fails_is_an_error(run):
    ecs = Ecs(services=[ROLLING, service(deployment(3), revision=1)])
    said = run_service(run, {}, ecs)["msg"]
    assert "deployment ecs-svc/2 was not completed, and ecs-svc/3 has taken its place" in said
    assert ecs.calls == []


def test_a_service_that_something_else_deploys_is_refused(run):
    ecs = Ecs(services=[service(deploymentController={"type": "CODE_DEPLOY"})])
    assert "CODE_DEPLOY deploys it" in run_service(run, {}, ecs)["msg"]


def test_one_that_never_gets_steady_is_told_with_the_reason(run):
    waiting = service(deployment(2, state="IN_PROGRESS"), running=0)
    said = run_service(run, {}, Ecs(services=[waiting], tasks=[[STOPPED]]))["msg"]
    assert "to be ready, and it is not (ACTIVE, 0 of 1 tasks run. Its last stopped task (t1): CannotPull" in said


def test_a_deletion_waits_for_draining_and_for_the_tasks(run):
    stopping = STOPPED | {"lastStatus": "STOPPING"}
    ecs = Ecs(
        services=[service(deployment(1)), service(status="DRAINING"), service(status="INACTIVE")],
        tasks=[[stopping, STOPPED], [stopping], [stopping | {"group": "service:other"}, STOPPED]],
    )
    assert run_service(run, ABSENT, ecs)["changed"] is True
    assert ecs.calls == [("delete_service", {"cluster": "flows", "service": "app", "force": True})]
    assert len(ecs.scripts["tasks"]) == 1
