"""Gaps of AWS Batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def batch(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("batch")


@pytest.fixture
def profile(emulator: Emulator, name: str) -> str:
    """The ARN of an instance profile."""
    iam = emulator.client("iam")
    return iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"]


@pytest.fixture
def resources(network: Any, profile: str) -> dict[str, Any]:
    """Compute resources of a managed environment."""
    return {
        "type": "EC2",
        "minvCpus": 0,
        "maxvCpus": 4,
        "instanceTypes": ["optimal"],
        "instanceRole": profile,
        "subnets": network.subnets,
        "securityGroupIds": [network.group],
    }


@pytest.fixture
def service_role(emulator: Emulator, name: str) -> str:
    """The ARN of a role for Batch."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "batch.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    iam = emulator.client("iam")
    return iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]


def environment(batch: Any, name: str) -> dict[str, Any]:
    return batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"][0]


@pytest.mark.gap("batch/service-linked-role")
def test_an_environment_without_a_role_uses_the_service_linked_one(
    batch: Any, emulator: Emulator, name: str, resources: dict[str, Any]
) -> None:
    batch.create_compute_environment(computeEnvironmentName=name, type="MANAGED", computeResources=resources)
    role = "arn:aws:iam::123456789012:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"
    assert environment(batch, name)["serviceRole"] == role
    assert emulator.client("iam").get_role(RoleName="AWSServiceRoleForBatch")["Role"]["Arn"] == role


@pytest.mark.gap("batch/instance-profile-gone")
def test_an_environment_whose_instance_profile_is_gone_is_invalid(
    batch: Any, emulator: Emulator, name: str, resources: dict[str, Any]
) -> None:
    batch.create_compute_environment(computeEnvironmentName=name, type="MANAGED", computeResources=resources)
    assert environment(batch, name)["status"] == "VALID"
    emulator.client("iam").delete_instance_profile(InstanceProfileName=name)
    assert environment(batch, name)["status"] == "INVALID"
    assert environment(batch, name)["statusReason"] == f"CLIENT_ERROR - Invalid IamInstanceProfile: {name}"
    emulator.client("iam").create_instance_profile(InstanceProfileName=name)
    assert environment(batch, name)["status"] == "VALID"


@pytest.mark.gap("batch/compute-environment-update")
def test_an_update_changes_the_compute_resources(
    batch: Any, name: str, resources: dict[str, Any], service_role: str, refused: Refused
) -> None:
    batch.create_compute_environment(
        computeEnvironmentName=name, type="MANAGED", computeResources=resources, serviceRole=service_role
    )
    batch.update_compute_environment(computeEnvironment=name, computeResources={"maxvCpus": 16})
    assert environment(batch, name)["computeResources"] == resources | {"maxvCpus": 16}
    batch.update_compute_environment(computeEnvironment=name, computeResources={"instanceTypes": ["m5.large"]})
    assert environment(batch, name)["computeResources"]["instanceTypes"] == ["m5.large"]
    with refused("ClientException", "greater"):
        batch.update_compute_environment(computeEnvironment=name, computeResources={"minvCpus": 32})
    with refused("ClientException", f"{name}x does not exist"):
        batch.update_compute_environment(computeEnvironment=f"{name}x", state="DISABLED")


@pytest.mark.gap("batch/compute-resources-required")
@pytest.mark.parametrize("missing", ["instanceTypes", "subnets"])
def test_a_missing_compute_resource_is_named(
    batch: Any, name: str, resources: dict[str, Any], service_role: str, refused: Refused, missing: str
) -> None:
    del resources[missing]
    with refused("ClientException", missing):
        batch.create_compute_environment(
            computeEnvironmentName=name, type="MANAGED", computeResources=resources, serviceRole=service_role
        )


@pytest.mark.gap("batch/dependencies")
def test_what_is_used_or_enabled_cannot_be_deleted(
    batch: Any, name: str, resources: dict[str, Any], service_role: str, refused: Refused
) -> None:
    batch.create_compute_environment(
        computeEnvironmentName=name, type="MANAGED", computeResources=resources, serviceRole=service_role
    )
    order = [{"order": 1, "computeEnvironment": name}]
    batch.create_job_queue(jobQueueName=name, priority=1, state="ENABLED", computeEnvironmentOrder=order)
    with refused("ClientException", "must be DISABLED"):
        batch.delete_compute_environment(computeEnvironment=name)
    batch.update_compute_environment(computeEnvironment=name, state="DISABLED")
    with refused("ClientException", "existing JobQueue relationship"):
        batch.delete_compute_environment(computeEnvironment=name)
    with refused("ClientException", "must be DISABLED"):
        batch.delete_job_queue(jobQueue=name)
    batch.update_job_queue(jobQueue=name, state="DISABLED")
    batch.delete_job_queue(jobQueue=name)
    batch.delete_compute_environment(computeEnvironment=name)


@pytest.mark.gap("batch/job-queue-update-by-name")
def test_a_queue_takes_environments_by_name(
    batch: Any, name: str, resources: dict[str, Any], service_role: str, refused: Refused
) -> None:
    for suffix in "ab":
        batch.create_compute_environment(
            computeEnvironmentName=f"{name}{suffix}",
            type="MANAGED",
            computeResources=resources,
            serviceRole=service_role,
        )
    arns = [environment(batch, f"{name}{suffix}")["computeEnvironmentArn"] for suffix in "ab"]
    batch.create_job_queue(
        jobQueueName=name,
        priority=1,
        state="ENABLED",
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": f"{name}a"}],
    )
    batch.update_job_queue(jobQueue=name, computeEnvironmentOrder=[{"order": 1, "computeEnvironment": f"{name}b"}])
    queue = batch.describe_job_queues(jobQueues=[name])["jobQueues"][0]
    assert queue["computeEnvironmentOrder"] == [{"order": 1, "computeEnvironment": arns[1]}]
    missing = [{"order": 1, "computeEnvironment": f"{name}c"}]
    with refused("ClientException", f"{name}c"):
        batch.update_job_queue(jobQueue=name, computeEnvironmentOrder=missing)


@pytest.mark.gap("batch/names-of-one-letter")
def test_names_of_one_letter(batch: Any, resources: dict[str, Any], service_role: str) -> None:
    letter = "e"
    batch.create_compute_environment(
        computeEnvironmentName=letter, type="MANAGED", computeResources=resources, serviceRole=service_role
    )
    order = [{"order": 1, "computeEnvironment": letter}]
    batch.create_job_queue(jobQueueName=letter, priority=1, state="ENABLED", computeEnvironmentOrder=order)
    batch.register_job_definition(
        jobDefinitionName=letter,
        type="container",
        containerProperties={"image": "busybox", "vcpus": 1, "memory": 64, "command": ["true"]},
    )
    job = batch.submit_job(jobName=letter, jobQueue=letter, jobDefinition=letter)
    assert job["jobName"] == letter


@pytest.mark.gap("batch/enabled-by-default")
def test_what_is_made_without_a_state_is_enabled(
    batch: Any, name: str, resources: dict[str, Any], service_role: str
) -> None:
    batch.create_compute_environment(
        computeEnvironmentName=name, type="MANAGED", computeResources=resources, serviceRole=service_role
    )
    assert environment(batch, name)["state"] == "ENABLED"
    order = [{"order": 1, "computeEnvironment": name}]
    batch.create_job_queue(jobQueueName=name, priority=1, computeEnvironmentOrder=order)
    assert batch.describe_job_queues(jobQueues=[name])["jobQueues"][0]["state"] == "ENABLED"


@pytest.mark.gap("batch/tags-of-the-deleted")
def test_tags_do_not_outlive_their_resource(
    batch: Any, name: str, resources: dict[str, Any], service_role: str
) -> None:
    for tags in ({"first": "yes"}, {"second": "yes"}):
        batch.create_compute_environment(
            computeEnvironmentName=name,
            type="MANAGED",
            state="DISABLED",
            computeResources=resources,
            serviceRole=service_role,
            tags=tags,
        )
        assert environment(batch, name)["tags"] == tags
        batch.delete_compute_environment(computeEnvironment=name)
