"""metaflow_flow and metaflow_execution against the emulated account, with flows that the real Metaflow deploys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from steps import Module

MARKS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/component": "flows", "cost": "1"}

ARN = "arn:aws:states:us-east-1:123456789012:stateMachine:"

ONE = '''"""Uses a module beside it."""
from metaflow import FlowSpec, Parameter, resources, step

import shared


class OneFlow(FlowSpec):
    width = Parameter("width", default=3)

    @step
    def start(self):
        print(shared.WORD, self.width)
        self.next(self.end)

    @resources(memory=1000)
    @step
    def end(self):
        pass


if __name__ == "__main__":
    OneFlow()
'''
TWO = '''"""Has a schedule and a project."""
from metaflow import FlowSpec, project, schedule, step


@project(name="shop")
@schedule(cron="0 6 * * ? 2099")
class TwoFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    TwoFlow()
'''


def trust(service: str) -> str:
    """Return the policy by which a service may act as a role."""
    principal = {"Service": f"{service}.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Account:
    """A queue, roles, a bucket, a folder of flows, and Metaflow's configuration for them."""

    def __init__(self, emulator: Any, directory: Path) -> None:
        self.emulator = emulator
        self.states, self.events = emulator.client("stepfunctions"), emulator.client("events")
        ec2, iam, self.batch = (emulator.client(service) for service in ("ec2", "iam", "batch"))
        vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="batch", Description="batch", VpcId=vpc)["GroupId"]
        services = {"job": "ecs-tasks", "states": "states", "events": "events", "instance": "ec2"}
        roles = {
            name: iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(service))["Role"]["Arn"]
            for name, service in services.items()
        }
        iam.create_instance_profile(InstanceProfileName="instance")
        iam.add_role_to_instance_profile(InstanceProfileName="instance", RoleName="instance")
        ec2.create_launch_template(
            LaunchTemplateName="batch",
            LaunchTemplateData={"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 100}}]},
        )
        self.batch.create_compute_environment(
            computeEnvironmentName="ec2",
            type="MANAGED",
            state="ENABLED",
            computeResources={
                "type": "EC2", "maxvCpus": 16, "minvCpus": 0, "instanceTypes": ["m5.large", "c5.xlarge"],
                "instanceRole": "instance", "subnets": [subnet], "securityGroupIds": [group],
                "launchTemplate": {"launchTemplateName": "batch", "version": "$Default"},
            },
        )  # fmt: skip
        self.batch.create_job_queue(
            jobQueueName="main",
            state="ENABLED",
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "ec2"}],
        )
        emulator.client("s3").create_bucket(Bucket="flows")
        config = {
            "DEFAULT_DATASTORE": "s3", "DATASTORE_SYSROOT_S3": "s3://flows/metaflow", "DEFAULT_METADATA": "local",
            "S3_ENDPOINT_URL": emulator.endpoint, "BATCH_JOB_QUEUE": "main", "ECS_S3_ACCESS_IAM_ROLE": roles["job"],
            "SFN_IAM_ROLE": roles["states"], "EVENTS_SFN_ACCESS_IAM_ROLE": roles["events"],
            "SFN_STATE_MACHINE_PREFIX": "test", "SFN_DYNAMO_DB_TABLE": "splits", "SFN_COMPRESS_STATE_MACHINE": "true",
            "SFN_EXECUTION_LOG_GROUP_ARN": "arn:aws:logs:us-east-1:123456789012:log-group:/states:*",
        }  # fmt: skip
        emulator.client("logs").create_log_group(logGroupName="/states")
        self.home, self.source = directory / "home", directory / "source"
        self.home.mkdir()
        self.source.mkdir()
        (self.home / "config.json").write_text(json.dumps({f"METAFLOW_{key}": value for key, value in config.items()}))
        for name, text in {"one.py": ONE, "two.py": TWO, "shared.py": 'WORD = "hello"\n'}.items():
            (self.source / name).write_text(text)

    def args(self, *flows: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return the module's arguments for a list of flows."""
        return {
            "flows": list(flows),
            "source": str(self.source),
            "prefix": "test",
            "tags": MARKS,
            "owner": "tester",
            "home": str(self.home),
            "metaflow_python": sys.executable,
        } | options

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a file of the source."""
        path = self.source / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def machines(self) -> dict[str, Any]:
        """Return name -> description of the state machines, with their tags."""
        found = {}
        for item in self.states.list_state_machines()["stateMachines"]:
            arn = item["stateMachineArn"]
            tags = self.states.list_tags_for_resource(resourceArn=arn)["tags"]
            machine = self.states.describe_state_machine(stateMachineArn=arn)
            found[item["name"]] = {
                "definition": machine["definition"],
                "updated": machine.get("updateDate"),
                "tags": {tag["key"]: tag["value"] for tag in tags},
            }
        return found

    def rule(self, name: str) -> tuple[str, str, str] | None:
        """Return expression, state and input of a rule, or None."""
        rules = [rule for rule in self.events.list_rules()["Rules"] if rule["Name"] == name]
        if not rules:
            return None
        (target,) = self.events.list_targets_by_rule(Rule=name)["Targets"]
        return rules[0]["ScheduleExpression"], rules[0]["State"], target["Input"]


@pytest.fixture
def account(emulator, tmp_path):
    emulator.reset()
    yield Account(emulator, tmp_path)
    emulator.reset()


@pytest.fixture
def flows(run_module, account):
    return Module(run_module, account.emulator, "metaflow_flow")


ONE_ITEM = {"name": "one", "file": "one.py"}
TWO_ITEM = {"name": "two", "file": "two.py", "project": {"name": "shop", "production": True}}
TWO_NAME = "test_shop.prod.TwoFlow"


def outcomes(result: dict[str, Any]) -> dict[str, str]:
    return {flow["name"]: flow["outcome"] for flow in result["flows"]}


def test_the_life_of_two_flows(flows, account):
    """Deployed once, redeployed where they differ, kept where they are left out, removed when that is said."""
    args = account.args(ONE_ITEM, TWO_ITEM)
    predicted = flows.run(args, check=True)
    assert not list(account.home.glob("test*")), "no token is cached"
    made = flows.run(args)
    assert predicted["diff"] == made["diff"]
    assert predicted["flows"] == made["flows"]
    assert outcomes(made) == {"one": "deployed", "two": "deployed"}
    assert [flow["state_machine_arn"] for flow in made["flows"]] == [ARN + "test_OneFlow", ARN + TWO_NAME]
    machines = account.machines()
    assert machines["test_OneFlow"]["tags"].items() >= (MARKS | {"mlops.metaflow/parameters": "width"}).items()
    assert account.rule(TWO_NAME) == ("cron(0 6 * * ? 2099)", "ENABLED", '{"Parameters": "{}"}')
    assert outcomes(flows.run(args, changes=False)) == {"one": "unchanged", "two": "unchanged"}
    flows.run(args, check=True, changes=False)

    account.edit("one.py", "print(shared.WORD", "print('now', shared.WORD")
    predicted = flows.run(args, check=True)
    (difference,) = predicted["diff"]
    assert difference["before"]["files"] == {"one.py": ["        print(shared.WORD, self.width)"]}
    assert difference["after"]["files"] == {"one.py": ["        print('now', shared.WORD, self.width)"]}
    made = flows.run(args)
    assert predicted["diff"] == made["diff"]
    assert outcomes(made) == {"one": "deployed", "two": "unchanged"}
    changed = {name for name, machine in account.machines().items() if machine != machines[name]}
    assert changed == {"test_OneFlow"}

    definition = json.loads(account.machines()[TWO_NAME]["definition"])
    definition["States"]["end"]["Parameters"]["Timeout"]["AttemptDurationSeconds"] = 60
    account.states.update_state_machine(stateMachineArn=ARN + TWO_NAME, definition=json.dumps(definition))
    account.events.disable_rule(Name=TWO_NAME)
    made = flows.run(args)
    assert {flow["name"]: flow["reason"] for flow in made["flows"]} == {"one": "", "two": "changed in the account"}
    (difference,) = made["diff"]
    assert difference["before"] == {"schedule": {"state": "DISABLED"}, "states": {"end": {"timeout": 60}}}
    assert difference["after"] == {"schedule": {"state": "ENABLED"}, "states": {"end": {"timeout": 432000}}}
    assert account.rule(TWO_NAME)[1] == "ENABLED"

    left_out = account.args(ONE_ITEM)
    kept = flows.run(left_out, changes=False)
    assert outcomes(kept) == {"one": "unchanged", "two": "kept"}
    assert f"The flow 'two' (state machine {TWO_NAME}) is deployed and not in the list. It is kept" in str(kept)
    assert account.rule(TWO_NAME)[1] == "ENABLED"

    gone = account.args(ONE_ITEM, {"name": "two", "state": "absent"})
    assert outcomes(flows.run(gone, check=True)) == {"one": "unchanged", "two": "retired"}
    assert outcomes(flows.run(gone)) == {"one": "unchanged", "two": "retired"}
    assert (list(account.machines()), account.rule(TWO_NAME)) == (["test_OneFlow"], None)
    assert outcomes(flows.run(gone, changes=False)) == {"one": "unchanged", "two": "absent"}

    assert outcomes(flows.run(account.args(retire=True))) == {"one": "retired"}
    assert account.machines() == {}


def test_the_list_has_the_last_word_on_schedules_and_parameters(flows, account):
    scheduled = ONE_ITEM | {"schedule": "0 7 * * ? 2099", "parameters": {"width": 5}, "tags": ["nightly"]}
    flows.run(account.args(scheduled, TWO_ITEM | {"schedule": "none"}))
    expected = json.dumps({"Parameters": json.dumps({"width": "5"})})
    assert account.rule("test_OneFlow") == ("cron(0 7 * * ? 2099)", "ENABLED", expected)
    assert account.rule(TWO_NAME) is None
    changed = flows.run(account.args(ONE_ITEM, TWO_ITEM | {"schedule": "none"}))
    assert outcomes(changed) == {"one": "deployed", "two": "unchanged"}
    assert account.rule("test_OneFlow")[1] == "DISABLED", "as Metaflow leaves it"
    flows.run(account.args(ONE_ITEM, TWO_ITEM | {"schedule": "none"}), changes=False)


def test_what_can_not_be_deployed_is_refused_before_anything_is(flows, account):
    greedy = ["resources:cpu=17,memory=900000,gpu=1,disk=204800"]
    item = ONE_ITEM | {"with": greedy, "project": {"name": "store"}, "parameters": {"widht": 1}}
    message = flows.run(account.args(item, ONE_ITEM | {"name": "again"}), fails=True)["msg"]
    assert message.splitlines() == [
        "Nothing was deployed. one and again are one state machine, test_OneFlow.",
        "one: one.py has no @project(name='store').",
        "one: one.py has no parameter widht; it has: width.",
        "one: the step 'start' asks for 17 vCPUs, 900000 MiB of memory, 1 GPU, 200 GiB of disk, and would wait for "
        "ever in the queue 'main'. ec2 (EC2): it may have 16 vCPUs in all (maxvCpus).",
    ]
    assert account.machines() == {}


def test_a_file_that_is_not_there_is_refused(flows, account):
    assert f"one: there is no file 'shop.py' in {account.source}" in flows.refused(
        account.args(ONE_ITEM | {"file": "shop.py"})
    )


def test_a_flow_that_metaflow_refuses_is_named(flows, account):
    account.edit("one.py", "self.next(self.end)", "self.next(self.nowhere)")
    args = account.args(ONE_ITEM)
    message = flows.run(args, fails=True)["msg"]
    assert "Failed to rehearse the deployment of the flow 'one': " in message
    assert "nowhere" in message
    assert account.machines() == {}
    checked = flows.run(args, check=True)
    assert outcomes(checked) == {"one": "deployed"}
    assert "The deployment of the flow 'one' can't be rehearsed: " in str(checked["warnings"])


def test_check_mode_without_a_configuration_says_so(flows, account):
    (account.home / "config.json").unlink()
    result = flows.run_module("mlops.metaflow.metaflow_flow", account.args(ONE_ITEM), check=True)
    assert result["changed"]
    assert "config.json does not exist yet" in result["msg"]


@pytest.fixture
def deployed(account):
    """A state machine with a flow's tags that ends at once, and the arguments that find it."""
    start = {"Type": "Pass", "Parameters": {"Parameters": {"metaflow.flow_name": "OneFlow"}}, "End": True}
    tags = MARKS | {"mlops.metaflow/flow": "one", "mlops.metaflow/parameters": "width"}
    account.states.create_state_machine(
        name="test_OneFlow",
        definition=json.dumps({"StartAt": "start", "States": {"start": start}}),
        roleArn="arn:aws:iam::123456789012:role/states",
        tags=[{"key": key, "value": value} for key, value in tags.items()],
    )
    return {"prefix": "test", "tags": MARKS, "home": str(account.home), "wait": True}


@pytest.fixture
def execution(run_module, account):
    return Module(run_module, account.emulator, "metaflow_execution")


@pytest.mark.parametrize("name", ["one", "test_OneFlow"])
def test_an_execution_is_started_with_its_parameters_and_awaited(execution, account, deployed, name):
    started = deployed | {"flow": name, "parameters": {"width": 4}}
    assert execution.run(started, check=True)["execution"] == {}
    found = execution.run(started)["execution"]
    described = account.states.describe_execution(executionArn=found["execution_arn"])
    assert json.loads(json.loads(described["input"])["Parameters"]) == {"width": "4"}
    assert (found["pathspec"], found["status"]) == (f"OneFlow/sfn-{described['name']}", "SUCCEEDED")
    assert found["execution_arn"] in found["url"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"flow": "three"}, "The flow 'three' is not deployed in us-east-1; deployed are: one."),
        ({"flow": "one", "parameters": {"height": 1}}, "The flow 'one' has no parameter height; it has: width."),
    ],
)
def test_what_can_not_be_started_is_refused(execution, deployed, given, said):
    assert said in execution.refused(deployed | given)
