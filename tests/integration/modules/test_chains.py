# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules state_machine and event_rule against the emulator, and chains of flows that do nothing, run there."""

from __future__ import annotations

import json
import time

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import chain, discovery
from steps import Module

PLACE = chain.Place("aws", "us-east-1", "123456789012", "m")
ROLE = "arn:aws:iam::123456789012:role/"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:"
CONSOLE = "https://us-east-1.console.aws.amazon.com"
LOG = "arn:aws:logs:us-east-1:123456789012:log-group:/chains"
WAITS = {
    "StartAt": "A",
    "States": {"A": {"Type": "Wait", "Seconds": 3, "Next": "B"}, "B": {"Type": "Pass", "End": True}},
}
FAILS = {"StartAt": "A", "States": {"A": {"Type": "Fail", "Error": "NoData", "Cause": 'a "cause" with quotes'}}}
PASSES = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}
MINIMAL = {"name": "machine", "definition": PASSES, "role_arn": ROLE + "first"}
RULE = {
    "name": "rule",
    "schedule_expression": "cron(0 6 * * ? 2099)",
    "targets": [{"id": "machine", "arn": MACHINE + "machine", "role_arn": ROLE + "events", "input": "{}"}],
}
PATTERN = {
    "name": "rule",
    "description": "Starts after another one",
    "event_pattern": chain.status_pattern(MACHINE + "machine", ["SUCCEEDED"]),
    "targets": [{"id": "other", "arn": MACHINE + "other", "role_arn": ROLE + "events"}],
    "tags": {"a_b": "c"},
}


def wait_for(condition, seconds=30):
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, value
        time.sleep(0.05)
    return value


class Chains:
    """Chains on an empty account with some flows, which are state machines that do nothing."""

    def __init__(self, emulator, run_module):
        emulator.reset()
        self.client = emulator.client
        self.states = emulator.client("stepfunctions")
        self.machine = Module(run_module, emulator, "state_machine")
        self.rule = Module(run_module, emulator, "event_rule")
        for name, service in (("states", "states"), ("first", "states"), ("other", "states"), ("events", "events")):
            self.role(name, service, [])

    def role(self, name, service, statements):
        trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam = self.client("iam")
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)
        if statements:
            self.allow(name, statements)

    def allow(self, name, statements):
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.client("iam").put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=document)

    def flow(self, name, definition):
        self.states.create_state_machine(name=f"m_{name}", definition=json.dumps(definition), roleArn=ROLE + "states")

    def deploy(self, *steps, **more):
        """Deploy the chain of these steps, whose role may start what it names and what running executions may."""
        listed = {"name": "nightly", "steps": list(steps), **more}
        machines = {*chain.machines(listed, PLACE), *self.started_by_running()}
        self.allow("states", chain.statements(sorted(machines), PLACE))
        args = {
            "name": "m-chain-nightly",
            "definition": chain.definition(listed, PLACE),
            "role_arn": ROLE + "states",
            "tags": {discovery.TAG_STACK: "m", discovery.TAG_ENVIRONMENT: "test"},
        }
        self.machine.run(args)

    def started_by_running(self):
        """Return what the chain's executions that run may start, as the role finds it."""
        scope = discovery.Scope("m", "test", self.client)
        found = discovery.READERS["started_by_running"](scope, ["m-chain-"])
        return found.get("m-chain-nightly", {}).get("machines", [])

    def start(self, **parameters):
        answer = self.states.start_execution(stateMachineArn=MACHINE + "m-chain-nightly", input=json.dumps(parameters))
        return answer["executionArn"]

    def ended(self, execution):
        return wait_for(
            lambda: (found := self.states.describe_execution(executionArn=execution))["status"] != "RUNNING" and found
        )

    def executions(self, flow):
        return self.states.list_executions(stateMachineArn=f"{MACHINE}m_{flow}")["executions"]

    def input_of(self, flow):
        (execution,) = self.executions(flow)
        return json.loads(self.states.describe_execution(executionArn=execution["executionArn"])["input"])


@pytest.fixture
def chains(emulator, run_module):
    return Chains(emulator, run_module)


def test_twelve_steps_of_a_state_machine(chains):
    chains.client("logs").create_log_group(logGroupName="/chains")
    made = chains.machine.change(MINIMAL)["state_machine"]
    assert made["state_machine_arn"] == MACHINE + "machine"
    full = MINIMAL | {"definition": FAILS, "role_arn": ROLE + "other", "log_group_arn": LOG, "tags": {"a_b": "c"}}
    changed = chains.machine.change(full)
    assert changed["diff"]["before"]["definition"] == PASSES
    assert changed["diff"]["after"]["definition"] == FAILS
    live = chains.states.describe_state_machine(stateMachineArn=MACHINE + "machine")
    assert live["loggingConfiguration"]["destinations"] == [{"cloudWatchLogsLogGroup": {"logGroupArn": LOG + ":*"}}]
    chains.machine.run(MINIMAL | {"definition": FAILS, "role_arn": ROLE + "other"}, changes=False)
    assert chains.machine.change({"name": "machine", "state": "absent"})["state_machine"] == {}


def test_twelve_steps_of_a_rule(chains):
    assert chains.rule.change(RULE)["event_rule"]["schedule_expression"] == RULE["schedule_expression"]
    changed = chains.rule.change(PATTERN)["event_rule"]
    assert changed["event_pattern"] == PATTERN["event_pattern"]
    assert "schedule_expression" not in changed
    assert [target["Id"] for target in chains.client("events").list_targets_by_rule(Rule="rule")["Targets"]] == [
        "other"
    ]
    assert chains.rule.change({"name": "rule", "state": "absent"})["event_rule"] == {}


def test_every_construct_runs_to_the_end(chains):
    for name, does in {"A": PASSES, "B": FAILS, "C": PASSES, "D": PASSES, "E": PASSES, "F": PASSES}.items():
        chains.flow(name, does)
    chains.deploy(
        {"flow": "A", "parameters": {"day": {"parameter": "day"}, "limit": 5}},
        {"parallel": [{"flow": "B", "on_failure": "continue", "retry": {"interval": 1}}, [{"flow": "C"}]]},
        {"choice": {"result": "B", "then": [{"flow": "D"}], "otherwise": [{"flow": "E"}]}},
        {"choice": {"parameter": "day", "equals": "monday", "then": [{"flow": "F"}]}},
        parameters={"day": "today"},
    )
    done = chains.ended(chains.start(day="monday"))
    assert done["status"] == "SUCCEEDED", done
    results = {step: result["Status"] for step, result in json.loads(done["output"])["results"].items()}
    assert results == {
        "A": "SUCCEEDED", "B": "FAILED", "C": "SUCCEEDED", "D": "NOT_RUN", "E": "SUCCEEDED", "F": "SUCCEEDED",
    }  # fmt: skip
    assert json.loads(chains.input_of("A")["Parameters"]) == {"day": "monday", "limit": "5"}
    assert len(chains.executions("B")) == 2


def test_a_failure_is_told_with_the_step_after_another_flow_has_run(chains):
    topic = chains.client("sns").create_topic(Name="failures")["TopicArn"]
    queue = chains.client("sqs").create_queue(QueueName="told")["QueueUrl"]
    address = chains.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    chains.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=address["QueueArn"])
    channels = {"topic_arn": topic}
    notices = chain.notice_definition(channels, PLACE, CONSOLE)
    chains.role("notices", "states", chain.notice_statements(channels, MACHINE + "notices", PLACE))
    chains.machine.run({"name": "notices", "definition": notices, "role_arn": ROLE + "notices"})
    start = [{"Effect": "Allow", "Action": "states:StartExecution", "Resource": MACHINE + "notices"}]
    chains.allow("events", start)
    statuses = ["FAILED", "TIMED_OUT", "ABORTED"]
    pattern = chain.status_pattern({"prefix": MACHINE + "m-chain-"}, statuses)
    target = {"id": "notices", "arn": MACHINE + "notices", "role_arn": ROLE + "events"}
    chains.rule.run({"name": "notices", "event_pattern": pattern, "targets": [target]})
    chains.flow("Broken", FAILS)
    chains.flow("Clean", PASSES)

    chains.deploy({"parallel": [{"flow": "Broken", "on_failure": "Clean"}, {"flow": "Clean", "step": "other"}]})
    execution = chains.start()
    done = chains.ended(execution)
    assert (done["status"], done["error"]) == ("FAILED", "StepFailed")
    assert done["cause"] == "The step Broken (m_Broken) failed with States.TaskFailed."
    told = wait_for(lambda: chains.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))
    message = json.loads(told[0]["Body"])
    assert message["Subject"] == "m-chain-nightly: FAILED"
    assert message["Message"] == (
        "m-chain-nightly: FAILED. The step Broken (m_Broken) failed with States.TaskFailed. Log: "
        f"https://us-east-1.console.aws.amazon.com/states/home?region=us-east-1#/v2/executions/details/{execution}"
    )


def test_a_chain_is_edited_in_place_while_it_runs(chains):
    chains.flow("Slow", WAITS)
    chains.flow("Old", PASSES)
    chains.flow("New", PASSES)
    chains.deploy({"flow": "Slow"}, {"flow": "Old"})
    running = chains.start()
    wait_for(lambda: chains.executions("Slow"))
    chains.deploy({"flow": "New"})
    assert chains.states.describe_execution(executionArn=running)["status"] == "RUNNING"
    assert chains.ended(chains.start())["status"] == "SUCCEEDED"
    assert chains.ended(running)["status"] == "SUCCEEDED"
    assert chains.started_by_running() == []
    assert (len(chains.executions("Old")), len(chains.executions("New"))) == (1, 1)


def test_a_flow_starts_after_another_one(chains):
    chains.flow("A", PASSES)
    chains.flow("B", PASSES)
    chains.allow("events", [{"Effect": "Allow", "Action": "states:StartExecution", "Resource": MACHINE + "m_*"}])
    target = {
        "id": "flow",
        "arn": MACHINE + "m_B",
        "role_arn": ROLE + "events",
        "input": json.dumps(chain.flow_input({"limit": 5})),
    }
    chains.rule.run(
        {"name": "start", "event_pattern": chain.status_pattern(MACHINE + "m_A", ["SUCCEEDED"]), "targets": [target]}
    )
    chains.states.start_execution(stateMachineArn=MACHINE + "m_A")
    wait_for(lambda: chains.executions("B"))
    assert chains.input_of("B") == {"Parameters": '{"limit": "5"}'}
