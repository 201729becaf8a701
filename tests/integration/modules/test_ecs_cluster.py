# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module ecs_cluster against the emulator."""

from __future__ import annotations

import pytest
from integration.runtime.runtime_account import Account
from steps import Module, answering

ARN = "arn:aws:ecs:us-east-1:123456789012:cluster/flows"
MINIMAL = {"name": "flows", "wait_timeout": 20}
FULL = MINIMAL | {
    "capacity_providers": ["FARGATE", "FARGATE_SPOT"],
    "default_capacity_provider_strategy": [
        {"capacity_provider": "FARGATE", "base": 1},
        {"capacity_provider": "FARGATE_SPOT", "weight": 3},
    ],
    "container_insights": "enabled",
    "tags": {"Component": "metadata_service", "a_b": "c"},
}
ABSENT = MINIMAL | {"state": "absent"}


@pytest.fixture
def ecs(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("ecs")


@pytest.fixture
def cluster(ecs, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "ecs_cluster")


def state(ecs):
    """Return what ECS shows of the cluster that may be changed."""
    (live,) = ecs.describe_clusters(clusters=["flows"], include=["SETTINGS", "TAGS"])["clusters"]
    return {
        "status": live["status"],
        "providers": live["capacityProviders"],
        "strategy": live["defaultCapacityProviderStrategy"],
        "settings": live["settings"],
        "tags": {tag["key"]: tag["value"] for tag in live.get("tags", [])},
    }


def test_twelve_steps(cluster, ecs):
    assert cluster.change(MINIMAL)["cluster"] == {
        "cluster_arn": ARN,
        "cluster_name": "flows",
        "status": "ACTIVE",
        "capacity_providers": [],
        "default_capacity_provider_strategy": [],
        "container_insights": "disabled",
        "tags": {},
    }
    made = cluster.change(FULL)
    assert made["cluster"]["default_capacity_provider_strategy"] == [
        {"capacity_provider": "FARGATE", "weight": 0, "base": 1},
        {"capacity_provider": "FARGATE_SPOT", "weight": 3, "base": 0},
    ]
    assert made["diff"]["before"]["containerInsights"] == "disabled"
    live = state(ecs)
    assert live["providers"] == FULL["capacity_providers"]
    assert live["settings"] == [{"name": "containerInsights", "value": "enabled"}]
    assert live["tags"] == FULL["tags"]

    assert cluster.change(ABSENT)["cluster"] == {}
    assert ecs.list_clusters()["clusterArns"] == []


def test_all_of_it_from_the_start(cluster, ecs):
    predicted = cluster.run(FULL, check=True)["cluster"]
    assert predicted["cluster_arn"] == ARN
    made = cluster.run(FULL)["cluster"]
    assert predicted == made
    assert state(ecs)["tags"] == FULL["tags"]


def test_one_that_is_inactive_counts_as_none(cluster, ecs):
    cluster.run(FULL)
    cluster.run(ABSENT)
    assert state(ecs)["status"] == "INACTIVE"
    cluster.change(MINIMAL)
    assert state(ecs) == {
        "status": "ACTIVE",
        "providers": [],
        "strategy": [],
        "settings": [{"name": "containerInsights", "value": "disabled"}],
        "tags": {},
    }


BY_HAND = {
    "providers": lambda ecs: ecs.put_cluster_capacity_providers(
        cluster="flows", capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[]
    ),
    "strategy": lambda ecs: ecs.put_cluster_capacity_providers(
        cluster="flows",
        capacityProviders=["FARGATE", "FARGATE_SPOT"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}],
    ),
    "insights": lambda ecs: ecs.update_cluster(
        cluster="flows", settings=[{"name": "containerInsights", "value": "enhanced"}]
    ),
    "tags": lambda ecs: ecs.tag_resource(
        resourceArn=ARN, tags=[{"key": "Component", "value": "x"}, {"key": "y", "value": "z"}]
    ),
    "no tag": lambda ecs: ecs.untag_resource(resourceArn=ARN, tagKeys=["a_b"]),
}


@pytest.mark.parametrize("by_hand", BY_HAND)
def test_what_was_changed_by_hand_is_mended(cluster, ecs, by_hand):
    cluster.run(FULL)
    before = canonical(state(ecs))
    BY_HAND[by_hand](ecs)
    assert canonical(state(ecs)) != before
    cluster.change(FULL)
    assert canonical(state(ecs)) == before


def canonical(shown):
    """Return a state with the strategy in one spelling: AWS fills in weight and base, and the emulator doesn't."""
    return shown | {"strategy": [{"weight": 0, "base": 0} | item for item in shown["strategy"]]}


def test_what_is_left_open_stays(cluster, ecs):
    cluster.run(FULL)
    before = state(ecs)
    cluster.run(MINIMAL, changes=False)
    cluster.run(MINIMAL | {"tags": {"new": "tag"}, "purge_tags": False})
    assert state(ecs) == before | {"tags": FULL["tags"] | {"new": "tag"}}


def test_the_order_of_capacity_providers_means_nothing(cluster):
    cluster.run(FULL)
    cluster.run(
        FULL | {key: FULL[key][::-1] for key in ("capacity_providers", "default_capacity_provider_strategy")},
        changes=False,
    )


def test_services_that_are_left_are_named(cluster, emulator):
    emulator.reset()
    account = Account(emulator)
    cluster.run(MINIMAL)
    for name in ("web", "api"):
        account.ecs.create_service(
            cluster="flows",
            serviceName=name,
            taskDefinition=account.define(account.server()),
            desiredCount=0,
            launchType="FARGATE",
            networkConfiguration=account.network,
        )
    said = cluster.refused(ABSENT)
    assert said == "Failed to delete ECS cluster 'flows': these services are left in it: api, web. Remove them first."


def test_tasks_that_are_left_are_named(cluster, emulator):
    emulator.reset()
    account = Account(emulator)
    task = account.run(account.define(account.container("sleep", "600")))
    said = cluster.refused(ABSENT | {"name": "test"})
    assert f"these tasks are left in it: {task.rsplit('/', 1)[1]}" in said


def test_what_is_being_stopped_is_waited_for(cluster):
    cluster.run(MINIMAL)
    with answering("DeleteCluster", "ClusterContainsTasksException", "The Cluster still has Tasks.", times=2):
        cluster.run(ABSENT)
    cluster.run(ABSENT, changes=False)


def test_what_is_never_stopped_is_told(cluster):
    cluster.run(MINIMAL)
    with answering("DeleteCluster", "ClusterContainsTasksException", "The Cluster still has Tasks."):
        said = cluster.run_module(cluster.name, ABSENT | {"wait_timeout": 1}, fails=True)["msg"]
    assert "to be rid of what is being stopped in it, and it is not (ACTIVE, An error occurred" in said
    assert "The Cluster still has Tasks." in said


def test_a_lost_answer_makes_no_second_cluster(cluster, ecs, emulator):
    emulator.request("POST", "/_emulator/faults", {"action": "ecs:CreateCluster", "kind": "drop", "nth": [1]})
    cluster.run(FULL)
    assert ecs.list_clusters()["clusterArns"] == [ARN]


def test_a_run_that_was_killed_anywhere_is_completed(cluster, ecs):
    def prepare():
        ecs.create_cluster(clusterName="flows")
        return FULL

    cluster.survives_kills(prepare, lambda: canonical(state(ecs)))
