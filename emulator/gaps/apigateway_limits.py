"""Gaps of API Gateway: what a patch leaves, methods and paths that are there already, TLS of an API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.apigateway import models
from moto.apigateway.exceptions import BadRequestException, ConflictException
from moto.apigateway.responses import APIGatewayResponse

from emulator.gaps import gap, wrap

_TLS = ("securityPolicy", "endpointAccessMode")


@gap("apigateway", "method-conflict", "PutMethod refuses a method that is there, and CreateResource a sibling's path.")
def method_conflict() -> None:
    @wrap(models.Resource, "add_method")
    def add_method(original: Callable[..., Any], self: Any, method_type: str, *args: Any, **kwargs: Any) -> Any:
        if method_type in self.resource_methods:
            raise ConflictException("Method already exists for this resource")
        return original(self, method_type, *args, **kwargs)

    @wrap(models.RestAPI, "add_child")
    def add_child(original: Callable[..., Any], self: Any, path: str, parent_id: str | None = None) -> Any:
        siblings = [one.path_part for one in self.resources.values() if parent_id and one.parent_id == parent_id]
        if path in siblings:
            raise ConflictException(f"Another resource with the same parent already has this name: {path}")
        if path.startswith("{") and any(name.startswith("{") for name in siblings):
            raise BadRequestException(
                "A sibling of this resource already has a variable path part: only one is allowed"
            )
        return original(self, path, parent_id)


@gap("apigateway", "usage-plan-patches", "A patch leaves numbers in a usage plan, and limits for single methods.")
def usage_plan_patches() -> None:
    @wrap(models.UsagePlan, "apply_patch_operations")
    def apply(original: Callable[..., Any], self: Any, patch_operations: list[dict[str, Any]]) -> None:
        for operation in patch_operations:
            value = operation.get("value")
            match [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]:
                case ["apiStages", name, "throttle", path, method, limit]:
                    (stage,) = [stage for stage in self.api_stages if _name(stage) == name]
                    limits = stage.setdefault("throttle", {}).setdefault(f"{path}/{method}", {})
                    limits[limit] = float(value) if limit == "rateLimit" else int(value)
                case ["throttle", "rateLimit"]:
                    self.throttle["rateLimit"] = float(value)
                case ["quota", "limit" | "offset" as key]:
                    self.quota[key] = int(value)
                case _:
                    original(self, [operation])


def _name(stage: dict[str, Any]) -> str:
    return f"{stage['apiId']}:{stage['stage']}"


@gap("apigateway", "usage-plan-keys", "A deleted key leaves its usage plans, a deleted plan its keys.")
def usage_plan_keys() -> None:
    @wrap(models.APIGatewayBackend, "delete_api_key")
    def delete_key(original: Callable[..., Any], self: Any, api_key_id: str) -> None:
        original(self, api_key_id)
        for keys in self.usage_plan_keys.values():
            keys.pop(api_key_id, None)

    @wrap(models.APIGatewayBackend, "delete_usage_plan")
    def delete_plan(original: Callable[..., Any], self: Any, usage_plan_id: str) -> None:
        original(self, usage_plan_id)
        self.usage_plan_keys.pop(usage_plan_id, None)


@gap("apigateway", "api-properties", "An API keeps its security policy, access mode and patched VPC endpoints.")
def api_properties() -> None:
    @wrap(APIGatewayResponse, "create_rest_api")
    def create(original: Callable[..., Any], self: Any) -> Any:
        status, headers, body = original(self)
        api = self.backend.apis.get(json.loads(body).get("id"))
        if api is None:
            return status, headers, body
        api.tls = {key: self._get_param(key) for key in _TLS}
        return 201, {"status": 201}, json.dumps(api.to_dict())

    @wrap(models.RestAPI, "to_dict")
    def to_dict(original: Callable[..., Any], self: Any) -> dict[str, Any]:
        return original(self) | getattr(self, "tls", {})

    @wrap(models.RestAPI, "apply_patch_operations")
    def apply(original: Callable[..., Any], self: Any, patch_operations: list[dict[str, Any]]) -> None:
        for operation in patch_operations:
            name, value = operation["path"].removeprefix("/"), operation.get("value")
            if name in _TLS:
                self.tls = {**getattr(self, "tls", {}), name: value}
            elif name == "endpointConfiguration/vpcEndpointIds":
                endpoints = self.endpoint_configuration.setdefault("vpcEndpointIds", [])
                (endpoints.append if operation["op"] == "add" else endpoints.remove)(value)
            else:
                original(self, [operation])
