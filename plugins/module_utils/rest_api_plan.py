# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure part of api_gateway_rest_api: routes and stages as they are declared, as AWS shows them, and the patches.

A route is ``"GET /flows": {…}``, a method of API Gateway in AWS's terms, reduced to what can be declared. Declared and
live routes have the same keys, so that they are equal where they do the same.
"""

from __future__ import annotations

import json

from ansible_collections.mlops.metaflow.plugins.module_utils import diff
from ansible_collections.mlops.metaflow.plugins.module_utils.api_gateway import patch, text
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import Failed

#: What a MOCK integration is told to do, and the only answer that it can then give.
MOCK_TEMPLATE = {"application/json": '{"statusCode": 200}'}
MOCK_STATUS = "200"

#: One line a request, without a secret: apiKeyId is a name, apiKey would be the key itself.
ACCESS_LOG_FORMAT = (
    '{"requestId": "$context.requestId", "ip": "$context.identity.sourceIp", "time": "$context.requestTime", '
    '"method": "$context.httpMethod", "path": "$context.path", "status": "$context.status", '
    '"apiKeyId": "$context.identity.apiKeyId", "caller": "$context.identity.caller", '
    '"latency": "$context.responseLatency", "error": "$context.error.message"}'
)

#: The settings of all methods of a stage: our option, AWS's key, AWS's path in a patch.
METHOD_SETTINGS = (
    ("throttling_rate_limit", "throttlingRateLimit", ("throttling", "rateLimit")),
    ("throttling_burst_limit", "throttlingBurstLimit", ("throttling", "burstLimit")),
    ("metrics_enabled", "metricsEnabled", ("metrics", "enabled")),
    ("logging_level", "loggingLevel", ("logging", "loglevel")),
)


ROUTE_OPTIONS = {
    "path": {"required": True},
    "method": {"required": True, "choices": ["ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]},
    "authorization_type": {"choices": ["NONE", "AWS_IAM"], "default": "NONE"},
    "api_key_required": {"type": "bool", "default": False},
    "integration": {
        "type": "dict",
        "required": True,
        "options": {
            "type": {"choices": ["HTTP_PROXY", "MOCK"], "default": "HTTP_PROXY"},
            "uri": {},
            "http_method": {},
            "vpc_link_id": {},
            "request_parameters": {"type": "dict", "default": {}},
            "timeout_in_millis": {"type": "int", "default": 29000},
        },
    },
}

STAGE_OPTIONS = {
    "name": {"required": True},
    "access_log_group_arn": {},
    "access_log_format": {"default": ACCESS_LOG_FORMAT},
    "logging_level": {"choices": ["OFF", "ERROR", "INFO"]},
    "metrics_enabled": {"type": "bool"},
    "throttling_rate_limit": {"type": "float"},
    "throttling_burst_limit": {"type": "int"},
    "tracing_enabled": {"type": "bool"},
    "variables": {"type": "dict"},
}


def declared_endpoint(endpoint_type, vpc_endpoint_ids):
    """Return the endpoint's configuration; VPC endpoints that are left open (None) stay as they are."""
    return diff.without_none({"types": [endpoint_type], "vpcEndpointIds": vpc_endpoint_ids})


def declared_policy(option):
    """Return the resource policy of the option ``policy`` as a map; None where it is left open."""
    if option is None:
        return None
    try:
        return json.loads(option or "{}")
    except ValueError as error:
        raise Failed(f"the policy is not JSON: {error}") from error


def declared_routes(options):
    """Return the routes of the option ``routes``.

    :raises Failed: a route can't be meant so.
    """
    routes = {}
    for option in options:
        key = f"{option['method']} {option['path']}"
        if key in routes:
            raise Failed(f"the route '{key}' is declared twice.")
        if not option["path"].startswith("/") or (option["path"] != "/" and option["path"].endswith("/")):
            raise Failed(f"the path of the route '{key}' must begin with a slash, and not end with one.")
        if option["integration"]["type"] == "HTTP_PROXY" and not option["integration"]["uri"]:
            raise Failed(f"the route '{key}' needs integration.uri, the URL of its backend.")
        routes[key] = _declared_route(option)
    return routes


def _declared_route(option):
    integration = option["integration"]
    mapping = integration["request_parameters"]
    sources = sorted(source for source in mapping.values() if source.startswith("method.request."))
    return {
        "authorizationType": option["authorization_type"],
        "apiKeyRequired": option["api_key_required"],
        # A mapping's source must be declared, and a path variable is always there.
        "requestParameters": {source: source.startswith("method.request.path.") for source in sources},
        "integration": {"type": "MOCK", "requestTemplates": MOCK_TEMPLATE, "statusCodes": [MOCK_STATUS]}
        if integration["type"] == "MOCK"
        else {
            "type": integration["type"],
            "uri": integration["uri"],
            "httpMethod": integration["http_method"] or option["method"],
            "connectionType": "VPC_LINK" if integration["vpc_link_id"] else "INTERNET",
            "connectionId": integration["vpc_link_id"] or "",
            "requestParameters": mapping,
            "timeoutInMillis": integration["timeout_in_millis"],
        },
    }


def live_routes(resources):
    """Return the routes of the resources that GetResources gives with ``embed=["methods"]``."""
    return {
        f"{verb} {resource['path']}": _live_route(method)
        for resource in resources
        for verb, method in (resource.get("resourceMethods") or {}).items()
    }


def _live_route(method):
    integration = method.get("methodIntegration") or {}  # none: a run was killed, or somebody took it away
    return {
        "authorizationType": method.get("authorizationType"),
        "apiKeyRequired": method.get("apiKeyRequired", False),
        "requestParameters": method.get("requestParameters") or {},
        "integration": {
            "type": "MOCK",
            "requestTemplates": integration.get("requestTemplates") or {},
            "statusCodes": sorted(integration.get("integrationResponses") or {}),
        }
        if integration.get("type") == "MOCK"
        else {
            "type": integration.get("type"),
            "uri": integration.get("uri"),
            "httpMethod": integration.get("httpMethod"),
            "connectionType": integration.get("connectionType") or "INTERNET",
            "connectionId": integration.get("connectionId") or "",
            "requestParameters": integration.get("requestParameters") or {},
            "timeoutInMillis": integration.get("timeoutInMillis"),
        },
    }


def put_integration_arguments(route):
    """Return what PutIntegration wants to know of a route."""
    arguments = {key: value for key, value in route["integration"].items() if key != "statusCodes" and value != ""}
    if "httpMethod" in arguments:
        arguments["integrationHttpMethod"] = arguments.pop("httpMethod")
    return arguments


def path_of(key):
    """Return the path of a route: "/flows" of "GET /flows"."""
    return key.partition(" ")[2]


def ancestry(path):
    """Return the paths of all resources that a path needs, the shortest first: "/", "/a", "/a/b"."""
    parts = path.strip("/").split("/") if path != "/" else []
    return ["/"] + ["/" + "/".join(parts[: end + 1]) for end in range(len(parts))]


def stale_resources(paths, routes):
    """Return those of the live resources' ``paths`` that no route in ``routes`` needs, the deepest first."""
    needed = {ancestor for key in routes for ancestor in ancestry(path_of(key))} | {"/"}
    return sorted(set(paths) - needed, key=lambda path: (-path.count("/"), path))


def declared_stage(option, deployed, tags):
    """Return the stage of the option ``stage``.

    :param str deployed: digest of what the stage is to serve.
    """
    settings = {key: option[name] for name, key, _ in METHOD_SETTINGS if option[name] is not None}
    log_group = option["access_log_group_arn"]
    stage = {
        "stageName": option["name"],
        "deployed": deployed,
        "tracingEnabled": option["tracing_enabled"],
        "variables": option["variables"] and {name: text(value) for name, value in option["variables"].items()},
        "methodSettings": {"*/*": settings} if settings else None,
        # DescribeLogGroups gives ARNs that end in ":*"; API Gateway takes and shows them without.
        "accessLogSettings": {"destinationArn": log_group.removesuffix(":*"), "format": option["access_log_format"]}
        if log_group
        else None,
        "tags": tags,
    }
    stage = diff.without_none(stage)
    return stage | {"accessLogSettings": None} if log_group == "" else stage


def api_patches(live, changes):
    """Return the patch operations for the changed properties of the API itself; routes and stage are not among them."""
    keys = ("description", "securityPolicy", "endpointAccessMode")
    patches = [patch("replace", [key], changes[key]) for key in keys if key in changes]
    if "policy" in changes:
        patches.append(patch("replace", ["policy"], json.dumps(changes["policy"]) if changes["policy"] else ""))
    live_endpoint, endpoint = live["endpointConfiguration"], changes.get("endpointConfiguration", {})
    if "types" in endpoint:
        place = ["endpointConfiguration", "types", live_endpoint["types"][0]]
        patches.append(patch("replace", place, endpoint["types"][0]))
    if "vpcEndpointIds" in endpoint:
        have, want = set(live_endpoint.get("vpcEndpointIds", [])), set(endpoint["vpcEndpointIds"])
        place = ["endpointConfiguration", "vpcEndpointIds"]
        patches += [patch("remove", place, gone) for gone in sorted(have - want)]
        patches += [patch("add", place, new) for new in sorted(want - have)]
    return patches


def stage_patches(live, want, deployment_id=None):
    """Return the patch operations that make the live stage the declared one, its tags aside.

    :param deployment_id: the deployment that the stage is to serve, where that is another one.
    """
    found = diff.changes(want, live, ("variables",))
    patches = [patch("replace", ["deploymentId"], deployment_id)] if deployment_id else []
    if "tracingEnabled" in found:
        patches.append(patch("replace", ["tracingEnabled"], found["tracingEnabled"]))
    if "variables" in found:
        patches += _variable_patches(live.get("variables") or {}, found["variables"])
    if "accessLogSettings" in found:
        log = found["accessLogSettings"]
        patches += [patch("replace", ["accessLogSettings", key], value) for key, value in (log or {}).items()]
        if log is None:
            patches.append(patch("remove", ["accessLogSettings"]))
    settings = found.get("methodSettings", {}).get("*/*", {})
    patches += [
        patch("replace", ["*", "*", *path], settings[key]) for _, key, path in METHOD_SETTINGS if key in settings
    ]
    return patches


def _variable_patches(live, want):
    return [
        *(patch("remove", ["variables", name]) for name in sorted(live) if name not in want),
        *(patch("replace", ["variables", name], value) for name, value in want.items() if live.get(name) != value),
    ]
