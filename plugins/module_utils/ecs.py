# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""ECS clusters and services: one form for declared and live ones, and what ECS says of a deployment that fails."""

from __future__ import annotations

from ansible_collections.amazon.aws.plugins.module_utils.tagging import boto3_tag_list_to_ansible_dict

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
LOAD_BALANCER_KEYS = ("targetGroupArn", "containerName", "containerPort")

#: How many of a service's events a message quotes.
EVENTS_QUOTED = 5


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


def network_configuration(option):
    """Return the API's networkConfiguration of the module's option; None stays None."""
    if option is None:
        return None
    public = option["assign_public_ip"]
    declared = {
        "subnets": option["subnets"],
        "securityGroups": option["security_groups"],
        "assignPublicIp": None if public is None else "ENABLED" if public else "DISABLED",
    }
    return {"awsvpcConfiguration": {key: value for key, value in declared.items() if value is not None}}


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
        **_some(described, SERVICE_KEYS),
        "capacityProviderStrategy": strategy(described.get("capacityProviderStrategy", [])),
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


def rollout_reasons(service, deployment):
    """Return what ECS says of a deployment, and of the one that took its place.

    :param str deployment: the deployment's id; it may be gone already.
    """
    of_interest = [each for each in service["deployments"] if each["id"] == deployment or each["status"] == "PRIMARY"]
    oldest_first = reversed(of_interest)  # ECS lists the latest first
    return " ".join(each["rolloutStateReason"] for each in oldest_first if each.get("rolloutStateReason"))


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
