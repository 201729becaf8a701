"""The metadata service as the project deploys it: its image, a secret, a database, two ports of a load balancer."""

import json
import urllib.error
import urllib.request

import pytest
from runtime_account import METADATA_IMAGE, wait_for
from test_database import HOST, Database


@pytest.fixture(scope="module")
def service(shared_account):
    account = shared_account
    Database(account)
    secret = account.secrets.create_secret(Name="db", SecretString=json.dumps({"password": "right-password"}))["ARN"]
    account.allow("execution", ["secretsmanager:GetSecretValue"], secret)
    account.emulator.request("POST", "/_runtime/databases/db", {"schema_version": "20220503175500"})
    settings = {"HOST": HOST, "PORT": "5432", "USER": "metaflow", "NAME": "metaflow", "SSL_MODE": "require"}
    container = account.container(
        image=METADATA_IMAGE,
        variables={f"MF_METADATA_DB_{name}": value for name, value in settings.items()}
        | {"MF_METADATA_HOST": "0.0.0.0"},
        secrets=[{"name": "MF_METADATA_DB_PSWD", "valueFrom": f"{secret}:password::"}],
        portMappings=[{"containerPort": 8080}, {"containerPort": 8082}],
    )
    del container["command"]
    groups = [account.load_balancer("api", 80), account.load_balancer("migration", 8082, target_port=8082)]
    balancers = [
        {"targetGroupArn": group, "containerName": "main", "containerPort": port}
        for group, port in zip(groups, (8080, 8082), strict=True)
    ]
    account.ecs.create_service(
        cluster="test",
        serviceName="app",
        taskDefinition=account.define(container),
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=account.network,
        loadBalancers=balancers,
    )
    account.stable()
    yield account
    account.tidy()


def call(account, method, path):
    request = urllib.request.Request(account.emulator.endpoint + path, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, answer.read().decode()


def test_it_serves_and_migrates(service):
    status = json.loads(call(service, "GET", "/loadbalancers/migration/8082/db_schema_status")[1])
    assert not status["is_up_to_date"]
    call(service, "PATCH", "/loadbalancers/migration/8082/upgrade")
    wait_for(
        lambda: json.loads(call(service, "GET", "/loadbalancers/migration/8082/db_schema_status")[1])["is_up_to_date"]
    )
    assert call(service, "GET", "/loadbalancers/api/80/ping") == (200, "pong")


def test_a_wrong_password_shows_in_the_log_and_in_the_health(service):
    service.secrets.put_secret_value(SecretId="db", SecretString=json.dumps({"password": "wrong-password"}))
    service.ecs.update_service(cluster="test", service="app", forceNewDeployment=True)
    wait_for(lambda: service.described()["deployments"][0]["failedTasks"])
    tasks = service.ecs.list_tasks(cluster="test", desiredStatus="STOPPED")["taskArns"]
    logs = [line for task in tasks for line in service.log_of(task)]
    assert any('password authentication failed for user "metaflow"' in line for line in logs)
    assert not any("wrong-password" in line or "right-password" in line for line in logs)
    assert call(service, "GET", "/loadbalancers/api/80/ping") == (200, "pong"), "the old task keeps serving"
