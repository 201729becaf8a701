"""Reads all that an emulated account shows of one region through AWS's API, so that two moments can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError
from emulated_aws import Emulator

#: What takes no argument: service → operations.
LISTS = {
    "ec2": (
        "describe_addresses", "describe_internet_gateways", "describe_launch_templates", "describe_nat_gateways",
        "describe_route_tables", "describe_security_groups", "describe_security_group_rules", "describe_subnets",
        "describe_tags", "describe_vpc_endpoints", "describe_vpcs", "describe_network_interfaces",
    ),
    "rds": (
        "describe_db_instances", "describe_db_parameter_groups", "describe_db_snapshots", "describe_db_subnet_groups",
    ),
    "batch": ("describe_compute_environments", "describe_job_definitions", "describe_job_queues"),
    "events": ("list_rules",),
    "iam": ("list_instance_profiles",),
    "kms": ("list_aliases",),
    "logs": ("describe_log_groups",),
    "resourcegroupstaggingapi": ("get_resources",),
    "secretsmanager": ("list_secrets",),
    "ssm": ("describe_parameters",),
    "stepfunctions": ("list_state_machines",),
}  # fmt: skip

#: What takes the id of a listed resource: service → (list operation, key of the list, key of the id (None: the item
#: itself), parameter, operations).
DETAILS = {
    "apigateway": [
        ("get_rest_apis", "items", "id", "restApiId", ("get_resources", "get_deployments", "get_stages")),
        ("get_usage_plans", "items", "id", "usagePlanId", ("get_usage_plan_keys",)),
        ("get_vpc_links", "items", "id", "vpcLinkId", ("get_vpc_link",)),
        ("get_api_keys", "items", "id", "apiKey", ("get_api_key",)),
    ],
    "dynamodb": [("list_tables", "TableNames", None, "TableName", ("describe_table", "describe_time_to_live"))],
    "ecr": [("describe_repositories", "repositories", "repositoryName", "repositoryName", ("get_lifecycle_policy",))],
    "elbv2": [
        (
            "describe_load_balancers", "LoadBalancers", "LoadBalancerArn", "LoadBalancerArn",
            ("describe_listeners", "describe_load_balancer_attributes"),
        ),
        (
            "describe_target_groups", "TargetGroups", "TargetGroupArn", "TargetGroupArn",
            ("describe_target_group_attributes",),
        ),
    ],
    "kms": [
        (
            "list_keys", "Keys", "KeyId", "KeyId",
            ("describe_key", "get_key_rotation_status", "list_resource_tags", "list_key_policies"),
        ),
    ],
    "rds": [
        (
            "describe_db_parameter_groups", "DBParameterGroups", "DBParameterGroupName", "DBParameterGroupName",
            ("describe_db_parameters",),
        ),
    ],
    "s3": [
        (
            "list_buckets", "Buckets", "Name", "Bucket",
            (
                "get_bucket_encryption", "get_bucket_lifecycle_configuration", "get_bucket_ownership_controls",
                "get_bucket_policy", "get_bucket_tagging", "get_bucket_versioning", "get_public_access_block",
                "list_object_versions",
            ),
        ),
    ],
    "ecs": [("list_task_definitions", "taskDefinitionArns", None, "taskDefinition", ("describe_task_definition",))],
}  # fmt: skip

#: What AWS shows differently from one reading to the next.
VOLATILE = {"LatestRestorableTime", "PaginationToken", "lastEvaluatedAt"}


class Account:
    """What is in one region of an emulated account (IAM and S3 know no regions)."""

    def __init__(self, emulator: Emulator, region: str = "us-east-1") -> None:
        self._emulator = emulator
        self._region = region
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service."""
        if service not in self._clients:
            self._clients[service] = self._emulator.client(service, self._region)
        return self._clients[service]

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the answers of a reading call."""
        client = self.client(service)
        if client.can_paginate(operation):
            answers = client.get_paginator(operation).paginate(**arguments)
        else:
            answers = [getattr(client, operation)(**arguments)]
        yield from answers

    def items(self, service: str, operation: str, key: str, **arguments: Any) -> list[Any]:
        """Return the list below a key of the answers of a reading call."""
        return [item for page in self.pages(service, operation, **arguments) for item in page.get(key, [])]

    def dump(self) -> dict[str, Any]:
        """Return all of it: call → answer, in JSON's terms. A call that is refused counts by the refusal's code."""
        read = {
            f"{service} {operation}": self._answers(service, operation)
            for service, operations in LISTS.items()
            for operation in operations
        }
        for service, lists in DETAILS.items():
            for listing, key, id_key, parameter, operations in lists:
                read[f"{service} {listing}"] = self._answers(service, listing)
                for item in self.items(service, listing, key):
                    found = {parameter: item[id_key] if id_key else item}
                    for operation in operations:
                        read[f"{service} {operation} {found}"] = self._answers(service, operation, **found)
        for cluster in self.items("ecs", "list_clusters", "clusterArns"):
            read[f"ecs describe_clusters {cluster}"] = self._answers("ecs", "describe_clusters", clusters=[cluster])
            for service in self.items("ecs", "list_services", "serviceArns", cluster=cluster):
                read[f"ecs describe_services {service}"] = self._answers(
                    "ecs", "describe_services", cluster=cluster, services=[service], include=["TAGS"]
                )
        read["iam"] = self._answers("iam", "get_account_authorization_details", Filter=["Role", "LocalManagedPolicy"])
        return json.loads(json.dumps(read, default=str), object_hook=_lasting)

    def _answers(self, service: str, operation: str, **arguments: Any) -> dict[str, Any] | str:
        try:
            return _joined(self.pages(service, operation, **arguments))
        except ClientError as error:
            return error.response["Error"]["Code"]


def _joined(pages: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Return pages as one: where a page ends depends on what else is in the account."""
    joined: dict[str, Any] = {}
    for page in pages:
        for key, value in page.items():
            joined[key] = [*joined.get(key, []), *value] if isinstance(value, list) else value
    return joined


def _lasting(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in VOLATILE | {"ResponseMetadata"}}


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the calls whose answers differ, with both answers."""
    return {
        call: (before.get(call), after.get(call))
        for call in sorted({*before, *after})
        if before.get(call) != after.get(call)
    }
