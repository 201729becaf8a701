"""State machines in the shape that Metaflow gives them, with jobs that take no time."""

import json

import pytest
from botocore.exceptions import ClientError
from runtime_account import PYTHON_IMAGE, wait_for
from runtime_stack import Batch

KEEP = "$.['JobId', 'Parameters', 'Index', 'SplitParentTaskId']"


class States:
    """State machines on the shared account's Batch."""

    def __init__(self, account):
        self.account = account
        self.batch = Batch(account)
        self.client = account.emulator.client("stepfunctions")
        self.role = account.role("states", "states.amazonaws.com")
        account.allow("states", ["batch:SubmitJob", "events:PutTargets", "events:PutRule", "events:DescribeRule"], "*")
        account.allow("states", ["dynamodb:GetItem"], "arn:aws:dynamodb:us-east-1:123456789012:table/splits")
        account.emulator.client("s3").create_bucket(Bucket="maps")
        properties = {
            "image": PYTHON_IMAGE,
            "command": ["true"],
            "jobRoleArn": self.batch.role,
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "128"}],
        }
        self.definition = self.batch.client.register_job_definition(
            jobDefinitionName="job", type="container", containerProperties=properties
        )["jobDefinitionArn"]

    def job(self, *command, variables=None, **more):
        """A state that runs a job, as Metaflow writes it."""
        environment = [
            {"Name": name, "Value.$" if value.startswith("$") else "Value": value}
            for name, value in (variables or {}).items()
        ]
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::batch:submitJob.sync",
            "Parameters": {
                "JobDefinition": self.definition,
                "JobName": "state",
                "JobQueue": "queue",
                "Parameters": {"kept": "yes"},
                "ContainerOverrides": {"Command": list(command), "Environment": environment},
            },
            "ResultPath": None,
        } | more

    def start(self, name, definition, role=None, data=None):
        arn = self.client.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role or self.role)[
            "stateMachineArn"
        ]
        return self.client.start_execution(stateMachineArn=arn, input=json.dumps(data or {}))["executionArn"]

    def ended(self, execution):
        return wait_for(
            lambda: (found := self.client.describe_execution(executionArn=execution))["status"] != "RUNNING" and found
        )

    def run(self, name, definition, **options):
        return self.ended(self.start(name, definition, **options))


def machine(**states):
    """A machine that begins with the first state."""
    return {"StartAt": next(iter(states)), "States": states}


@pytest.fixture(scope="module")
def states(shared_account):
    return States(shared_account)


def test_a_job_that_fails_fails_the_execution(states):
    done = states.run("fails", machine(job=states.job("false", End=True)))
    assert (done["status"], done["error"]) == ("FAILED", "States.TaskFailed")
    assert json.loads(done["cause"])["StatusReason"] == "Essential container in task exited"


def test_a_failed_job_is_retried_and_caught(states):
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "after", "ResultPath": "$.Error"}]
    after = {"Type": "Pass", "End": True}
    done = states.run("caught", machine(job=states.job("false", End=True, Retry=retry, Catch=catch), after=after))
    assert done["status"] == "SUCCEEDED"
    assert json.loads(done["output"])["Error"]["Error"] == "States.TaskFailed"


def test_an_index_in_a_path_gives_a_value(states):
    branches = [
        machine(**{name: {"Type": "Pass", "Result": {"JobId": name}, "End": True}}) for name in ("left", "right")
    ]
    join = states.job("sh", "-c", "echo $FROM", variables={"FROM": "$[1].JobId"}, ResultPath="$", End=True)
    done = states.run("join", machine(split={"Type": "Parallel", "Branches": branches, "Next": "join"}, join=join))
    assert done["status"] == "SUCCEEDED", done
    assert states.batch.log(states.batch.job(json.loads(done["output"])["JobId"])) == ["right"]


def test_an_inline_foreach_takes_its_items_from_the_table(states):
    table = states.account.emulator.client("dynamodb")
    table.create_table(
        TableName="splits",
        KeySchema=[{"AttributeName": "pathspec", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pathspec", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    table.put_item(
        TableName="splits", Item={"pathspec": {"S": "parent"}, "for_each_cardinality": {"NS": ["0", "1", "2"]}}
    )
    foreach = machine(
        start={"Type": "Pass", "Result": {"JobId": "parent", "Parameters": {"p": "1"}}, "Next": "#take"},
        **{
            "#take": {
                "Type": "Task",
                "Resource": "arn:aws:states:::dynamodb:getItem",
                "Parameters": {
                    "TableName": "splits",
                    "Key": {"pathspec": {"S.$": "$.JobId"}},
                    "ConsistentRead": True,
                    "ProjectionExpression": "for_each_cardinality",
                },
                "ResultPath": "$.Result",
                "Next": "*take",
            },
            "*take": {
                "Type": "Map",
                "ItemsPath": "$.Result.Item.for_each_cardinality.NS",
                "Parameters": {"JobId.$": "$.JobId", "SplitParentTaskId.$": "$.JobId", "Index.$": "$$.Map.Item.Value"},
                "MaxConcurrency": 100,
                "Iterator": machine(
                    take=states.job(
                        "true", variables={"INDEX": "$.Index"}, ResultPath="$.Job", OutputPath=KEEP, End=True
                    )
                ),
                "End": True,
            },
        },
    )
    done = states.run("foreach", foreach)
    assert done["status"] == "SUCCEEDED", (done["error"], done["cause"])
    assert sorted(one["Index"] for one in json.loads(done["output"])) == ["0", "1", "2"]


def distributed(states):
    """What Metaflow makes of a foreach with --use-distributed-map."""
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "maps", "Prefix": "run"}}
    iterator = machine(
        take=states.job(
            "sh", "-c", "echo $INDEX", variables={"INDEX": "$.Index"}, ResultPath="$", OutputPath=KEEP, End=True
        )
    )
    pass_on = {
        "Type": "Pass",
        "Parameters": {"Output.$": "States.StringToJson($.Output)"},
        "OutputPath": "$.Output",
        "End": True,
    }
    mode = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}}
    return machine(
        start={"Type": "Pass", "Result": {"JobId": "parent", "items": ["0", "1", "2"]}, "Next": "*take"},
        **{
            "*take": {
                "Type": "Map",
                "ItemsPath": "$.items",
                "Parameters": {"JobId.$": "$.JobId", "Index.$": "$$.Map.Item.Value"},
                "MaxConcurrency": 100,
                "Iterator": iterator | mode,
                "ResultWriter": writer,
                "OutputPath": "$",
                "Next": "*take_*GetManifest",
            },
            "*take_*GetManifest": {
                "Type": "Task",
                "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
                "Parameters": {"Bucket.$": "$.ResultWriterDetails.Bucket", "Key.$": "$.ResultWriterDetails.Key"},
                "ResultSelector": {"Body.$": "States.StringToJson($.Body)"},
                "Next": "*take_*Map",
            },
            "*take_*Map": {
                "Type": "Map",
                "MaxConcurrency": 1000,
                "Iterator": machine(Pass=pass_on) | mode,
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "JSON", "MaxItems": 1},
                    "Parameters": {
                        "Bucket.$": "$.Body.DestinationBucket",
                        "Key.$": "$.Body.ResultFiles.SUCCEEDED[0].Key",
                    },
                },
                "OutputPath": "$.[0]",
                "End": True,
            },
        },
    )


def test_the_distributed_map_writes_and_reads_its_results(states):
    done = states.run("distributed", distributed(states))
    assert done["status"] == "SUCCEEDED", (done["error"], done["cause"])
    job = states.batch.job(json.loads(done["output"])["JobId"])
    assert states.batch.log(job) == ["0"]


def test_stopping_an_execution_ends_its_jobs(states):
    execution = states.start("stopped", machine(job=states.job("sleep", "600", End=True)))
    (job_id,) = wait_for(lambda: states.batch.states("RUNNING"))
    states.client.stop_execution(executionArn=execution)
    assert states.batch.done(job_id)["statusReason"] == "The state machine execution was stopped"
    assert states.ended(execution)["status"] == "ABORTED"


def test_the_role_must_be_allowed_to_submit(states):
    role = states.account.role("weak", "states.amazonaws.com")
    states.account.allow("weak", ["batch:SubmitJob"], states.definition)
    done = states.run("weak", machine(job=states.job("true", End=True)), role=role)
    assert (done["status"], done["error"]) == ("FAILED", "Batch.AccessDeniedException")
    assert "batch:SubmitJob on resource: arn:aws:batch:us-east-1:123456789012:job-queue/queue" in done["cause"]


@pytest.mark.parametrize("service", [None, "ecs-tasks.amazonaws.com"])
def test_a_role_that_is_missing_or_does_not_trust_the_service_is_refused(states, service):
    role = states.account.role("stranger", service) if service else "arn:aws:iam::123456789012:role/gone"
    with pytest.raises(ClientError, match="nor the regional one is authorized to assume"):
        states.start("refused", machine(only={"Type": "Succeed"}), role=role)


def test_a_chain_needs_a_role_that_may_start_the_next(states):
    inner = states.client.create_state_machine(
        name="inner", definition=json.dumps(machine(only={"Type": "Succeed"})), roleArn=states.role
    )["stateMachineArn"]
    chain = machine(
        first={
            "Type": "Task",
            "Resource": "arn:aws:states:::states:startExecution.sync:2",
            "Parameters": {"StateMachineArn": inner, "Input": {}},
            "End": True,
        }
    )
    role = states.account.role("chain", "states.amazonaws.com")
    done = states.run("chain-refused", chain, role=role)
    assert done["status"] == "FAILED"
    assert f"states:StartExecution on resource: {inner}" in done["cause"]
    states.account.allow(
        "chain", ["states:StartExecution", "events:PutTargets", "events:PutRule", "events:DescribeRule"], "*"
    )
    done = states.run("chain", chain, role=role)
    assert done["status"] == "SUCCEEDED", done["cause"]
    output = json.loads(done["output"])
    assert (output["Status"], output["StateMachineArn"]) == ("SUCCEEDED", inner)


def test_a_role_that_is_deleted_after_the_machine_was_made_fails_its_states(states):
    role = states.account.role("short-lived-states", "states.amazonaws.com")
    waits = {"Type": "Wait", "Seconds": 1, "Next": "job"}
    execution = states.start("orphan", machine(wait=waits, job=states.job("true", End=True)), role=role)
    states.account.iam.delete_role(RoleName="short-lived-states")
    done = states.ended(execution)
    assert (done["status"], done["error"]) == ("FAILED", "Batch.AccessDeniedException")
    assert "is not authorized to assume the role" in done["cause"]


@pytest.fixture(scope="module")
def follower(states):
    """A target of rules: a machine, and the role as which it is started."""
    arn = states.client.create_state_machine(
        name="follower", definition=json.dumps(machine(only={"Type": "Succeed"})), roleArn=states.role
    )["stateMachineArn"]
    role = states.account.role("rule", "events.amazonaws.com")
    states.account.allow("rule", ["states:StartExecution"], arn)
    return {"Id": "1", "Arn": arn, "RoleArn": role}


class TestEvents:
    """Rules of EventBridge start state machines."""

    @pytest.fixture
    def events(self, states):
        client = states.account.emulator.client("events")
        yield client
        client.remove_targets(Rule="rule", Ids=["1"])
        client.delete_rule(Name="rule")

    def started(self, states, follower):
        executions = states.client.list_executions(stateMachineArn=follower["Arn"])["executions"]
        return [states.client.describe_execution(executionArn=e["executionArn"])["input"] for e in executions]

    def advance(self, states, seconds):
        states.account.emulator.request("POST", "/_runtime/clock", {"advance": seconds})

    def test_on_a_schedule(self, states, events, follower):
        before = len(self.started(states, follower))
        events.put_rule(Name="rule", ScheduleExpression="rate(1 hour)")
        events.put_targets(Rule="rule", Targets=[follower | {"Input": json.dumps({"from": "rule"})}])
        self.advance(states, 1800)
        assert len(self.started(states, follower)) == before
        self.advance(states, 7200)
        assert [json.loads(one) for one in self.started(states, follower)[before:]] == [{"from": "rule"}] * 2
        events.disable_rule(Name="rule")
        self.advance(states, 7200)
        assert len(self.started(states, follower)) == before + 2

    def test_after_another_machine_has_succeeded(self, states, events, follower):
        before = len(self.started(states, follower))
        pattern = {"source": ["aws.states"], "detail": {"status": ["SUCCEEDED"], "name": ["leader-run"]}}
        events.put_rule(Name="rule", EventPattern=json.dumps(pattern))
        events.put_targets(Rule="rule", Targets=[follower])
        leader = states.client.create_state_machine(
            name="leader", definition=json.dumps(machine(only={"Type": "Succeed"})), roleArn=states.role
        )["stateMachineArn"]
        states.client.start_execution(stateMachineArn=leader, name="leader-run")
        wait_for(lambda: len(self.started(states, follower)) == before + 1)
        events = [json.loads(one) for one in self.started(states, follower)]
        assert [one["detail"]["stateMachineArn"] for one in events if "detail" in one] == [leader]

    def test_only_as_a_role_that_may(self, states, events, follower):
        before = len(self.started(states, follower))
        events.put_rule(Name="rule", ScheduleExpression="rate(1 minute)")
        events.put_targets(Rule="rule", Targets=[follower | {"RoleArn": states.role}])
        self.advance(states, 120)
        assert len(self.started(states, follower)) == before
