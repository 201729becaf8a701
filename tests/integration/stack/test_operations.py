"""doctor, submit_job and status on the complete stack, as a person runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from stack_runs import CANARY, Complete

pytestmark = pytest.mark.xdist_group("complete-stack")


def machine(complete: Complete, name: str, state: dict) -> None:
    """Make a state machine of the stack, and start it once."""
    states = complete.stack.emulator.client("stepfunctions")
    arn = states.create_state_machine(
        name=name,
        definition=json.dumps({"StartAt": "only", "States": {"only": state}}),
        roleArn="arn:aws:iam::123456789012:role/metaflow-local-step-functions",
    )["stateMachineArn"]
    states.start_execution(stateMachineArn=arn, input=json.dumps({"token": CANARY}))


def test_a_job_is_run_and_one_that_waits_is_explained_and_ended(complete: Complete) -> None:
    job = {
        "image": "python:3.12-slim",
        "vcpus": 1,
        "memory": 256,
        "command": "echo up; exit ${CODE}",
        "name": "by-hand",
    }
    run = lambda **more: complete.stack.run(playbook="playbooks/submit_job.yml", job=job | more)  # noqa: E731
    done = run(environment={"CODE": "0"}).succeeded()
    assert re.search(r"status +SUCCEEDED.*exit code +0.*\n +up\n", done.output, re.DOTALL)
    assert "failed with exit code 4: Essential container in task exited." in run(environment={"CODE": "4"}).refused()
    said = run(memory=3_000_000, wait_timeout=1).refused()
    assert "it is RUNNABLE: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT" in said
    assert "job.cpu is no key of a job" in run(cpu=1).refused()

    found = complete.stack.run(playbook="playbooks/doctor.yml").succeeded().output
    assert "1. no_fitting_instance_type: job by-hand" in found
    assert "-e doctor_terminate=true ends the jobs" in found
    ended = complete.stack.run(playbook="playbooks/doctor.yml", doctor_terminate=True).succeeded()
    assert "Ended: " in ended.output
    assert "nothing found" in complete.stack.run(playbook="playbooks/doctor.yml").succeeded().output


def test_the_page_shows_the_stack_and_no_secret(complete: Complete, tmp_path: Path) -> None:
    machine(complete, "metaflow-local_Good", {"Type": "Pass", "End": True})
    machine(complete, "metaflow-local_Bad", {"Type": "Fail", "Error": "Oops", "Cause": CANARY})
    alarm = {
        "MetricName": "m", "Namespace": "n", "Statistic": "Average", "Period": 60, "EvaluationPeriods": 1,
        "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold",
    }  # fmt: skip
    watch = complete.stack.emulator.client("cloudwatch")
    watch.put_metric_alarm(AlarmName="metaflow-local-x", **alarm)
    watch.set_alarm_state(AlarmName="metaflow-local-x", StateValue="ALARM", StateReason="<script>alert(1)</script>")
    page = tmp_path / "page.html"
    wanted = {"hosts_list": [{"name": "ev-1"}]}
    shown = complete.stack.run(playbook="playbooks/status.yml", status_page=str(page), **wanted).succeeded().output
    html = page.read_text()
    for text in (shown, html):
        assert CANARY not in text
        for name in ("metaflow-local-spot", "Good", "Bad", "metaflow-local-x"):
            assert name in text
    assert re.search(r"database +ok", shown)
    assert re.search(r"Bad +FAILED", shown)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert re.findall(r'(?:src|@import|url\()="?(?!#)', html) == []
    # All but the machine, which is asked for and not there. An image of flows is another test's matter.
    well, components = map(int, re.search(r"(\d+) of (\d+) well", html).groups())
    assert (components - well, well >= 10) == (1, True)
    assert re.search(r"hosts +not there", shown)
    assert "1 alarm rings" in html
    for name in ("Good", "Bad"):
        arn = f"arn:aws:states:us-east-1:123456789012:stateMachine:metaflow-local_{name}"
        complete.stack.emulator.client("stepfunctions").delete_state_machine(stateMachineArn=arn)
    watch.delete_alarms(AlarmNames=["metaflow-local-x"])


def test_an_account_without_the_stack_is_shown_as_that(complete: Complete, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    of = {"stack_environment": "none", "status_page": str(page)}
    shown = complete.stack.run(playbook="playbooks/status.yml", **of).succeeded().output
    assert "Nothing of it is there. site.yml makes it." in shown
    assert "Nothing of this stack is in the account." in page.read_text()
