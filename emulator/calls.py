"""Names each AWS API call that reaches the server, and counts it.

A request is named as botocore names it: the service (`stepfunctions`) and the operation (`CreateStateMachine`).
"""

from __future__ import annotations

import io
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qs

from moto.core.request import Request
from moto.core.routing import get_service_router
from werkzeug.exceptions import HTTPException

Environ = dict[str, Any]

# What a request is signed for is not always what botocore calls the service (metadata.signingName of its models).
_SERVICE_OF_SIGNING_NAME = {
    "elasticfilesystem": "efs",
    "email": "ses",
    "monitoring": "cloudwatch",
    "states": "stepfunctions",
    "tagging": "resourcegroupstaggingapi",
}
_ELBV2_VERSION = "2015-12-01"  # one signing name for two services; the API version tells them apart

_CREDENTIAL = re.compile(r"Credential=(?P<key_id>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_CREDENTIAL_IN_URL = re.compile(r"(?P<key_id>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")

_READ_VERB = re.compile(
    r"(BatchCheck|BatchDescribe|BatchGet|Check|Describe|Estimate|Evaluate|Filter|Get|Head|List|Lookup|Preview|Query"
    r"|Scan|Search|Select|Simulate|TransactGet|Validate)(?=[A-Z]|$)"
)
# Operations that change nothing although their name has another verb.
_READS = {
    "events": {"TestEventPattern"},
    "ecs": {"DiscoverPollEndpoint"},
    "kms": {
        "Decapsulate", "Decrypt", "DeriveSharedSecret", "Encapsulate", "Encrypt", "GenerateDataKey",
        "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext",
        "GenerateMac", "GenerateRandom", "ReEncrypt", "Sign", "Verify", "VerifyMac",
    },
    "logs": {"StartQuery", "StopQuery", "TestMetricFilter", "TestTransformer"},
    "rds": {"DownloadDBLogFilePortion"},
    "s3": {"BucketCORSPreflightCheck", "ObjectCORSPreflightCheck"},
    "sts": {
        "AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot", "DecodeAuthorizationMessage",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One request to an AWS API."""

    service: str
    action: str
    region: str
    key_id: str
    mutates: bool


def identify(environ: Environ) -> Call | None:
    """Return the AWS call that a WSGI request makes, or None when it is not signed as one."""
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    scope = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", "")) or _CREDENTIAL_IN_URL.fullmatch(
        query.get("X-Amz-Credential", [""])[0]
    )
    if not scope or scope["service"] == "execute-api":
        return None
    params = query | parse_qs(_form(environ))
    service = _service(scope["service"], params)
    action = _action(environ, service, params)
    dry_run = params.get("DryRun", ["false"])[0].lower() == "true"
    return Call(service, action, scope["region"], scope["key_id"], _mutates(service, action) and not dry_run)


def _form(environ: Environ) -> str:
    """Read the body of a query-protocol request and put it back for whoever reads it next."""
    if not environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return ""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body.decode("utf-8", "replace")


def _service(signing_name: str, params: dict[str, list[str]]) -> str:
    if signing_name == "elasticloadbalancing":
        return "elbv2" if params.get("Version") == [_ELBV2_VERSION] else "elb"
    return _SERVICE_OF_SIGNING_NAME.get(signing_name, signing_name)


def _action(environ: Environ, service: str, params: dict[str, list[str]]) -> str:
    """Name the operation as its protocol does: target header (JSON), Action (query), else method and path (REST)."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return target.rpartition(".")[2]
    if "Action" in params:
        return params["Action"][0]
    try:
        operation, _ = get_service_router(service).match(Request(environ, populate_request=False))
    except (HTTPException, NotImplementedError, ValueError):
        # No operation of that service: the answer will be an error, which the log should still show.
        return f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}"
    return operation.name


def _mutates(service: str, action: str) -> bool:
    """Say whether an operation can change the account. What is not known to read counts as a change."""
    verb, _, path = action.partition(" ")
    if path:
        return verb not in {"GET", "HEAD", "OPTIONS"}
    return not _READ_VERB.match(action) and action not in _READS.get(service, ())


class CallLog:
    """Counts of calls per service and action, and the latest calls in order. Safe to use from many threads."""

    LATEST = 100_000  # the account may stay up for weeks; what counts are kept is not bounded, the ordered log is

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._counts: Counter[tuple[str, str, bool]] = Counter()
            self._errors: Counter[tuple[str, str, bool]] = Counter()
            self._latest: deque[dict[str, Any]] = deque(maxlen=self.LATEST)

    def record(self, call: Call, status: int) -> None:
        """Add one answered call; `status` is the HTTP status of the answer (0: the answer was withheld)."""
        key = (call.service, call.action, call.mutates)
        with self._lock:
            self._counts[key] += 1
            self._errors[key] += status >= 400
            self._latest.append({"time": time.time(), **asdict(call), "status": status})

    def totals(self) -> list[dict[str, Any]]:
        """Return one record per service and action, sorted."""
        with self._lock:
            return [
                {"service": key[0], "action": key[1], "mutates": key[2], "count": count, "errors": self._errors[key]}
                for key, count in sorted(self._counts.items())
            ]

    def latest(self) -> list[dict[str, Any]]:
        """Return the calls in the order in which they were answered."""
        with self._lock:
            return list(self._latest)


class Recorder:
    """WSGI middleware that records each AWS call with the status it was answered with."""

    def __init__(self, app: Any, log: CallLog) -> None:
        self.app = app
        self.log = log

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        call = identify(environ)
        if call is None:
            return self.app(environ, start_response)
        environ["emulator.call"] = call
        status = 0

        def remember(line: str, *args: Any) -> Any:
            nonlocal status
            status = int(line.split()[0])
            return start_response(line, *args)

        try:
            return self.app(environ, remember)
        finally:
            self.log.record(call, status)
