"""API Gateway's modules against the emulated account: create, again, modify, again, delete, again; checked and real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.client import BaseClient
from botocore.endpoint import Endpoint
from botocore.exceptions import ReadTimeoutError
from steps import Module, answering

ROOT = Path(__file__).parents[3]
CORE = "ansible_collections.mlops.metaflow.plugins.module_utils.resource"
OWNER = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}
NLB = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/metaflow-staging/50dc6c495c0c9188"


@pytest.fixture
def apigateway(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("apigateway")


@pytest.fixture
def module(run_module, emulator, apigateway):
    """Return a function of a module's name ("vpc_link") that gives the module, to be run in steps."""
    return lambda name: Module(run_module, emulator, f"api_gateway_{name}")


@pytest.fixture
def run(module):
    """Run a module once; ``changes`` says whether it has to change something."""
    return lambda name, args, **options: module(name).run(args, **options)


@pytest.fixture
def change(module):
    """Run a module in check mode, for real, and both again."""
    return lambda name, args: module(name).change(args)


def last_warning(result):
    """Return the text of the last warning; ansible-core keeps those of earlier runs in this process before it."""
    warning = result["warnings"][-1]
    return warning if isinstance(warning, str) else warning["event"]["msg"]


# VPC link


LINK = {"name": "metaflow-staging", "target_arns": [NLB], "tags": {**OWNER, "team": "ml"}}


def test_vpc_link_in_twelve_steps(change, apigateway):
    made = change("vpc_link", LINK)["vpc_link"]
    assert made["arn"] == f"arn:aws:apigateway:us-east-1::/vpclinks/{made['id']}"
    assert made["status"] == "AVAILABLE"
    assert made["tags"] == LINK["tags"]

    changed = change("vpc_link", LINK | {"tags": {**OWNER, "team": "data"}})["vpc_link"]
    assert changed["id"] == made["id"]
    assert apigateway.get_vpc_link(vpcLinkId=made["id"])["tags"] == {**OWNER, "team": "data"}

    change("vpc_link", {"name": LINK["name"], "tags": OWNER, "state": "absent"})
    assert apigateway.get_vpc_links()["items"] == []


def test_vpc_link_is_predicted_on_an_empty_account(run):
    result = run("vpc_link", LINK, check=True)
    assert result["vpc_link"]["id"] == "(predicted)"
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"] == {"name": LINK["name"], "targetArns": [NLB], "tags": LINK["tags"]}


def test_vpc_link_is_adopted_and_a_second_one_named(run, apigateway):
    """A run that is killed after the create leaves a link; two of them leave two."""
    ids = {apigateway.create_vpc_link(name=LINK["name"], targetArns=[NLB], tags=LINK["tags"])["id"] for _ in range(2)}
    result = run("vpc_link", LINK, changes=False)
    assert result["vpc_link"]["id"] in ids
    assert all(identifier in last_warning(result) for identifier in ids)
    run("vpc_link", {"name": LINK["name"], "tags": OWNER, "state": "absent"})
    assert apigateway.get_vpc_links()["items"] == []


def test_vpc_link_of_another_stack_is_left_alone(run, apigateway):
    other = {**OWNER, "mlops.metaflow/environment": "prod"}
    theirs = apigateway.create_vpc_link(name=LINK["name"], targetArns=[NLB], tags=other)["id"]
    ours = run("vpc_link", LINK)["vpc_link"]["id"]
    assert ours != theirs
    run("vpc_link", {"name": LINK["name"], "tags": OWNER, "state": "absent"})
    assert [link["id"] for link in apigateway.get_vpc_links()["items"]] == [theirs]


def test_vpc_link_to_a_replaced_load_balancer_is_made_beside_the_old_one(run, apigateway):
    old = run("vpc_link", LINK)["vpc_link"]["id"]
    replaced = LINK | {"target_arns": [NLB.replace("50dc", "60ab")]}
    result = run("vpc_link", replaced)
    assert result["vpc_link"]["id"] != old
    assert old in last_warning(result)
    assert run("vpc_link", replaced, changes=False)["vpc_link"]["id"] == result["vpc_link"]["id"]


@pytest.fixture
def showing(monkeypatch):
    """Let AWS show VPC links as it does while it works on them; the emulator is done at once.

    ``showing(*steps)``: each reading takes the next step, a map of what all links show; the last one stays.
    """

    def showing(*steps):
        original, left = BaseClient._make_api_call, list(steps)

        def call(self, operation, arguments):
            answer = original(self, operation, arguments)
            if operation == "GetVpcLinks" and answer["items"]:
                step = left.pop(0) if len(left) > 1 else left[0]
                for item in answer["items"]:
                    item.update(step)
            return answer

        monkeypatch.setattr(BaseClient, "_make_api_call", call)

    return showing


def test_vpc_link_is_waited_for(run, showing):
    showing({"status": "PENDING"}, {"status": "PENDING"}, {"status": "AVAILABLE"})
    assert run("vpc_link", LINK)["vpc_link"]["status"] == "AVAILABLE"


def test_vpc_link_is_not_waited_for_when_told_so(run, showing):
    showing({"status": "PENDING"})
    assert run("vpc_link", LINK | {"wait": False})["vpc_link"]["status"] == "PENDING"


def test_vpc_link_that_takes_too_long_is_named(run_module, apigateway, showing):
    showing({"status": "PENDING", "statusMessage": "Setting up"})
    message = run_module("mlops.metaflow.api_gateway_vpc_link", LINK | {"wait_timeout": 0}, fails=True)["msg"]
    assert "'metaflow-staging' to be ready, and it is not (PENDING: Setting up)" in message


def test_vpc_link_that_fails_says_why(run_module, apigateway, showing):
    showing({"status": "FAILED", "statusMessage": "NLB is malformed"})
    message = run_module("mlops.metaflow.api_gateway_vpc_link", LINK, fails=True)["msg"]
    assert "'metaflow-staging': AWS could not set it up: NLB is malformed. Mend the cause" in message


def test_vpc_link_that_has_failed_is_made_anew(run, apigateway, showing):
    failed = apigateway.create_vpc_link(name=LINK["name"], targetArns=[NLB], tags=OWNER)["id"]
    showing({"status": "FAILED", "statusMessage": "NLB is malformed"}, {"status": "AVAILABLE"})
    result = run("vpc_link", LINK)
    assert result["diff"]["before"]["failure"] == "NLB is malformed"
    assert "failure" not in result["diff"]["after"]
    assert result["vpc_link"]["tags"] == LINK["tags"]
    (link,) = apigateway.get_vpc_links()["items"]
    assert link["id"] == result["vpc_link"]["id"] != failed


# REST API


HOST = "http://metaflow-staging.elb.us-east-1.amazonaws.com"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "execute-api:Invoke",
            "Resource": "execute-api:/*",
            "Condition": {"IpAddress": {"aws:SourceIp": ["203.0.113.7/32", "198.51.100.0/24"]}},
        }
    ],
}


def route(method, path, url, link, **options):
    """A declared route to the load balancer, through the VPC link."""
    return {"method": method, "path": path, "integration": {"uri": HOST + url, "vpc_link_id": link}, **options}


def stack_api(link="abc123", **options):
    """The stack's API as the module's documentation shows it."""
    proxy = route("ANY", "/{proxy+}", "/{proxy}", link, api_key_required=True)
    proxy["integration"]["request_parameters"] = {"integration.request.path.proxy": "method.request.path.proxy"}
    return {
        "name": "metaflow-staging",
        "policy": POLICY,
        "routes": [
            route("ANY", "/", "/", link, api_key_required=True),
            proxy,
            route("GET", "/db_schema_status", ":8082/db_schema_status", link, api_key_required=True),
            route("PATCH", "/upgrade", ":8082/upgrade", link, authorization_type="AWS_IAM"),
        ],
        "stage": {"name": "api", "throttling_rate_limit": 200, "throttling_burst_limit": 400},
        "tags": OWNER,
        **options,
    }


def methods(apigateway, api_id):
    """Return ``{"GET /path": method}`` as the account has them."""
    return {
        f"{verb} {resource['path']}": method
        for resource in apigateway.get_resources(restApiId=api_id, embed=["methods"])["items"]
        for verb, method in resource.get("resourceMethods", {}).items()
    }


def served(apigateway, api_id):
    """Return the id of the deployment that the stage serves."""
    return apigateway.get_stage(restApiId=api_id, stageName="api")["deploymentId"]


def test_rest_api_in_twelve_steps(change, apigateway):
    made = change("rest_api", stack_api())["rest_api"]
    assert made["arn"] == f"arn:aws:apigateway:us-east-1::/restapis/{made['id']}"
    assert made["execution_arn"] == f"arn:aws:execute-api:us-east-1:123456789012:{made['id']}"
    assert made["invoke_url"] == f"https://{made['id']}.execute-api.us-east-1.amazonaws.com/api"
    assert made["endpoint_configuration"]["types"] == ["REGIONAL"]
    live = methods(apigateway, made["id"])
    assert {key: (method["authorizationType"], method["apiKeyRequired"]) for key, method in live.items()} == {
        "ANY /": ("NONE", True),
        "ANY /{proxy+}": ("NONE", True),
        "GET /db_schema_status": ("NONE", True),
        "PATCH /upgrade": ("AWS_IAM", False),
    }
    assert live["ANY /{proxy+}"]["requestParameters"] == {"method.request.path.proxy": True}
    assert live["ANY /{proxy+}"]["methodIntegration"]["connectionId"] == "abc123"
    stage = apigateway.get_stage(restApiId=made["id"], stageName="api")
    assert stage["methodSettings"]["*/*"]["throttlingRateLimit"] == 200
    assert stage["tags"] == OWNER
    assert len(apigateway.get_deployments(restApiId=made["id"])["items"]) == 1

    # A route more, one less, one elsewhere; another policy, another stage.
    other = stack_api(link="xyz789", policy={}, tags={**OWNER, "team": "ml"}, description="Metadata service")
    other["routes"] = [*other["routes"][:3], route("GET", "/flows/{flow}/runs", "/flows", "xyz789")]
    other["stage"] |= {"metrics_enabled": True, "tracing_enabled": True, "variables": {"colour": "green"}}
    changed = change("rest_api", other)["rest_api"]
    assert changed["id"] == made["id"]
    assert set(methods(apigateway, made["id"])) == {
        "ANY /", "ANY /{proxy+}", "GET /db_schema_status", "GET /flows/{flow}/runs",
    }  # fmt: skip
    assert "/upgrade" not in {r["path"] for r in apigateway.get_resources(restApiId=made["id"])["items"]}
    assert not apigateway.get_rest_api(restApiId=made["id"]).get("policy")
    stage = apigateway.get_stage(restApiId=made["id"], stageName="api")
    assert stage["variables"] == {"colour": "green"}
    assert stage["tags"] == {**OWNER, "team": "ml"}
    assert len(apigateway.get_deployments(restApiId=made["id"])["items"]) == 2

    change("rest_api", {"name": "metaflow-staging", "tags": OWNER, "state": "absent"})
    assert apigateway.get_rest_apis()["items"] == []


def test_rest_api_is_predicted_on_an_empty_account(run):
    result = run("rest_api", stack_api(link="(predicted)"), check=True)
    assert result["rest_api"]["id"] == "(predicted)"
    assert result["rest_api"]["invoke_url"].startswith("https://(predicted).execute-api.us-east-1.")
    assert "PATCH /upgrade" in result["diff"]["after"]["routes"]


def test_rest_api_makes_few_calls(run, emulator):
    """API Gateway allows an account 10 of most calls a second, and CreateDeployment once in 5 seconds."""
    run("rest_api", stack_api())
    calls = {call["action"]: call["count"] for call in emulator.calls()}
    assert calls["CreateRestApi"] == calls["CreateDeployment"] == calls["CreateStage"] == calls["UpdateStage"] == 1
    assert sum(count for action, count in calls.items() if not action.startswith("Get")) == 15
    run("rest_api", stack_api(), changes=False)
    assert {call["action"]: call["count"] for call in emulator.calls()} == {
        "GetCallerIdentity": 1, "GetRestApis": 1, "GetResources": 1, "GetStage": 1, "GetDeployment": 1,
    }  # fmt: skip


def drop_integration(apigateway, api):
    resource = next(r["id"] for r in apigateway.get_resources(restApiId=api)["items"] if r["path"] == "/upgrade")
    apigateway.delete_integration(restApiId=api, resourceId=resource, httpMethod="PATCH")


def open_upgrade(apigateway, api):
    resource = next(r["id"] for r in apigateway.get_resources(restApiId=api)["items"] if r["path"] == "/upgrade")
    apigateway.delete_method(restApiId=api, resourceId=resource, httpMethod="PATCH")
    apigateway.put_method(restApiId=api, resourceId=resource, httpMethod="PATCH", authorizationType="NONE")


def add_route(apigateway, api):
    root = apigateway.get_rest_api(restApiId=api)["rootResourceId"]
    backdoor = apigateway.create_resource(restApiId=api, parentId=root, pathPart="backdoor")["id"]
    apigateway.create_resource(restApiId=api, parentId=backdoor, pathPart="inner")
    apigateway.put_method(restApiId=api, resourceId=backdoor, httpMethod="GET", authorizationType="NONE")


def drop_policy(apigateway, api):
    apigateway.update_rest_api(restApiId=api, patchOperations=[{"op": "replace", "path": "/policy", "value": ""}])


def slow_down(apigateway, api):
    operation = {"op": "replace", "path": "/*/*/throttling/rateLimit", "value": "1"}
    apigateway.update_stage(restApiId=api, stageName="api", patchOperations=[operation])


def delete_stage(apigateway, api):
    apigateway.delete_stage(restApiId=api, stageName="api")


def untag_stage(apigateway, api):
    arn = f"arn:aws:apigateway:us-east-1::/restapis/{api}/stages/api"
    apigateway.untag_resource(resourceArn=arn, tagKeys=["mlops.metaflow/stack"])


@pytest.mark.parametrize(
    "drift", [drop_integration, open_upgrade, add_route, drop_policy, slow_down, delete_stage, untag_stage]
)
def test_rest_api_changed_by_hand_is_repaired(change, run, apigateway, drift):
    """Nobody has deployed what was changed, so nothing needs to be deployed again."""
    api = run("rest_api", stack_api())["rest_api"]
    before = methods(apigateway, api["id"]), served(apigateway, api["id"])
    drift(apigateway, api["id"])
    repaired = change("rest_api", stack_api())["rest_api"]
    assert repaired["routes"] == api["routes"]
    assert (methods(apigateway, api["id"]), served(apigateway, api["id"])) == before
    assert len(apigateway.get_deployments(restApiId=api["id"])["items"]) == 1


def test_rest_api_deployed_by_hand_is_deployed_again(change, run, apigateway):
    """What the stage serves is seen by its deployment, not by the routes, which may be right again."""
    api = run("rest_api", stack_api())["rest_api"]["id"]
    ours = served(apigateway, api)
    theirs = apigateway.create_deployment(restApiId=api, description="quick fix")["id"]
    operation = {"op": "replace", "path": "/deploymentId", "value": theirs}
    apigateway.update_stage(restApiId=api, stageName="api", patchOperations=[operation])
    change("rest_api", stack_api())
    assert served(apigateway, api) == ours


def test_rest_api_survives_kills(module, apigateway):
    """A run that finds what a killed one has left adopts it, and makes nothing twice."""
    args = stack_api(routes=[{"path": "/a/{b}", "method": "GET", "integration": {"type": "MOCK"}}])

    def state():
        (api,) = apigateway.get_rest_apis()["items"]
        (deployment,) = apigateway.get_deployments(restApiId=api["id"])["items"]
        stage = apigateway.get_stage(restApiId=api["id"], stageName="api")
        paths = sorted(resource["path"] for resource in apigateway.get_resources(restApiId=api["id"])["items"])
        return deployment["description"], stage["methodSettings"], paths, methods(apigateway, api["id"])

    module("rest_api").survives_kills(lambda: args, state)


@pytest.mark.parametrize("call", ["CreateRestApi", "CreateDeployment"])
def test_rest_api_is_not_made_twice_where_an_answer_is_lost(run, apigateway, monkeypatch, call):
    lost = losing_answers(monkeypatch, call)
    run("rest_api", stack_api())
    assert lost
    (api,) = apigateway.get_rest_apis()["items"]
    assert len(apigateway.get_deployments(restApiId=api["id"])["items"]) == 1


@pytest.mark.parametrize("call", ["CreateRestApi", "CreateDeployment"])
def test_rest_api_that_is_throttled_is_made(run, monkeypatch, call):
    monkeypatch.setattr(f"{CORE}.CREATE_PAUSES", (0, 0, None))
    with answering(call, "TooManyRequestsException", times=2):
        run("rest_api", stack_api())


def losing_answers(monkeypatch, operation):
    """Lose the answer of the first such call, as a broken connection does, and don't pause before the next attempt."""
    make_request, send, lost = Endpoint.make_request, Endpoint._send, []

    def named(self, model, request):
        return make_request(self, model, {**request, "context": {**request["context"], "operation": model.name}})

    def losing(self, request):
        answer = send(self, request)
        if request.context["operation"] == operation and not lost:
            lost.append(operation)
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer

    monkeypatch.setattr(Endpoint, "make_request", named)
    monkeypatch.setattr(Endpoint, "_send", losing)
    monkeypatch.setattr(f"{CORE}.CREATE_PAUSES", (0, 0, None))
    return lost


def test_rest_api_keeps_other_routes_when_told_to(run, apigateway):
    api = run("rest_api", stack_api())["rest_api"]["id"]
    add_route(apigateway, api)
    run("rest_api", stack_api(purge_routes=False), changes=False)
    assert "GET /backdoor" in methods(apigateway, api)


def test_rest_api_answers_by_itself(change, apigateway):
    alive = {"path": "/alive", "method": "GET", "integration": {"type": "MOCK"}}
    api = change("rest_api", stack_api(routes=[alive]))["rest_api"]
    integration = methods(apigateway, api["id"])["GET /alive"]["methodIntegration"]
    assert integration["type"] == "MOCK"
    assert list(integration["integrationResponses"]) == ["200"]


def test_rest_api_with_endpoint_and_security_policy(change, apigateway):
    private = {
        "endpoint_type": "PRIVATE",
        "vpc_endpoint_ids": ["vpce-1", "vpce-2"],
        "security_policy": "SecurityPolicy_TLS13_1_3_2025_09",
        "endpoint_access_mode": "STRICT",
    }
    change("rest_api", stack_api(**private))
    api = change("rest_api", stack_api(**private | {"vpc_endpoint_ids": ["vpce-2", "vpce-3"]}))["rest_api"]
    live = apigateway.get_rest_api(restApiId=api["id"])
    assert live["endpointConfiguration"] == {"types": ["PRIVATE"], "vpcEndpointIds": ["vpce-2", "vpce-3"]}
    assert (live["securityPolicy"], live["endpointAccessMode"]) == ("SecurityPolicy_TLS13_1_3_2025_09", "STRICT")
    public = stack_api(endpoint_type="REGIONAL", vpc_endpoint_ids=[])
    assert change("rest_api", public)["rest_api"]["endpoint_configuration"]["types"] == ["REGIONAL"]


def test_rest_api_with_an_access_log(change, apigateway):
    group = "arn:aws:logs:us-east-1:123456789012:log-group:/metaflow/staging/api"
    declared = stack_api()
    declared["stage"] |= {"access_log_group_arn": f"{group}:*", "logging_level": "ERROR"}
    api = change("rest_api", declared)["rest_api"]["id"]
    stage = apigateway.get_stage(restApiId=api, stageName="api")
    assert stage["accessLogSettings"]["destinationArn"] == group
    assert '$context.identity.apiKey"' not in stage["accessLogSettings"]["format"]
    declared["stage"]["access_log_group_arn"] = ""
    change("rest_api", declared)
    assert "accessLogSettings" not in apigateway.get_stage(restApiId=api, stageName="api")


def test_rest_api_says_what_is_wrong_with_a_route(module):
    routes = stack_api()["routes"]
    said = module("rest_api").refused(stack_api(routes=[*routes, routes[0]]))
    assert said == "Failed to declare REST API 'metaflow-staging': the route 'ANY /' is declared twice."


# Usage plan


def make_stage(apigateway):
    """Make an API with the stage `api`, and return its id."""
    api = apigateway.create_rest_api(name="any")
    method = {"restApiId": api["id"], "resourceId": api["rootResourceId"], "httpMethod": "GET"}
    apigateway.put_method(**method, authorizationType="NONE")
    apigateway.put_integration(**method, type="MOCK")
    apigateway.create_deployment(restApiId=api["id"], stageName="api")
    return api["id"]


@pytest.fixture
def stage(apigateway):
    """Id of an API with the stage `api`."""
    return make_stage(apigateway)


def stack_plan(api_id, **options):
    """The stack's plan as the module's documentation shows it."""
    return {
        "name": "metaflow-staging",
        "throttle": {"rate_limit": 100, "burst_limit": 200},
        "quota": {"limit": 100000, "period": "MONTH"},
        "api_stages": [
            {
                "api_id": api_id,
                "stage": "api",
                "throttle": [{"path": "/db_schema_status", "method": "GET", "rate_limit": 2.5, "burst_limit": 5}],
            }
        ],
        "api_keys": [{"name": "metaflow-staging"}],
        "tags": OWNER,
        **options,
    }


def keys_of(apigateway, plan_id):
    """Return ``{name: id}`` of the keys that belong to the plan."""
    return {key["name"]: key["id"] for key in apigateway.get_usage_plan_keys(usagePlanId=plan_id)["items"]}


def test_usage_plan_in_twelve_steps(change, apigateway, stage):
    made = change("usage_plan", stack_plan(stage))["usage_plan"]
    key = made["api_keys"]["metaflow-staging"]
    assert keys_of(apigateway, made["id"]) == {"metaflow-staging": key["id"]}
    plan = apigateway.get_usage_plan(usagePlanId=made["id"])
    assert plan["throttle"] == {"rateLimit": 100, "burstLimit": 200}
    assert plan["quota"] == {"limit": 100000, "offset": 0, "period": "MONTH"}
    limit = {"/db_schema_status/GET": {"rateLimit": 2.5, "burstLimit": 5}}
    assert plan["apiStages"] == [{"apiId": stage, "stage": "api", "throttle": limit}]
    assert apigateway.get_api_key(apiKey=key["id"])["tags"] == OWNER

    other = stack_plan(stage, description="Laptops and CI", throttle={"rate_limit": 10.5, "burst_limit": 20}, quota={})
    other["api_stages"][0]["throttle"][0]["rate_limit"] = 4
    other["api_keys"][0]["enabled"] = False
    other["tags"] = {**OWNER, "team": "ml"}
    changed = change("usage_plan", other)["usage_plan"]
    assert changed["id"] == made["id"]
    plan = apigateway.get_usage_plan(usagePlanId=made["id"])
    assert plan["throttle"] == {"rateLimit": 10.5, "burstLimit": 20}
    assert not plan.get("quota")
    assert plan["apiStages"][0]["throttle"]["/db_schema_status/GET"]["rateLimit"] == 4
    live = apigateway.get_api_key(apiKey=key["id"])
    assert (live["enabled"], live["tags"]) == (False, {**OWNER, "team": "ml"})

    change("usage_plan", stack_plan(stage, state="absent"))
    assert apigateway.get_usage_plans()["items"] == []
    assert apigateway.get_api_keys()["items"] == []


def test_usage_plan_is_predicted_on_an_empty_account(run):
    result = run("usage_plan", stack_plan("(predicted)"), check=True)
    assert result["usage_plan"]["api_keys"]["metaflow-staging"]["id"] == "(predicted)"


def test_usage_plan_never_shows_the_value_of_a_key(change, run, apigateway, stage, capfd):
    shown = [change("usage_plan", stack_plan(stage, **more)) for more in ({}, {"description": "x"})]
    (key,) = apigateway.get_api_keys(includeValues=True)["items"]
    shown.append(run("usage_plan", stack_plan(stage, state="absent")))
    assert len(key["value"]) >= 20
    assert key["id"] != key["value"]
    assert key["value"] not in json.dumps(shown) + str(capfd.readouterr())


def test_usage_plan_makes_few_calls(run, emulator, stage):
    """UpdateUsagePlan is allowed once in 20 seconds."""
    run("usage_plan", stack_plan(stage))
    mutations = {call["action"]: call["count"] for call in emulator.mutations()}
    assert mutations == {"CreateUsagePlan": 1, "CreateApiKey": 1, "CreateUsagePlanKey": 1}
    run("usage_plan", stack_plan(stage, description="x", throttle={}, quota={}, api_stages=[]))
    assert {call["action"]: call["count"] for call in emulator.mutations()} == {"UpdateUsagePlan": 1}
    run("usage_plan", stack_plan(stage, throttle={}, quota={}, api_stages=[]), changes=False)
    assert {call["action"]: call["count"] for call in emulator.calls()} == {
        "GetUsagePlans": 1, "GetUsagePlanKeys": 1, "GetApiKeys": 1,
    }  # fmt: skip


def left(apigateway):
    """Return what there is of plans and keys, without ids."""
    plans = apigateway.get_usage_plans()["items"]
    keys = [[key["name"] for key in apigateway.get_usage_plan_keys(usagePlanId=plan["id"])["items"]] for plan in plans]
    return [plan["name"] for plan in plans], keys, [key["name"] for key in apigateway.get_api_keys()["items"]]


def test_usage_plan_survives_kills(module, apigateway):
    module("usage_plan").survives_kills(lambda: stack_plan(make_stage(apigateway)), lambda: left(apigateway))


def test_deletion_of_a_usage_plan_survives_kills(module, run, apigateway):
    def prepare():
        args = stack_plan(make_stage(apigateway))
        run("usage_plan", args)
        return args | {"state": "absent"}

    module("usage_plan").survives_kills(prepare, lambda: left(apigateway))
    assert left(apigateway) == ([], [], [])


def test_usage_plan_deletes_keys_that_have_lost_their_plan(run, apigateway, stage):
    apigateway.create_api_key(name="metaflow-staging", tags=OWNER)
    run("usage_plan", stack_plan(stage, state="absent"))
    assert apigateway.get_api_keys()["items"] == []


@pytest.mark.parametrize("call", ["CreateUsagePlan", "CreateApiKey"])
def test_usage_plan_is_not_made_twice_where_an_answer_is_lost(run, apigateway, stage, monkeypatch, call):
    lost = losing_answers(monkeypatch, call)
    run("usage_plan", stack_plan(stage))
    assert lost
    assert len(apigateway.get_usage_plans()["items"]) == len(apigateway.get_api_keys()["items"]) == 1


def test_usage_plan_key_is_replaced_in_two_steps(change, run, apigateway, stage):
    old = run("usage_plan", stack_plan(stage))["usage_plan"]["api_keys"]["metaflow-staging"]["id"]
    both = stack_plan(stage, api_keys=[{"name": "metaflow-staging"}, {"name": "metaflow-staging-2"}])
    keys = run("usage_plan", both)["usage_plan"]["api_keys"]
    assert keys["metaflow-staging"]["id"] == old
    new = stack_plan(stage, api_keys=[{"name": "metaflow-staging-2"}])
    assert run("usage_plan", new, changes=False)["usage_plan"]["other_keys"] == ["metaflow-staging"]
    change("usage_plan", new | {"purge_api_keys": True})
    assert [key["id"] for key in apigateway.get_api_keys()["items"]] == [keys["metaflow-staging-2"]["id"]]


def test_usage_plan_changed_by_hand_is_repaired(change, run, apigateway, stage):
    made = run("usage_plan", stack_plan(stage))["usage_plan"]
    key = made["api_keys"]["metaflow-staging"]["id"]
    apigateway.delete_usage_plan_key(usagePlanId=made["id"], keyId=key)
    apigateway.update_api_key(apiKey=key, patchOperations=[{"op": "replace", "path": "/enabled", "value": "false"}])
    operation = {"op": "remove", "path": "/apiStages", "value": f"{stage}:api"}
    apigateway.update_usage_plan(usagePlanId=made["id"], patchOperations=[operation])
    assert change("usage_plan", stack_plan(stage))["usage_plan"] == made


def test_usage_plan_of_another_stack_is_left_alone(run, apigateway, stage):
    other = {**OWNER, "mlops.metaflow/environment": "prod"}
    theirs = run("usage_plan", stack_plan(stage, tags=other))["usage_plan"]
    ours = run("usage_plan", stack_plan(stage))["usage_plan"]
    assert ours["id"] != theirs["id"]
    assert ours["api_keys"]["metaflow-staging"]["id"] != theirs["api_keys"]["metaflow-staging"]["id"]
    run("usage_plan", stack_plan(stage, state="absent"))
    assert [plan["id"] for plan in apigateway.get_usage_plans()["items"]] == [theirs["id"]]
    assert keys_of(apigateway, theirs["id"]) == {"metaflow-staging": theirs["api_keys"]["metaflow-staging"]["id"]}


# With Ansible


PLAY = {
    "name": "API",
    "hosts": "localhost",
    "gather_facts": False,
    # Reaches the modules only if the action group of meta/runtime.yml does.
    "module_defaults": {"group/mlops.metaflow.aws": {"region": "eu-central-1"}},
    "tasks": [
        {"name": "Ensure the link", "mlops.metaflow.api_gateway_vpc_link": LINK, "register": "link"},
        {
            "name": "Ensure the API",
            "mlops.metaflow.api_gateway_rest_api": stack_api(link="{{ link.vpc_link.id }}"),
            "register": "api",
        },
        {
            "name": "Ensure the plan",
            "mlops.metaflow.api_gateway_usage_plan": stack_plan("{{ api.rest_api.id }}"),
            "register": "plan",
        },
        {
            "name": "Look at the schema, which is served nowhere",
            "mlops.metaflow.metaflow_service_migration": {
                "url": "http://127.0.0.1:1",
                "api_key_id": "{{ plan.usage_plan.api_keys['metaflow-staging'].id }}",
            },
            "check_mode": True,
        },
    ],
}


def test_play_on_an_empty_account(aws_environment, apigateway, tmp_path):
    """FQCN, action group, AnsiballZ: what one module returns, predicted ids too, is what the next one takes."""
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps([PLAY]))
    inventory = tmp_path / "hosts.yml"
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"all": {"hosts": {"localhost": host}}}))
    command = [Path(sys.executable).with_name("ansible-playbook"), playbook, "-i", inventory]

    def play(*options):
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(tmp_path)}
        done = subprocess.run(
            [*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (recap,) = [line for line in done.stdout.splitlines() if line.startswith("localhost ")]
        return recap, done.stdout

    emulator = aws_environment
    recap, output = play("--check", "--diff")
    assert "changed=3" in recap
    assert "GET /db_schema_status" in output
    assert [call for call in emulator.mutations() if call["service"] == "apigateway"] == []
    assert "changed=3" in play()[0]
    regional = emulator.client("apigateway", region="eu-central-1")
    (link,), (api,) = regional.get_vpc_links()["items"], regional.get_rest_apis()["items"]
    assert methods(regional, api["id"])["PATCH /upgrade"]["methodIntegration"]["connectionId"] == link["id"]
