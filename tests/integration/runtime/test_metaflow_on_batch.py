"""Real flows, run by the installed Metaflow on the emulated account: on Batch, and as a state machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_account import wait_for
from runtime_stack import Batch, start_metadata_service

FLOWS = Path(__file__).with_name("flows")


class Metaflow:
    """A client configuration for the shared account, and what it runs."""

    def __init__(self, account, home):
        self.account = account
        self.home = home
        start_metadata_service(account)
        self.batch = Batch(account)
        account.allow("job", ["s3:*"], "*")
        states = account.role("states", "states.amazonaws.com")
        account.allow("states", ["batch:SubmitJob", "events:PutTargets", "events:PutRule", "events:DescribeRule"], "*")
        account.allow("states", ["dynamodb:GetItem"], "*")
        events = account.role("events", "events.amazonaws.com")
        account.allow("events", ["states:StartExecution"], "*")
        account.emulator.client("s3").create_bucket(Bucket="flows")
        account.emulator.client("dynamodb").create_table(
            TableName="splits",
            KeySchema=[{"AttributeName": "pathspec", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pathspec", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        balancer = account.elb.describe_load_balancers(Names=["api"])["LoadBalancers"][0]
        endpoint = account.emulator.endpoint
        config = {
            "DEFAULT_DATASTORE": "s3",
            "DATASTORE_SYSROOT_S3": "s3://flows/metaflow",
            "S3_ENDPOINT_URL": endpoint,
            "DEFAULT_METADATA": "service",
            "SERVICE_URL": f"{endpoint}/loadbalancers/api/80",
            "SERVICE_INTERNAL_URL": f"http://{balancer['DNSName']}",
            "BATCH_JOB_QUEUE": "queue",
            "ECS_S3_ACCESS_IAM_ROLE": self.batch.role,
            "SFN_IAM_ROLE": states,
            "EVENTS_SFN_ACCESS_IAM_ROLE": events,
            "SFN_DYNAMO_DB_TABLE": "splits",
            "SFN_S3_DISTRIBUTED_MAP_OUTPUT_PATH": "s3://flows/maps",
        }
        (home / "config.json").write_text(json.dumps({f"METAFLOW_{name}": value for name, value in config.items()}))

    def command(self, *arguments):
        """Start a command of Metaflow's environment."""
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "METAFLOW_HOME": str(self.home),
            "METAFLOW_USER": "tester",
            "AWS_ENDPOINT_URL": self.account.emulator.endpoint,
        } | keys
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def flow(self, *arguments, name="shapes.py"):
        """Run a command of a flow; its output."""
        done = self.command(str(FLOWS / name), "--no-pylint", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def read(self, expression):
        """Evaluate an expression with Metaflow's client API; its JSON value."""
        code = f"import json; from metaflow import *; namespace(None); print(json.dumps({expression}))"
        done = self.command("-c", code)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def metaflow(shared_account, tmp_path_factory):
    yield Metaflow(shared_account, tmp_path_factory.mktemp("home"))
    shared_account.tidy()


def test_a_flow_runs_with_batch(metaflow):
    output = metaflow.flow("run", "--with", "batch:cpu=1,memory=512", name="squares.py")
    assert "hello from start" in output, "the log of the job is streamed to the client"
    assert "Task is starting" in output
    run = "Flow('SquaresFlow').latest_run"
    assert metaflow.read(f"[{run}.successful, {run}.data.sum, {run}.data.attempts]") == [True, 13, [0, 1]]
    job_id = metaflow.read(f"{run}.data.job")
    job = metaflow.batch.job(job_id)
    assert job["jobName"].startswith("tester-SquaresFlow-")
    metadata = metaflow.read(f"{run}['start'].task.metadata_dict")
    assert metadata["aws-batch-job-id"] == job_id
    assert metadata["aws-batch-awslogs-stream"] == job["container"]["logStreamName"]
    assert any("hello from start" in line for line in metaflow.batch.log(job))


class StateMachine:
    """A flow deployed as a state machine."""

    def __init__(self, metaflow, name, *options, file):
        self.metaflow = metaflow
        self.states = metaflow.account.emulator.client("stepfunctions")
        metaflow.flow("step-functions", "create", *options, name=file)
        machines = self.states.list_state_machines()["stateMachines"]
        self.arn = next(machine["stateMachineArn"] for machine in machines if machine["name"] == name)

    def executions(self):
        return self.states.list_executions(stateMachineArn=self.arn)["executions"]

    def ended(self, execution, seconds=900):
        """Wait until an execution has ended; its description."""
        arn = execution["executionArn"]
        return wait_for(
            lambda: (found := self.states.describe_execution(executionArn=arn))["status"] != "RUNNING" and found,
            seconds,
        )


def test_a_state_machine_with_parameter_branches_retry_and_catch(metaflow):
    machine = StateMachine(metaflow, "ShapesFlow", file="shapes.py")
    metaflow.flow("step-functions", "trigger", "--width", "4")
    (execution,) = machine.executions()
    assert machine.ended(execution)["status"] == "SUCCEEDED"
    run = f"Run('ShapesFlow/sfn-{execution['name']}')"
    successful, square, attempt, failure = metaflow.read(
        f"[{run}.successful, {run}.data.square, {run}.data.attempt, {run}.data.failure]"
    )
    assert (successful, square, attempt) == (True, 16, 1)
    assert "no number" in failure


def test_a_scheduled_state_machine_with_a_distributed_map(metaflow):
    machine = StateMachine(metaflow, "ScheduledFlow", "--use-distributed-map", file="scheduled.py")
    assert machine.executions() == []
    metaflow.account.emulator.request("POST", "/_runtime/clock", {"advance": 24 * 3600})
    (execution,) = machine.executions()
    assert machine.ended(execution)["status"] == "SUCCEEDED"
    assert metaflow.read(f"Run('ScheduledFlow/sfn-{execution['name']}').data.sum") == 3
