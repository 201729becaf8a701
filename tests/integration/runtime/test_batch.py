"""Batch runs jobs as processes, with the environment, states, retries and logs of Batch."""

import json
import time
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from runtime_account import wait_for
from runtime_stack import Batch


@pytest.fixture(scope="module")
def batch(shared_account):
    return Batch(shared_account)


def test_a_job_runs_with_the_environment_of_batch(batch):
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    overrides = {"environment": [{"name": "B", "value": "2"}]}
    job_id = batch.submit(
        "python",
        "-c",
        code,
        options={"environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]},
        containerOverrides=overrides,
    )
    job = batch.done(job_id)
    assert (job["status"], job["statusReason"]) == ("SUCCEEDED", "Essential container in task exited")
    assert job["container"]["exitCode"] == 0
    assert job["createdAt"] <= job["startedAt"] <= job["stoppedAt"]
    environment = json.loads(batch.log(job)[0])
    expected = {
        "A": "1",
        "B": "2",
        "AWS_BATCH_JOB_ID": job_id,
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_BATCH_CE_NAME": "ec2",
        "AWS_BATCH_JQ_NAME": "queue",
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
    }
    assert environment | expected == environment
    assert "AWS_BATCH_JOB_ARRAY_INDEX" not in environment


def test_overrides_and_parameters_make_the_command(batch):
    job_id = batch.submit("echo", "Ref::word", "Ref::other", parameters={"word": "hello"})
    assert batch.log(batch.done(job_id)) == ["hello Ref::other"]
    override = batch.submit(
        "false",
        containerOverrides={"command": ["echo", "over"], "resourceRequirements": [{"type": "VCPU", "value": "2"}]},
    )
    job = batch.done(override)
    assert batch.log(job) == ["over"]
    assert job["container"]["vcpus"] == 2


def test_what_a_command_writes_below_tmp_is_its_own(batch):
    name = f"/tmp/{uuid.uuid4()}.txt"
    first = batch.done(batch.submit("sh", "-c", f"echo mine > {name}; cat '{name}'"))
    assert batch.log(first) == ["mine"]
    second = batch.done(batch.submit("sh", "-c", f"test -e {name} || echo none"))
    assert batch.log(second) == ["none"]
    assert not Path(name).exists()


def test_a_tmpfs_is_a_folder_of_the_job(batch):
    options = {
        "linuxParameters": {"tmpfs": [{"containerPath": "/quick/memory", "size": 8}]},
        "environment": [{"name": "METAFLOW_TEMPDIR", "value": "/quick/memory"}],
    }
    script = 'cd "$METAFLOW_TEMPDIR" && echo kept > file && cat file && pwd'
    kept, folder = batch.log(batch.done(batch.submit("sh", "-c", script, options=options)))
    assert kept == "kept" and folder.endswith("/quick/memory") and not Path(folder).exists()


def test_a_failing_job_tells_its_exit_code(batch):
    job = batch.done(batch.submit("sh", "-c", "exit 3"))
    assert (job["status"], job["container"]["exitCode"]) == ("FAILED", 3)
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [3]


def test_a_job_acts_as_its_role(batch):
    code = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    assert ":assumed-role/job/" in batch.log(batch.done(batch.submit("python", "-c", code)))[0]


def test_retries_until_it_passes(batch):
    job = batch.done(batch.submit("sh", "-c", "test $AWS_BATCH_JOB_ATTEMPT = 3", retryStrategy={"attempts": 5}))
    assert job["status"] == "SUCCEEDED"
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [1, 1, 0]
    assert len({attempt["container"]["logStreamName"] for attempt in job["attempts"]}) == 3


@pytest.mark.parametrize(
    ("rules", "attempts"),
    [
        ([{"onExitCode": "4", "action": "EXIT"}], 1),
        ([{"onExitCode": "4", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}], 3),
        ([{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onExitCode": "*", "action": "EXIT"}], 1),
    ],
)
def test_rules_decide_on_retries(batch, rules, attempts):
    job = batch.done(batch.submit("sh", "-c", "exit 4", retryStrategy={"attempts": 3, "evaluateOnExit": rules}))
    assert (job["status"], len(job["attempts"])) == ("FAILED", attempts)


def test_a_job_that_takes_too_long_is_ended(batch):
    job = batch.done(batch.submit("sleep", "600", timeout={"attemptDurationSeconds": 1}, retryStrategy={"attempts": 3}))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Job attempt duration exceeded timeout")
    assert len(job["attempts"]) == 1


def test_terminate_ends_a_running_job(batch):
    job_id = batch.submit(
        "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done", retryStrategy={"attempts": 2}
    )
    wait_for(lambda: batch.job(job_id)["status"] == "RUNNING" and batch.log(batch.job(job_id)))
    batch.client.cancel_job(jobId=job_id, reason="cancel does not end what runs")
    assert batch.job(job_id)["status"] == "RUNNING"
    batch.client.terminate_job(jobId=job_id, reason="enough")
    job = batch.done(job_id)
    assert (job["status"], job["statusReason"], job["container"]["exitCode"]) == ("FAILED", "enough", 9)


def test_dependencies_hold_and_fail_jobs(batch):
    first = batch.submit("sleep", "1")
    second = batch.submit("true", dependsOn=[{"jobId": first}])
    batch.reached(second, "PENDING")
    assert batch.done(first)["stoppedAt"] <= batch.done(second)["startedAt"]
    failing = batch.submit("false")
    job = batch.done(batch.submit("true", dependsOn=[{"jobId": failing}]))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Dependent Job failed")
    with pytest.raises(ClientError, match="does not exist"):
        batch.submit("true", dependsOn=[{"jobId": "unknown"}])


def test_an_array_runs_each_child(batch):
    job_id = batch.submit(
        "sh", "-c", "echo $AWS_BATCH_JOB_ARRAY_INDEX of $AWS_BATCH_JOB_ARRAY_SIZE", arrayProperties={"size": 3}
    )
    job = batch.done(job_id)
    assert job["status"] == "SUCCEEDED"
    assert (job["arrayProperties"]["size"], job["arrayProperties"]["statusSummary"]["SUCCEEDED"]) == (3, 3)
    children = [batch.job(f"{job_id}:{index}") for index in range(3)]
    assert [batch.log(child) for child in children] == [[f"{index} of 3"] for index in range(3)]
    listed = batch.client.list_jobs(arrayJobId=job_id, jobStatus="SUCCEEDED")["jobSummaryList"]
    assert sorted(child["arrayProperties"]["index"] for child in listed) == [0, 1, 2]


def test_an_array_fails_with_a_child(batch):
    job = batch.done(batch.submit("sh", "-c", "test $AWS_BATCH_JOB_ARRAY_INDEX != 1", arrayProperties={"size": 3}))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Array Child Job failed")
    assert job["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 2


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"memory": "500000"}, "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"),
        ({"vcpus": "16"}, "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"),
        (
            {
                "options": {
                    "resourceRequirements": [
                        {"type": t, "value": v} for t, v in (("VCPU", "1"), ("MEMORY", "128"), ("GPU", "1"))
                    ]
                }
            },
            "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        ),
    ],
)
def test_what_fits_nowhere_stays_runnable_and_says_why(batch, asked, reason):
    job_id = batch.submit("true", **asked)
    wait_for(lambda: batch.job(job_id).get("statusReason", "").startswith(reason))
    assert batch.job(job_id)["status"] == "RUNNABLE"
    behind = batch.submit("true")
    batch.reached(behind, "RUNNABLE")
    batch.client.cancel_job(jobId=job_id, reason="fits nowhere")
    assert batch.done(job_id)["statusReason"] == "fits nowhere"
    assert batch.done(behind)["status"] == "SUCCEEDED"


def test_max_vcpus_is_honoured(batch):
    jobs = [batch.submit("sleep", "600", vcpus="4") for _ in range(3)]
    wait_for(lambda: len(batch.states("RUNNING")) == 2)
    assert batch.job(jobs[2])["status"] == "RUNNABLE"
    batch.client.terminate_job(jobId=jobs[0], reason="room")
    batch.reached(jobs[2], "RUNNING")
    for job_id in jobs[1:]:
        batch.client.terminate_job(jobId=job_id, reason="done")
        batch.done(job_id)


def test_a_disabled_queue_holds_its_jobs(batch):
    first = batch.submit("sleep", "1")
    second = batch.submit("true", dependsOn=[{"jobId": first}])
    batch.client.update_job_queue(jobQueue="queue", state="DISABLED")
    batch.done(first)
    batch.reached(second, "RUNNABLE")
    with pytest.raises(ClientError, match="not enabled"):
        batch.submit("true")
    time.sleep(1.2)  # longer than the scheduler's own look at the queues
    assert batch.job(second)["status"] == "RUNNABLE"
    batch.client.update_job_queue(jobQueue="queue", state="ENABLED")
    assert batch.done(second)["status"] == "SUCCEEDED"


def test_fargate_has_its_sizes(batch):
    arn = batch.compute_environment("fargate", type="FARGATE")
    batch.queue("fargate", arn)
    execution = {"executionRoleArn": batch.account.execution_role}
    job_id = batch.submit(
        "sh",
        "-c",
        "echo $AWS_EXECUTION_ENV",
        queue="fargate",
        vcpus="0.25",
        memory="512",
        platforms=["FARGATE"],
        options=execution,
    )
    assert batch.log(batch.done(job_id)) == ["AWS_ECS_FARGATE"]
    with pytest.raises(ClientError, match=r"Fargate resource requirements \(0.25 vCPU, 4096 MiB\) not valid"):
        batch.submit("true", queue="fargate", vcpus="0.25", memory="4096", platforms=["FARGATE"], options=execution)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"image": "nobody/nothing:1"}, "CannotPullContainerError: "),
        ({"options": {"jobRoleArn": "arn:aws:iam::123456789012:role/gone"}}, "ECS was unable to assume the role"),
        ({"options": {"command": ["no-such-program"]}}, "CannotStartContainerError: "),
        ({"options": {"secrets": [{"name": "S", "valueFrom": "/gone"}]}}, "ResourceInitializationError: "),
    ],
)
def test_what_cannot_start_fails_with_the_reason(batch, options, reason):
    job = batch.done(batch.submit("true", **options))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Task failed to start")
    assert job["container"]["reason"].startswith(reason)
    assert "exitCode" not in job["container"]


def test_jobs_are_listed_by_state_and_name(batch):
    job_id = batch.submit("true", name="findable-one")
    batch.done(job_id)
    assert job_id in batch.states("SUCCEEDED")
    assert job_id not in batch.states("RUNNING")
    found = batch.client.list_jobs(jobQueue="queue", filters=[{"name": "JOB_NAME", "values": ["findable*"]}])
    assert [job["jobId"] for job in found["jobSummaryList"]] == [job_id]
