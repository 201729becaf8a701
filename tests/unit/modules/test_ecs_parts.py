# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Clusters and services come into one form; what ECS says of a failed deployment comes into one line."""

from __future__ import annotations

from collections import defaultdict

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import ecs

# module's option, the API's networkConfiguration
NETWORKS = {
    "all": (
        {"subnets": ["subnet-1"], "security_groups": ["sg-1"], "assign_public_ip": True},
        {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "ENABLED"}},
    ),
    "private": (
        {"subnets": ["subnet-1"], "security_groups": None, "assign_public_ip": False},
        {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "DISABLED"}},
    ),
    "address left open": (
        {"subnets": ["subnet-1"], "security_groups": [], "assign_public_ip": None},
        {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": []}},
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_networks(case):
    option, api = NETWORKS[case]
    assert ecs.network_configuration(option) == api


ITEM = {"capacity_provider": "FARGATE_SPOT", "weight": 1, "base": 0}

# options, what is declared beside the name
DECLARATIONS = {
    "nothing": ({}, {}),
    "nothing and empty are not the same": ({"load_balancers": [], "tags": {}}, {"loadBalancers": [], "tags": {}}),
    "zero and false are something": (
        {"desired_count": 0, "enable_execute_command": False},
        {"desiredCount": 0, "enableExecuteCommand": False},
    ),
    "a launch type excludes a strategy": (
        {"launch_type": "FARGATE"},
        {"launchType": "FARGATE", "capacityProviderStrategy": None},
    ),
    "a strategy excludes a launch type": (
        {"capacity_provider_strategy": [ITEM]},
        {
            "launchType": None,
            "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}],
        },
    ),
    "an empty strategy says nothing": ({"capacity_provider_strategy": []}, {}),
    "parts of a map stay open": (
        {"deployment_configuration": {"maximum_percent": 100, "minimum_healthy_percent": None}},
        {"deploymentConfiguration": {"maximumPercent": 100}},
    ),
    "names of tags stay": ({"tags": {"a_b": "c"}}, {"tags": {"a_b": "c"}}),
}


@pytest.mark.parametrize("case", DECLARATIONS)
def test_declarations(case):
    options, declared = DECLARATIONS[case]
    assert ecs.declared_service(defaultdict(lambda: None, name="app", **options)) == {"serviceName": "app", **declared}


# AWS's description, part of the live service
SERVICES = {
    "counters and dates are left out": ({"pendingCount": 1, "createdAt": "now"}, {}),
    "a strategy counts, not the launch type": (
        {"launchType": "FARGATE", "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]},
        {
            "launchType": None,
            "capacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 0, "base": 0}],
        },
    ),
    "a launch type": ({"launchType": "EC2"}, {"launchType": "EC2"}),
    "load balancers by what is declared of them": (
        {"loadBalancers": [{"targetGroupArn": "g", "containerName": "c", "containerPort": 1, "loadBalancerName": "x"}]},
        {"loadBalancers": [{"targetGroupArn": "g", "containerName": "c", "containerPort": 1}]},
    ),
    "the rollout of the primary deployment": (
        {
            "deployments": [
                {"status": "ACTIVE", "rolloutState": "FAILED"},
                {"status": "PRIMARY", "rolloutState": "COMPLETED"},
            ]
        },
        {"rolloutState": "COMPLETED"},
    ),
    "tags": ({"tags": [{"key": "a", "value": "b"}]}, {"tags": {"a": "b"}}),
}
NOTHING = ecs.SERVICE_DEFAULTS | {
    "capacityProviderStrategy": None,
    "loadBalancers": [],
    "rolloutState": None,
    "tags": {},
}


@pytest.mark.parametrize("case", SERVICES)
def test_services(case):
    described, live = SERVICES[case]
    assert ecs.live_service(described) == NOTHING | live


# AWS's description, the live cluster
CLUSTERS = {
    "bare": (
        {},
        {"capacityProviders": [], "defaultCapacityProviderStrategy": [], "containerInsights": None, "tags": {}},
    ),
    "full": (
        {
            "clusterName": "flows",
            "runningTasksCount": 3,
            "capacityProviders": ["FARGATE"],
            "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 2}],
            "settings": [{"name": "containerInsights", "value": "enhanced"}],
            "tags": [{"key": "a", "value": "b"}],
        },
        {
            "clusterName": "flows",
            "capacityProviders": ["FARGATE"],
            "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 2, "base": 0}],
            "containerInsights": "enhanced",
            "tags": {"a": "b"},
        },
    ),
}


@pytest.mark.parametrize("case", CLUSTERS)
def test_clusters(case):
    described, live = CLUSTERS[case]
    assert ecs.live_cluster(described) == live


BREAKER = "ECS deployment circuit breaker: "
FAILED = {
    "id": "ecs-svc/2",
    "status": "ACTIVE",
    "rolloutState": "FAILED",
    "rolloutStateReason": f"{BREAKER}tasks failed to start.",
}
OTHER = {"id": "ecs-svc/3", "status": "PRIMARY", "rolloutStateReason": f"{BREAKER}rolling back."}

# deployments, what is said of ecs-svc/2
ROLLOUTS = {
    "failed": ([FAILED | {"status": "PRIMARY"}], f"failed ({BREAKER}tasks failed to start)"),
    "rolled back": (
        [OTHER, FAILED],
        f"failed ({BREAKER}tasks failed to start), and ecs-svc/3 has taken its place ({BREAKER}rolling back)",
    ),
    "gone": ([OTHER], f"was not completed, and ecs-svc/3 has taken its place ({BREAKER}rolling back)"),
    "replaced by somebody": (
        [OTHER, FAILED | {"rolloutState": "IN_PROGRESS"}],
        f"was not completed, and ecs-svc/3 has taken its place ({BREAKER}rolling back)",
    ),
    "without a reason": ([FAILED | {"status": "PRIMARY", "rolloutStateReason": ""}], "failed"),
}


@pytest.mark.parametrize("case", ROLLOUTS)
def test_rollout_failures(case):
    deployments, said = ROLLOUTS[case]
    assert ecs.rollout_failure({"deployments": deployments}, "ecs-svc/2") == f"its deployment ecs-svc/2 {said}"


def task(name, reason, at, code="TaskFailedToStart", containers=()):
    return {
        "taskArn": f"arn:aws:ecs:us-east-1:1:task/flows/{name}",
        "stopCode": code,
        "stoppedReason": reason,
        "stoppedAt": at,
        "containers": list(containers),
    }


PULL = task("a", "ResourceInitializationError: unable to pull secrets or registry auth: no such secret.", 1)
SCALED = task("b", "Scaling activity initiated by (deployment ecs-svc/2)", 2, "ServiceSchedulerInitiated")
CHECKS = task("c", "Task failed ELB health checks in (target-group x)", 3, "ServiceSchedulerInitiated")
EXITED = task(
    "d",
    "Essential container in task exited",
    4,
    "EssentialContainerExited",
    [{"name": "main", "exitCode": 137, "reason": "OutOfMemoryError"}, {"name": "sidecar", "exitCode": 0}],
)
UNPULLED = task("e", "Task failed to start", 5, containers=[{"name": "main", "reason": "CannotPullContainerError: x"}])
EVENTS = [{"message": f"(service app) {number}."} for number in range(9, 0, -1)]

# events, stopped tasks, what is said
HISTORIES = {
    "nothing": ([], [], ""),
    "events, the oldest of the last five first": (
        EVENTS,
        [],
        "Last events: (service app) 5. (service app) 6. (service app) 7. (service app) 8. (service app) 9.",
    ),
    "a task that did not start": (
        [],
        [PULL],
        "Its last stopped task (a): ResourceInitializationError: unable to pull secrets or registry auth: "
        "no such secret.",
    ),
    "one that ECS stopped later is not to blame": ([], [PULL, SCALED], "(a): ResourceInitializationError"),
    "failed health checks are": ([], [PULL, CHECKS, SCALED], "(c): Task failed ELB health checks in (target-group x)."),
    "where none is to blame, the last one": ([], [SCALED], "(b): Scaling activity"),
    "exit codes and reasons of containers": (
        [],
        [EXITED, PULL],
        "(d): Essential container in task exited; container main, exit code 137, OutOfMemoryError.",
    ),
    "a container that never ran": (
        [],
        [UNPULLED],
        "Task failed to start; container main, CannotPullContainerError: x.",
    ),
    "both": (EVENTS[:1], [CHECKS], "(target-group x). Last events: (service app) 9."),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_histories(case):
    events, stopped, said = HISTORIES[case]
    history = ecs.history(events, stopped)
    assert said in history
    assert bool(said) == bool(history)
