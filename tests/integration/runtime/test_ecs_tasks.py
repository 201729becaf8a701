"""RunTask starts processes that live as ECS tasks do."""

import json
import re

import pytest
from runtime_account import METADATA_IMAGE, wait_for

SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def environment_of(account, arn):
    account.stopped(arn)
    return json.loads(account.log_of(arn)[0])


def test_a_task_runs_its_command_and_stops_with_its_exit_code(account):
    arn = account.run(account.define(account.container("python", "-c", "print('out'); raise SystemExit(3)")))
    task = account.stopped(arn)
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    assert task["createdAt"] <= task["startedAt"] <= task["stoppingAt"] <= task["stoppedAt"]
    assert account.log_of(arn) == ["out"]


def test_a_running_task_has_an_address_and_does_not_drift(account):
    arn = account.run(account.define(account.container("sleep", "600")))
    task = account.running(arn)
    details = {detail["name"]: detail["value"] for detail in task["attachments"][0]["details"]}
    assert details["privateIPv4Address"].startswith("10.20.0.")
    assert task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] == details["privateIPv4Address"]
    assert [account.task(arn)["lastStatus"] for _ in range(5)] == ["RUNNING"] * 5
    assert account.ecs.describe_clusters(clusters=["test"])["clusters"][0]["runningTasksCount"] == 1
    interfaces = account.ec2.describe_network_interfaces(NetworkInterfaceIds=[details["networkInterfaceId"]])
    assert interfaces["NetworkInterfaces"][0]["Groups"][0]["GroupId"] == account.group


def test_the_environment_holds_what_the_definition_gives_and_no_keys(account):
    variables = {"GIVEN": "one", "AWS_REGION": "eu-west-1"}
    arn = account.run(account.define(account.container("python", "-c", SHOW_ENVIRONMENT, variables=variables)))
    environment = environment_of(account, arn)
    assert environment["GIVEN"] == "one"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert environment["AWS_ENDPOINT_URL"] == account.emulator.endpoint
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MOTO_PORT"} & environment.keys()


def test_a_task_acts_as_its_role(account):
    code = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    arn = account.run(account.define(account.container("python", "-c", code)))
    account.stopped(arn)
    assert account.log_of(arn) == [f"arn:aws:sts::123456789012:assumed-role/task/{arn.split('/')[-1]}"]


def test_a_task_without_a_role_has_no_credentials(account):
    code = "import boto3; print(boto3.Session().get_credentials())"
    arn = account.run(account.define(account.container("python", "-c", code), taskRoleArn=None))
    account.stopped(arn)
    assert account.log_of(arn) == ["None"]


def test_overrides_replace_command_and_variables(account):
    container = account.container("python", "-c", SHOW_ENVIRONMENT, variables={"A": "1", "B": "2"})
    override = {"name": "main", "environment": [{"name": "B", "value": "3"}]}
    arn = account.run(account.define(container), overrides={"containerOverrides": [override]})
    environment = environment_of(account, arn)
    assert (environment["A"], environment["B"]) == ("1", "3")
    other = account.run(
        account.define(container),
        overrides={"containerOverrides": [{"name": "main", "command": ["echo", "overridden"]}]},
    )
    account.stopped(other)
    assert account.log_of(other) == ["overridden"]


def test_entry_point_and_command_are_joined(account):
    arn = account.run(account.define(account.container("two", entryPoint=["echo", "one"])))
    account.stopped(arn)
    assert account.log_of(arn) == ["one two"]


def test_stop_task_is_sigterm_then_sigkill(account):
    deaf = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    arn = account.run(account.define(account.container("sh", "-c", deaf, stopTimeout=2)))
    account.running(arn)
    wait_for(lambda: account.log_of(arn))
    account.ecs.stop_task(cluster="test", task=arn, reason="enough")
    waiter = account.ecs.get_waiter("tasks_stopped")
    waiter.wait(cluster="test", tasks=[arn], WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
    task = account.task(arn)
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert task["containers"][0]["exitCode"] == 137


def test_a_container_that_is_not_essential_may_end(account):
    main = account.container("sleep", "600")
    helper = account.container("true", name="helper", essential=False)
    arn = account.run(account.define(main, helper))
    task = wait_for(
        lambda: (
            (task := account.task(arn))["lastStatus"] == "RUNNING"
            and [c for c in task["containers"] if c.get("exitCode") == 0]
            and task
        )
    )
    assert {c["name"]: c["lastStatus"] for c in task["containers"]} == {"main": "RUNNING", "helper": "STOPPED"}


@pytest.mark.parametrize(
    ("check", "expected"), [(["CMD-SHELL", "test -n $GIVEN"], "HEALTHY"), (["CMD", "false"], "UNHEALTHY")]
)
def test_health_checks_are_run(account, check, expected):
    health = {"command": check, "interval": 5, "retries": 1}
    container = account.container("sleep", "600", healthCheck=health, variables={"GIVEN": "x"})
    arn = account.run(account.define(container))
    wait_for(lambda: account.task(arn)["healthStatus"] == expected)
    assert account.task(arn)["containers"][0]["healthStatus"] == expected


def test_a_health_check_reaches_the_containers_own_port(account):
    code = "import urllib.request; urllib.request.urlopen('http://localhost:8080/ping')"
    container = account.server(healthCheck={"command": ["CMD", "python3", "-c", code], "interval": 5})
    arn = account.run(account.define(container))
    wait_for(lambda: account.task(arn)["healthStatus"] == "HEALTHY")


FAILURES = {
    "unknown image": (
        {"image": "nobody/nothing:1"},
        "CannotPullContainerError: .* failed to resolve ref docker.io/nobody/nothing:1: .*: not found",
    ),
    "missing secret": (
        {"secrets": [{"name": "S", "valueFrom": "arn:aws:secretsmanager:us-east-1:123456789012:secret:gone-AbCdEf"}]},
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
        "unable to retrieve secret from asm: .*ResourceNotFoundException",
    ),
    "missing parameter": (
        {"secrets": [{"name": "S", "valueFrom": "/test/gone"}]},
        "ResourceInitializationError: .*invalid ssm parameters: /test/gone",
    ),
    "missing program": (
        {"command": ["no-such-program"]},
        'CannotStartContainerError: .*exec: "no-such-program": executable file not found in \\$PATH',
    ),
    "missing log group": (
        {"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/gone"}}},
        "ResourceInitializationError: failed to validate logger args: .*The specified log group does not exist",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_start_stops_with_the_reason_of_aws(account, name):
    options, reason = FAILURES[name]
    account.allow("execution", ["ssm:GetParameters"], "*")
    task = account.stopped(account.run(account.define(account.container("true") | options)))
    assert task["stopCode"] == "TaskFailedToStart"
    assert re.search(reason, task["stoppedReason"]), task["stoppedReason"]
    assert "exitCode" not in task["containers"][0]


def test_the_execution_role_must_be_allowed_to_write_the_log(account):
    definition = account.define(
        account.container("true"), executionRoleArn=account.role("mute", "ecs-tasks.amazonaws.com")
    )
    task = account.stopped(account.run(definition))
    assert "not authorized to perform: logs:CreateLogStream on resource" in task["stoppedReason"]
    account.allow(
        "mute",
        ["logs:CreateLogStream", "logs:PutLogEvents"],
        "arn:aws:logs:us-east-1:123456789012:log-group:/ecs/test:*",
    )
    assert account.stopped(account.run(definition))["containers"][0]["exitCode"] == 0


def test_a_role_that_does_not_trust_ecs_is_refused(account):
    role = account.role("other", "ec2.amazonaws.com")
    definition = account.define(account.container("true"), executionRoleArn=role)
    with pytest.raises(account.ecs.exceptions.ClientException, match="ECS was unable to assume the role"):
        account.run(definition)


class TestSecrets:
    """valueFrom is read as the execution role."""

    @pytest.fixture
    def secret(self, account):
        value = json.dumps({"username": "metaflow", "password": "s3cret"})
        return account.secrets.create_secret(Name="db", SecretString=value)["ARN"]

    def read(self, account, value_from):
        secrets = [{"name": "VALUE", "valueFrom": value_from}]
        arn = account.run(account.define(account.container("sh", "-c", "echo $VALUE", secrets=secrets)))
        task = account.stopped(arn)
        return account.log_of(arn)[0] if task["containers"][0].get("exitCode") == 0 else task["stoppedReason"]

    def test_whole_and_by_json_key(self, account, secret):
        account.allow("execution", ["secretsmanager:GetSecretValue"], secret)
        assert json.loads(self.read(account, secret))["username"] == "metaflow"
        assert self.read(account, f"{secret}:password::") == "s3cret"
        assert "did not contain json key pass" in self.read(account, f"{secret}:pass::")

    def test_by_stage_and_version(self, account, secret):
        account.allow("execution", ["secretsmanager:GetSecretValue"], secret)
        first = account.secrets.describe_secret(SecretId=secret)["VersionIdsToStages"]
        account.secrets.put_secret_value(SecretId=secret, SecretString=json.dumps({"password": "newer"}))
        assert self.read(account, f"{secret}:password::") == "newer"
        assert self.read(account, f"{secret}:password:AWSPREVIOUS:") == "s3cret"
        assert self.read(account, f"{secret}:password::{next(iter(first))}") == "s3cret"

    def test_not_allowed(self, account, secret):
        assert "AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/execution" in self.read(
            account, secret
        )

    def test_parameter_by_name_and_arn(self, account):
        account.ssm.put_parameter(Name="/test/key", Value="k1", Type="SecureString")
        arn = "arn:aws:ssm:us-east-1:123456789012:parameter/test/key"
        account.allow("execution", ["ssm:GetParameters"], arn)
        assert self.read(account, "/test/key") == "k1"
        assert self.read(account, arn) == "k1"

    def test_customer_key_needs_decrypt(self, account):
        key = account.emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
        account.ssm.put_parameter(Name="/test/key", Value="k2", Type="SecureString", KeyId=key)
        account.allow("execution", ["ssm:GetParameters"], "*")
        assert f"not authorized to perform: kms:Decrypt on resource: {key}" in self.read(account, "/test/key")
        account.allow("execution", ["kms:Decrypt"], key)
        assert self.read(account, "/test/key") == "k2"


def test_tasks_are_listed_by_what_they_are(account):
    running = account.run(account.define(account.container("sleep", "600")), startedBy="tester", group="mine")
    stopped = account.run(account.define(account.container("true")))
    account.running(running)
    account.stopped(stopped)

    def listed(**filters):
        return account.ecs.list_tasks(cluster="test", **filters)["taskArns"]

    assert listed() == [running]
    assert stopped in listed(desiredStatus="STOPPED")
    assert listed(startedBy="tester") == [running]
    assert listed(startedBy="another") == []
    assert listed(family="test") == [running]
    assert listed(launchType="EC2") == []
    missing = account.ecs.describe_tasks(cluster="test", tasks=["gone"])
    assert missing["failures"] == [{"arn": "gone", "reason": "MISSING"}]


def test_the_metadata_image_is_known_by_all_its_names(account):
    images = [METADATA_IMAGE, "public.ecr.aws/outerbounds/metaflow_metadata_service:2.5.0"]
    for image in images:
        arn = account.run(account.define(account.server(image=image)))
        account.running(arn)
