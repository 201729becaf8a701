"""The metadata service as the project deploys it: its image, a secret, a database, two ports of a load balancer."""

import json
import urllib.error
import urllib.request

import pytest
from runtime_account import wait_for
from runtime_stack import start_metadata_service


@pytest.fixture(scope="module")
def service(shared_account):
    start_metadata_service(shared_account, schema_version="20220503175500")
    yield shared_account
    shared_account.tidy()


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
