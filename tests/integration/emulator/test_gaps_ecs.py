"""Gaps of ECS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def ecs(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("ecs")


@pytest.mark.gap("ecs/cluster-capacity-providers")
def test_a_cluster_always_lists_its_capacity_providers(ecs: Any, name: str) -> None:
    made = ecs.create_cluster(clusterName=name)["cluster"]
    read = ecs.describe_clusters(clusters=[name])["clusters"][0]
    for cluster in (made, read):
        assert cluster["capacityProviders"] == []
        assert cluster["defaultCapacityProviderStrategy"] == []


@pytest.mark.gap("ecs/cluster-created-twice")
def test_creating_a_cluster_again_keeps_it(ecs: Any, name: str) -> None:
    tags = [{"key": "a", "value": "b"}]
    ecs.create_cluster(clusterName=name, tags=tags)
    assert ecs.create_cluster(clusterName=name)["cluster"]["tags"] == tags


@pytest.mark.gap("ecs/cluster-deletion")
def test_a_cluster_with_services_cannot_be_deleted_and_a_deleted_one_is_inactive(
    ecs: Any, name: str, refused: Refused
) -> None:
    ecs.create_cluster(clusterName=name)
    ecs.register_task_definition(
        family=name, containerDefinitions=[{"name": "main", "image": "busybox", "memory": 64, "essential": True}]
    )
    ecs.create_service(cluster=name, serviceName=name, taskDefinition=name, desiredCount=0, launchType="EC2")
    with refused("ClusterContainsServicesException"):
        ecs.delete_cluster(cluster=name)
    ecs.delete_service(cluster=name, service=name)
    ecs.get_waiter("services_inactive").wait(cluster=name, services=[name], WaiterConfig={"Delay": 1})
    arn = ecs.delete_cluster(cluster=name)["cluster"]["clusterArn"]
    assert arn not in ecs.list_clusters()["clusterArns"]
    assert ecs.describe_clusters(clusters=[name])["clusters"][0]["status"] == "INACTIVE"
    with refused("ClusterNotFoundException"):
        ecs.create_service(cluster=name, serviceName=name, taskDefinition=name, desiredCount=0)
    assert ecs.create_cluster(clusterName=name)["cluster"]["status"] == "ACTIVE"


@pytest.mark.gap("ecs/task-definition-revisions")
def test_a_deleted_revisions_number_is_not_used_again(ecs: Any, name: str) -> None:
    container = {"name": "c", "image": "i", "memory": 128}

    def register() -> str:
        made = ecs.register_task_definition(family=name, containerDefinitions=[container])["taskDefinition"]
        assert made["taskDefinitionArn"].endswith(f":{made['revision']}")
        return f"{name}:{made['revision']}"

    first, second = register(), register()
    for one in (first, second):
        ecs.deregister_task_definition(taskDefinition=one)
    ecs.delete_task_definitions(taskDefinitions=[first, second])
    assert register() == f"{name}:3"
    assert ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]["revision"] == 3
