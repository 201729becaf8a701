# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""batch_job on the emulator, which runs the jobs as processes."""

from __future__ import annotations

import pytest
from batch_account import IMAGE, Account, trust

JOB = {"name": "hello", "queue": "flows", "image": IMAGE, "vcpus": 1, "memory": 128}


@pytest.fixture(scope="module")
def shared_account(emulator):
    emulator.reset()
    yield Account(emulator)
    emulator.reset()


@pytest.fixture
def account(shared_account):
    yield shared_account
    shared_account.supply(scarce=[])
    shared_account.end_jobs()


@pytest.fixture
def run(run_module, account):
    """Return ``run(check=False, fails=False, **options)``, which runs the module with JOB and these options."""

    def run(check=False, fails=False, **options):
        args = {name: value for name, value in (JOB | options).items() if value is not None}
        return run_module("mlops.metaflow.batch_job", args, check=check, fails=fails)

    return run


def of_definition(name, **options):
    return {"image": None, "vcpus": None, "memory": None, "definition": name, **options}


def test_a_job_of_an_image_runs_and_shows_its_log(run):
    done = run(command=["sh", "-c", "echo $WHO; exit 0"], environment={"WHO": "world"}, tags={"a": "b"})
    job = done["job"]
    assert done["changed"]
    assert (job["status"], job["exit_code"], job["attempts"], job["queue"]) == ("SUCCEEDED", 0, 1, "flows")
    assert (job["log_group"], job["log_stream"].split("/")[0]) == ("/aws/batch/job", "hello")
    assert done["log"] == ["world"]


def test_a_definition_of_an_image_is_used_again_until_something_changes(run):
    first, again = run(command=["true"])["job"]["definition"], run(command=["echo", "other"])["job"]["definition"]
    assert again == first
    larger = run(command=["true"], memory=256)["job"]["definition"]
    assert larger != first
    assert run(command=["true"], memory=256)["job"]["definition"] == larger


def test_a_definition_is_found_by_name_revision_and_arn_and_overridden(run, account):
    for word in ("one", "two"):
        account.reached(account.submit("echo", word, name="words"), "SUCCEEDED")
    assert run(**of_definition("words"))["log"] == ["two"]
    first = run(**of_definition("words:1"))
    assert first["log"] == ["one"]
    assert run(**of_definition(first["job"]["definition"]))["log"] == ["one"]
    done = run(**of_definition("words", command=["echo", "three"], vcpus=2, memory=256))
    assert done["log"] == ["three"]
    described = account.job(done["job"]["job_id"])["container"]
    assert (described["vcpus"], described["memory"]) == (2, 256)


def test_a_job_that_fails_fails_the_module_with_exit_code_and_log(run):
    failed = run(command=["sh", "-c", "echo before; echo why >&2; exit 3"], attempts=2, fails=True)
    assert "failed after 2 attempts with exit code 3: Essential container in task exited." in failed["msg"]
    assert failed["msg"].endswith("  before\n  why")
    assert (failed["job"]["status"], failed["job"]["exit_code"]) == ("FAILED", 3)
    assert failed["log"] == ["before", "why"]
    shortened = run(command=["sh", "-c", "seq 50; exit 1"], log_lines=3, fails=True)
    assert shortened["log"] == ["48", "49", "50"]


def test_a_job_that_can_not_start_says_why(run):
    failed = run(name="nothing", image="nobody/nothing:1", fails=True)
    assert "Task failed to start. CannotPullContainerError" in failed["msg"]
    assert "It wrote no log." in failed["msg"]
    assert failed["job"]["exit_code"] is None


def test_waiting_has_a_limit_and_the_job_goes_on(run, account):
    waiting = run(command=["true"], memory=3_000_000, wait_timeout=1, fails=True)
    assert "it is RUNNABLE: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT" in waiting["msg"]
    assert "playbooks/doctor.yml says why" in waiting["msg"]
    account.end_jobs()
    running = run(command=["sleep", "600"], wait_timeout=1, fails=True)
    assert "to end, and it is RUNNING. It goes on" in running["msg"]
    assert account.job(running["job"]["job_id"])["status"] == "RUNNING"


def test_without_waiting_the_job_is_submitted_only(run, account):
    done = run(command=["sleep", "600"], wait=False)
    assert done["job"]["status"] in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")


def test_check_mode_submits_and_registers_nothing(run, emulator):
    emulator.request("POST", "/_emulator/calls/reset")
    predicted = run(name="never", check=True)
    assert (predicted["changed"], predicted["job"]) == (True, {})
    assert not emulator.mutations()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": "none"}, "There is no job queue 'none' in us-east-1; there are cheap, flows."),
        (of_definition("none"), "There is no active job definition 'none' in us-east-1; there are "),
        ({"vcpus": 0}, "vcpus 0.0 is not allowed: it must be more than 0."),
        ({"memory": 1}, "memory 1 is not allowed: it must be 4 MiB or more."),
        ({"timeout": 5}, "timeout 5 is not allowed: it must be 60 seconds or more."),
        ({"attempts": 11}, "attempts 11 is not allowed: it must be 1 to 10."),
        ({"name": "a b"}, "name 'a b' is not allowed: it must be 1 to 128 letters, digits, hyphens and underscores."),
    ],
)
def test_bad_input_is_told_before_anything_is_made(run, emulator, options, said):
    emulator.request("POST", "/_emulator/calls/reset")
    assert run(**options, fails=True)["msg"].startswith(said)
    assert not emulator.mutations()


def test_a_disabled_queue_is_told(run, account):
    account.batch.update_job_queue(jobQueue="cheap", state="DISABLED")
    said = run(queue="cheap", fails=True)["msg"]
    account.batch.update_job_queue(jobQueue="cheap", state="ENABLED")
    assert said == "The job queue 'cheap' is DISABLED, and takes no jobs. --tags batch enables the stack's."


def test_fargate_needs_an_execution_role_and_gets_a_public_address(run, account):
    account.batch.create_compute_environment(
        computeEnvironmentName="fargate",
        type="MANAGED",
        computeResources={
            "type": "FARGATE", "maxvCpus": 4, "subnets": [account.subnet], "securityGroupIds": [account.group]
        },
    )  # fmt: skip
    order = [{"order": 1, "computeEnvironment": "fargate"}]
    account.batch.create_job_queue(jobQueueName="serverless", priority=1, computeEnvironmentOrder=order)
    of = {"queue": "serverless", "name": "small", "memory": 2048, "command": ["echo", "up"]}
    assert run(**of, fails=True)["msg"] == "The job queue 'serverless' is of Fargate: give execution_role."
    role = account.iam.create_role(RoleName="pull", AssumeRolePolicyDocument=trust("ecs-tasks.amazonaws.com"))["Role"][
        "Arn"
    ]
    logs = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]}'
    account.iam.put_role_policy(RoleName="pull", PolicyName="logs", PolicyDocument=logs)
    done = run(**of, execution_role=role)
    assert done["log"] == ["up"]
    assert run(**of, execution_role=role)["job"]["definition"] == done["job"]["definition"]
    network = account.job(done["job"]["job_id"])["container"]["networkConfiguration"]
    assert network == {"assignPublicIp": "ENABLED"}
