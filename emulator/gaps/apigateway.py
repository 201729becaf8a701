"""Gaps of API Gateway (REST APIs)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from moto.apigateway import models, urls
from moto.apigateway.exceptions import (
    BadRequestException,
    NotFoundException,
    StageStillActive,
    UsagePlanNotFoundException,
    VpcLinkNotFound,
)
from moto.apigateway.responses import APIGatewayResponse
from moto.elbv2.exceptions import ELBClientError
from moto.elbv2.responses import ELBV2Response

from emulator.gaps import before, gap, replace, wrap


@gap("apigateway", "integration-connection-id", "An integration keeps the VPC link that it goes through.")
def integration_connection_id() -> None:
    @wrap(APIGatewayResponse, "put_integration")
    def put(original: Callable[..., Any], self: Any) -> Any:
        original(self)
        api, resource, method = self.path.split("/")[2:7:2]
        integration = self.backend.get_integration(api, resource, method)
        integration.connection_id = self._get_param("connectionId")
        return 201, {}, json.dumps(integration.to_json())

    @wrap(models.Integration, "to_json")
    def to_json(original: Callable[..., Any], self: Any) -> dict[str, Any]:
        return original(self) | {"connectionId": getattr(self, "connection_id", None)}


@gap("apigateway", "tags", "APIs, stages, keys, usage plans and VPC links have tags that can be read and changed.")
def resource_tags() -> None:
    # moto's route for these ARNs has no place for their slashes.
    urls.url_paths["{0}/tags/(?P<resourceArn>.+)$"] = APIGatewayResponse.dispatch

    @replace(APIGatewayResponse, "get_tags")
    def get_tags(self: Any) -> str:
        return json.dumps({"tags": _tagged(self).tags or {}})

    @replace(APIGatewayResponse, "tag_resource")
    def tag_resource(self: Any) -> tuple[int, dict[str, Any], str]:
        resource = _tagged(self)
        resource.tags = (resource.tags or {}) | (self._get_param("tags") or {})
        return 204, {"status": 204}, ""

    @replace(APIGatewayResponse, "untag_resource")
    def untag_resource(self: Any) -> tuple[int, dict[str, Any], str]:
        resource = _tagged(self)
        gone = self.querystring.get("tagKeys") or []
        resource.tags = {key: value for key, value in (resource.tags or {}).items() if key not in gone}
        return 204, {"status": 204}, ""


def _tagged(response: Any) -> Any:
    """Return the model that the ARN of a tagging operation names."""
    path = unquote(response.path).partition("/tags/")[2].partition("::/")[2].split("/")
    backend = response.backend
    found = None
    match path:
        case ["restapis", api]:
            found = backend.apis.get(api)
        case ["restapis", api, "stages", stage]:
            found = backend.apis[api].stages.get(stage) if api in backend.apis else None
        case ["apikeys", key]:
            found = backend.keys.get(key)
        case ["usageplans", plan]:
            found = backend.usage_plans.get(plan)
        case ["vpclinks", link]:
            found = backend.vpc_links.get(link)
    if found is None:
        error = NotFoundException("Invalid resource identifier specified")
        error.code = 404
        raise error
    return found


@gap("apigateway", "policy-escaped", "A resource policy is returned as an escaped JSON string with full ARNs.")
def policy_escaped() -> None:
    @wrap(models.RestAPI, "to_dict")
    def to_dict(original: Callable[..., Any], self: Any) -> dict[str, Any]:
        result = original(self)
        if self.policy:
            prefix = f"arn:aws:execute-api:{self.region_name}:{self.account_id}:{self.id}/"
            # https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-resource-policies-examples.html
            text = self.policy.replace('"execute-api:/', f'"{prefix}')
            # What a client decodes still has a backslash before each quote (and slash).
            result["policy"] = json.dumps(json.dumps(json.loads(text), separators=(",", ":")))[1:-1].replace("/", "\\/")
        return result


@gap("apigateway", "deployment-dependencies", "A deployment that a stage shows cannot be deleted.")
def deployment_dependencies() -> None:
    @replace(models.RestAPI, "delete_deployment")
    def delete(self: Any, deployment_id: str) -> Any:
        if deployment_id not in self.deployments:
            raise models.DeploymentNotFoundException()
        if any(stage.deployment_id == deployment_id for stage in self.stages.values()):
            raise StageStillActive()
        return self.deployments.pop(deployment_id)


@gap("apigateway", "usage-plan-dependencies", "A usage plan with stages cannot be deleted, nor can a missing one.")
def usage_plan_dependencies() -> None:
    @before(APIGatewayResponse, "delete_usage_plan")
    def check(self: Any) -> None:
        plan_id = self.path.split("/")[2]
        plan = self.backend.usage_plans.get(plan_id)
        if plan is None:
            raise UsagePlanNotFoundException()
        if plan.api_stages:
            stages = ", ".join(f"{s['apiId']}:{s['stage']}" for s in plan.api_stages)
            reason = f"there are API Stages associated with it, including {stages}"
            raise BadRequestException(f"Cannot delete Usage Plan {plan_id} because {reason}")


@gap("apigateway", "vpc-link-dependencies", "A VPC link that a stage uses cannot be deleted, nor the link's NLB.")
def vpc_link_dependencies() -> None:
    @before(APIGatewayResponse, "delete_vpc_link")
    def check_link(self: Any) -> None:
        link_id = self.path.split("/")[-1]
        if link_id not in self.backend.vpc_links:
            raise VpcLinkNotFound()
        users = ", ".join(_users(self.backend, link_id))
        if users:
            raise BadRequestException(
                f"Cannot delete vpc link. Vpc link '{link_id}', is referenced in [{users}] "
                "in format of [Method:Resource:Stage]."
            )

    @before(ELBV2Response, "delete_load_balancer")
    def check_balancer(self: Any) -> None:
        arn = self._get_param("LoadBalancerArn")
        links = models.apigateway_backends[self.current_account][self.region].vpc_links.values()
        if any(arn in link.target_arns for link in links):
            raise ELBClientError(
                "ResourceInUse",
                f"Load balancer '{arn}' cannot be deleted because it is currently associated with another service",
            )


def _users(backend: Any, link_id: str) -> Iterator[str]:
    """Name each method of a deployed API that goes through the link, as AWS does."""
    for api in backend.apis.values():
        for resource in api.resources.values():
            for method in resource.resource_methods.values():
                if method.method_integration and getattr(method.method_integration, "connection_id", None) == link_id:
                    yield from (f"{method.http_method}:{resource.id}:{stage}" for stage in api.stages)


@gap("apigateway", "usage-plan-stage-removal", "A stage leaves a usage plan whatever limits of its own it has there.")
def usage_plan_stage_removal() -> None:
    @wrap(models.UsagePlan, "apply_patch_operations")
    def apply(original: Callable[..., None], self: Any, patch_operations: list[dict[str, Any]]) -> None:
        leaving = [
            tuple(patch["value"].split(":", 1))
            for patch in patch_operations
            if patch["op"] == "remove" and patch["path"] == "/apiStages"
        ]
        self.api_stages = [stage for stage in self.api_stages if (stage["apiId"], stage["stage"]) not in leaving]
        rest = [patch for patch in patch_operations if (patch["op"], patch["path"]) != ("remove", "/apiStages")]
        original(self, rest)
