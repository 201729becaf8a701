# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When are two ECS task definitions the same? The pure part of ecs_task_definition.

AWS fills in defaults and keeps the rest as it was sent. :func:`normal_form` takes the defaults away and sorts what has
no order, so that the declared and the registered definition can be compared, and shown, by what was really said.
"""

from __future__ import annotations

import re

from ansible_collections.mlops.metaflow.plugins.module_utils.diff import canonical

#: What AWS fills in, or what an absent key means, by dotted path (API reference of RegisterTaskDefinition).
#: runtimePlatform is not here: on EC2 no platform means any, not X86_64.
DEFAULTS = {
    "networkMode": "bridge",
    "enableFaultInjection": False,
    "containerDefinitions.cpu": 0,
    "containerDefinitions.disableNetworking": False,
    "containerDefinitions.essential": True,
    "containerDefinitions.interactive": False,
    "containerDefinitions.privileged": False,
    "containerDefinitions.pseudoTerminal": False,
    "containerDefinitions.readonlyRootFilesystem": False,
    "containerDefinitions.versionConsistency": "enabled",
    "containerDefinitions.healthCheck.interval": 30,
    "containerDefinitions.healthCheck.retries": 3,
    "containerDefinitions.healthCheck.startPeriod": 0,
    "containerDefinitions.healthCheck.timeout": 5,
    "containerDefinitions.linuxParameters.initProcessEnabled": False,
    "containerDefinitions.mountPoints.readOnly": False,
    "containerDefinitions.portMappings.hostPort": 0,
    "containerDefinitions.portMappings.protocol": "tcp",
    "containerDefinitions.volumesFrom.readOnly": False,
    "volumes.configuredAtLaunch": False,
    "volumes.dockerVolumeConfiguration.autoprovision": False,
    "volumes.dockerVolumeConfiguration.scope": "task",
    "volumes.efsVolumeConfiguration.authorizationConfig.iam": "DISABLED",
    "volumes.efsVolumeConfiguration.rootDirectory": "/",
    "volumes.efsVolumeConfiguration.transitEncryption": "DISABLED",
}

#: Lists whose order means nothing to ECS. That of the containers means nothing either, but is worth keeping.
UNORDERED = {
    "placementConstraints",
    "requiresCompatibilities",
    "volumes",
    "containerDefinitions.dependsOn",
    "containerDefinitions.environment",
    "containerDefinitions.mountPoints",
    "containerDefinitions.portMappings",
    "containerDefinitions.resourceRequirements",
    "containerDefinitions.secrets",
    "containerDefinitions.systemControls",
    "containerDefinitions.ulimits",
    "containerDefinitions.volumesFrom",
}

#: Network modes in which the host port can only be the container's.
SHARED_PORTS = ("awsvpc", "host")

#: The units of the task's ``cpu`` and ``memory``, in what AWS converts them to: CPU units and MiB.
UNITS = {"": 1, "vcpu": 1024, "gb": 1024}


def normal_form(definition):
    """Return the task definition without what AWS fills in, its unordered lists sorted.

    :param dict definition: in the API's spelling and types, declared or as described.
    """
    ports_shared = definition.get("networkMode") in SHARED_PORTS
    return _normal(
        {key: _amount(value) if key in ("cpu", "memory") else value for key, value in definition.items()}, ports_shared
    )


def _normal(value, ports_shared, path=""):
    if isinstance(value, list):
        items = [_normal(item, ports_shared, path) for item in value]
        return sorted(items, key=canonical) if path in UNORDERED else items
    if not isinstance(value, dict):
        return value
    said = {}
    for key, inner in value.items():
        here = f"{path}.{key}" if path else key
        inner = _normal(inner, ports_shared, here)
        if inner not in (None, [], {}) and not (here in DEFAULTS and inner == DEFAULTS[here]):
            said[key] = inner
    if ports_shared and said.get("hostPort") == said.get("containerPort"):
        said.pop("hostPort", None)
    return said


def _amount(text):
    """Return the task's cpu or memory as AWS shows it: "0.5 vCPU" → "512", "1GB" → "1024"."""
    match = re.fullmatch(r"(\d*\.?\d+)\s*([a-zA-Z]*)", text or "")
    if not match or match[2].lower() not in UNITS:
        return text
    return f"{float(match[1]) * UNITS[match[2].lower()]:.0f}"


def typed(value, shape):
    """Return ``value`` with its scalars in the types of the API: YAML's 8080 is an environment variable's "8080".

    :param value: declared by a person; what doesn't fit the shape is left for botocore's validation to name.
    :param shape: botocore's model of what the API expects.
    """
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        members = shape.members
        return {key: typed(inner, members[key]) if key in members else inner for key, inner in value.items()}
    if kind == "map" and isinstance(value, dict):
        return {key: typed(inner, shape.value) for key, inner in value.items()}
    if kind == "list" and isinstance(value, list):
        return [typed(item, shape.member) for item in value]
    if kind == "string" and isinstance(value, bool):
        return str(value).lower()
    if kind == "string" and isinstance(value, int | float):
        return str(value)
    if kind == "integer" and isinstance(value, str) and value.isdecimal():
        return int(value)
    if kind == "boolean" and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value
