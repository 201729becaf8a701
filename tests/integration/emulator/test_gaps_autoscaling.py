"""Gaps of Auto Scaling."""

from __future__ import annotations

import time
from typing import Any

import pytest
from emulated_aws import Emulator


@pytest.fixture
def scarce(emulator: Emulator) -> Any:
    """Let there be no SPOT capacity during the test."""
    emulator.request("POST", "/_runtime/supply", {"scarce": ["SPOT"]})
    yield
    emulator.request("POST", "/_runtime/supply", {"scarce": []})


@pytest.mark.gap("autoscaling/scaling-activities")
def test_launches_that_failed_are_told(emulator: Emulator, name: str, network: Any, request: Any) -> None:
    batch, scaling = emulator.client("batch"), emulator.client("autoscaling")
    profile = emulator.client("iam").create_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"]
    resources = {
        "type": "SPOT", "minvCpus": 0, "maxvCpus": 4, "instanceTypes": ["m5.large"], "instanceRole": profile,
        "subnets": network.subnets, "securityGroupIds": [network.group],
    }  # fmt: skip
    batch.create_compute_environment(computeEnvironmentName=name, type="MANAGED", computeResources=resources)
    order = [{"order": 1, "computeEnvironment": name}]
    batch.create_job_queue(jobQueueName=name, priority=1, computeEnvironmentOrder=order)
    request.getfixturevalue("scarce")
    size = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "128"}]
    batch.register_job_definition(
        jobDefinitionName=name,
        type="container",
        containerProperties={"image": "python:3.12", "command": ["true"], "resourceRequirements": size},
    )
    job = batch.submit_job(jobName=name, jobQueue=name, jobDefinition=name)["jobId"]

    def failed() -> list[dict[str, Any]]:
        activities = scaling.describe_scaling_activities()["Activities"]
        return [one for one in activities if one["AutoScalingGroupName"].startswith(f"{name}-asg-")]

    limit = time.monotonic() + 20
    while not failed() and time.monotonic() < limit:
        time.sleep(0.05)
    (activity,) = failed()
    assert activity["StatusCode"] == "Failed"
    assert "Could not launch Spot Instances. UnfulfillableCapacity" in activity["StatusMessage"]
    named = scaling.describe_scaling_activities(AutoScalingGroupName=activity["AutoScalingGroupName"])["Activities"]
    assert named == [activity]
    assert scaling.describe_scaling_activities(AutoScalingGroupName="another")["Activities"] == []
    batch.terminate_job(jobId=job, reason="seen")
