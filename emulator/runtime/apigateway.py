"""Stages of API Gateway REST APIs: what is deployed, and who may call it.

Only what CreateDeployment found counts for a stage, the resource policy included. The answers of a refused request are
those of API Gateway's gateway responses:
https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
"""

import copy
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from moto.apigateway.models import Deployment, RestAPI

from emulator.gaps import wrap

from .place import Place, backends
from .policies import allows, denies

SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/\s]+/\d{8}/[\w-]+/execute-api/aws4_request\b")
PARAMETER = re.compile(r"\{([^{}]+)\}")
STAGE_VARIABLE = re.compile(r"\$\{stageVariables\.(\w+)\}")


class Refused(Exception):
    """A request that API Gateway answers itself."""

    def __init__(self, status: int, message: str, key: str = "message") -> None:
        super().__init__(message)
        self.status = status
        self.body = {key: message}


@dataclass(frozen=True)
class Call:
    """A request as it reaches a stage."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    source_ip: str


@dataclass(frozen=True)
class Snapshot:
    """What was deployed: resource path → method → the method's document, and the resource policy."""

    resources: Mapping[str, Mapping[str, Mapping[str, Any]]]
    policy: str | None


@dataclass(frozen=True)
class DeployedStage:
    """A stage with all that is needed to answer a request."""

    place: Place
    api: RestAPI
    name: str
    variables: Mapping[str, str]
    snapshot: Snapshot


@dataclass(frozen=True)
class Match:
    """The method that a request reaches, with the values of its path parameters."""

    method: Mapping[str, Any]
    parameters: Mapping[str, str]

    @property
    def integration(self) -> Mapping[str, Any]:
        """The method's integration."""
        return self.method.get("methodIntegration") or {}


def install() -> None:
    """Keep with each deployment what it deployed."""

    @wrap(RestAPI, "create_deployment")
    def create_deployment(original: Callable[..., Deployment], self: RestAPI, *args: Any, **kwargs: Any) -> Deployment:
        deployment = original(self, *args, **kwargs)
        methods = {
            resource.get_path(): {name: method.to_json() for name, method in resource.resource_methods.items()}
            for resource in self.resources.values()
        }
        deployment.snapshot = Snapshot(copy.deepcopy(methods), self.policy)
        return deployment


def find_stage(api_id: str, stage_name: str) -> DeployedStage:
    """The stage of an API, or Refused."""
    for place, gateway in backends("apigateway"):
        api = gateway.apis.get(api_id)
        if api is None or api.disableExecuteApiEndpoint:
            continue
        stage = api.stages.get(stage_name)
        deployment = api.deployments.get(stage.deployment_id) if stage else None
        if stage and deployment:
            return DeployedStage(place, api, stage_name, stage.variables, deployment.snapshot)
    raise Refused(403, "Forbidden")


def match(snapshot: Snapshot, method: str, path: str) -> Match:
    """The deployed method for a request, or Refused: a resource that is named beats a parameter, that a greedy one."""
    candidates = [
        (found, methods)
        for template, methods in snapshot.resources.items()
        if (found := _fit(template, path)) is not None
    ]
    if candidates:
        (_, parameters), methods = max(candidates, key=lambda candidate: candidate[0][0])
        document = methods.get(method) or methods.get("ANY")
        if document:
            return Match(document, parameters)
    raise Refused(403, "Missing Authentication Token")


def _fit(template: str, path: str) -> tuple[tuple[int, ...], dict[str, str]] | None:
    """How well a template like ``/a/{b}/{proxy+}`` fits (a rank for each segment), and its parameters; None if not."""
    wanted, given = _segments(template), _segments(path)
    rank: list[int] = []
    parameters: dict[str, str] = {}
    for index, segment in enumerate(wanted):
        rest = given[index:]
        if not rest:
            return None
        if segment.endswith("+}"):
            return (*rank, 0), {**parameters, segment[1:-2]: "/".join(rest)}
        if segment.startswith("{"):
            parameters[segment[1:-1]] = rest[0]
        elif segment != rest[0]:
            return None
        rank.append(1 if segment.startswith("{") else 2)
    return (tuple(rank), parameters) if len(given) == len(wanted) else None


def _segments(path: str) -> list[str]:
    return path.strip("/").split("/") if path.strip("/") else []


class Gatekeeper:
    """Checks signature, policy, key and usage plan of each request, and counts what plans limit."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str], Meter] = {}
        self._lock = threading.Lock()

    def check(self, stage: DeployedStage, found: Match, call: Call) -> None:
        """Let the request pass, or raise Refused."""
        signed = SIGNATURE.match(call.headers.get("Authorization", ""))
        if found.method.get("authorizationType") == "AWS_IAM" and not signed:
            raise Refused(403, "Missing Authentication Token")
        self._check_policy(stage, call)
        if found.method.get("apiKeyRequired"):
            self._check_key(stage, call)

    def _check_policy(self, stage: DeployedStage, call: Call) -> None:
        if not stage.snapshot.policy:
            return
        arn = stage.place.arn("execute-api", f"{stage.api.id}/{stage.name}/{call.method}{call.path}")
        api_arn = stage.place.arn("execute-api", f"{stage.api.id}/")
        document = json.loads(stage.snapshot.policy.replace('"execute-api:/', f'"{api_arn}'))
        context = {"aws:SourceIp": call.source_ip}
        if allows([document], "execute-api:Invoke", arn, context):
            return
        shown = arn.replace(stage.place.account, "********" + stage.place.account[-4:])
        explicit = " with an explicit deny" if denies([document], "execute-api:Invoke", arn, context) else ""
        raise Refused(
            403,
            f"User: anonymous is not authorized to perform: execute-api:Invoke on resource: {shown}{explicit}",
            key="Message",
        )

    def _check_key(self, stage: DeployedStage, call: Call) -> None:
        gateway = stage.place.backend("apigateway")
        value = call.headers.get("X-Api-Key", "")
        for plan in list(gateway.usage_plans.values()):
            if not any(s["apiId"] == stage.api.id and s["stage"] == stage.name for s in plan.api_stages):
                continue
            for key_id in gateway.usage_plan_keys.get(plan.id, {}):
                key = gateway.keys.get(key_id)
                if key and key.value == value and key.enabled:
                    self._meter(plan.id, key_id).take(plan.throttle, plan.quota)
                    return
        raise Refused(403, "Forbidden")

    def _meter(self, plan_id: str, key_id: str) -> "Meter":
        with self._lock:
            return self._meters.setdefault((plan_id, key_id), Meter())


@dataclass
class Meter:
    """What one key has used of one plan: a token bucket for the rate, a count for the quota's period."""

    tokens: float = -1
    filled_at: float = 0
    period: str = ""
    used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, throttle: Mapping[str, Any], quota: Mapping[str, Any]) -> None:
        """Count one request, or raise Refused where the plan allows no more."""
        with self.lock:
            if throttle.get("rateLimit") is not None:
                self._throttle(float(throttle["rateLimit"]), float(throttle.get("burstLimit") or 1))
            if quota.get("limit") is not None:
                self._count(int(quota["limit"]), quota.get("period", "DAY"))

    def _throttle(self, rate: float, burst: float) -> None:
        now = time.monotonic()
        refill = burst if self.tokens < 0 else self.tokens + (now - self.filled_at) * rate
        self.tokens, self.filled_at = min(burst, refill), now
        if self.tokens < 1:
            raise Refused(429, "Too Many Requests")
        self.tokens -= 1

    def _count(self, limit: int, period: str) -> None:
        today = datetime.now(UTC)
        current = {"DAY": f"{today:%Y-%m-%d}", "WEEK": f"{today:%G-%V}", "MONTH": f"{today:%Y-%m}"}[period]
        if current != self.period:
            self.period, self.used = current, 0
        if self.used >= limit:
            raise Refused(429, "Limit Exceeded")
        self.used += 1


@dataclass(frozen=True)
class Integration:
    """The request that a stage makes to what is behind it."""

    uri: str
    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    timeout: float


def integrate(stage: DeployedStage, found: Match, call: Call) -> Integration:
    """Map a request with the integration's request parameters and the stage's variables."""
    document = found.integration
    mapped: dict[str, dict[str, str]] = {"path": {}, "header": {}, "querystring": {}}
    for target, source in (document.get("requestParameters") or {}).items():
        _, _, kind, name = target.split(".", 3)
        value = _source(source, stage, found, call)
        if value is not None:
            mapped[kind][name] = value
    uri = _with_variables(document.get("uri") or "", stage)
    return Integration(
        PARAMETER.sub(lambda placeholder: _path_value(mapped["path"], placeholder[1]), uri),
        call.method if document.get("httpMethod") == "ANY" else document.get("httpMethod") or call.method,
        mapped["header"],
        mapped["querystring"],
        int(document.get("timeoutInMillis") or 29000) / 1000,
    )


def vpc_link(stage: DeployedStage, found: Match) -> Any:
    """The AVAILABLE VPC link of an integration, or Refused."""
    link_id = _with_variables(found.integration.get("connectionId") or "", stage)
    link = stage.place.backend("apigateway").vpc_links.get(link_id)
    if link is None or link.status != "AVAILABLE":
        raise Refused(500, "Internal server error")
    return link


def _source(expression: str, stage: DeployedStage, found: Match, call: Call) -> str | None:
    """The value of a mapping expression: ``'literal'``, ``method.request.path.x``, ``stageVariables.x``, …"""
    if expression.startswith("'"):
        return expression.strip("'")
    if expression.startswith("stageVariables."):
        return stage.variables.get(expression.split(".", 1)[1])
    if expression == "context.identity.sourceIp":
        return call.source_ip
    places = {"path": found.parameters, "querystring": call.query, "header": call.headers}
    _, _, kind, name = expression.split(".", 3)
    return places[kind].get(name)


def _path_value(values: Mapping[str, str], name: str) -> str:
    """The value of a placeholder of the URI; one that nothing is mapped to is an error of the API's configuration."""
    if name not in values:
        raise Refused(500, "Internal server error")
    return quote(values[name], safe="/:@!$&()*+,;=~")


def _with_variables(text: str, stage: DeployedStage) -> str:
    return STAGE_VARIABLE.sub(lambda variable: stage.variables.get(variable[1], ""), text)
