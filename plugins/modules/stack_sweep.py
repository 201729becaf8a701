#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# No collection answers the question "what of this stack is left in the account?"

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_sweep
short_description: List everything in the account that belongs to a stack
version_added: 0.1.0
description:
  - Looks through every service that the stack uses, by tags where a service is covered by AWS's resource tagging API,
    and by tags or names in the services that it doesn't cover (IAM, API Gateway, revisions of ECS task definitions).
  - What AWS still shows although it is deleted, or going to be by itself, doesn't count - deleted NAT gateways, keys
    and secrets in their waiting period, inactive clusters.
  - Reads only. What is left is no failure of the module; O(keep) and the result say what a caller needs for that.
author:
  - The metaflow-ansible authors
options:
  stack:
    description: Value of the tag C(mlops.metaflow/stack).
    type: str
    required: true
  environment:
    description: Value of the tag C(mlops.metaflow/environment).
    type: str
    required: true
  prefix:
    description: How the names of the stack's IAM roles, policies and profiles and of its task definitions begin.
    type: str
    required: true
  wait_timeout:
    description:
      - How long in seconds to look again while something is left, every ten seconds. AWS's tagging API goes on listing
        what is deleted for a minute or two.
    type: int
    default: 0
  keep:
    description: What is meant to be left, because somebody decided to keep the data.
    type: list
    elements: dict
    default: []
    suboptions:
      component:
        description: Value of the tag C(mlops.metaflow/component).
        type: str
        required: true
      types:
        description: Types as the tagging API writes them, e.g. V(s3), V(kms:key), V(rds:snapshot).
        type: list
        elements: str
        required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Look for what is left
  mlops.metaflow.stack_sweep:
    stack: metaflow
    environment: staging
    prefix: metaflow-staging
    keep: [{component: datastore, types: [s3, kms:key]}]
    wait_timeout: 120
  register: left
  failed_when: left.left is not defined or left.left | length > 0
"""

RETURN = r"""
left:
  description: ARNs (or names, where a service has none) of what is left and not meant to be.
  returned: success
  type: list
  elements: str
  sample: ["arn:aws:ec2:eu-west-1:123456789012:vpc/vpc-0a1b2c3d4e5f60718"]
kept:
  description: ARNs of what is left because O(keep) says so.
  returned: success
  type: list
  elements: str
  sample: ["arn:aws:s3:::metaflow-staging-123456789012-eu-west-1"]
"""

import time
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import discovery
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import concurrently, error_code

#: Seconds between two looks.
PAUSE = 10


def resource_type(arn):
    """Return the type of an ARN as the tagging API writes it: ``ec2:vpc``, ``rds:snapshot``, ``s3``."""
    service, _, _, resource = arn.split(":", 5)[2:]
    kind = resource.replace(":", "/").split("/")[0]
    return service if service in ("s3", "sns", "sqs") else f"{service}:{kind}"


def is_kept(arn, tags, keep):
    """Tell whether somebody decided that a resource stays."""
    return any(
        tags.get(discovery.TAG_COMPONENT) == rule["component"] and resource_type(arn) in rule["types"] for rule in keep
    )


def is_others(scope, tags):
    """Tell whether tags say that a resource is another stack's: "metaflow-prod-eu" begins like "metaflow-prod" too."""
    return any(tags.get(key, value) != value for key, value in scope.tags.items())


# What AWS shows for a while after it is deleted: type -> function of (client factory, id or ARN) that tells whether
# the resource is gone. Ids follow the last slash of the ARN.


def _ec2_state(operation, key, argument):
    def gone(client, arn):
        answer = getattr(client("ec2"), operation)(**{argument: [arn.rpartition("/")[2]]})
        return all(str(item.get("State")).lower() in ("deleted", "deleting", "failed") for item in answer[key])

    return gone


def _instance_gone(client, arn):
    reservations = client("ec2").describe_instances(InstanceIds=[arn.rpartition("/")[2]])["Reservations"]
    return all(i["State"]["Name"] == "terminated" for r in reservations for i in r["Instances"])


def _policy_gone(client, arn):
    return not client("dlm").get_lifecycle_policy(PolicyId=arn.rpartition("/")[2])["Policy"]


def _key_gone(client, arn):
    return client("kms").describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "PendingDeletion"


def _secret_gone(client, arn):
    return "DeletedDate" in client("secretsmanager").describe_secret(SecretId=arn)


def _cluster_gone(client, arn):
    clusters = client("ecs").describe_clusters(clusters=[arn])["clusters"]
    return all(cluster["status"] == "INACTIVE" for cluster in clusters)


def _service_gone(client, arn):
    cluster = arn.split("/")[1]
    services = client("ecs").describe_services(cluster=cluster, services=[arn])["services"]
    return all(service["status"] == "INACTIVE" for service in services)


def _task_gone(client, arn):
    tasks = client("ecs").describe_tasks(cluster=arn.split("/")[1], tasks=[arn])["tasks"]
    return all(task["lastStatus"] == "STOPPED" for task in tasks)


def _task_definition_gone(client, arn):
    return client("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"]["status"] != "ACTIVE"


def _state_machine_gone(client, arn):
    """It lasts as DELETING until its executions have ended."""
    return client("stepfunctions").describe_state_machine(stateMachineArn=arn)["status"] == "DELETING"


def _batch_gone(operation, key, argument):
    def gone(client, arn):
        items = getattr(client("batch"), operation)(**{argument: [arn]})[key]
        return all(item["status"] == "DELETED" for item in items)

    return gone


def _project_gone(client, arn):
    return not client("codebuild").batch_get_projects(names=[arn.rpartition("/")[2]])["projects"]


GONE = {
    "ec2:natgateway": _ec2_state("describe_nat_gateways", "NatGateways", "NatGatewayIds"),
    "ec2:vpc-endpoint": _ec2_state("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointIds"),
    "ec2:instance": _instance_gone,
    "ec2:snapshot": _ec2_state("describe_snapshots", "Snapshots", "SnapshotIds"),
    "ec2:volume": _ec2_state("describe_volumes", "Volumes", "VolumeIds"),
    "dlm:policy": _policy_gone,
    "kms:key": _key_gone,
    "secretsmanager:secret": _secret_gone,
    "codebuild:project": _project_gone,
    "ecs:cluster": _cluster_gone,
    "ecs:service": _service_gone,
    "ecs:task": _task_gone,
    "ecs:task-definition": _task_definition_gone,
    "batch:compute-environment": _batch_gone(
        "describe_compute_environments", "computeEnvironments", "computeEnvironments"
    ),
    "states:stateMachine": _state_machine_gone,
    "batch:job-queue": _batch_gone("describe_job_queues", "jobQueues", "jobQueues"),
}

#: Error codes (or their ends) by which services say that the resource asked for doesn't exist.
NOT_THERE = (
    "NotFound",
    "NotFoundException",
    "NotFoundFault",
    "ClusterNotFoundException",
    "ClientException",
    "DoesNotExist",
)


def is_gone(client, arn):
    """Tell whether a resource that the tagging API lists is deleted, or deletes itself."""
    check = GONE.get(resource_type(arn))
    if check is None:
        return False
    try:
        return check(client, arn)
    except botocore.exceptions.ClientError as error:
        if not error_code(error).endswith(NOT_THERE):
            raise
        return True


# Where the stack has resources: each function returns {ARN or name: tags}.


def tagged(scope):
    """Return what the resource tagging API knows."""
    filters = [{"Key": key, "Values": [value]} for key, value in scope.tags.items()]
    pages = scope.client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(TagFilters=filters)
    return {
        item["ResourceARN"]: discovery.tag_map(item["Tags"])
        for page in pages
        for item in page["ResourceTagMappingList"]
    }


def api_gateway(scope):
    """Return APIs, links, plans and keys: the tagging API has them on AWS, but late."""
    client = scope.client("apigateway")
    region = client.meta.region_name
    found = {}
    for operation, path in (
        ("get_rest_apis", "restapis"),
        ("get_vpc_links", "vpclinks"),
        ("get_usage_plans", "usageplans"),
        ("get_api_keys", "apikeys"),
    ):
        for page in client.get_paginator(operation).paginate():
            for item in page["items"]:
                if scope.owns(item.get("tags", {})):
                    found[f"arn:aws:apigateway:{region}::/{path}/{item['id']}"] = item["tags"]
    return found


#: Kinds of IAM: listing, its arguments, key of the list, call that shows one with its tags, its argument.
IAM = {
    "Role": ("list_roles", {}, "Roles", "get_role", "RoleName"),
    "Policy": ("list_policies", {"Scope": "Local"}, "Policies", "get_policy", "PolicyArn"),
    "InstanceProfile": (
        "list_instance_profiles",
        {},
        "InstanceProfiles",
        "get_instance_profile",
        "InstanceProfileName",
    ),
}


def iam(scope, prefix):
    """Return roles, profiles and policies by name: IAM is in no tagging API."""
    client = scope.client("iam")
    found = {}
    for kind, (listing, arguments, key, show, identifier) in IAM.items():
        items = [item for page in client.get_paginator(listing).paginate(**arguments) for item in page[key]]
        for item in items:
            if item[f"{kind}Name"].startswith(prefix + "-"):
                shown = getattr(client, show)(**{identifier: item.get(identifier, item["Arn"])})[kind]
                found[item["Arn"]] = discovery.tag_map(shown.get("Tags"))
    return {arn: tags for arn, tags in found.items() if not is_others(scope, tags)}


def task_definitions(scope, prefix):
    """Return active revisions of the stack's task definitions."""
    client = scope.client("ecs")
    families = [
        family
        for page in client.get_paginator("list_task_definition_families").paginate(familyPrefix=prefix, status="ACTIVE")
        for family in page["families"]
        if family.startswith(prefix + "-")
    ]
    found = {
        arn: discovery.tag_map(client.list_tags_for_resource(resourceArn=arn)["tags"])
        for family in families
        for page in client.get_paginator("list_task_definitions").paginate(familyPrefix=family)
        for arn in page["taskDefinitionArns"]
    }
    return {arn: tags for arn, tags in found.items() if not is_others(scope, tags)}


def living(scope, prefix):
    """Return {ARN or name: tags} of what is there in all services."""
    parts = concurrently(
        {
            "tagged": lambda: tagged(scope),
            "api_gateway": lambda: api_gateway(scope),
            "iam": lambda: iam(scope, prefix),
            "task_definitions": lambda: task_definitions(scope, prefix),
        }
    )
    everything = {arn: tags for part in parts.values() for arn, tags in part.items()}
    # The run lock is there as long as the run is.
    candidates = {arn: tags for arn, tags in everything.items() if "/run-lock/" not in arn}
    return {arn: tags for arn, tags in candidates.items() if not is_gone(scope.client, arn)}


def sweep(scope, prefix, keep, wait_timeout):
    """Return ``(left, kept)``, sorted: once nothing is left, or as it is after ``wait_timeout`` seconds."""
    started = time.monotonic()
    while True:
        there = living(scope, prefix)
        kept = sorted(arn for arn, tags in there.items() if is_kept(arn, tags, keep))
        left = sorted(there.keys() - set(kept))
        if not left or time.monotonic() - started >= wait_timeout:
            return left, kept
        time.sleep(PAUSE)


def main():
    rule = {"component": {"required": True}, "types": {"type": "list", "elements": "str", "required": True}}
    module = AnsibleAWSModule(
        argument_spec={
            "stack": {"required": True},
            "environment": {"required": True},
            "prefix": {"required": True},
            "wait_timeout": {"type": "int", "default": 0},
            "keep": {"type": "list", "elements": "dict", "options": rule, "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    scope = discovery.Scope(params["stack"], params["environment"], discovery.client_factory(module))
    try:
        left, kept = sweep(scope, params["prefix"], params["keep"], params["wait_timeout"])
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg=f"Failed to sweep for stack '{scope.stack}' of '{scope.environment}'")
    module.exit_json(changed=False, left=left, kept=kept)


if __name__ == "__main__":
    main()
