"""playbooks/run_chain.yml on the complete stack: a chain to its end, one that fails, and what can't be started."""

from __future__ import annotations

from typing import Any

import pytest
from stack_runs import Complete

pytestmark = pytest.mark.xdist_group("complete-stack")


def run_chain(complete: Complete, **variables: Any) -> Any:
    return complete.stack.run(playbook="playbooks/run_chain.yml", **variables)


def test_a_chain_to_its_end(complete: Complete) -> None:
    run = run_chain(complete, chain="nightly").succeeded()
    assert "metaflow-local-chain-nightly/" in run.output
    assert "ended as SUCCEEDED" in run.output


def test_a_chain_that_fails_shows_the_log_of_the_step_that_failed_in_its_flow(complete: Complete) -> None:
    message = run_chain(complete, chain="nightly", parameters={"fail": True}).refused()
    assert "step HelloFlow/start, job " in message
    assert "RuntimeError: no greeting for world" in message
    assert "ended as FAILED; its log is above." in message


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "Name a chain of chains_list (nightly), and give some of its parameters"),
        ({"chain": "weekly"}, "Name a chain of chains_list (nightly)"),
        ({"chain": "nightly", "parameters": {"fial": True}}, "some of its parameters (fail)"),
        ({"chain": "nightly", "parameters": "fail=true"}, "as a map"),
    ],
)
def test_what_can_not_be_run_is_refused(complete: Complete, variables: dict[str, Any], said: str) -> None:
    assert said in run_chain(complete, **variables).refused()
