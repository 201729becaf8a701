"""What API Gateway's modules decide without AWS: cases of what is declared, what AWS shows, and the patches between."""

from __future__ import annotations

import importlib
import json

import pytest
import yaml
from ansible_collections.mlops.metaflow.plugins.module_utils import rest_api_plan, usage_plan
from ansible_collections.mlops.metaflow.plugins.module_utils.api_gateway import (
    normal_policy,
    owned,
    parsed_policy,
    patch,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import Failed

EXECUTION_ARN = "arn:aws:execute-api:eu-west-1:123456789012:a1b2c3"


def operations(patches):
    """Patches as short texts: "replace /name=value"."""
    return [f"{p['op']} {p['path']}" + (f"={p['value']}" if "value" in p else "") for p in patches]


# Whose a resource is


STACK, ENVIRONMENT = "mlops.metaflow/stack", "mlops.metaflow/environment"
OURS = {STACK: "metaflow", ENVIRONMENT: "prod"}

# name, tags of the item, declared tags, whether it is ours
OWNERS = [
    ("the same tags", OURS, OURS, True),
    ("other tags that may change", {**OURS, "team": "a"}, {**OURS, "team": "b"}, True),
    ("another environment", {**OURS, ENVIRONMENT: "dev"}, OURS, False),
    ("no tags", {}, OURS, False),
    ("tags that AWS leaves out", None, OURS, False),
    ("no declared tags", OURS, None, True),
    ("declared tags that don't say", {}, {"team": "a"}, True),
]


@pytest.mark.parametrize(("tags", "declared", "ours"), [case[1:] for case in OWNERS], ids=[case[0] for case in OWNERS])
def test_owned(tags, declared, ours):
    items = [{"name": "api", "tags": tags}, {"name": "api-2", "tags": declared}]
    assert owned(items, "api", declared) == (items[:1] if ours else [])


# Policies


def policy(**keys):
    allow = {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}
    return {"Version": "2012-10-17", "Statement": [{**allow, **keys}]}


RANGES = {"IpAddress": {"aws:SourceIp": ["198.51.100.0/24", "203.0.113.7/32"]}}
RANGES_TURNED = {"IpAddress": {"aws:SourceIp": ["203.0.113.7/32", "198.51.100.0/24"]}}

SAME_POLICIES = [
    ("a list of one", policy(), policy(Action=["execute-api:Invoke"], Resource=["execute-api:/*"])),
    ("a statement without its list", policy(), {**policy(), "Statement": policy()["Statement"][0]}),
    ("the API's own ARN", policy(), policy(Resource=f"{EXECUTION_ARN}/*")),
    ("everybody", policy(), policy(Principal={"AWS": ["*"]})),
    ("the order of a list", policy(Condition=RANGES), policy(Condition=RANGES_TURNED)),
    ("a truth value", policy(Condition={"Bool": {"a": True}}), policy(Condition={"Bool": {"a": "true"}})),
    ("a number", policy(Condition={"NumericEquals": {"a": 1}}), policy(Condition={"NumericEquals": {"a": "1"}})),
]
OTHER_POLICIES = [
    ("another effect", policy(), policy(Effect="Deny")),
    ("a range more", policy(Condition=RANGES), policy(Condition={"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}})),
    ("no condition", policy(Condition=RANGES), policy()),
    ("another path", policy(), policy(Resource="execute-api:/api/*")),
    ("another API", policy(), policy(Resource="arn:aws:execute-api:eu-west-1:123456789012:other/*")),
    ("an API whose id begins alike", policy(), policy(Resource=f"{EXECUTION_ARN}4/*")),
]


@pytest.mark.parametrize(("one", "two"), [case[1:] for case in SAME_POLICIES], ids=[case[0] for case in SAME_POLICIES])
def test_policies_of_one_meaning(one, two):
    assert normal_policy(one, EXECUTION_ARN) == normal_policy(two, EXECUTION_ARN)


@pytest.mark.parametrize(
    ("one", "two"), [case[1:] for case in OTHER_POLICIES], ids=[case[0] for case in OTHER_POLICIES]
)
def test_policies_of_other_meaning(one, two):
    assert normal_policy(one, EXECUTION_ARN) != normal_policy(two, EXECUTION_ARN)


@pytest.mark.parametrize("escape", [lambda text: text, lambda text: json.dumps(text)[1:-1].replace("/", "\\/")])
def test_a_policy_as_aws_shows_it(escape):
    shown = escape(json.dumps(policy(Resource=f"{EXECUTION_ARN}/*", Condition=RANGES)))
    assert parsed_policy(shown, EXECUTION_ARN) == policy(Condition=RANGES)


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_policy(nothing):
    assert parsed_policy(nothing, EXECUTION_ARN) == {}


@pytest.mark.parametrize(("option", "expected"), [(None, None), ("", {}), ("{}", {}), ('{"a": 1}', {"a": 1})])
def test_declared_policy(option, expected):
    assert rest_api_plan.declared_policy(option) == expected


def test_a_policy_that_is_no_json():
    with pytest.raises(Failed, match="the policy is not JSON: Expecting"):
        rest_api_plan.declared_policy("{'a': 1}")


# Patches


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["name"], "x", {"op": "replace", "path": "/name", "value": "x"}),
        (["variables", "a/b~c"], "", {"op": "replace", "path": "/variables/a~1b~0c", "value": ""}),
        (["enabled"], True, {"op": "replace", "path": "/enabled", "value": "true"}),
        (["rateLimit"], 10.0, {"op": "replace", "path": "/rateLimit", "value": "10"}),
        (["rateLimit"], 2.5, {"op": "replace", "path": "/rateLimit", "value": "2.5"}),
        (["quota"], None, {"op": "replace", "path": "/quota"}),
    ],
)
def test_patch(path, value, expected):
    assert patch("replace", path, value) == expected


# Routes


def option(method="GET", path="/a", **integration):
    """A route as the argument spec hands it over."""
    given = {
        "type": "HTTP_PROXY",
        "uri": "http://host/a",
        "http_method": None,
        "vpc_link_id": None,
        "request_parameters": {},
        "timeout_in_millis": 29000,
    }
    return {
        "method": method,
        "path": path,
        "authorization_type": "NONE",
        "api_key_required": False,
        "integration": {**given, **integration},
    }


def shown(path, verb, **method):
    """A resource as GetResources shows it."""
    return {"id": "x", "path": path, "resourceMethods": {verb: {"httpMethod": verb, **method}}}


PROXY = {"integration.request.path.proxy": "method.request.path.proxy"}

# name, declared route, the resource that AWS then shows
SAME_ROUTES = [
    (
        "through the internet",
        option(),
        shown("/a", "GET", authorizationType="NONE", apiKeyRequired=False, methodIntegration={
            "type": "HTTP_PROXY", "httpMethod": "GET", "uri": "http://host/a", "passthroughBehavior": "WHEN_NO_MATCH",
            "timeoutInMillis": 29000, "cacheNamespace": "x", "cacheKeyParameters": [],
        }),
    ),
    (
        "through a VPC link, with a variable",
        option("ANY", "/{proxy+}", uri="http://host/{proxy}", vpc_link_id="l1", request_parameters=PROXY),
        shown("/{proxy+}", "ANY", authorizationType="NONE", requestParameters={"method.request.path.proxy": True},
              methodIntegration={
                  "type": "HTTP_PROXY", "httpMethod": "ANY", "uri": "http://host/{proxy}", "connectionType": "VPC_LINK",
                  "connectionId": "l1", "requestParameters": PROXY, "timeoutInMillis": 29000}),
    ),
    (
        "a header that may be missing, and a constant",
        option(request_parameters={"integration.request.header.a": "method.request.header.A",
                                   "integration.request.header.b": "'b'"}),
        shown("/a", "GET", authorizationType="NONE", requestParameters={"method.request.header.A": False},
              methodIntegration={
                  "type": "HTTP_PROXY", "httpMethod": "GET", "uri": "http://host/a", "timeoutInMillis": 29000,
                  "requestParameters": {"integration.request.header.a": "method.request.header.A",
                                        "integration.request.header.b": "'b'"}}),
    ),
    (
        "without a backend",
        option(type="MOCK", uri=None),
        shown("/a", "GET", authorizationType="NONE", methodIntegration={
            "type": "MOCK", "requestTemplates": {"application/json": '{"statusCode": 200}'}, "timeoutInMillis": 29000,
            "integrationResponses": {"200": {"statusCode": "200"}}}),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "live"), [case[1:] for case in SAME_ROUTES], ids=[case[0] for case in SAME_ROUTES]
)
def test_a_route_that_aws_shows_as_declared(declared, live):
    assert rest_api_plan.declared_routes([declared]) == rest_api_plan.live_routes([live])


@pytest.mark.parametrize(
    "change",
    [
        {"authorizationType": "AWS_IAM"},
        {"apiKeyRequired": True},
        {"requestParameters": {"method.request.header.x": True}},
        {"methodIntegration": None},
        {"methodIntegration": {"type": "MOCK"}},
    ],
)
def test_a_route_that_somebody_changed(change):
    _, declared, live = SAME_ROUTES[0]
    method = {**live["resourceMethods"]["GET"], **change}
    live = {**live, "resourceMethods": {"GET": method}}
    assert rest_api_plan.declared_routes([declared]) != rest_api_plan.live_routes([live])


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ([option(), option()], "'GET /a' is declared twice"),
        ([option(path="a")], "must begin with a slash"),
        ([option(path="/a/")], "not end with one"),
        ([option(uri="")], "needs integration.uri"),
    ],
)
def test_routes_that_cannot_be_meant(routes, message):
    with pytest.raises(Failed, match=message):
        rest_api_plan.declared_routes(routes)


@pytest.mark.parametrize(
    ("path", "expected"), [("/", ["/"]), ("/a", ["/", "/a"]), ("/a/{b}/c", ["/", "/a", "/a/{b}", "/a/{b}/c"])]
)
def test_ancestry(path, expected):
    assert rest_api_plan.ancestry(path) == expected


@pytest.mark.parametrize(
    ("paths", "routes", "expected"),
    [
        (["/"], [], []),
        (["/", "/a", "/a/b"], ["GET /a/b"], []),
        (["/", "/a", "/a/b"], ["GET /a"], ["/a/b"]),
        (["/", "/a", "/a/b", "/c"], ["ANY /"], ["/a/b", "/a", "/c"]),
    ],
)
def test_stale_resources(paths, routes, expected):
    assert rest_api_plan.stale_resources(paths, routes) == expected


# Stages and APIs


LOG = {"destinationArn": "arn:aws:logs:eu-west-1:123456789012:log-group:api", "format": "$context.requestId"}

# name, live stage, declared stage, patches
STAGES = [
    ("nothing", {"stageName": "api", "description": ""}, {"stageName": "api"}, []),
    ("tracing", {}, {"tracingEnabled": True}, ["replace /tracingEnabled=true"]),
    ("tracing again", {"tracingEnabled": True}, {"tracingEnabled": True}, []),
    (
        "variables",
        {"variables": {"gone": "1", "same": "2", "other": "3"}},
        {"variables": {"same": "2", "other": "4", "new": "5"}},
        ["remove /variables/gone", "replace /variables/other=4", "replace /variables/new=5"],
    ),
    (
        "an access log",
        {},
        {"accessLogSettings": LOG},
        [f"replace /accessLogSettings/{key}={value}" for key, value in LOG.items()],
    ),
    ("no access log", {"accessLogSettings": LOG}, {"accessLogSettings": None}, ["remove /accessLogSettings"]),
    (
        "settings of all methods",
        {"methodSettings": {"*/*": {"throttlingRateLimit": 10.0, "metricsEnabled": False, "loggingLevel": "OFF"}}},
        {"methodSettings": {"*/*": {"throttlingRateLimit": 20.0, "metricsEnabled": True, "loggingLevel": "OFF"}}},
        ["replace /*/*/throttling/rateLimit=20", "replace /*/*/metrics/enabled=true"],
    ),
]


@pytest.mark.parametrize(("live", "want", "expected"), [case[1:] for case in STAGES], ids=[case[0] for case in STAGES])
def test_stage_patches(live, want, expected):
    assert operations(rest_api_plan.stage_patches(live, want)) == expected


def test_a_stage_gets_another_deployment():
    assert operations(rest_api_plan.stage_patches({}, {}, "d1")) == ["replace /deploymentId=d1"]


def test_a_stage_as_declared():
    given = dict.fromkeys(rest_api_plan.STAGE_OPTIONS)
    log = {"access_log_group_arn": f"{LOG['destinationArn']}:*", "access_log_format": LOG["format"]}
    stage = {**given, **log, "name": "api", "variables": {"a": 1, "b": True}}
    assert rest_api_plan.declared_stage(stage, "sha256:1", None) == {
        "stageName": "api",
        "deployed": "sha256:1",
        "variables": {"a": "1", "b": "true"},
        "accessLogSettings": LOG,
    }
    without = rest_api_plan.declared_stage({**stage, "access_log_group_arn": ""}, "sha256:1", None)
    assert without["accessLogSettings"] is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"routes": {}, "stage": {}}, []),
        ({"description": "x"}, ["replace /description=x"]),
        ({"policy": {}}, ["replace /policy="]),
        ({"policy": {"a": 1}}, ['replace /policy={"a": 1}']),
        ({"endpointConfiguration": {"types": ["PRIVATE"]}}, ["replace /endpointConfiguration/types/REGIONAL=PRIVATE"]),
        (
            {"endpointConfiguration": {"vpcEndpointIds": ["v2", "v3"]}},
            ["remove /endpointConfiguration/vpcEndpointIds=v1", "add /endpointConfiguration/vpcEndpointIds=v3"],
        ),
        (
            {"securityPolicy": "TLS_1_2", "endpointAccessMode": "BASIC"},
            ["replace /securityPolicy=TLS_1_2", "replace /endpointAccessMode=BASIC"],
        ),
    ],
)
def test_api_patches(changes, expected):
    live = {"endpointConfiguration": {"types": ["REGIONAL"], "vpcEndpointIds": ["v1", "v2"]}}
    assert operations(rest_api_plan.api_patches(live, changes)) == expected


# Usage plans


SLOW = {"rateLimit": 2.5, "burstLimit": 5}
LIVE_PLAN = {"throttle": SLOW, "apiStages": {"a1:api": {"/b/{c}/GET": SLOW}, "a2:api": {}}}

# name, what of the plan is to become, patches
PLANS = [
    ("a description", {"description": "x"}, ["replace /description=x"]),
    ("no throttle", {"throttle": None}, ["remove /throttle"]),
    ("a throttle", {"throttle": {"rateLimit": 3.0}}, ["replace /throttle/rateLimit=3"]),
    ("a quota", {"quota": {"limit": 9, "period": "DAY"}}, ["replace /quota/limit=9", "replace /quota/period=DAY"]),
    ("no stage", {"apiStages": {}}, ["remove /apiStages=a1:api", "remove /apiStages=a2:api"]),
    ("a stage more", {"apiStages": {**LIVE_PLAN["apiStages"], "a3:api": {}}}, ["add /apiStages=a3:api"]),
    (
        "another limit of a route",
        {"apiStages": {"a1:api": {"/b/{c}/GET": {"rateLimit": 4.0, "burstLimit": 5}}, "a2:api": {}}},
        [
            "remove /apiStages=a1:api",
            "add /apiStages=a1:api",
            "replace /apiStages/a1:api/throttle/~1b~1{c}/GET/rateLimit=4",
            "replace /apiStages/a1:api/throttle/~1b~1{c}/GET/burstLimit=5",
        ],
    ),
]


@pytest.mark.parametrize(("desired", "expected"), [case[1:] for case in PLANS], ids=[case[0] for case in PLANS])
def test_usage_plan_patches(desired, expected):
    assert operations(usage_plan.patches(LIVE_PLAN, desired, desired)) == expected


@pytest.mark.parametrize("method", ["/b/{c}/GET", "~1b~1{c}/GET"])
def test_stages_of_a_plan_as_aws_shows_them(method):
    stages = [{"apiId": "a1", "stage": "api", "throttle": {method: SLOW}}, {"apiId": "a2", "stage": "api"}]
    assert usage_plan.live_stages(stages) == LIVE_PLAN["apiStages"]
    assert usage_plan.live_stages(usage_plan.api_stages(LIVE_PLAN["apiStages"])) == LIVE_PLAN["apiStages"]


# Documentation


@pytest.mark.parametrize(
    "name", ["api_gateway_rest_api", "api_gateway_usage_plan", "api_gateway_vpc_link", "metaflow_service_migration"]
)
def test_documentation_is_the_argument_spec(name, monkeypatch):
    """Options, types, choices and defaults are written twice; ansible-doc and the module must say the same."""
    module = importlib.import_module(f"ansible_collections.mlops.metaflow.plugins.modules.{name}")
    specs = []
    monkeypatch.setattr(module, "AnsibleAWSModule", lambda argument_spec, **rest: specs.append(argument_spec))
    with pytest.raises((AttributeError, TypeError)):
        module.main()
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert compared(documented) == compared({k: v for k, v in specs[0].items() if k not in ("tags", "purge_tags")})


def compared(options):
    """Reduce options, documented or specified, to what both say."""
    return {
        name: {
            "type": option.get("type", "str"),
            "elements": option.get("elements"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": option.get("choices"),
            "options": compared(option.get("suboptions") or option.get("options") or {}),
        }
        for name, option in options.items()
    }
