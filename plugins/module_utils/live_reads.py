# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which calls show all that each component's role sets: one function a component, which returns a list of Reads.

A role that sets a new attribute needs the call here that reads it; else a change by hand stays unseen. A test compares
the calls of a converge that changes nothing with these.
"""

from __future__ import annotations

import hashlib
import json

from ansible_collections.mlops.metaflow.plugins.module_utils.diff import MASK
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import (
    TAG_COMPONENT,
    TAG_ENVIRONMENT,
    TAG_STACK,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.live import Read
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_config import is_secret


def each(key, make, of=None):
    """Return a function of an answer: ``make(item)`` for each item below ``key``, or for its attribute ``of``."""

    def reads(answer):
        return [read for item in answer.get(key, []) for read in make(item[of] if of else item)]

    return reads


def only(key, attribute, values):
    """Return a function of an answer: of its items below ``key``, those whose attribute has one of the values."""
    return lambda answer: {key: [item for item in answer.get(key, []) if item.get(attribute) in values]}


def tagged(component, names):
    """Return the filters by which EC2 finds what carries the tags of a component."""
    tags = {TAG_STACK: names["name"], TAG_ENVIRONMENT: names["environment"], TAG_COMPONENT: component}
    return {"Filters": [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]}


def kms_key(alias):
    """Return the calls that show a key. The alias leads to it, as the alias may be moved."""

    def about(answer):
        key = {"KeyId": answer["KeyMetadata"]["KeyId"]}
        return [
            Read("kms", "get_key_rotation_status", key),
            Read("kms", "get_key_policy", {**key, "PolicyName": "default"}),
            Read("kms", "list_resource_tags", key),
            Read("kms", "list_aliases", key),
        ]

    return Read("kms", "describe_key", {"KeyId": alias}, about)


def log_group(name):
    """Return the calls that show a log group."""
    return Read(
        "logs",
        "describe_log_groups",
        {"logGroupNamePrefix": name},
        each("logGroups", lambda arn: [Read("logs", "list_tags_for_resource", {"resourceArn": arn})], "logGroupArn"),
        only("logGroups", "logGroupName", [name]),
    )


def network(names):
    mine = tagged("network", names)

    def attributes(vpc):
        asked = ("enableDnsSupport", "enableDnsHostnames")
        return [Read("ec2", "describe_vpc_attribute", {"VpcId": vpc, "Attribute": name}) for name in asked]

    return [
        Read("ec2", "describe_vpcs", mine, each("Vpcs", attributes, "VpcId")),
        *(
            Read("ec2", operation, mine)
            for operation in (
                "describe_subnets",
                "describe_internet_gateways",
                "describe_nat_gateways",
                "describe_addresses",
                "describe_route_tables",
                "describe_vpc_endpoints",
            )
        ),
    ]


def datastore(names):
    bucket = {"Bucket": names["bucket_name"]}
    operations = (
        "get_bucket_encryption",
        "get_bucket_lifecycle_configuration",
        "get_bucket_logging",
        "get_bucket_ownership_controls",
        "get_bucket_policy",
        "get_bucket_tagging",
        "get_bucket_versioning",
        "get_public_access_block",
    )
    return [kms_key(names["bucket_key_alias"]), *(Read("s3", operation, bucket) for operation in operations)]


def secrets(names):
    def secret(name):
        return [Read("secretsmanager", "describe_secret", {"SecretId": name})]

    below = {"Filters": [{"Key": "name", "Values": [names["flow_secret_prefix"] + "/"]}]}
    return [
        kms_key(names["secrets_key_alias"]),
        *secret(names["database_secret_name"]),
        Read("secretsmanager", "list_secrets", below),
    ]


ROLES = (
    "metadata_execution_role_name",
    "batch_instance_role_name",
    "batch_job_role_name",
    "batch_execution_role_name",
    "step_functions_role_name",
    "events_role_name",
)


def identity(names):
    def inline(role):
        return each("PolicyNames", lambda name: [Read("iam", "get_role_policy", {**role, "PolicyName": name})])

    def default_version(arn):
        def version(answer):
            return [
                Read("iam", "get_policy_version", {"PolicyArn": arn, "VersionId": answer["Policy"]["DefaultVersionId"]})
            ]

        return version

    roles = [{"RoleName": names[key]} for key in ROLES]
    policy = f"arn:{names['partition']}:iam::{names['account_id']}:policy/{names['author_policy_name']}"
    return [
        *(Read("iam", "get_role", role) for role in roles),
        *(Read("iam", "list_attached_role_policies", role) for role in roles),
        *(Read("iam", "list_role_policies", role, inline(role)) for role in roles),
        Read("iam", "get_instance_profile", {"InstanceProfileName": names["batch_instance_role_name"]}),
        Read("iam", "get_policy", {"PolicyArn": policy}, default_version(policy)),
    ]


def registry(names):
    repository = names["repository_name"]
    return [
        Read(
            "ecr",
            "describe_repositories",
            {"repositoryNames": [repository]},
            each(
                "repositories",
                lambda arn: [Read("ecr", "list_tags_for_resource", {"resourceArn": arn})],
                "repositoryArn",
            ),
        ),
        Read("ecr", "get_lifecycle_policy", {"repositoryName": repository}),
    ]


def database(names):
    identifier = names["database_identifier"]

    def tags(arn):
        return [Read("rds", "list_tags_for_resource", {"ResourceName": arn})]

    def parameters(group):
        return [
            *tags(group["DBParameterGroupArn"]),
            Read(
                "rds",
                "describe_db_parameters",
                {"DBParameterGroupName": group["DBParameterGroupName"], "Source": "user"},
            ),
        ]

    def parameter_groups(instance):
        return [
            Read(
                "rds",
                "describe_db_parameter_groups",
                {"DBParameterGroupName": group["DBParameterGroupName"]},
                each("DBParameterGroups", parameters),
            )
            for group in instance["DBParameterGroups"]
        ]

    return [
        kms_key(names["database_key_alias"]),
        Read("ec2", "describe_security_groups", tagged("database", names)),
        Read(
            "rds",
            "describe_db_subnet_groups",
            {"DBSubnetGroupName": identifier},
            each("DBSubnetGroups", tags, "DBSubnetGroupArn"),
        ),
        Read(
            "rds",
            "describe_db_instances",
            {"DBInstanceIdentifier": identifier},
            each("DBInstances", parameter_groups),
        ),
    ]


def api(names):
    def about_balancer(arn):
        return [
            Read("elbv2", "describe_load_balancer_attributes", {"LoadBalancerArn": arn}),
            Read("elbv2", "describe_listeners", {"LoadBalancerArn": arn}),
            Read("elbv2", "describe_tags", {"ResourceArns": [arn]}),
        ]

    def about_targets(arn):
        return [
            Read("elbv2", "describe_target_group_attributes", {"TargetGroupArn": arn}),
            Read("elbv2", "describe_tags", {"ResourceArns": [arn]}),
        ]

    def about_api(identifier):
        api_id = {"restApiId": identifier}
        return [
            Read("apigateway", "get_rest_api", api_id),
            Read("apigateway", "get_resources", {**api_id, "embed": ["methods"]}),
            Read("apigateway", "get_stages", api_id),
        ]

    def about_plan(identifier):
        plan = {"usagePlanId": identifier}
        return [
            Read("apigateway", "get_usage_plan", plan),
            Read("apigateway", "get_usage_plan_keys", plan, only=without_values),
        ]

    def without_values(answer):
        return {"items": [{key: value for key, value in item.items() if key != "value"} for item in answer["items"]]}

    groups = [names["metadata_target_group_name"], names["migration_target_group_name"]]
    return [
        Read(
            "elbv2",
            "describe_load_balancers",
            {"Names": [names["load_balancer_name"]]},
            each("LoadBalancers", about_balancer, "LoadBalancerArn"),
        ),
        *(
            Read(
                "elbv2",
                "describe_target_groups",
                {"Names": [name]},
                each("TargetGroups", about_targets, "TargetGroupArn"),
            )
            for name in groups
        ),
        *(
            Read(
                "apigateway",
                operation,
                then=each("items", about, "id") if about else None,
                only=only("items", "name", [name]),
            )
            for operation, name, about in (
                ("get_rest_apis", names["rest_api_name"], about_api),
                ("get_vpc_links", names["vpc_link_name"], None),
                ("get_usage_plans", names["usage_plan_name"], about_plan),
                # Without their values, as is the default: the document is stored.
                ("get_api_keys", names["api_key_name"], None),
            )
        ),
    ]


def batch(names):
    queue = names["batch_queue_name"]

    def mine(key, attribute):
        return lambda answer: {
            key: [i for i in answer[key] if i[attribute] == queue or i[attribute].startswith(queue + "-")]
        }

    def versions(template):
        return [Read("ec2", "describe_launch_template_versions", {"LaunchTemplateId": template})]

    return [
        Read("ec2", "describe_security_groups", tagged("batch", names)),
        Read(
            "ec2",
            "describe_launch_templates",
            tagged("batch", names),
            each("LaunchTemplates", versions, "LaunchTemplateId"),
        ),
        Read(
            "batch",
            "describe_compute_environments",
            only=mine("computeEnvironments", "computeEnvironmentName"),
        ),
        Read("batch", "describe_job_queues", only=mine("jobQueues", "jobQueueName")),
    ]


def hosts(names):
    mine = tagged("hosts", names)
    alive = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
    roles = [f"{names['host_group_prefix']}{one}" for one in ("elk", "evidently", "backup")]

    def versions(template):
        return [Read("ec2", "describe_launch_template_versions", {"LaunchTemplateId": template})]

    def policy(summary):
        return [Read("dlm", "get_lifecycle_policy", {"PolicyId": summary["PolicyId"]})]

    def policies(answer):
        found = answer["Policies"]
        return {"Policies": [one for one in found if one["Tags"].get("Name", "").startswith(names["host_prefix"])]}

    def machines(answer):
        """Return the calls that show the machines; without a template there is none, and nothing to be read."""
        templates = each("LaunchTemplates", versions, "LaunchTemplateId")(answer)
        if not templates:
            return []
        return [
            *templates,
            Read("ec2", "describe_instances", {"Filters": [*mine["Filters"], alive]}),
            Read("ec2", "describe_volumes", mine),
            Read("ec2", "describe_security_groups", mine),
            Read("ec2", "describe_addresses", mine),
            Read("dlm", "get_lifecycle_policies", then=each("Policies", policy), only=policies),
            kms_key(names["hosts_key_alias"]),
            *(Read("iam", "get_role", {"RoleName": name}) for name in roles),
            *(Read("iam", "list_attached_role_policies", {"RoleName": name}) for name in roles),
            *(Read("iam", "get_role_policy", {"RoleName": name, "PolicyName": name}) for name in roles),
            *(Read("iam", "get_instance_profile", {"InstanceProfileName": name}) for name in roles[:2]),
        ]

    return [Read("ec2", "describe_launch_templates", mine, machines)]


def step_functions(names):
    table = {"TableName": names["step_functions_table_name"]}

    def tags(answer):
        return [Read("dynamodb", "list_tags_of_resource", {"ResourceArn": answer["Table"]["TableArn"]})]

    return [
        Read("dynamodb", "describe_table", table, tags),
        Read("dynamodb", "describe_time_to_live", table),
        Read("dynamodb", "describe_continuous_backups", table),
        log_group(names["step_functions_log_group_name"]),
    ]


def flow_image(names):
    project = names["flow_image_name"]
    role = {"RoleName": project}
    current = {"repositoryName": names["repository_name"], "imageIds": [{"imageTag": names["flow_image_current_tag"]}]}

    def which(answer):
        """Return which image is in use: pulls and scans change the rest."""
        keys = ("imageDigest", "imageTags")
        return {"imageDetails": [{key: item.get(key) for key in keys} for item in answer["imageDetails"]]}

    return [
        Read("ecr", "describe_images", current, only=which),
        Read("codebuild", "batch_get_projects", {"names": [project]}),
        Read("iam", "get_role", role),
        Read("iam", "list_attached_role_policies", role),
        Read("iam", "get_role_policy", {**role, "PolicyName": project}),
        log_group(names["flow_image_log_group_name"]),
    ]


def metadata_service(names):
    family = names["metadata_service_name"]
    cluster = names["cluster_name"]

    def definition(arn):
        return [Read("ecs", "describe_task_definition", {"taskDefinition": arn, "include": ["TAGS"]})]

    def creation(answer):
        """Return which database it is: another one may have an older schema."""
        keys = ("DBInstanceIdentifier", "DbiResourceId", "InstanceCreateTime")
        return {"DBInstances": [{key: item.get(key) for key in keys} for item in answer["DBInstances"]]}

    return [
        Read("ec2", "describe_security_groups", tagged("metadata_service", names)),
        log_group(names["metadata_log_group_name"]),
        Read(
            "ecs",
            "describe_clusters",
            {"clusters": [cluster], "include": ["TAGS", "SETTINGS", "CONFIGURATIONS"]},
        ),
        Read(
            "ecs",
            "list_task_definitions",
            {"familyPrefix": family, "status": "ACTIVE"},
            each("taskDefinitionArns", definition),
            # A prefix finds longer names too.
            lambda answer: {"taskDefinitionArns": [a for a in answer["taskDefinitionArns"] if f"/{family}:" in a]},
        ),
        Read("ecs", "describe_services", {"cluster": cluster, "services": [family], "include": ["TAGS"]}),
        Read("rds", "describe_db_instances", {"DBInstanceIdentifier": names["database_identifier"]}, only=creation),
    ]


def client_config(names):
    # What it writes is a file of this machine; what is in there is made of names, and of these.
    return []


def without_secrets(machine):
    """Return a state machine's description without the values of secrets, as the record must not hold them.

    Metaflow writes the headers of its service, the API key among them, into the environment of each job. A digest
    of the value stands in its place, so that another one is seen.
    """

    def masked(part):
        if isinstance(part, list):
            return [masked(item) for item in part]
        if not isinstance(part, dict):
            return part
        if isinstance(part.get("Value"), str) and is_secret(part.get("Name", ""), part["Value"]):
            return {**part, "Value": f"{MASK} {hashlib.sha256(part['Value'].encode()).hexdigest()[:16]}"}
        return {key: masked(item) for key, item in part.items()}

    return {**machine, "definition": json.dumps(masked(json.loads(machine["definition"])))}


def flows(names):
    prefix = names["state_machine_prefix"] + "_"

    def about(arn):
        return [
            Read("stepfunctions", "describe_state_machine", {"stateMachineArn": arn}, only=without_secrets),
            Read("stepfunctions", "list_tags_for_resource", {"resourceArn": arn}),
        ]

    def mine(answer):
        return {"stateMachines": [item for item in answer["stateMachines"] if item["name"].startswith(prefix)]}

    def targets(rule):
        return [Read("events", "list_targets_by_rule", {"Rule": rule})]

    return [
        Read("stepfunctions", "list_state_machines", then=each("stateMachines", about, "stateMachineArn"), only=mine),
        Read("events", "list_rules", {"NamePrefix": prefix}, each("Rules", targets, "Name")),
    ]


def chains(names):
    prefix, notices = names["chain_prefix"], names["chains_notices_name"]
    rules = [prefix, names["chain_trigger_prefix"], notices]

    def about(arn):
        return [
            Read("stepfunctions", "describe_state_machine", {"stateMachineArn": arn}),
            Read("stepfunctions", "list_tags_for_resource", {"resourceArn": arn}),
        ]

    def about_rule(rule):
        return [
            Read("events", "list_targets_by_rule", {"Rule": rule["Name"]}),
            Read("events", "list_tags_for_resource", {"ResourceARN": rule["Arn"]}),
        ]

    def about_role(role):
        name = {"RoleName": role["RoleName"]}
        return [
            Read("iam", "get_role", name),
            Read("iam", "list_attached_role_policies", name),
            Read("iam", "get_role_policy", {**name, "PolicyName": role["RoleName"]}),
        ]

    def machines(answer):
        found = [item for item in answer["stateMachines"] if item["name"] == notices or item["name"].startswith(prefix)]
        return {"stateMachines": found}

    def roles(answer):
        ours = (names["chains_events_role_name"], notices)
        return {"Roles": [i for i in answer["Roles"] if i["RoleName"] in ours or i["RoleName"].startswith(prefix)]}

    return [
        log_group(names["chains_log_group_name"]),
        Read("events", "describe_connection", {"Name": notices}),
        Read("iam", "list_roles", then=each("Roles", about_role), only=roles),
        Read(
            "stepfunctions", "list_state_machines", then=each("stateMachines", about, "stateMachineArn"), only=machines
        ),
        *(Read("events", "list_rules", {"NamePrefix": rule}, each("Rules", about_rule)) for rule in rules),
    ]


#: component -> function of the stack's names (the variables stack_*, without the prefix)
READS = {
    reads.__name__: reads
    for reads in (
        network,
        datastore,
        secrets,
        identity,
        registry,
        database,
        api,
        batch,
        hosts,
        step_functions,
        flow_image,
        metadata_service,
        client_config,
        flows,
        chains,
    )
}
