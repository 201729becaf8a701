# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a chain of flows becomes in Amazon States Language, and what is said of lists that are wrong."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils.chain import (
    Place,
    definition,
    machines,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.chain_problems import chain_problems, trigger_problems

PLACE = Place("aws", "eu-west-1", "123456789012", "metaflow-prod")
OTHER = "arn:aws:states:eu-west-1:123456789012:stateMachine:other"


def chain(*steps, **more):
    return {"name": "nightly", "steps": list(steps), **more}


def states(*steps, **more):
    """Return the states of a chain without the two that it begins with."""
    made = definition(chain(*steps, **more), PLACE)
    assert made["StartAt"] == "Defaults"
    assert made["States"]["Defaults"]["Next"] == "Parameters"
    return {name: state for name, state in made["States"].items() if name not in ("Defaults", "Parameters")}


def arn(flow):
    return f"arn:aws:states:eu-west-1:123456789012:stateMachine:metaflow-prod_{flow}"


def test_a_flow_is_a_task_that_awaits_its_execution():
    made = states({"flow": "Train", "parameters": {"rate": 0.5, "mode": "full"}, "timeout": 60})
    assert made["Train"] == {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Parameters": {
            "StateMachineArn": arn("Train"),
            "Input": {
                "Parameters": json.dumps({"mode": "full", "rate": "0.5"}),
                "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID.$": "$$.Execution.Id",
            },
        },
        "ResultSelector": {"Status.$": "$.Status", "ExecutionArn.$": "$.ExecutionArn"},
        "ResultPath": "$.results.Train",
        "TimeoutSeconds": 60,
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Train failed"}],
        "End": True,
    }


def test_a_sequence_goes_from_one_to_the_next():
    made = definition(chain({"flow": "A"}, {"flow": "B"}, timeout=600), PLACE)
    assert made["States"]["Parameters"]["Next"] == "A"
    assert made["States"]["A"]["Next"] == "B"
    assert made["States"]["B"]["End"] is True
    assert made["TimeoutSeconds"] == 600


@pytest.mark.parametrize(
    ("flow", "step", "machine"),
    [
        ("Train", "Train", arn("Train")),
        ("shop.prod.Train", "Train", arn("shop.prod.Train")),
        ("Train_All", "Train_All", arn("Train_All")),
        (arn("Train_All"), "Train_All", arn("Train_All")),
        (OTHER, "other", OTHER),
    ],
)
def test_names_of_flows(flow, step, machine):
    assert states({"flow": flow})[step]["Parameters"]["StateMachineArn"] == machine


def test_the_same_flow_twice_under_two_names():
    made = states({"flow": "A", "step": "first"}, {"flow": "A", "step": "again"})
    assert made["first"]["Next"] == "again"


def test_retry():
    made = states({"flow": "A", "retry": {"max_attempts": 3, "interval": 5, "backoff": 1.5}})
    assert made["A"]["Retry"] == [
        {"ErrorEquals": ["States.ALL"], "MaxAttempts": 3, "IntervalSeconds": 5, "BackoffRate": 1.5}
    ]


def test_stop_names_the_step():
    made = states({"flow": "A"})
    assert made["A failed"]["Type"] == "Fail"
    assert made["A failed"]["CausePath"] == (
        "States.Format('The step A (metaflow-prod_A) failed with {}.', $.failure.Error)"
    )


def test_continue_notes_the_failure_and_goes_on():
    made = states({"flow": "A", "on_failure": "continue"}, {"flow": "B"})
    assert made["A failed"] == {
        "Type": "Pass",
        "Result": {"Status": "FAILED"},
        "ResultPath": "$.results.A",
        "Next": "B",
    }


def test_another_flow_runs_and_the_chain_fails_all_the_same():
    made = states({"flow": "A", "on_failure": "Clean"})
    assert made["A failed"]["Parameters"]["StateMachineArn"] == arn("Clean")
    assert made["A failed"]["Next"] == made["A failed"]["Catch"][0]["Next"] == "A has failed"
    assert made["A has failed"]["Type"] == "Fail"


def test_a_parallel_brings_the_results_of_its_branches_together():
    made = states({"flow": "A"}, {"parallel": [[{"flow": "B"}, {"flow": "C"}], {"flow": "D"}]}, {"flow": "E"})
    parallel = made["Parallel 1"]
    assert [branch["StartAt"] for branch in parallel["Branches"]] == ["B", "D"]
    assert parallel["Branches"][0]["States"]["C"]["End"] is True
    assert parallel["ResultSelector"] == {
        "A.$": "$[0].results.A",
        "B.$": "$[0].results.B",
        "C.$": "$[0].results.C",
        "D.$": "$[1].results.D",
        "E.$": "$[0].results.E",
    }
    assert (parallel["ResultPath"], parallel["Next"]) == ("$.results", "E")


def test_a_choice_on_a_parameter():
    made = states(
        {"choice": {"parameter": "mode", "equals": "full", "then": [{"flow": "A"}], "otherwise": [{"flow": "B"}]}},
        parameters={"mode": "quick"},
    )
    assert made["Choice 1"] == {
        "Type": "Choice",
        "Choices": [{"Variable": "$.parameters.mode", "StringEquals": "full", "Next": "A"}],
        "Default": "B",
    }
    assert made["A"]["Next"] == made["B"]["Next"] == "Choice 1 made"


def test_a_choice_on_a_result_without_an_alternative():
    made = states(
        {"flow": "A", "on_failure": "continue"}, {"choice": {"result": "A", "then": [{"flow": "B"}]}}, {"flow": "C"}
    )
    assert made["Choice 1"]["Choices"][0]["Variable"] == "$.results.A.Status"
    assert made["Choice 1"]["Choices"][0]["StringEquals"] == "SUCCEEDED"
    assert made["Choice 1"]["Default"] == made["B"]["Next"] == "C"


def test_a_choice_on_any_of_several_values():
    made = states(
        {"choice": {"parameter": "day", "equals": [1, "last"], "then": [{"flow": "A"}]}}, parameters={"day": 1}
    )
    rule = {"Variable": "$.parameters.day", "Next": "A"}
    assert made["Choice 1"]["Choices"] == [{**rule, "StringEquals": "1"}, {**rule, "StringEquals": "last"}]


def test_names_of_states_are_unique_in_the_whole_machine():
    branch = [{"choice": {"parameter": "p", "equals": 1, "then": [{"flow": "A"}]}}]
    other = [{"choice": {"parameter": "p", "equals": 2, "then": [{"flow": "B"}]}}]
    made = states({"parallel": [branch, other]}, parameters={"p": 1})
    first, second = (branch["States"].keys() for branch in made["Parallel 1"]["Branches"])
    assert not first & second


def test_parameters_of_the_chain_reach_a_flow():
    made = definition(
        chain({"flow": "A", "parameters": {"day": {"parameter": "date"}, "limit": 5}}, parameters={"date": "today"}),
        PLACE,
    )["States"]
    assert made["Defaults"]["Result"] == {"parameters": {"date": "today"}, "results": {"A": {"Status": "NOT_RUN"}}}
    assert made["Parameters"]["Next"] == "A parameters"
    assert made["A parameters"]["Parameters"] == {"day.$": "$.parameters.date", "limit": "5"}
    assert made["A"]["Parameters"]["Input"]["Parameters.$"] == "States.JsonToString($.arguments)"


def test_a_chain_starts_these_machines_and_no_others():
    steps = [
        {"parallel": [{"flow": "B", "on_failure": "Clean"}, {"flow": "A"}]},
        {"choice": {"result": "A", "then": [{"flow": OTHER}]}},
        {"flow": "A", "step": "again"},
    ]
    assert machines(chain(*steps), PLACE) == [arn("A"), arn("B"), arn("Clean"), OTHER]


def problem(*steps, **more):
    (found,) = chain_problems([chain(*steps, **more)])
    return found


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], "steps is missing or empty"),
        ([{}], "item 1 of steps must have one of flow, parallel, choice"),
        (["A"], "item 1 of steps must have one of flow, parallel, choice"),
        ([{"flow": "A", "parallel": []}], "item 1 of steps must have one of flow, parallel, choice"),
        (
            [{"flow": "a b"}],
            "flow in item 1 of steps has 'a b', which is neither a flow's name nor a state machine's ARN",
        ),
        ([{"flow": 3}], "flow in item 1 of steps has '3', which is neither a flow's name nor a state machine's ARN"),
        (
            [{"flow": "A", "retries": 3}],
            "item 1 of steps has 'retries', which is none of flow, step, parameters, retry, on_failure, timeout",
        ),
        (
            [{"flow": "A", "step": "a-b"}],
            "step in item 1 of steps must be letters, digits and underscores, beginning with a letter; it is 'a-b'",
        ),
        ([{"flow": "A", "timeout": 0}], "timeout '0' must be a whole number of 1 or more in item 1 of steps"),
        (
            [{"flow": "A", "retry": {"max_attempts": "x"}}],
            "max_attempts 'x' must be a whole number of 1 or more in retry in item 1 of steps",
        ),
        (
            [{"flow": "A", "retry": {"backoff": 0.5}}],
            "backoff in retry in item 1 of steps must be a number of 1 or more",
        ),
        (
            [{"flow": "A", "retry": {"times": 2}}],
            "retry in item 1 of steps has 'times', which is none of max_attempts, interval, backoff",
        ),
        ([{"flow": "A", "retry": 3}], "retry and parameters in item 1 of steps must be maps"),
        (
            [{"flow": "A", "parameters": {"x": {"y": 1}}}],
            "parameter 'x' in item 1 of steps must be a value, or {parameter: name of a parameter of the chain}",
        ),
        ([{"flow": "A", "parameters": {"x": {"parameter": "y"}}}], "'y' is no parameter of the chain"),
        ([{"flow": "A"}, {"flow": "A"}], "2 steps are called 'A'; name them by step"),
        ([{"parallel": [{"flow": "A"}]}], "parallel in item 1 of steps must be a list with two branches or more"),
        ([{"parallel": [{"flow": "A"}, []]}], "parallel in item 1 of steps must be a list with at least one item"),
        ([{"choice": []}], "choice in item 1 of steps must be a map"),
        ([{"choice": {"then": [{"flow": "A"}]}}], "choice in item 1 of steps must have either parameter or result"),
        (
            [{"choice": {"parameter": "p", "then": [{"flow": "A"}]}}],
            "choice in item 1 of steps must say what the parameter equals",
        ),
        (
            [{"choice": {"parameter": "p", "equals": 1, "then": [{"flow": "A"}]}}],
            "choice on 'p', which is no parameter of the chain",
        ),
        (
            [{"choice": {"result": "B", "then": [{"flow": "A"}]}}],
            "choice on the result of 'B', which is no step before it",
        ),
        (
            [{"flow": "B"}, {"choice": {"result": "B", "equals": "OK", "then": [{"flow": "A"}]}}],
            "choice in item 2 of steps: a result equals one of SUCCEEDED, FAILED, NOT_RUN, not 'OK'",
        ),
        (
            [{"choice": {"parameter": ["p"], "equals": 1, "then": [{"flow": "A"}]}}],
            "choice in item 1 of steps must have one name as parameter or result",
        ),
        (
            [{"flow": "A", "parameters": {"x": {"parameter": ["p"]}}}],
            "parameter 'x' in item 1 of steps must be a value, or {parameter: name of a parameter of the chain}",
        ),
        (
            [{"flow": "B"}, {"choice": {"result": "B", "equals": ["FAILED", {}], "then": [{"flow": "A"}]}}],
            "equals in choice in item 2 of steps must be a value, or a list of values of which any will do",
        ),
        (
            [{"flow": "B"}, {"choice": {"result": "B"}}],
            "then in item 2 of steps must be a list with at least one item",
        ),
    ],
)
def test_a_wrong_item_is_one_sentence(steps, said):
    assert problem(*steps) == f"nightly: {said}"


@pytest.mark.parametrize("schedule", ["daily", "0 6 * * ? *", "cron(0 6 * * ?)", "rate(2 hour)", "rate(1 days)"])
def test_a_wrong_schedule(schedule):
    assert problem({"flow": "A"}, schedule=schedule).startswith(f"nightly: schedule '{schedule}' must be")


@pytest.mark.parametrize("schedule", ["cron(0 6 * * ? *)", "rate(1 day)", "rate(6 hours)"])
def test_a_right_schedule(schedule):
    assert chain_problems([chain({"flow": "A"}, schedule=schedule)]) == []


def test_a_schedule_of_another_day():
    assert problem({"flow": "A"}, schedule="cron(0 24 * * ? *)") == (
        "nightly: schedule '0 24 * * ? *' has 24 for hours; it goes from 0 to 23"
    )


def test_wrong_names_and_options_of_the_chain():
    assert problem({"flow": "A"}, name="Nightly Run") == (
        "Nightly Run: the name has at most 32 lower-case letters, digits and hyphens"
    )
    assert problem({"flow": "A"}, parameters={"a-day": 1}) == (
        "nightly: the parameter 'a-day' must be letters, digits and underscores, beginning with a letter"
    )
    assert problem({"flow": "A"}, timeout=-1) == "nightly: timeout '-1' must be a whole number of 1 or more"
    assert chain_problems([chain({"flow": "A"})] * 2) == ["2 chains have the name 'nightly'"]
    assert chain_problems([{"name": "old", "state": "absent"}]) == []


def test_triggers():
    right = {"name": "after-a", "after": "A", "start": "B"}
    assert trigger_problems([right, right | {"name": "other", "start": OTHER}]) == []
    assert trigger_problems([right, right]) == ["2 triggers have the name 'after-a'"]
    assert trigger_problems([right | {"start": "A"}]) == ["after-a: A would start itself for ever"]
    assert trigger_problems([right, {"name": "back", "after": "B", "start": "A"}]) == [
        "after-a: A would start itself for ever",
        "back: B would start itself for ever",
    ]
    assert trigger_problems([right | {"after": "a b"}]) == [
        "after-a: after has 'a b', which is neither a flow's name nor a state machine's ARN"
    ]
