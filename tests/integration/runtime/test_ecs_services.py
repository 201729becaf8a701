"""Services keep their tasks running, roll new deployments over old ones, and say so as ECS does."""

import pytest
from runtime_account import wait_for

GOOD = {"ANSWER": "one"}


def events(account):
    return [event["message"] for event in account.described()["events"]]


def event_with(account, text):
    return wait_for(lambda: [message for message in events(account) if text in message])


def test_a_service_becomes_steady_with_real_transitions(account):
    service = account.service(account.define(account.server()))
    assert (service["runningCount"], service["deployments"][0]["rolloutState"]) == (0, "IN_PROGRESS")
    service = account.stable()
    assert (service["runningCount"], service["pendingCount"], service["desiredCount"]) == (1, 0, 1)
    assert event_with(account, "(service app) has reached a steady state.")
    deployment = account.described()["deployments"][0]
    assert (deployment["status"], deployment["rolloutState"], deployment["failedTasks"]) == ("PRIMARY", "COMPLETED", 0)
    assert account.task(account.service_tasks()[0])["startedBy"] == deployment["id"]
    assert service["deploymentConfiguration"]["maximumPercent"] == 200


def test_tasks_are_registered_and_checked_in_the_target_group(account):
    group = account.load_balancer()
    account.service(account.define(account.server()), count=2, target_group=group)
    wait_for(lambda: account.health(group) == ["healthy"] * 2)
    event_with(account, "has reached a steady state.")
    account.ecs.update_service(cluster="test", service="app", desiredCount=0)
    wait_for(lambda: account.health(group) == [])
    account.stable()
    assert account.service_tasks() == []


def test_a_group_that_does_not_admit_the_load_balancer_is_unhealthy(account):
    group = account.load_balancer()
    network = account.network
    network["awsvpcConfiguration"]["securityGroups"] = [account.security_group("closed", 9999, "10.20.0.0/16")]
    account.ecs.create_service(
        cluster="test",
        serviceName="app",
        taskDefinition=account.define(account.server()),
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=network,
        loadBalancers=[{"targetGroupArn": group, "containerName": "main", "containerPort": 8080}],
    )
    assert event_with(account, f"failed ELB health checks in (target-group {group})")
    assert account.described()["deployments"][0]["rolloutState"] == "IN_PROGRESS"


def test_a_new_definition_is_up_before_the_old_one_goes(account):
    group = account.load_balancer()
    account.service(account.define(account.server()), target_group=group)
    account.stable()
    (old,) = account.service_tasks()
    new_definition = account.define(account.server(variables={"ANSWER": "two"}))
    account.ecs.update_service(cluster="test", service="app", taskDefinition=new_definition)
    both = wait_for(lambda: len(account.described()["deployments"]) == 2 and account.described()["deployments"])
    assert [deployment["status"] for deployment in both] == ["PRIMARY", "ACTIVE"]
    healthy = []
    wait_for(lambda: healthy.append(account.health(group)) or len(account.described()["deployments"]) == 1)
    assert all("healthy" in states for states in healthy)
    service = account.stable()
    assert service["taskDefinition"] == new_definition
    (new,) = account.service_tasks()
    assert account.task(new)["taskDefinitionArn"] == new_definition
    assert account.task(old)["stopCode"] == "ServiceSchedulerInitiated"


def test_force_new_deployment_replaces_the_task(account):
    account.service(account.define(account.server()))
    account.stable()
    (old,) = account.service_tasks()
    account.ecs.update_service(cluster="test", service="app", forceNewDeployment=True)
    account.stable()
    (new,) = account.service_tasks()
    assert new != old


def test_a_stopped_task_is_replaced(account):
    account.service(account.define(account.server()))
    account.stable()
    (old,) = account.service_tasks()
    account.ecs.stop_task(cluster="test", task=old)
    wait_for(lambda: account.service_tasks() and account.service_tasks() != [old])
    account.stable()


def test_a_failing_task_is_counted_and_the_service_says_so(account):
    account.service(account.define(account.container("false")))
    assert event_with(account, "is unable to consistently start tasks successfully.")
    deployment = account.described()["deployments"][0]
    assert deployment["failedTasks"] >= 3
    assert deployment["rolloutState"] == "IN_PROGRESS"


def test_the_circuit_breaker_fails_the_deployment(account):
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": False}}
    account.service(account.define(account.container("false")), deploymentConfiguration=breaker)
    wait_for(lambda: account.described()["deployments"][0]["rolloutState"] == "FAILED")
    assert event_with(account, "deployment failed: tasks failed to start.")


def test_the_circuit_breaker_rolls_back(account):
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    good = account.define(account.server())
    account.service(good, deploymentConfiguration=breaker)
    account.stable()
    account.ecs.update_service(cluster="test", service="app", taskDefinition=account.define(account.container("false")))
    assert event_with(account, "rolling back to deployment")
    assert account.stable()["taskDefinition"] == good


def test_a_rollback_that_fails_too_is_the_end(account):
    """What the last good deployment needs, a secret, is gone by now."""
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    secret = account.secrets.create_secret(Name="needed", SecretString="x")["ARN"]
    needs = account.server(secrets=[{"name": "NEEDED", "valueFrom": secret}])
    account.allow("execution", ["secretsmanager:GetSecretValue"], secret)
    good = account.define(needs)
    account.service(good, deploymentConfiguration=breaker)
    account.stable()
    account.secrets.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
    account.ecs.update_service(cluster="test", service="app", taskDefinition=account.define(account.container("false")))
    assert event_with(account, "rolling back to deployment")
    wait_for(lambda: account.described()["deployments"][0]["rolloutState"] == "FAILED")
    events = [event["message"] for event in account.described()["events"]]
    assert sum("rolling back to deployment" in event for event in events) == 1


def test_a_missing_role_is_an_event(account):
    role = account.role("short-lived", "ecs-tasks.amazonaws.com")
    definition = account.define(account.container("true"), executionRoleArn=role)
    account.iam.delete_role(RoleName="short-lived")
    account.service(definition)
    assert event_with(account, f"failed to launch a task with (error ECS was unable to assume the role '{role}'")


def test_a_failing_health_check_replaces_the_task(account):
    health = {"command": ["CMD", "false"], "interval": 5, "retries": 1}
    account.service(account.define(account.container("sleep", "600", healthCheck=health)))
    assert event_with(account, "failed container health checks.")


def test_delete_drains(account):
    account.service(account.define(account.server()))
    account.stable()
    with pytest.raises(account.ecs.exceptions.InvalidParameterException, match="scaled above 0"):
        account.ecs.delete_service(cluster="test", service="app")
    account.ecs.update_service(cluster="test", service="app", desiredCount=0)
    account.stable()
    account.ecs.delete_service(cluster="test", service="app")
    assert account.ecs.list_services(cluster="test")["serviceArns"] == [], "a draining service is not listed"
    waiter = account.ecs.get_waiter("services_inactive")
    waiter.wait(cluster="test", services=["app"], WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})


def test_what_ecs_refuses_is_refused(account):
    definition = account.define(account.server())
    account.service(definition)
    invalid = account.ecs.exceptions.InvalidParameterException
    with pytest.raises(invalid, match="not idempotent"):
        account.service(definition)
    group = account.elb.create_target_group(
        Name="unused", Protocol="TCP", Port=8080, VpcId=account.vpc, TargetType="ip"
    )["TargetGroups"][0]["TargetGroupArn"]
    account.ecs.delete_service(cluster="test", service="app", force=True)
    wait_for(lambda: account.are_gone(["app"]))
    with pytest.raises(invalid, match="does not have an associated load balancer"):
        account.service(definition, target_group=group)
