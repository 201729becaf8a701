"""playbooks/run_flow.yml on the complete stack: a run to the end, one that fails, and what can't be started."""

from __future__ import annotations

from typing import Any

import pytest
from stack_runs import Complete

pytestmark = pytest.mark.xdist_group("complete-stack")


def run_flow(complete: Complete, **variables: Any) -> Any:
    return complete.stack.run(playbook="playbooks/run_flow.yml", **variables)


def test_a_run_to_the_end(complete: Complete) -> None:
    run = run_flow(complete, flow="hello", parameters={"whom": "Ada"}).succeeded()
    assert "ended as SUCCEEDED" in run.output
    assert "https://us-east-1.console.aws.amazon.com/states/" in run.output
    assert run.recap == {"flows": run.recap["flows"]}


def test_a_run_that_fails_shows_the_log_of_the_failed_step(complete: Complete) -> None:
    message = run_flow(complete, flow="hello", parameters={"whom": "Ada", "fail": True}).refused()
    assert "step start, job " in message
    assert "RuntimeError: no greeting for Ada" in message
    assert "ended as FAILED; its log is above." in message


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "Name the flow as in flows_list, or its state machine"),
        ({"flow": "helo"}, "The flow 'helo' is not deployed in us-east-1; deployed are: hello."),
        ({"flow": "hello", "parameters": "whom=Ada"}, "give parameters as a map"),
    ],
)
def test_what_can_not_be_run_is_refused(complete: Complete, variables: dict[str, Any], said: str) -> None:
    assert said in run_flow(complete, **variables).refused()
