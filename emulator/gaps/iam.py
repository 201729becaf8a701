"""Gaps of IAM: names, what keeps a policy from being deleted, simulation, and denials."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import (
    AccessDeniedError,
    InvalidClientTokenIdError,
    JsonRESTError,
    SignatureDoesNotMatchError,
)
from moto.core.responses import ActionResult, boto3_service_name
from moto.core.utils import get_service_model
from moto.iam import models
from moto.iam.exceptions import DeleteConflictException, NotFoundException
from moto.iam.responses import IamResponse

from emulator.gaps import add, before, gap, wrap
from emulator.runtime.policies import allows, denies

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_aws-services-that-work-with-iam.html, each service's page
SERVICE_LINKED = {
    "batch": "Batch",
    "ecs": "ECS",
    "elasticloadbalancing": "ElasticLoadBalancing",
    "rds": "RDS",
    "spot": "EC2Spot",
    "spotfleet": "EC2SpotFleet",
}


@gap("iam", "service-linked-role-names", "A service-linked role is named as the service writes itself.")
def service_linked_role_names() -> None:
    models.SERVICE_NAME_CONVERSION.update(SERVICE_LINKED)


@gap("iam", "policy-dependencies", "A policy that is attached, or has other versions, cannot be deleted.")
def policy_dependencies() -> None:
    @before(IamResponse, "delete_policy")
    def check(self: Any) -> None:
        policy = self.backend.managed_policies.get(self._get_param("PolicyArn"))
        if policy is None:
            return
        if policy.attachment_count:
            raise DeleteConflictException("Cannot delete a policy attached to entities.")
        if len(policy.versions) > 1:
            raise DeleteConflictException("Cannot delete a policy that has more than one version.")


@gap("iam", "simulation", "SimulatePrincipalPolicy and SimulateCustomPolicy say what policies allow.")
def simulation() -> None:
    @add(IamResponse, "simulate_custom_policy")
    def simulate_custom(self: Any) -> ActionResult:
        return _simulate(self, [])

    @add(IamResponse, "simulate_principal_policy")
    def simulate_principal(self: Any) -> ActionResult:
        return _simulate(self, list(_policies_of(self.backend, self._get_param("PolicySourceArn"))))


def _simulate(response: Any, policies: list[tuple[str, str]]) -> ActionResult:
    given = [(f"PolicyInputList.{i}", text) for i, text in enumerate(response._get_param("PolicyInputList", []), 1)]
    documents = [(name, json.loads(text)) for name, text in [*policies, *given]]
    context = {
        entry["ContextKeyName"]: (entry.get("ContextKeyValues") or [""])[0]
        for entry in response._get_param("ContextEntries", [])
    }

    def evaluate(action: str, resource: str) -> dict[str, Any]:
        denied = [name for name, document in documents if denies([document], action, resource, context)]
        allowed = [name for name, document in documents if allows([document], action, resource, context)]
        decision = "explicitDeny" if denied else "allowed" if allowed else "implicitDeny"
        return {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": decision,
            "MatchedStatements": [{"SourcePolicyId": name} for name in denied or allowed],
            "MissingContextValues": [],
        }

    actions = response._get_param("ActionNames", [])
    resources = response._get_param("ResourceArns", []) or ["*"]
    results = [evaluate(action, resource) for action in actions for resource in resources]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def _policies_of(backend: Any, arn: str) -> Iterator[tuple[str, str]]:
    """Yield the name and document of each policy of a user (with its groups), group or role."""
    kind, _, path = arn.split(":")[-1].partition("/")
    name = path.rsplit("/")[-1]
    found = {"role": backend.roles.values(), "user": backend.users.values(), "group": backend.groups.values()}
    entities = [one for one in found.get(kind, []) if one.name == name]
    if not entities:
        raise NotFoundException(f"The entity with ARN {arn} cannot be found.")
    if kind == "user":
        entities += backend.get_groups_for_user(name)
    for entity in entities:
        yield from entity.policies.items()
        for policy in entity.managed_policies.values():
            yield policy.name, next(v.document for v in policy.versions if v.is_default)


# What the JSON protocols call the errors of the query protocol, and the status of the rest-json one.
JSON_NAMES = {
    AccessDeniedError: "AccessDeniedException",
    InvalidClientTokenIdError: "UnrecognizedClientException",
    SignatureDoesNotMatchError: "InvalidSignatureException",
}


@gap("iam", "json-denials", "A service of a JSON protocol denies a call in JSON.")
def json_denials() -> None:
    @wrap(ActionAuthenticatorMixin, "_authenticate_and_authorize_action")
    def authorize(original: Callable[..., Any], self: Any, iam_request_cls: type, resource: str = "*") -> None:
        try:
            original(self, iam_request_cls, resource)
        except tuple(JSON_NAMES) as error:
            service = boto3_service_name.get(self.service_name, self.service_name)
            protocol = get_service_model(service).metadata["protocol"]
            if protocol in ("json", "rest-json"):
                _deny_in_json(error, status=403 if protocol == "rest-json" else 400)
            raise


def _deny_in_json(error: Any, status: int) -> NoReturn:
    denial = JsonRESTError(JSON_NAMES[type(error)], error.message)
    denial.code = status
    raise denial from error
