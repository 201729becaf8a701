"""Gaps of Step Functions."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]
ROLE = "arn:aws:iam::123456789012:role/states"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
LIMIT = 60  # seconds for an execution


@pytest.fixture
def states(emulator: Emulator) -> Any:
    """The client of the service under test, in an account that has the role of the machines."""
    iam = emulator.client("iam")
    with suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="states", AssumeRolePolicyDocument=json.dumps(TRUST))
        allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        document = {"Version": "2012-10-17", "Statement": [allowed]}
        iam.put_role_policy(RoleName="states", PolicyName="all", PolicyDocument=json.dumps(document))
    return emulator.client("stepfunctions")


def machine(states: Any, name: str, definition: dict[str, Any], **more: Any) -> str:
    return states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE, **more)[
        "stateMachineArn"
    ]


def single(state: dict[str, Any]) -> dict[str, Any]:
    return {"StartAt": "only", "States": {"only": state | {"End": True}}}


def run(states: Any, arn: str, **more: Any) -> dict[str, Any]:
    return ended(states, states.start_execution(stateMachineArn=arn, **more)["executionArn"])


def ended(states: Any, execution: str) -> dict[str, Any]:
    limit = time.monotonic() + LIMIT
    while (found := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
        assert time.monotonic() < limit, "the execution does not end"
        time.sleep(0.1)
    return found


def entered(states: Any, execution: str, event: str) -> None:
    limit = time.monotonic() + LIMIT
    while event not in [one["type"] for one in states.get_execution_history(executionArn=execution)["events"]]:
        assert time.monotonic() < limit, f"there is no {event}"
        time.sleep(0.1)


@pytest.mark.gap("stepfunctions/execution-name")
def test_an_execution_without_a_name_gets_a_uuid(states: Any, name: str) -> None:
    arn = machine(states, name, single({"Type": "Pass"}))
    ended = [run(states, arn) for _ in "ab"]
    assert [e["status"] for e in ended] == ["SUCCEEDED", "SUCCEEDED"]
    assert len({uuid.UUID(e["name"]) for e in ended}) == 2
    assert ended[0]["executionArn"].endswith(ended[0]["name"])


@pytest.mark.gap("stepfunctions/definition-of-an-execution")
def test_an_execution_keeps_the_definition_that_it_began_with(states: Any, name: str) -> None:
    began = single({"Type": "Pass", "Comment": "before"})
    arn = machine(states, name, began)
    execution = run(states, arn)["executionArn"]
    states.update_state_machine(stateMachineArn=arn, definition=json.dumps(single({"Type": "Pass"})))
    shown = states.describe_state_machine_for_execution(executionArn=execution)
    assert json.loads(shown["definition"]) == began


@pytest.fixture
def queue(emulator: Emulator, name: str, network: Any) -> str:
    """A Batch queue with a job definition, both of the test's name."""
    network.open_to_the_internet()
    batch = emulator.client("batch")
    environment = batch.create_compute_environment(
        computeEnvironmentName=name,
        type="MANAGED",
        computeResources={
            "type": "EC2",
            "minvCpus": 0,
            "maxvCpus": 4,
            "instanceTypes": ["m5.large"],
            "instanceRole": emulator.client("iam").create_instance_profile(InstanceProfileName=name)["InstanceProfile"][
                "Arn"
            ],
            "subnets": network.subnets,
            "securityGroupIds": [network.group],
        },
        serviceRole=emulator.client("iam").create_role(
            RoleName=name,
            AssumeRolePolicyDocument=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "batch.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                }
            ),
        )["Role"]["Arn"],
    )["computeEnvironmentArn"]
    order = [{"order": 1, "computeEnvironment": environment}]
    batch.create_job_queue(jobQueueName=name, priority=1, state="ENABLED", computeEnvironmentOrder=order)
    batch.register_job_definition(
        jobDefinitionName=name,
        type="container",
        containerProperties={
            "image": "python:3.12",
            "vcpus": 1,
            "memory": 128,
            "command": ["python3", "-c", "print('hello')"],
        },
    )
    return name


@pytest.mark.gap("stepfunctions/batch-parameters")
def test_a_batch_job_is_submitted_and_awaited(states: Any, emulator: Emulator, name: str, queue: str) -> None:
    parameters = {
        "JobName": name,
        "JobQueue": queue,
        "JobDefinition": queue,
        "ContainerOverrides": {"Environment": [{"Name": "GIVEN", "Value": "yes"}]},
        "Parameters": {"someKey": "x"},
    }
    task = {"Type": "Task", "Resource": "arn:aws:states:::batch:submitJob.sync", "Parameters": parameters}
    ended = run(states, machine(states, name, single(task)))
    assert ended["status"] == "SUCCEEDED", ended
    output = json.loads(ended["output"])
    assert output["Status"] == "SUCCEEDED"
    assert output["Parameters"] == {"someKey": "x"}
    (job,) = emulator.client("batch").describe_jobs(jobs=[output["JobId"]])["jobs"]
    environment = {e["name"]: e["value"] for e in job["container"]["environment"]}
    assert (job["jobName"], environment["GIVEN"]) == (name, "yes")
    assert environment["MANAGED_BY_AWS"] == "STARTED_BY_STEP_FUNCTIONS"


@pytest.mark.gap("stepfunctions/path-of-several-keys")
def test_a_path_of_several_keys_gives_an_object(states: Any, name: str) -> None:
    arn = machine(states, name, single({"Type": "Pass", "OutputPath": "$.['a', 'b']"}))
    ended = run(states, arn, input=json.dumps({"a": 1, "b": 2, "c": 3}))
    assert json.loads(ended["output"]) == {"a": 1, "b": 2}


@pytest.mark.gap("stepfunctions/inner-errors")
def test_a_state_fails_with_the_error_inside_it(states: Any, name: str) -> None:
    failing = machine(
        states, f"{name}-inner", {"StartAt": "only", "States": {"only": {"Type": "Fail", "Error": "Own"}}}
    )
    start = {"Resource": "arn:aws:states:::states:startExecution.sync:2", "Parameters": {"StateMachineArn": failing}}
    inner = single({"Type": "Task", **start})
    for kind, outer in {"Map": {"ItemProcessor": inner}, "Parallel": {"Branches": [inner]}}.items():
        arn = machine(states, f"{name}-{kind}", single({"Type": kind, **outer}))
        ended = run(states, arn, input=json.dumps([1]))
        assert (ended["status"], ended["error"]) == ("FAILED", "States.TaskFailed")


@pytest.mark.gap("stepfunctions/stopped-map")
def test_an_execution_that_is_stopped_inside_a_map_is_aborted(states: Any, name: str) -> None:
    waiting = single({"Type": "Wait", "Seconds": LIMIT})
    arn = machine(states, name, single({"Type": "Map", "ItemProcessor": waiting}))
    execution = states.start_execution(stateMachineArn=arn, input=json.dumps([1, 2]))["executionArn"]
    entered(states, execution, "WaitStateEntered")
    states.stop_execution(executionArn=execution)
    assert ended(states, execution)["status"] == "ABORTED"


WRONG = [
    ({"StartAt": "a", "States": {}}, "SCHEMA_VALIDATION_FAILED"),
    ({"StartAt": "a", "States": {"b": {"Type": "Succeed"}}}, "MISSING_TRANSITION_TARGET"),
    ({"StartAt": "a", "States": {"a": {"Type": "Pass", "Next": "b"}}}, "MISSING_TRANSITION_TARGET"),
    ({"StartAt": "a", "States": {"a": {"Type": "Succeed"}, "b": {"Type": "Succeed"}}}, "UNREACHABLE_STATE"),
    (single({"Type": "Parallel", "Branches": [{"StartAt": "x", "States": {"y": {"Type": "Succeed"}}}]}), "MISSING"),
    (single({"Type": "Nonsense"}), "SCHEMA_VALIDATION_FAILED"),
]


@pytest.mark.gap("stepfunctions/definition-validation")
def test_a_definition_is_validated(states: Any) -> None:
    good = states.validate_state_machine_definition(definition=json.dumps(single({"Type": "Pass"})))
    assert (good["result"], good["diagnostics"]) == ("OK", [])
    for definition, code in WRONG:
        bad = states.validate_state_machine_definition(definition=json.dumps(definition))
        assert bad["result"] == "FAIL", definition
        assert bad["diagnostics"][0]["code"].startswith(code), definition
    assert states.validate_state_machine_definition(definition="{")["diagnostics"][0]["code"].startswith("INVALID_JSON")


@pytest.mark.gap("stepfunctions/definition-transitions")
def test_a_definition_that_leads_nowhere_is_refused(states: Any, name: str, refused: Refused) -> None:
    with refused("InvalidDefinition", "MISSING_TRANSITION_TARGET"):
        machine(states, name, WRONG[2][0])


@pytest.mark.gap("stepfunctions/versions")
def test_versions_are_listed(states: Any, name: str) -> None:
    arn = machine(states, name, single({"Type": "Pass"}), publish=True)
    states.update_state_machine(
        stateMachineArn=arn, definition=json.dumps(single({"Type": "Pass", "Result": 1})), publish=True
    )
    found = states.list_state_machine_versions(stateMachineArn=arn)["stateMachineVersions"]
    assert [v["stateMachineVersionArn"] for v in found] == [f"{arn}:2", f"{arn}:1"]


@pytest.mark.gap("stepfunctions/created-twice")
def test_another_machine_of_the_name_is_refused(states: Any, name: str, refused: Refused) -> None:
    arn = machine(states, name, single({"Type": "Pass"}))
    assert machine(states, name, single({"Type": "Pass"})) == arn
    with refused("StateMachineAlreadyExists"):
        machine(states, name, single({"Type": "Pass", "Result": 1}))
