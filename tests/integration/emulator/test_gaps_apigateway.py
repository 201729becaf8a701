"""Gaps of API Gateway, and of the load balancer behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def api(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("apigateway")


def balancer(emulator: Emulator, network: Any, name: str) -> str:
    answer = emulator.client("elbv2").create_load_balancer(
        Name=name, Type="network", Scheme="internal", Subnets=network.subnets
    )
    return answer["LoadBalancers"][0]["LoadBalancerArn"]


def deployed(api: Any, name: str, link: str) -> tuple[str, str]:
    """A REST API whose root goes through a VPC link, deployed to the stage `api`; returns its id and the resource's."""
    rest = api.create_rest_api(name=name)
    root = rest["rootResourceId"]
    api.put_method(restApiId=rest["id"], resourceId=root, httpMethod="ANY", authorizationType="NONE")
    api.put_integration(
        restApiId=rest["id"],
        resourceId=root,
        httpMethod="ANY",
        type="HTTP_PROXY",
        integrationHttpMethod="ANY",
        uri="http://internal.example/",
        connectionType="VPC_LINK",
        connectionId=link,
    )
    api.create_deployment(restApiId=rest["id"], stageName="api")
    return rest["id"], root


@pytest.mark.gap("apigateway/integration-connection-id")
def test_an_integration_keeps_its_connection(api: Any, emulator: Emulator, network: Any, name: str) -> None:
    link = api.create_vpc_link(name=name, targetArns=[balancer(emulator, network, name)])["id"]
    rest, root = deployed(api, name, link)
    method = {"restApiId": rest, "resourceId": root, "httpMethod": "ANY"}
    assert api.get_integration(**method)["connectionId"] == link
    assert api.get_method(**method)["methodIntegration"]["connectionId"] == link


@pytest.mark.gap("apigateway/tags")
def test_tags_of_every_kind_of_resource(api: Any, emulator: Emulator, network: Any, name: str) -> None:
    tags = {"stack": name, "other": "x"}
    rest = api.create_rest_api(name=name, tags=tags)["id"]
    key = api.create_api_key(name=name, tags=tags)["id"]
    plan = api.create_usage_plan(name=name, tags=tags)["id"]
    link = api.create_vpc_link(name=name, targetArns=[balancer(emulator, network, name)], tags=tags)["id"]
    for path in (f"restapis/{rest}", f"apikeys/{key}", f"usageplans/{plan}", f"vpclinks/{link}"):
        arn = f"arn:aws:apigateway:us-east-1::/{path}"
        assert api.get_tags(resourceArn=arn)["tags"] == tags, path
        api.tag_resource(resourceArn=arn, tags={"stack": "new", "third": "3"})
        api.untag_resource(resourceArn=arn, tagKeys=["other"])
        assert api.get_tags(resourceArn=arn)["tags"] == {"stack": "new", "third": "3"}, path
    assert api.get_rest_api(restApiId=rest)["tags"] == {"stack": "new", "third": "3"}
    assert api.get_vpc_link(vpcLinkId=link)["tags"] == {"stack": "new", "third": "3"}


@pytest.mark.gap("apigateway/tags")
def test_tags_of_a_missing_resource(api: Any, refused: Refused) -> None:
    with refused("NotFoundException"):
        api.get_tags(resourceArn="arn:aws:apigateway:us-east-1::/restapis/0123456789")


@pytest.mark.gap("apigateway/policy-escaped")
def test_a_policy_is_returned_escaped_with_full_arns(api: Any, name: str) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}
        ],
    }
    made = api.create_rest_api(name=name, policy=json.dumps(policy))
    read = api.get_rest_api(restApiId=made["id"])
    for text in (made["policy"], read["policy"]):
        assert '\\"Version\\":\\"2012-10-17\\"' in text
        statement = json.loads(json.loads(f'"{text}"'))["Statement"][0]
        assert statement["Resource"] == f"arn:aws:execute-api:us-east-1:123456789012:{made['id']}/*"


@pytest.mark.gap("apigateway/deployment-dependencies")
def test_a_deployment_of_a_stage_cannot_be_deleted(api: Any, name: str, refused: Refused) -> None:
    rest = api.create_rest_api(name=name)
    method = {"restApiId": rest["id"], "resourceId": rest["rootResourceId"], "httpMethod": "GET"}
    api.put_method(**method, authorizationType="NONE")
    api.put_integration(**method, type="MOCK")
    first = api.create_deployment(restApiId=rest["id"])["id"]
    second = api.create_deployment(restApiId=rest["id"])["id"]
    api.create_stage(restApiId=rest["id"], stageName="api", deploymentId=first)
    with refused("BadRequestException", "Active stages pointing to this deployment"):
        api.delete_deployment(restApiId=rest["id"], deploymentId=first)
    api.update_stage(
        restApiId=rest["id"],
        stageName="api",
        patchOperations=[{"op": "replace", "path": "/deploymentId", "value": second}],
    )
    assert api.get_stage(restApiId=rest["id"], stageName="api")["deploymentId"] == second
    api.delete_deployment(restApiId=rest["id"], deploymentId=first)
    with refused("BadRequestException", "Active stages pointing to this deployment"):
        api.delete_deployment(restApiId=rest["id"], deploymentId=second)


@pytest.mark.gap("apigateway/usage-plan-dependencies")
def test_a_usage_plan_of_a_stage_cannot_be_deleted(
    api: Any, emulator: Emulator, network: Any, name: str, refused: Refused
) -> None:
    link = api.create_vpc_link(name=name, targetArns=[balancer(emulator, network, name)])["id"]
    rest, _ = deployed(api, name, link)
    plan = api.create_usage_plan(name=name, apiStages=[{"apiId": rest, "stage": "api"}])["id"]
    with refused("BadRequestException", f"API Stages associated with it, including {rest}:api"):
        api.delete_usage_plan(usagePlanId=plan)
    api.update_usage_plan(
        usagePlanId=plan, patchOperations=[{"op": "remove", "path": "/apiStages", "value": f"{rest}:api"}]
    )
    api.delete_usage_plan(usagePlanId=plan)
    with refused("NotFoundException"):
        api.delete_usage_plan(usagePlanId=plan)


@pytest.mark.gap("apigateway/vpc-link-dependencies")
def test_a_vpc_link_of_a_stage_cannot_be_deleted_and_holds_its_balancer(
    api: Any, emulator: Emulator, network: Any, name: str, refused: Refused
) -> None:
    elbv2, arn = emulator.client("elbv2"), balancer(emulator, network, name)
    link = api.create_vpc_link(name=name, targetArns=[arn])["id"]
    rest, _ = deployed(api, name, link)
    with refused("ResourceInUse", "associated with another service"):
        elbv2.delete_load_balancer(LoadBalancerArn=arn)
    with refused("BadRequestException", r"is referenced in .*ANY:.*:api"):
        api.delete_vpc_link(vpcLinkId=link)
    api.delete_rest_api(restApiId=rest)
    api.delete_vpc_link(vpcLinkId=link)
    with refused("NotFoundException"):
        api.delete_vpc_link(vpcLinkId=link)
    elbv2.delete_load_balancer(LoadBalancerArn=arn)


@pytest.mark.gap("apigateway/usage-plan-stage-removal")
def test_a_stage_with_limits_of_its_own_leaves_a_usage_plan(
    api: Any, emulator: Emulator, network: Any, name: str
) -> None:
    link = api.create_vpc_link(name=name, targetArns=[balancer(emulator, network, name)])["id"]
    rest, _ = deployed(api, name, link)
    stage = {"apiId": rest, "stage": "api", "throttle": {"/x/GET": {"rateLimit": 1.0, "burstLimit": 1}}}
    plan = api.create_usage_plan(name=name, apiStages=[stage])["id"]
    remove = {"op": "remove", "path": "/apiStages", "value": f"{rest}:api"}
    api.update_usage_plan(usagePlanId=plan, patchOperations=[remove])
    assert api.get_usage_plan(usagePlanId=plan)["apiStages"] == []
