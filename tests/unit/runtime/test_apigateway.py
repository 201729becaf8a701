"""Which deployed method a request reaches, and how its integration is mapped: pure cases."""

from types import SimpleNamespace

import pytest

from emulator.runtime.apigateway import (
    Call,
    DeployedStage,
    Gatekeeper,
    Match,
    Meter,
    Refused,
    Snapshot,
    integrate,
    match,
)
from emulator.runtime.place import Place

RESOURCES = {
    "/": {},
    "/db_schema_status": {"GET": {"id": "status"}},
    "/{proxy+}": {"ANY": {"id": "proxy"}},
    "/flows/{flow}": {"GET": {"id": "flow"}, "ANY": {"id": "flow-any"}},
    "/flows/{flow}/runs": {"GET": {"id": "runs"}},
    "/flows/special": {"GET": {"id": "special"}},
}


@pytest.mark.parametrize(
    ("method", "path", "expected", "parameters"),
    [
        ("GET", "/db_schema_status", "status", {}),
        ("GET", "/db_schema_status/", "status", {}),
        ("GET", "/ping", "proxy", {"proxy": "ping"}),
        ("PATCH", "/a/b/c", "proxy", {"proxy": "a/b/c"}),
        ("GET", "/flows/x", "flow", {"flow": "x"}),
        ("POST", "/flows/x", "flow-any", {"flow": "x"}),
        ("GET", "/flows/x/runs", "runs", {"flow": "x"}),
        ("GET", "/flows/special", "special", {}),
        ("GET", "/flows/x/other", "proxy", {"proxy": "flows/x/other"}),
    ],
)
def test_the_most_specific_resource_wins(method, path, expected, parameters):
    found = match(Snapshot(RESOURCES, None), method, path)
    assert (found.method["id"], found.parameters) == (expected, parameters)


@pytest.mark.parametrize(("method", "path"), [("PATCH", "/db_schema_status"), ("GET", "/"), ("POST", "/flows/special")])
def test_what_is_not_deployed_is_refused(method, path):
    with pytest.raises(Refused) as refusal:
        match(Snapshot(RESOURCES, None), method, path)
    assert (refusal.value.status, refusal.value.body) == (403, {"message": "Missing Authentication Token"})


def integration_of(document, variables=None):
    stage = DeployedStage(Place("1", "us-east-1"), SimpleNamespace(), "api", variables or {}, Snapshot({}, None))
    found = Match({"methodIntegration": document}, {"proxy": "flows/a b?"})
    return integrate(stage, found, Call("POST", "/x", {"X-One": "1"}, {"q": "2"}, "10.0.0.1"))


def test_parameters_are_mapped():
    integration = integration_of(
        {
            "uri": "http://nlb:${stageVariables.port}/{proxy}",
            "httpMethod": "ANY",
            "timeoutInMillis": 5000,
            "requestParameters": {
                "integration.request.path.proxy": "method.request.path.proxy",
                "integration.request.header.X-Literal": "'yes'",
                "integration.request.header.X-Copied": "method.request.header.X-One",
                "integration.request.header.X-Absent": "method.request.header.X-Two",
                "integration.request.querystring.r": "method.request.querystring.q",
                "integration.request.header.X-From": "context.identity.sourceIp",
                "integration.request.header.X-Stage": "stageVariables.port",
            },
        },
        {"port": "8082"},
    )
    assert integration.uri == "http://nlb:8082/flows/a%20b%3F"
    assert (integration.method, integration.timeout) == ("POST", 5)
    assert integration.headers == {"X-Literal": "yes", "X-Copied": "1", "X-From": "10.0.0.1", "X-Stage": "8082"}
    assert integration.query == {"r": "2"}


def test_a_placeholder_without_a_mapping_is_a_configuration_error():
    with pytest.raises(Refused) as refusal:
        integration_of({"uri": "http://nlb/{proxy}", "httpMethod": "ANY"})
    assert refusal.value.status == 500


def passes(authorization):
    stage = DeployedStage(Place("1", "us-east-1"), SimpleNamespace(), "api", {}, Snapshot({}, None))
    headers = {"Authorization": authorization} if authorization else {}
    try:
        Gatekeeper().check(
            stage, Match({"authorizationType": "AWS_IAM"}, {}), Call("GET", "/x", headers, {}, "10.0.0.1")
        )
    except Refused as refusal:
        assert (refusal.status, refusal.body) == (403, {"message": "Missing Authentication Token"})
        return False
    return True


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/execute-api/aws4_request, SignedHeaders=host", True),
        ("AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/s3/aws4_request, SignedHeaders=host", False),
        ("Basic dXNlcjpwYXNz", False),
        (None, False),
    ],
)
def test_iam_wants_a_signature_for_the_api(authorization, expected):
    assert passes(authorization) is expected


def refusals(meter, times, throttle, quota):
    found = []
    for _ in range(times):
        try:
            meter.take(throttle, quota)
        except Refused as refusal:
            found.append((refusal.status, refusal.body["message"]))
    return found


def test_the_plan_limits_burst_and_quota():
    assert refusals(Meter(), 5, {"rateLimit": 0.001, "burstLimit": 3}, {}) == [(429, "Too Many Requests")] * 2
    assert refusals(Meter(), 5, {}, {"limit": 3, "period": "MONTH"}) == [(429, "Limit Exceeded")] * 2
    assert refusals(Meter(), 5, {}, {}) == []
