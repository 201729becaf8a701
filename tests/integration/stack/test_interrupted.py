"""Runs that are killed or fail anywhere: the next goes on, and in the end there is one of everything, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from account_dump import Account
from emulated_aws import Emulator
from stack_runs import COMPONENTS, Run, Stack

pytestmark = pytest.mark.xdist_group("interrupted")

#: After how many changing calls of a run it is killed: runs that follow each other, each going on where the last one
#: was. The first ones end in the foundation; there it makes keys, a VPC, gateways and roles side by side.
BUILD_KILLS = (3, 12, 20)
#: Those that end in the later waves, after the run that fails.
LATER_KILLS = (4, 9)
DESTROY_KILLS = (3, 15, 25)

#: One step_functions fails at: the log group of executions cannot be made. One try, so that nobody waits.
FAULT = {"action": "logs:CreateLogGroup", "kind": "throttle", "percent": 100}
ONE_TRY = {"region": "{{ stack_region }}", "aws_config": {"retries": {"max_attempts": 1}}}

#: Left by hand before the stack is removed.
LEFT_BEHIND = "/metaflow/local/left-by-hand"
OWNED = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "local"}


def killed_after(calls: int, stack: Stack, **start: Any) -> None:
    """Run, and kill the controller as soon as that many changing calls (the lock's among them) were answered."""
    stack.emulator.request("POST", "/_emulator/calls/reset")
    run = stack.start(**start)
    assert run.kill_when(lambda: sum(call["count"] for call in stack.emulator.mutations()) >= calls), run.wait().output


def inventory(account: Account) -> dict[str, int]:
    """Count what is in the account, and not on its way out."""
    ours = [{"Name": "tag:mlops.metaflow/stack", "Values": ["metaflow"]}]
    living_nats = [*ours, {"Name": "state", "Values": ["pending", "available"]}]
    kms = account.client("kms")
    keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in account.items("kms", "list_keys", "Keys")]
    vpcs = [vpc for vpc in account.items("ec2", "describe_vpcs", "Vpcs") if not vpc["IsDefault"]]
    groups = account.items("ec2", "describe_security_groups", "SecurityGroups")
    roles = account.items("iam", "list_roles", "Roles")
    services = account.client("ecs").describe_services
    return {
        "VPC": len(vpcs),
        "subnet": len(account.items("ec2", "describe_subnets", "Subnets", Filters=ours)),
        "internet gateway": len(account.items("ec2", "describe_internet_gateways", "InternetGateways")),
        "NAT gateway": len(account.items("ec2", "describe_nat_gateways", "NatGateways", Filters=living_nats)),
        "Elastic IP": len(account.items("ec2", "describe_addresses", "Addresses")),
        "route table": len(account.items("ec2", "describe_route_tables", "RouteTables", Filters=ours)),
        "endpoint": len(account.items("ec2", "describe_vpc_endpoints", "VpcEndpoints")),
        "security group": len([group for group in groups if group["GroupName"] != "default"]),
        "launch template": len(account.items("ec2", "describe_launch_templates", "LaunchTemplates")),
        "KMS key": len([key for key in keys if key["KeyState"] != "PendingDeletion"]),
        "bucket": len(account.items("s3", "list_buckets", "Buckets")),
        "secret": len(account.items("secretsmanager", "list_secrets", "SecretList")),
        "role": len([role for role in roles if not role["Path"].startswith("/aws-service-role/")]),
        "policy": len(account.items("iam", "list_policies", "Policies", Scope="Local")),
        "instance profile": len(account.items("iam", "list_instance_profiles", "InstanceProfiles")),
        "repository": len(account.items("ecr", "describe_repositories", "repositories")),
        "database": len(account.items("rds", "describe_db_instances", "DBInstances")),
        "DB subnet group": len(account.items("rds", "describe_db_subnet_groups", "DBSubnetGroups")),
        "load balancer": len(account.items("elbv2", "describe_load_balancers", "LoadBalancers")),
        "target group": len(account.items("elbv2", "describe_target_groups", "TargetGroups")),
        "REST API": len(account.items("apigateway", "get_rest_apis", "items")),
        "VPC link": len(account.items("apigateway", "get_vpc_links", "items")),
        "API key": len(account.items("apigateway", "get_api_keys", "items")),
        "usage plan": len(account.items("apigateway", "get_usage_plans", "items")),
        "compute environment": len(account.items("batch", "describe_compute_environments", "computeEnvironments")),
        "job queue": len(account.items("batch", "describe_job_queues", "jobQueues")),
        "table": len(account.items("dynamodb", "list_tables", "TableNames")),
        "log group": len(account.items("logs", "describe_log_groups", "logGroups")),
        "task definition": len(account.items("ecs", "list_task_definitions", "taskDefinitionArns")),
        "service": len(
            [
                service
                for cluster in account.items("ecs", "list_clusters", "clusterArns")
                for arn in account.items("ecs", "list_services", "serviceArns", cluster=cluster)
                for service in services(cluster=cluster, services=[arn])["services"]
                if service["status"] == "ACTIVE"
            ]
        ),
        "parameter": len(account.items("ssm", "describe_parameters", "Parameters")),
    }


#: What a complete stack consists of.
COMPLETE = {
    "VPC": 1, "subnet": 4, "internet gateway": 1, "NAT gateway": 1, "Elastic IP": 1, "route table": 3, "endpoint": 1,
    "security group": 4, "launch template": 1, "KMS key": 3, "bucket": 1, "secret": 1, "role": 6, "policy": 1,
    "instance profile": 1, "repository": 1, "database": 1, "DB subnet group": 1, "load balancer": 1, "target group": 2,
    "REST API": 1, "VPC link": 1, "API key": 1, "usage plan": 1, "compute environment": 2, "job queue": 2, "table": 1,
    "log group": 2, "task definition": 1, "service": 1, "parameter": 0,
}  # fmt: skip


@dataclass
class History:
    """One stack's troubled life, and what the account held at its turning points."""

    failed: Run
    after_failure: dict[str, int]
    completed: Run
    complete: dict[str, int]
    left: str
    removed: Run
    empty: dict[str, int]


@pytest.fixture(scope="module")
def history(stack: Stack, account: Emulator) -> Iterator[History]:
    """Build with kills, a failure and more kills; then remove it with kills, and with something left by hand."""
    aws = Account(account)
    account.request("POST", "/_emulator/faults", FAULT)
    for calls in BUILD_KILLS:
        killed_after(calls, stack, stack_aws_defaults=ONE_TRY)
    failed = stack.run(stack_aws_defaults=ONE_TRY)
    after_failure = inventory(aws)
    account.request("DELETE", "/_emulator/faults")
    for calls in LATER_KILLS:
        killed_after(calls, stack)
    completed = stack.run().succeeded()
    complete = inventory(aws)

    for calls in DESTROY_KILLS:
        killed_after(calls, stack, playbook="playbooks/destroy.yml", confirm="local")
    aws.client("logs").create_log_group(logGroupName=LEFT_BEHIND, tags=OWNED)
    left = stack.destroy(confirm="local").refused()
    aws.client("logs").delete_log_group(logGroupName=LEFT_BEHIND)
    removed = stack.destroy(confirm="local").succeeded()
    yield History(failed, after_failure, completed, complete, left, removed, inventory(aws))


def test_a_failed_component_is_named_with_its_task_and_the_words_of_aws(history: History) -> None:
    said = history.failed.refused()
    assert (
        "The component 'step_functions' failed at the task 'Ensure the log group of executions': Failed to create"
        in said
    )
    assert "An error occurred (ThrottlingException) when calling the CreateLogGroup operation" in said
    assert "Rate exceeded The next wave was not started; what is done stays done." in said
    assert history.failed.failed == {"step_functions"}


def test_the_neighbours_of_a_failed_component_finish(history: History) -> None:
    platform = {"database", "load balancer", "REST API", "API key", "compute environment", "job queue", "table"}
    assert {name: history.after_failure[name] for name in platform} == {name: COMPLETE[name] for name in platform}


def test_the_next_wave_is_not_started_and_the_lock_is_given_back(history: History) -> None:
    assert history.after_failure["service"] == history.after_failure["task definition"] == 0
    assert history.after_failure["parameter"] == 0


def test_a_run_after_kills_and_a_failure_ends_with_one_of_everything(history: History) -> None:
    assert sorted(history.completed.recap) == sorted(COMPONENTS)
    assert history.complete == COMPLETE


def test_the_sweep_names_what_is_left_and_the_run_fails(history: History) -> None:
    assert (
        f"Of the stack metaflow-local is left: arn:aws:logs:us-east-1:123456789012:log-group:{LEFT_BEHIND}"
        in history.left
    )
    assert "Run destroy again; it goes on where it stopped." in history.left


def test_a_removal_after_kills_leaves_nothing(history: History) -> None:
    assert {name: count for name, count in history.empty.items() if count} == {}


def test_removing_what_is_removed_already_changes_nothing(history: History) -> None:
    assert history.removed.changed == set()
