# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""ECS clusters and services: one form for declared and live ones, and what ECS says of a deployment that fails."""

from __future__ import annotations

from ansible_collections.amazon.aws.plugins.module_utils.tagging import boto3_tag_list_to_ansible_dict
from ansible_collections.mlops.metaflow.plugins.module_utils.diff import api_form

# Options of the modules ecs_cluster and ecs_service that are lists of maps, or maps.
STRATEGY_OPTIONS = {
    "capacity_provider": {"required": True},
    "weight": {"type": "int", "default": 0},
    "base": {"type": "int", "default": 0},
}
NETWORK_OPTIONS = {
    "subnets": {"type": "list", "elements": "str", "required": True},
    "security_groups": {"type": "list", "elements": "str"},
    "assign_public_ip": {"type": "bool"},
}
LOAD_BALANCER_OPTIONS = {
    "target_group_arn": {"required": True},
    "container_name": {"required": True},
    "container_port": {"type": "int", "required": True},
}
CIRCUIT_BREAKER_OPTIONS = {
    "enable": {"type": "bool", "required": True},
    "rollback": {"type": "bool", "required": True},
}
DEPLOYMENT_OPTIONS = {
    "minimum_healthy_percent": {"type": "int"},
    "maximum_percent": {"type": "int"},
    "deployment_circuit_breaker": {"type": "dict", "options": CIRCUIT_BREAKER_OPTIONS},
}

#: What is compared and shown of AWS's descriptions, as it is.
CLUSTER_KEYS = ("clusterArn", "clusterName", "status")
SERVICE_KEYS = (
    "serviceArn",
    "serviceName",
    "clusterArn",
    "status",
    "taskDefinition",
    "desiredCount",
    "runningCount",
    "launchType",
    "platformVersion",
    "networkConfiguration",
    "deploymentConfiguration",
    "healthCheckGracePeriodSeconds",
    "enableExecuteCommand",
    "availabilityZoneRebalancing",
    "propagateTags",
    "schedulingStrategy",
)
#: What it means that AWS doesn't show a key (API references of CreateService and UpdateService).
SERVICE_DEFAULTS = {
    "healthCheckGracePeriodSeconds": 0,
    "enableExecuteCommand": False,
    "availabilityZoneRebalancing": "DISABLED",
    "propagateTags": "NONE",
}
LOAD_BALANCER_KEYS = ("targetGroupArn", "containerName", "containerPort")

#: How many of a service's events a message quotes.
EVENTS_QUOTED = 5


def declared_service(options):
    """Return a service as it should be but for its task definition, without what the options leave open."""
    same_name = (
        "desired_count",
        "platform_version",
        "load_balancers",
        "deployment_configuration",
        "health_check_grace_period_seconds",
        "enable_execute_command",
        "availability_zone_rebalancing",
        "propagate_tags",
        "scheduling_strategy",
        "tags",
    )
    declared = {"serviceName": options["name"], **api_form({name: options[name] for name in same_name})}
    if options["network_configuration"]:
        declared["networkConfiguration"] = network_configuration(options["network_configuration"])
    if options["launch_type"] or options["capacity_provider_strategy"]:  # one excludes the other
        declared["launchType"] = options["launch_type"]
        declared["capacityProviderStrategy"] = api_form(options["capacity_provider_strategy"]) or None
    return declared


def network_configuration(option):
    """Return the API's networkConfiguration for the module's option."""
    public = option["assign_public_ip"]
    declared = {
        "subnets": option["subnets"],
        "securityGroups": option["security_groups"],
        "assignPublicIp": None if public is None else "ENABLED" if public else "DISABLED",
    }
    return {"awsvpcConfiguration": {key: value for key, value in declared.items() if value is not None}}


def strategy(items):
    """Return a live capacity provider strategy as declared ones are, with weight and base."""
    return [
        {
            "capacityProvider": item["capacityProvider"],
            "weight": item.get("weight", 0),
            "base": item.get("base", 0),
        }
        for item in items
    ]


def live_cluster(described):
    """Return a cluster as it is, from AWS's description with SETTINGS and TAGS; without its counters."""
    settings = {setting["name"]: setting["value"] for setting in described.get("settings", [])}
    return {
        **_some(described, CLUSTER_KEYS),
        "capacityProviders": described.get("capacityProviders", []),
        "defaultCapacityProviderStrategy": strategy(described.get("defaultCapacityProviderStrategy", [])),
        "containerInsights": settings.get("containerInsights"),
        "tags": _tags(described),
    }


def live_service(described):
    """Return a service as it is, from AWS's description with TAGS; ``rolloutState`` is its primary deployment's."""
    live = {
        **SERVICE_DEFAULTS,
        **_some(described, SERVICE_KEYS),
        "capacityProviderStrategy": strategy(described.get("capacityProviderStrategy", [])) or None,
        "loadBalancers": [_some(balancer, LOAD_BALANCER_KEYS) for balancer in described.get("loadBalancers", [])],
        "rolloutState": primary(described).get("rolloutState"),
        "tags": _tags(described),
    }
    if live["capacityProviderStrategy"]:
        live["launchType"] = None  # the strategy is what counts
    return live


def primary(service):
    """Return the deployment that is to stay, or ``{}`` where the service has none."""
    return next((each for each in service.get("deployments", []) if each["status"] == "PRIMARY"), {})


def tasks(client, cluster, **filters):
    """Return AWS's descriptions of the tasks that ListTasks finds with ``filters``, stopped ones for an hour."""
    # A page holds 100 tasks, and DescribeTasks takes as many.
    pages = client.get_paginator("list_tasks").paginate(cluster=cluster, **filters)
    return [
        task
        for page in pages
        if page["taskArns"]
        for task in client.describe_tasks(cluster=cluster, tasks=page["taskArns"])["tasks"]
    ]


def rollout_failure(service, deployment):
    """Return what became of a deployment that failed, or that another one has replaced, and ECS's reasons.

    :param str deployment: the deployment's id. After a rollback it stays in the list until its tasks are gone.
    """
    own = next((each for each in service["deployments"] if each["id"] == deployment), {})
    failed = own.get("rolloutState") == "FAILED"
    said = f"its deployment {deployment} {'failed' + _reason(own) if failed else 'was not completed'}"
    other = primary(service)
    return said if other is own else f"{said}, and {other['id']} has taken its place{_reason(other)}"


def _reason(deployment):
    reason = deployment.get("rolloutStateReason", "").rstrip(".")
    return f" ({reason})" if reason else ""


def history(events, stopped):
    """Return in one line why tasks stopped, and what else ECS told.

    :param list events: the service's events, the latest first.
    :param list stopped: descriptions of the deployment's stopped tasks.
    """
    told = []
    if stopped:
        task = max(stopped, key=lambda task: (_failed(task), task["stoppedAt"]))
        told.append(f"Its last stopped task ({task['taskArn'].rsplit('/', 1)[1]}): {_why_stopped(task)}.")
    if events:
        oldest_first = reversed(events[:EVENTS_QUOTED])
        told.append(f"Last events: {' '.join(event['message'] for event in oldest_first)}")
    return " ".join(told)


def _failed(task):
    """Tell whether a task stopped by its own fault, and not because ECS needed it no longer."""
    # "Task failed ELB health checks in (target-group …)" against "Scaling activity initiated by (deployment …)"
    return task.get("stopCode") != "ServiceSchedulerInitiated" or " failed " in task.get("stoppedReason", "")


def _why_stopped(task):
    containers = [
        ", ".join(
            [f"container {container['name']}"]
            + ([f"exit code {container['exitCode']}"] if "exitCode" in container else [])
            + ([container["reason"]] if container.get("reason") else [])
        )
        for container in task.get("containers", [])
        if container.get("exitCode") or container.get("reason")
    ]
    return "; ".join([task.get("stoppedReason") or "no reason given", *containers]).rstrip(".")


def _some(described, keys):
    return {key: described[key] for key in keys if key in described}


def _tags(described):
    return boto3_tag_list_to_ansible_dict(described.get("tags", []), "key", "value")
