"""Gaps of API Gateway: what a patch leaves, methods and paths that are there already, TLS of an API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def api(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("apigateway")


@pytest.mark.gap("apigateway/method-conflict")
def test_a_method_and_a_path_are_made_once(api: Any, name: str, refused: Refused) -> None:
    rest = api.create_rest_api(name=name)
    place = {"restApiId": rest["id"], "parentId": rest["rootResourceId"]}
    made = api.create_resource(**place, pathPart="{flow}")["id"]
    with refused("ConflictException", "already has this name"):
        api.create_resource(**place, pathPart="{flow}")
    with refused("BadRequestException", "variable path part"):
        api.create_resource(**place, pathPart="{other}")
    method = {"restApiId": rest["id"], "resourceId": made, "httpMethod": "GET", "authorizationType": "NONE"}
    api.put_method(**method)
    with refused("ConflictException", "Method already exists"):
        api.put_method(**method)


@pytest.mark.gap("apigateway/usage-plan-patches")
def test_a_patched_usage_plan_has_numbers_and_limits_of_methods(api: Any, name: str) -> None:
    plan = api.create_usage_plan(name=name, apiStages=[{"apiId": "a1", "stage": "api"}])["id"]
    patches = [
        ("replace", "/throttle/rateLimit", "2.5"),
        ("replace", "/quota/limit", "100"),
        ("replace", "/quota/offset", "0"),
        ("replace", "/quota/period", "DAY"),
        ("replace", "/apiStages/a1:api/throttle/~1flows~1{flow}/GET/rateLimit", "1.5"),
        ("replace", "/apiStages/a1:api/throttle/~1flows~1{flow}/GET/burstLimit", "3"),
    ]
    api.update_usage_plan(
        usagePlanId=plan, patchOperations=[{"op": op, "path": path, "value": value} for op, path, value in patches]
    )
    read = api.get_usage_plan(usagePlanId=plan)
    assert read["throttle"]["rateLimit"] == 2.5
    assert read["quota"] == {"limit": 100, "offset": 0, "period": "DAY"}
    assert read["apiStages"][0]["throttle"] == {"/flows/{flow}/GET": {"rateLimit": 1.5, "burstLimit": 3}}


@pytest.mark.gap("apigateway/usage-plan-keys")
def test_a_deleted_key_leaves_its_plan(api: Any, name: str) -> None:
    plan, key = api.create_usage_plan(name=name)["id"], api.create_api_key(name=name)["id"]
    api.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")
    api.delete_api_key(apiKey=key)
    assert api.get_usage_plan_keys(usagePlanId=plan)["items"] == []


@pytest.mark.gap("apigateway/api-properties")
def test_an_api_keeps_its_security_policy_and_endpoints(api: Any, name: str) -> None:
    made = api.create_rest_api(
        name=name,
        endpointConfiguration={"types": ["PRIVATE"], "vpcEndpointIds": ["vpce-1"]},
        securityPolicy="SecurityPolicy_TLS13_1_3_2025_09",
        endpointAccessMode="BASIC",
    )
    assert made["securityPolicy"] == "SecurityPolicy_TLS13_1_3_2025_09"
    patches = [
        ("replace", "/endpointAccessMode", "STRICT"),
        ("remove", "/endpointConfiguration/vpcEndpointIds", "vpce-1"),
        ("add", "/endpointConfiguration/vpcEndpointIds", "vpce-2"),
    ]
    api.update_rest_api(
        restApiId=made["id"], patchOperations=[{"op": op, "path": path, "value": value} for op, path, value in patches]
    )
    read = api.get_rest_api(restApiId=made["id"])
    assert read["endpointAccessMode"] == "STRICT"
    assert read["endpointConfiguration"] == {"types": ["PRIVATE"], "vpcEndpointIds": ["vpce-2"]}
