"""Evaluation of IAM policy documents: may this role do that, may this address call this API.

The rules are those of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html for one
identity or one resource policy: an explicit Deny wins, then an Allow, else nothing is allowed. Permission boundaries,
session policies and organisation policies are not looked at.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .place import Place

Context = Mapping[str, str | list[str]]
"""Condition keys and their values in the request; a list where the key has several (kms:ResourceAliases)."""


def allows(documents: Iterable[Any], action: str, resource: str, context: Context | None = None) -> bool:
    """Whether the documents together allow the action on the resource."""
    return _effects(documents, action, resource, context) == {"Allow"}


def denies(documents: Iterable[Any], action: str, resource: str, context: Context | None = None) -> bool:
    """Whether one of the documents denies the action on the resource explicitly."""
    return "Deny" in _effects(documents, action, resource, context)


def _effects(documents: Iterable[Any], action: str, resource: str, context: Context | None) -> set[str]:
    return {
        statement["Effect"]
        for document in documents
        for statement in _list(document["Statement"])
        if _applies(statement, action, resource, context or {})
    }


def role_documents(place: Place, role_name: str) -> list[Any]:
    """The policy documents of a role, inline and attached; none for a role that does not exist."""
    role = find_role(place, role_name)
    if role is None:
        return []
    attached = [_default_version(policy).document for policy in role.managed_policies.values()]
    return [json.loads(document) for document in [*role.policies.values(), *attached]]


def find_role(place: Place, arn_or_name: str) -> Any | None:
    """moto's role with that ARN or name, if it exists."""
    for role in place.backend("iam").roles.values():
        if arn_or_name in (role.arn, role.name):
            return role
    return None


def trusts(place: Place, role_arn: str, service: str) -> bool:
    """Whether the role exists and lets the service (``ecs-tasks.amazonaws.com``) assume it."""
    role = find_role(place, role_arn)
    if role is None:
        return False
    document = role.assume_role_policy_document
    statements = _list((json.loads(document) if isinstance(document, str) else document)["Statement"])
    admitted = [
        {key: value for key, value in statement.items() if key != "Principal"} | {"Resource": "*"}
        for statement in statements
        if service in _list(statement.get("Principal", {}).get("Service", []))
    ]
    prefix = place.arn(service.split(".")[0].removesuffix("-tasks"), "*")
    context = {"aws:SourceAccount": place.account, "aws:SourceArn": prefix}
    return allows([{"Statement": admitted}], "sts:AssumeRole", role_arn, context)


def _default_version(policy: Any) -> Any:
    return next(version for version in policy.versions if version.is_default)


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    return (
        _element(statement, "Action", action.lower(), str.lower)
        and _element(statement, "Resource", resource, str)
        and _conditions(statement.get("Condition", {}), {key.lower(): value for key, value in context.items()})
    )


def _element(statement: Mapping[str, Any], name: str, value: str, normal: Callable[[str], str]) -> bool:
    if "Not" + name in statement:
        return not any(_like(normal(pattern), value) for pattern in _list(statement["Not" + name]))
    return any(_like(normal(pattern), value) for pattern in _list(statement[name]))


def _conditions(conditions: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    return all(
        _condition(operator, context.get(key.lower()), [str(value) for value in _list(values)])
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


def _condition(operator: str, actual: str | list[str] | None, expected: list[str]) -> bool:
    """One condition; a key that the request lacks satisfies only negated operators, IfExists, Null and ForAllValues."""
    quantifier, _, name = operator.rpartition(":")
    if quantifier:
        matches = [_condition(name, value, expected) for value in _list(actual or [])]
        return all(matches) if quantifier == "ForAllValues" else any(matches)
    if name == "Null":
        return (actual is None) == (expected[0].lower() == "true")
    optional, name = name.endswith("IfExists"), name.removesuffix("IfExists")
    negated, name = "Not" in name, name.replace("Not", "")
    if actual is None:
        return optional or negated
    return any(OPERATORS[name](value, actual) for value in expected) != negated


def _like(pattern: str, value: str) -> bool:
    """Match with the wildcards of IAM: * and ?, nothing else."""
    regex = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(regex, value, re.DOTALL) is not None


def _in_network(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)


def _equal_ignoring_case(expected: str, actual: str) -> bool:
    return expected.lower() == actual.lower()


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": str.__eq__,
    "StringEqualsIgnoreCase": _equal_ignoring_case,
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": _equal_ignoring_case,
    "IpAddress": _in_network,
}
"""Condition operators without their Not: (value in the policy, value in the request) → whether they match."""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
