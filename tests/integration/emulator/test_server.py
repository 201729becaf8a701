"""The server itself: start, stop, address, pid file and recorded calls."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from emulated_aws import ROOT, Emulator


def run(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the emulator's command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "emulator", *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_ends_on_sigterm_and_removes_its_marks(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    running = Emulator(tmp_path / "state", "--pid-file", str(pid_file))
    try:
        health = running.request("GET", "/_emulator/health")
        assert health == {
            "status": "ok",
            "pid": running.process.pid,
            "state_dir": str(running.state_dir),
            "account": "123456789012",
        }
        assert pid_file.read_text() == f"{running.process.pid}\n"
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert not pid_file.exists()
        assert not (running.state_dir / "endpoint").exists()
    finally:
        running.process.kill()


def test_a_taken_port_is_reported(emulator: Emulator, tmp_path: Path) -> None:
    port = emulator.endpoint.rpartition(":")[2]
    state_dir = tmp_path / "state"
    second = run("--port", port, "--state-dir", str(state_dir), "--detach", "--log-file", str(state_dir / "log"))
    assert second.returncode == 1
    assert second.stderr == f"emulator: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert not (state_dir / "endpoint").exists()


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    refused = run("--port", "0", "--state-dir", str(tmp_path))
    assert refused.returncode == 1
    assert "is not empty and no emulator made it" in refused.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.txt"]


def test_unknown_control_route_names_the_known_ones(emulator: Emulator) -> None:
    with pytest.raises(Exception, match="404"):
        emulator.request("GET", "/_emulator/nothing")


def test_calls_are_named_and_counted(emulator: Emulator) -> None:
    emulator.reset()
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket="counted")
    s3.put_object(Bucket="counted", Key="a/b", Body=b"x")
    s3.list_objects_v2(Bucket="counted")
    with pytest.raises(s3.exceptions.ClientError):
        s3.get_bucket_tagging(Bucket="counted")
    emulator.client("batch").describe_job_queues()
    emulator.client("apigateway").create_rest_api(name="counted")
    emulator.client("stepfunctions").list_state_machines()
    emulator.client("elbv2").describe_load_balancers()
    emulator.client("resourcegroupstaggingapi").get_resources()
    emulator.client("cloudwatch").list_metrics()
    ec2 = emulator.client("ec2")
    with pytest.raises(ec2.exceptions.ClientError, match="DryRunOperation"):
        ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, DryRun=True)

    seen = {(c["service"], c["action"]): (c["mutates"], c["count"], c["errors"]) for c in emulator.calls()}
    assert seen == {
        ("apigateway", "CreateRestApi"): (True, 1, 0),
        ("batch", "DescribeJobQueues"): (False, 1, 0),
        ("cloudwatch", "ListMetrics"): (False, 1, 0),
        ("ec2", "RunInstances"): (False, 1, 1),
        ("elbv2", "DescribeLoadBalancers"): (False, 1, 0),
        ("resourcegroupstaggingapi", "GetResources"): (False, 1, 0),
        ("s3", "CreateBucket"): (True, 1, 0),
        ("s3", "GetBucketTagging"): (False, 1, 1),
        ("s3", "ListObjectsV2"): (False, 1, 0),
        ("s3", "PutObject"): (True, 1, 0),
        ("stepfunctions", "ListStateMachines"): (False, 1, 0),
    }
    assert [c["action"] for c in emulator.mutations()] == ["CreateRestApi", "CreateBucket", "PutObject"]


def test_call_log_is_ordered_and_names_the_caller(emulator: Emulator) -> None:
    emulator.reset()
    sts = emulator.client("sts", region="eu-west-1")
    sts.get_caller_identity()
    sts.get_session_token()
    log = emulator.request("GET", "/_emulator/calls/log")["calls"]
    assert [(c["action"], c["region"], c["key_id"], c["status"]) for c in log] == [
        ("GetCallerIdentity", "eu-west-1", "testing", 200),
        ("GetSessionToken", "eu-west-1", "testing", 200),
    ]
    assert log[0]["time"] <= log[1]["time"]


def test_a_running_state_machine_does_not_hold_the_end(tmp_path: Path) -> None:
    running = Emulator(tmp_path / "state")
    try:
        states = running.client("stepfunctions")
        trusted = {"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}
        role = running.client("iam").create_role(
            RoleName="states", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trusted]})
        )["Role"]["Arn"]
        definition = {"StartAt": "a", "States": {"a": {"Type": "Wait", "Seconds": 600, "End": True}}}
        machine = states.create_state_machine(name="waits", definition=json.dumps(definition), roleArn=role)[
            "stateMachineArn"
        ]
        execution = states.start_execution(stateMachineArn=machine)["executionArn"]
        assert states.describe_execution(executionArn=execution)["status"] == "RUNNING"
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
    finally:
        running.process.kill()
