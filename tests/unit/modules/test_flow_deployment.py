"""The pure part of metaflow_flow: commands, names, what a person is shown, what is read from a rehearsal."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import flow_deployment as deployment
from ansible_collections.mlops.metaflow.plugins.module_utils.diff import MASK
from ansible_collections.mlops.metaflow.plugins.module_utils.job_failure import FailedJob, failed_jobs
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_command import CommandError
from ansible_collections.mlops.metaflow.plugins.module_utils.rehearsal import Rehearsal
from metaflow.plugins.aws.step_functions.event_bridge_client import format as metaflows_rule_name

CODE = "s3://bucket/metaflow/F/data/ab/abcdefabcdefabcdefabcdefabcdefabcdefabcd"
COMMAND = "python -m metaflow.plugins.aws.step_functions.set_batch_environment parameters {file} && . `pwd`/{file}"


def job(command="python f.py step start", queue="main", definition="arn:d", environment=None, **resources):
    asked = {"VCPU": "1", "MEMORY": "4096"} | resources
    variables = {"METAFLOW_CODE_URL": CODE, "METAFLOW_CODE_SHA": "abc"} | (environment or {})
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::batch:submitJob.sync",
        "Parameters": {
            "JobDefinition": definition,
            "JobQueue": queue,
            "Parameters": {"metaflow.flow_name": "F", "metaflow.production_token": "f-0-abcd"},
            "ContainerOverrides": {
                "Command": ["bash", "-c", command],
                "ResourceRequirements": [{"Type": kind, "Value": value} for kind, value in asked.items()],
                "Environment": [{"Name": name, "Value": value} for name, value in variables.items()],
            },
            "RetryStrategy": {"Attempts": 2},
            "Timeout": {"AttemptDurationSeconds": 60},
            "Tags": {"app": "metaflow", "metaflow.owner": "ann"},
        },
        "Next": "split",
    }


def definition(**start):
    branch = {"StartAt": "left", "States": {"left": job(MEMORY="8192")}}
    mapped = {"StartAt": "each", "States": {"each": job(GPU="1")}}
    return {
        "StartAt": "start",
        "States": {
            "start": job(**start),
            "split": {"Type": "Parallel", "Branches": [branch], "Next": "*each"},
            "*each": {"Type": "Map", "Iterator": mapped, "Next": "#each"},
            "#each": {
                "Type": "Task",
                "Resource": "arn:aws:states:::dynamodb:getItem",
                "Parameters": {"TableName": "t"},
            },
        },
    }


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({}, ["--no-pylint", "step-functions", "create"]),
        ({"with": ["retry"], "environment": {"B": "2", "A": "x y"}, "secrets": ["p/K"]},
         ["--no-pylint", "--with=retry", '--with=environment:vars={"A": "x y", "B": "2"}',
          '--with=secrets:sources=["p/K"]', "step-functions", "create"]),
        ({"project": {"name": "shop", "production": True, "branch": "main"}, "options": ["--environment=pypi"]},
         ["--no-pylint", "--production", "--branch=main", "--environment=pypi", "step-functions", "create"]),
        ({"tags": ["a b", "c"], "max_workers": 7, "namespace": "n", "authorize": "t", "workflow_timeout": 60,
          "use_distributed_map": True, "log_execution_history": True},
         ["--no-pylint", "step-functions", "create", "--tag=a b", "--tag=c", "--max-workers=7", "--namespace=n",
          "--authorize=t", "--workflow-timeout=60", "--log-execution-history", "--use-distributed-map"]),
        ({"log_execution_history": False, "project": {"name": "shop", "production": False}},
         ["--no-pylint", "step-functions", "create"]),
    ],
)  # fmt: skip
def test_arguments(item, expected):
    assert deployment.arguments(item) == expected


@pytest.mark.parametrize("length", [10, 64, 65, 80])
def test_the_rule_has_the_name_that_metaflow_gives_it(length):
    name = ("metaflow-prod_" + "LongFlow" * 10)[:length]
    assert deployment.rule_name(name) == metaflows_rule_name(name)


def test_values_of_parameters_are_texts_in_the_execution_input():
    given = {"text": "a", "number": 3, "truth": True, "map": {"a": [1]}, "default": None}
    found = json.loads(json.loads(deployment.execution_input(given))["Parameters"])
    assert found == {"text": "a", "number": "3", "truth": "true", "map": '{"a": [1]}'}


def test_jobs_are_found_however_deep_they_are():
    assert [name for name, _ in deployment.jobs(definition())] == ["start", "left", "each"]


def test_requests():
    asked = {
        request.step: (request.vcpus, request.memory, request.gpus, request.disk)
        for request in deployment.requests("f", definition(VCPU="0.5"), {"left": "20480"})
    }
    assert asked == {"start": (0.5, 4096, 0, None), "left": (1, 8192, 0, 20), "each": (1, 4096, 1, None)}


def summary(definitions=None, commands=None, **start):
    return deployment.summary(definition(**start), commands or {}, definitions or {"arn:d": {"image": "python:3"}})


def test_what_is_random_or_the_machines_own_is_no_difference():
    first = summary(command=COMMAND.format(file="abcdefghij"), environment={"METAFLOW_VERSION": "one"})
    second = summary(command=COMMAND.format(file="zyxwvutsrq"), environment={"METAFLOW_VERSION": "two"})
    assert deployment.differing(first, second) == ({}, {})


def test_a_difference_is_reduced_to_what_differs():
    first = summary(command="true && python f.py --with retry --quiet step start", MEMORY="1000")
    second = summary(
        definitions={"arn:d": {"image": "python:4"}}, command="true && python f.py --quiet step start", MEMORY="2000"
    )
    before, after = deployment.differing(first, second)
    assert before["start"] == {"memory": "1000", "image": "python:3", "command": ["--with retry"]}
    assert after["start"] == {"memory": "2000", "image": "python:4", "command": []}
    assert before["left"] == {"image": "python:3"}


def test_a_command_in_s3_is_shown_as_it_stands_there():
    place = ("bucket", "key")
    loader = 'python -c \'boto3.client("s3").download_file("bucket", "key", "/tmp/step_command.sh")\''
    shown = summary(command=loader, commands={place: "a && b; c"})
    assert deployment.commands_in_s3(definition(command=loader)) == [place]
    assert shown["start"]["command"] == ["a", "b", "c"]


def test_secrets_are_masked():
    headers = {"METAFLOW_SERVICE_HEADERS": '{"x-api-key": "sesame"}', "METAFLOW_PRODUCTION_TOKEN": "f-0-abcd"}
    shown = summary(environment=headers | {"MODE": "full"})
    assert shown["start"]["environment"] == dict.fromkeys(headers, MASK) | {"MODE": "full"}
    assert "sesame" not in json.dumps(shown)
    assert "f-0-abcd" not in json.dumps(shown)


def test_a_new_machine_is_shown_in_outline():
    assert deployment.outline(definition(), {"arn:d": {"image": "python:3"}}) == {
        "start": "job with 1 vCPU, 4096 MiB, 2 attempt(s), image python:3, in queue main, then split",
        "split": "Parallel of left, then *each",
        "left": "job with 1 vCPU, 8192 MiB, 2 attempt(s), image python:3, in queue main, then split",
        "*each": "Map, then #each",
        "each": "job with 1 vCPU, 4096 MiB, 1 GPU, 2 attempt(s), image python:3, in queue main, then split",
        "#each": "Task",
    }


@pytest.mark.parametrize(
    ("given", "tags", "unknown"),
    [
        ({"a": 1, "b-c": 2}, {"mlops.metaflow/parameters": "a b-c d"}, []),
        ({"a": 1, "x": 2, "w": 3}, {"mlops.metaflow/parameters": "a"}, ["w", "x"]),
        ({"a": 1}, {"mlops.metaflow/parameters": ""}, ["a"]),
        ({"a": 1}, {}, []),
    ],
)
def test_parameters_that_a_flow_does_not_have(given, tags, unknown):
    assert deployment.unknown_parameters(given, tags) == unknown


@pytest.mark.parametrize(
    ("names", "tags"),
    [(("a", "b"), {"mlops.metaflow/parameters": "a b"}), ((), {"mlops.metaflow/parameters": ""}), (("x" * 257,), {})],
)
def test_the_tag_of_parameters_is_left_out_where_it_would_be_too_long(names, tags):
    assert deployment.parameter_tags(names) == tags


@pytest.mark.parametrize(
    ("tags", "marked"),
    [
        ({"mlops.metaflow/stack": "m", "mlops.metaflow/flow": "f", "cost": "1"}, True),
        ({"mlops.metaflow/stack": "m", "mlops.metaflow/flow": "f"}, True),
        ({"mlops.metaflow/stack": "m"}, False),
        ({"mlops.metaflow/stack": "n", "mlops.metaflow/flow": "f"}, False),
        ({}, False),
    ],
)
def test_is_marked(tags, marked):
    assert deployment.is_marked(tags, {"mlops.metaflow/stack": "m", "cost": "2"}) is marked


# A rehearsal


def call(operation, **parameters):
    return {"service": "s", "operation": operation, "parameters": parameters}


CREATED = call(
    "CreateStateMachine", name="p_F", definition="{}", roleArn="r", loggingConfiguration={"level": "ALL"}
)  # fmt: skip


def test_a_rehearsal_is_what_would_have_been_made():
    found = Rehearsal.of([
        call("PutObject", Bucket="b", Key="package"),
        call("PutObject", Bucket="b", Key="command", Body="true"),
        call("RegisterJobDefinition", jobDefinitionName="d", containerProperties={"image": "i"}),
        CREATED,
        call("PutRule", ScheduleExpression="cron(0 6 * * ? *)"),
        call("disk", train=2048),
        call("parameter", name="width"),
        call("parameter", name="limit"),
    ])  # fmt: skip
    assert found == Rehearsal(
        "p_F",
        {},
        "r",
        "ALL",
        "cron(0 6 * * ? *)",
        {("b", "command"): "true"},
        {"d": {"image": "i"}},
        {"train": 2048},
        ("limit", "width"),
    )


def test_a_rehearsal_without_a_schedule():
    assert Rehearsal.of([CREATED, call("DisableRule", Name="p_F")]).schedule is None


def test_a_command_that_makes_no_state_machine_is_an_error():
    with pytest.raises(CommandError, match="without making a state machine"):
        Rehearsal.of([call("PutObject", Bucket="b", Key="k")])


# Failed jobs in the history of an execution


def entered(number, name, previous=0):
    return {
        "id": number,
        "type": "TaskStateEntered",
        "previousEventId": previous,
        "stateEnteredEventDetails": {"name": name},
    }


def failed(number, previous, cause, kind="TaskFailed"):
    details = f"{kind[0].lower()}{kind[1:]}EventDetails"
    return {"id": number, "type": kind, "previousEventId": previous, details: {"cause": cause, "error": "E"}}


BATCH = json.dumps({
    "JobId": "j-1",
    "StatusReason": "Essential container in task exited",
    "Container": {"ExitCode": 1, "LogStreamName": "stream/1"},
})  # fmt: skip


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([entered(1, "start"), {"id": 2, "type": "TaskSucceeded", "previousEventId": 1}], []),
        ([entered(1, "a"), entered(2, "b"), failed(3, 1, BATCH)],
         [FailedJob("a", "j-1", "Essential container in task exited, exit status 1", "stream/1")]),
        ([entered(1, "a"), failed(2, 1, "The job queue is disabled", "TaskSubmitFailed")],
         [FailedJob("a", "", "The job queue is disabled", "")]),
        ([entered(1, "a"), failed(2, 1, '{"JobId": "j-2", "Container": {"Reason": "OutOfMemoryError"}}')],
         [FailedJob("a", "j-2", "OutOfMemoryError", "")]),
        ([failed(2, 1, "3")], [FailedJob("", "", "3", "")]),
        ([entered(1, "TrainFlow"), failed(2, 1, '{"ExecutionArn": "arn:x", "Status": "ABORTED"}')],
         [FailedJob("TrainFlow", "", "its execution ended as ABORTED", "", "arn:x")]),
    ],
)  # fmt: skip
def test_failed_jobs(events, expected):
    assert failed_jobs(events) == expected
