# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module ecs_service against the emulator, which runs a service's tasks as processes."""

from __future__ import annotations

import pytest
from integration.runtime.runtime_account import Account
from steps import Module

ARN = "arn:aws:ecs:us-east-1:123456789012:service/test/app"
BASE = {"name": "app", "cluster": "test", "wait_timeout": 60}
ABSENT = BASE | {"state": "absent"}
BREAKER = {"deployment_circuit_breaker": {"enable": True, "rollback": True}}


@pytest.fixture
def account(emulator):
    """An account with a network, roles and the cluster "test"; nothing runs in it afterwards."""
    emulator.reset()
    yield Account(emulator)
    emulator.reset()


@pytest.fixture
def service(account, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "ecs_service")


def minimal(account, definition, **more):
    """Return the arguments of a Fargate service."""
    network = {"subnets": account.subnets[:1], "security_groups": [account.group]}
    declared = {"task_definition": definition, "desired_count": 1, "launch_type": "FARGATE"}
    return BASE | declared | {"network_configuration": network} | more


def idle(account):
    """Return a definition of a task that does nothing."""
    return account.define(account.container("sleep", "600"))


def broken(account):
    """Return a definition of a task that never starts."""
    return account.define(account.container("true", image="nowhere/nothing:1"))


def without_tasks(account, definition=None):
    """Return the arguments of a service with all options, which runs nothing and so deploys at once."""
    group = account.load_balancer()
    return minimal(
        account,
        definition or account.define(account.server()),
        desired_count=0,
        platform_version="LATEST",
        network_configuration={
            "subnets": account.subnets,
            "security_groups": [account.group],
            "assign_public_ip": False,
        },
        load_balancers=[{"target_group_arn": group, "container_name": "main", "container_port": 8080}],
        deployment_configuration={"minimum_healthy_percent": 50, "maximum_percent": 150, **BREAKER},
        health_check_grace_period_seconds=30,
        enable_execute_command=True,
        availability_zone_rebalancing="DISABLED",
        propagate_tags="SERVICE",
        tags={"Component": "metadata_service", "a_b": "c"},
    )


def state(account):
    """Return what ECS shows of the service that may be changed."""
    (live,) = account.ecs.describe_services(cluster="test", services=["app"], include=["TAGS"])["services"]
    keys = (
        "status",
        "taskDefinition",
        "desiredCount",
        "launchType",
        "platformVersion",
        "networkConfiguration",
        "loadBalancers",
        "deploymentConfiguration",
        "healthCheckGracePeriodSeconds",
        "enableExecuteCommand",
        "availabilityZoneRebalancing",
        "propagateTags",
    )
    return {key: live[key] for key in keys} | {"tags": {tag["key"]: tag["value"] for tag in live["tags"]}}


def test_twelve_steps(service, account):
    args = minimal(account, account.define(account.server()))
    made = service.change(args)["service"]
    assert (made["service_arn"], made["status"], made["rollout_state"]) == (ARN, "ACTIVE", "COMPLETED")
    assert (made["running_count"], made["desired_count"]) == (1, 1)
    (first,) = account.service_tasks()

    group = account.load_balancer()
    second = account.define(account.server(variables={"ANSWER": "two"}))
    changed = service.change(
        args
        | {
            "task_definition": second,
            "desired_count": 2,
            "load_balancers": [{"target_group_arn": group, "container_name": "main", "container_port": 8080}],
            "tags": {"Component": "x"},
        }
    )
    assert changed["service"]["running_count"] == 2
    assert changed["service"]["load_balancers"][0]["target_group_arn"] == group
    assert changed["diff"]["before"]["desiredCount"] == 1
    assert first not in account.service_tasks()
    assert account.health(group) == ["healthy"] * 2
    running = account.service_tasks()

    assert service.change(ABSENT)["service"] == {}
    assert {account.task(task)["lastStatus"] for task in running} == {"STOPPED"}
    assert state(account)["status"] == "INACTIVE"


def test_check_mode_predicts_before_anything_is_there(service, account):
    network = {"subnets": ["subnet-predicted"], "security_groups": ["sg-predicted"], "assign_public_ip": False}
    args = minimal(account, "soon", cluster="soon", network_configuration=network)
    predicted = service.run(args, check=True)
    assert predicted["service"]["service_arn"] == ARN.replace("test", "soon")
    assert predicted["service"]["task_definition"] == "arn:aws:ecs:us-east-1:123456789012:task-definition/soon:1"
    assert predicted["diff"]["after"]["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"


def update(**change):
    """Return a change by hand, through UpdateService."""
    return lambda account: account.ecs.update_service(cluster="test", service="app", **change)


BY_HAND = {
    "definition": lambda account: update(taskDefinition=idle(account), loadBalancers=[])(account),
    "count": update(desiredCount=1),
    "platform": update(platformVersion="1.4.0"),
    "subnets": lambda account: update(networkConfiguration=account.network)(account),
    "security groups": lambda account: update(
        networkConfiguration={
            "awsvpcConfiguration": {
                "subnets": account.subnets,
                "securityGroups": [account.group, account.security_group("other", 1, "10.0.0.0/8")],
            }
        }
    )(account),
    "public address": lambda account: update(
        networkConfiguration={
            "awsvpcConfiguration": {
                "subnets": account.subnets,
                "securityGroups": [account.group],
                "assignPublicIp": "ENABLED",
            }
        }
    )(account),
    "no load balancer": update(loadBalancers=[]),
    "other load balancer": lambda account: update(
        loadBalancers=[
            {
                "targetGroupArn": account.load_balancer("other"),
                "containerName": "main",
                "containerPort": 8080,
            }
        ]
    )(account),
    "percentages": update(deploymentConfiguration={"minimumHealthyPercent": 100, "maximumPercent": 200}),
    "circuit breaker": update(
        deploymentConfiguration={"deploymentCircuitBreaker": {"enable": False, "rollback": False}}
    ),
    "grace": update(healthCheckGracePeriodSeconds=0),
    "shell": update(enableExecuteCommand=False),
    "zones": update(availabilityZoneRebalancing="ENABLED"),
    "propagation": update(propagateTags="NONE"),
    "tags": lambda account: account.ecs.tag_resource(
        resourceArn=ARN, tags=[{"key": "Component", "value": "x"}, {"key": "y", "value": "z"}]
    ),
    "no tag": lambda account: account.ecs.untag_resource(resourceArn=ARN, tagKeys=["a_b"]),
}


def test_what_was_changed_by_hand_is_mended(service, account):
    """One service for all attributes: an account of its own for each would take a minute."""
    args = without_tasks(account)
    service.run(args)
    before = state(account)
    for what, by_hand in BY_HAND.items():
        by_hand(account)
        assert state(account) != before, what
        service.run(args)
        assert state(account) == before, what
    service.run(args, changes=False)


def test_each_change_is_predicted(service, account):
    service.change(without_tasks(account))
    args = minimal(
        account,
        idle(account),
        desired_count=0,
        load_balancers=[],
        deployment_configuration={"maximum_percent": 100},
        enable_execute_command=False,
        propagate_tags="NONE",
    )
    changed = service.change(args)
    assert changed["diff"]["before"]["deploymentConfiguration"] == {"maximumPercent": 150}
    assert changed["service"]["deployment_configuration"]["minimum_healthy_percent"] == 50


def test_the_order_of_subnets_and_load_balancers_means_nothing(service, account):
    args = without_tasks(account)
    other = args["load_balancers"][0] | {"target_group_arn": account.load_balancer("other")}
    args["load_balancers"].append(other)
    service.run(args)
    args["load_balancers"].reverse()
    args["network_configuration"]["subnets"].reverse()
    service.run(args, changes=False)


def test_what_is_left_open_stays(service, account):
    args = without_tasks(account)
    service.run(args)
    before = state(account)
    service.run(BASE | {"task_definition": args["task_definition"]}, changes=False)
    service.run(BASE | {"task_definition": args["task_definition"], "tags": {"new": "tag"}, "purge_tags": False})
    assert state(account) == before | {"tags": args["tags"] | {"new": "tag"}}


def test_a_new_service_has_one_task(service, account):
    service.run(minimal(account, idle(account), desired_count=None))
    assert len(account.service_tasks()) == 1


def test_a_family_stands_for_its_latest_revision(service, account):
    args = minimal(account, "test", desired_count=0)
    assert "there is no active task definition 'test'" in service.run(args, fails=True)["msg"]
    first, second = idle(account), idle(account)
    assert service.change(args)["service"]["task_definition"] == second
    assert service.change(args | {"task_definition": "test:1"})["service"]["task_definition"] == first
    service.run(args | {"task_definition": first}, changes=False)


def test_a_first_rollout_that_fails_is_told_and_the_next_run_deploys_again(service, account):
    account.allow("execution", ["secretsmanager:GetSecretValue"], "*")
    # The secret is scheduled for deletion: as good as gone, until somebody restores it.
    arn = account.secrets.create_secret(Name="db", SecretString="x")["ARN"]
    account.secrets.delete_secret(SecretId=arn)
    container = account.container("sleep", "600", secrets=[{"name": "PASSWORD", "valueFrom": arn}])
    args = minimal(account, account.define(container), deployment_configuration=BREAKER)
    said = service.run_module(service.name, args, fails=True)["msg"]
    assert "Failed to bring up ECS service 'app': its deployment ecs-svc/" in said
    assert " failed (ECS deployment circuit breaker: tasks failed to start). Its last stopped task (" in said
    assert "ResourceInitializationError: unable to pull secrets" in said
    assert "(service app) has started 1 tasks" in said
    failed = state(account)

    # What is mended lies outside of the service: nothing is declared differently.
    account.secrets.restore_secret(SecretId=arn)
    made = service.change(args)
    assert [made["diff"][side]["rolloutState"] for side in ("before", "after")] == ["FAILED", "COMPLETED"]
    assert (made["service"]["rollout_state"], made["service"]["running_count"]) == ("COMPLETED", 1)
    assert state(account) == failed


def test_a_rollback_is_an_error_and_not_a_steady_service(service, account):
    good = idle(account)
    args = minimal(account, good, deployment_configuration=BREAKER)
    service.run(args)
    bad = args | {"task_definition": broken(account)}
    for _ in range(2):  # the second run finds the service rolled back, deploys again, and fails again
        said = service.run_module(service.name, bad, fails=True)["msg"]
        assert "has taken its place (ECS deployment" in said
        assert "CannotPullContainerError: " in said
        assert account.described()["taskDefinition"] == good
    service.run(args, changes=False)


def test_a_service_that_never_comes_up_is_told_with_the_reason(service, account):
    args = minimal(account, broken(account), wait_timeout=4)
    said = service.run_module(service.name, args, fails=True)["msg"]
    assert "for ECS service 'app' to be ready, and it is not (ACTIVE, 0 of 1 tasks run." in said
    assert "CannotPullContainerError: " in said


def test_without_wait_it_returns_at_once(service, account):
    made = service.run(minimal(account, broken(account), wait=False))["service"]
    assert made["rollout_state"] == "IN_PROGRESS"


def test_one_that_is_being_deleted_is_waited_for(service, account):
    args = minimal(account, idle(account))
    for wanted, changes in ((ABSENT, False), (args, True)):
        service.run(args)
        (task,) = account.service_tasks()
        account.ecs.delete_service(cluster="test", service="app", force=True)
        service.run(wanted, changes=changes)
        assert account.task(task)["lastStatus"] == "STOPPED"


def test_one_that_is_nowhere_is_absent(service):
    service.run(ABSENT, changes=False)
    service.run(ABSENT | {"cluster": "nowhere"}, changes=False)


def test_what_aws_cant_change_is_refused(service, account):
    args = minimal(account, idle(account), desired_count=0)
    service.run(args)
    assert "launch_type by capacity_provider_strategy only" in service.refused(args | {"launch_type": "EC2"})
    assert "can't change its scheduling_strategy" in service.refused(args | {"scheduling_strategy": "DAEMON"})


def test_from_the_launch_type_to_a_strategy(service, account):
    account.ecs.put_cluster_capacity_providers(
        cluster="test", capacityProviders=["FARGATE", "FARGATE_SPOT"], defaultCapacityProviderStrategy=[]
    )
    args = minimal(account, idle(account), desired_count=0)
    service.run(args)
    del args["launch_type"]
    spot = args | {"capacity_provider_strategy": [{"capacity_provider": "FARGATE_SPOT", "weight": 1}]}
    changed = service.change(spot)
    assert changed["diff"]["before"]["launchType"] == "FARGATE"
    assert changed["service"]["capacity_provider_strategy"] == [
        {"capacity_provider": "FARGATE_SPOT", "weight": 1, "base": 0}
    ]
    service.change(args | {"launch_type": "FARGATE"})


def test_a_lost_answer_makes_no_second_service(service, account, emulator):
    emulator.request("POST", "/_emulator/faults", {"action": "ecs:CreateService", "kind": "drop", "nth": [1]})
    service.run(minimal(account, idle(account), desired_count=0))
    assert account.ecs.list_services(cluster="test")["serviceArns"] == [ARN]


def test_a_run_that_was_killed_anywhere_is_completed(service, emulator):
    accounts = []

    def prepare():
        accounts.append(Account(emulator))
        args = without_tasks(accounts[-1])
        service.run_module(service.name, minimal(accounts[-1], idle(accounts[-1]), desired_count=0))
        return args

    def shown():
        live = state(accounts[-1])
        # Random ids
        return {**live, "networkConfiguration": None, "loadBalancers": len(live["loadBalancers"])}

    service.survives_kills(prepare, shown)
