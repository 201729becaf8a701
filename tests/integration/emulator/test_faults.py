"""Faults and latency: throttled calls, lost answers, slow calls."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError
from emulated_aws import Emulator

Refused = Callable[..., Any]
ONCE = {"retries": {"total_max_attempts": 1}}


@pytest.fixture
def faulty(emulator: Emulator) -> Iterator[Callable[..., None]]:
    """Sets faults, and removes them at the end of the test."""
    yield lambda **fault: emulator.request("POST", "/_emulator/faults", fault)
    emulator.request("DELETE", "/_emulator/faults")


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("ec2", "DescribeVpcs", "RequestLimitExceeded"),
        ("rds", "DescribeDBInstances", "Throttling"),
        ("stepfunctions", "ListStateMachines", "ThrottlingException"),
        ("batch", "DescribeJobQueues", "TooManyRequestsException"),
        ("s3", "ListBuckets", "SlowDown"),
    ],
)
def test_a_throttled_call_fails_as_on_aws(
    emulator: Emulator, faulty: Callable[..., None], refused: Refused, service: str, operation: str, code: str
) -> None:
    client = emulator.client(service, **ONCE)
    call = getattr(client, {v: k for k, v in client.meta.method_to_api_mapping.items()}[operation])
    faulty(action=f"{service}:{operation}", kind="throttle", nth=[2])
    call()
    with refused(code, "Rate exceeded"):
        call()
    call()
    assert emulator.request("GET", "/_emulator/faults")["faults"] == [
        {"action": f"{service}:{operation}", "kind": "throttle", "nth": [2], "seen": 3, "injected": 1}
    ]


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("ec2", "describe_vpcs", "UnauthorizedOperation"),
        ("rds", "describe_db_instances", "AccessDenied"),
        ("stepfunctions", "list_state_machines", "AccessDeniedException"),
        ("batch", "describe_job_queues", "AccessDeniedException"),
        ("s3", "list_buckets", "AccessDenied"),
    ],
)
def test_a_denied_call_fails_as_on_aws(
    emulator: Emulator, faulty: Callable[..., None], refused: Refused, service: str, operation: str, code: str
) -> None:
    faulty(action=f"{service}:*", kind="deny", nth=[1])
    with refused(code, "not authorized"):
        getattr(emulator.client(service, **ONCE), operation)()


def test_the_sdk_gets_through_throttling(emulator: Emulator, faulty: Callable[..., None]) -> None:
    faulty(action="ec2:Describe*", kind="throttle", nth=[1, 2])
    client = emulator.client("ec2", retries={"total_max_attempts": 5, "mode": "standard"})
    assert client.describe_vpcs()["ResponseMetadata"]["RetryAttempts"] == 2


def test_a_lost_answer_has_its_effect(emulator: Emulator, faulty: Callable[..., None], name: str) -> None:
    faulty(action="sns:CreateTopic", kind="drop", nth=[1])
    sns = emulator.client("sns", **ONCE)
    with pytest.raises(ConnectionClosedError):
        sns.create_topic(Name=name)
    assert any(t["TopicArn"].endswith(f":{name}") for t in sns.list_topics()["Topics"])
    log = emulator.request("GET", "/_emulator/calls/log")["calls"]
    assert [c["status"] for c in log if c["action"] == "CreateTopic"][-1] == 0


def test_a_percentage_meets_the_same_calls_each_time(emulator: Emulator, faulty: Callable[..., None]) -> None:
    sts = emulator.client("sts", **ONCE)

    def failures() -> list[int]:
        emulator.request("DELETE", "/_emulator/faults")
        faulty(action="*", kind="throttle", percent=30, seed=7)
        failed = []
        for i in range(40):
            try:
                sts.get_caller_identity()
            except sts.exceptions.ClientError:
                failed.append(i)
        return failed

    first = failures()
    assert 4 <= len(first) <= 24
    assert failures() == first


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"action": "*", "kind": "explode", "nth": [1]}, "kind 'explode' is not one of throttle, drop, deny"),
        ({"action": "*", "kind": "drop"}, "give either nth"),
        ({"action": "*", "kind": "drop", "nth": [1], "often": True}, "unexpected keyword argument 'often'"),
    ],
)
def test_a_wrong_fault_is_refused(emulator: Emulator, fault: dict[str, Any], message: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        emulator.request("POST", "/_emulator/faults", fault)
    assert refused.value.code == 400
    assert message in refused.value.read().decode()


def test_latency_is_added_to_calls(tmp_path: Path) -> None:
    running = Emulator(tmp_path / "state", "--latency-ms", "400")
    try:
        sts = running.client("sts")
        began = time.monotonic()
        sts.get_caller_identity()
        assert time.monotonic() - began >= 0.4
    finally:
        running.stop()
