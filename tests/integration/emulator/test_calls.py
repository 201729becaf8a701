"""How requests are named, and which of them can change the account: a table of cases for every protocol."""

from __future__ import annotations

import io
import sys
from typing import Any
from urllib.parse import urlencode

import pytest
from emulated_aws import ROOT

sys.path.insert(0, str(ROOT))
from emulator.calls import identify


def environ(
    service: str,
    method: str = "POST",
    path: str = "/",
    query: str = "",
    target: str = "",
    form: dict[str, str] | None = None,
) -> dict[str, Any]:
    body = urlencode(form or {}).encode()
    request = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "RAW_URI": f"{path}?{query}" if query else path,
        "QUERY_STRING": query,
        "HTTP_HOST": "127.0.0.1:5000",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "wsgi.url_scheme": "http",
        "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential=KEY/20300101/eu-west-1/{service}/aws4_request, Signature=0",
        "CONTENT_TYPE": "application/x-www-form-urlencoded" if form else "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    return request | ({"HTTP_X_AMZ_TARGET": target} if target else {})


ELBV2, ELB = "2015-12-01", "2012-06-01"
CASES = [
    # the query protocols: the form's Action
    (environ("ec2", form={"Action": "DescribeVpcs"}), "ec2", "DescribeVpcs", False),
    (environ("ec2", form={"Action": "CreateVpc"}), "ec2", "CreateVpc", True),
    (environ("ec2", form={"Action": "CreateVpc", "DryRun": "true"}), "ec2", "CreateVpc", False),
    (environ("rds", form={"Action": "DownloadDBLogFilePortion"}), "rds", "DownloadDBLogFilePortion", False),
    (environ("sts", form={"Action": "AssumeRole"}), "sts", "AssumeRole", False),
    (environ("iam", form={"Action": "SimulatePrincipalPolicy"}), "iam", "SimulatePrincipalPolicy", False),
    (environ("iam", form={"Action": "GenerateCredentialReport"}), "iam", "GenerateCredentialReport", True),
    (
        environ("elasticloadbalancing", form={"Action": "DescribeLoadBalancers", "Version": ELBV2}),
        "elbv2",
        "DescribeLoadBalancers",
        False,
    ),
    (
        environ("elasticloadbalancing", form={"Action": "CreateLoadBalancer", "Version": ELB}),
        "elb",
        "CreateLoadBalancer",
        True,
    ),
    # the JSON protocol: the target header
    (environ("states", target="AWSStepFunctions.StartExecution"), "stepfunctions", "StartExecution", True),
    (
        environ("tagging", target="ResourceGroupsTaggingAPI_20170126.GetResources"),
        "resourcegroupstaggingapi",
        "GetResources",
        False,
    ),
    (environ("dynamodb", target="DynamoDB_20120810.TransactGetItems"), "dynamodb", "TransactGetItems", False),
    (environ("dynamodb", target="DynamoDB_20120810.TransactWriteItems"), "dynamodb", "TransactWriteItems", True),
    (environ("dynamodb", target="DynamoDB_20120810.BatchGetItem"), "dynamodb", "BatchGetItem", False),
    (environ("kms", target="TrentService.Decrypt"), "kms", "Decrypt", False),
    (environ("kms", target="TrentService.ScheduleKeyDeletion"), "kms", "ScheduleKeyDeletion", True),
    (environ("logs", target="Logs_20140328.FilterLogEvents"), "logs", "FilterLogEvents", False),
    # REST: method and path; a POST can read, as Batch's do
    (environ("batch", path="/v1/describejobqueues"), "batch", "DescribeJobQueues", False),
    (environ("batch", path="/v1/submitjob"), "batch", "SubmitJob", True),
    (environ("apigateway", "GET", "/restapis/abc/stages/api"), "apigateway", "GetStage", False),
    (environ("apigateway", "PATCH", "/restapis/abc/stages/api"), "apigateway", "UpdateStage", True),
    (environ("apigateway", "POST", "/restapis/abc/resources/x/methods/GET"), "apigateway", "TestInvokeMethod", True),
    # S3: also the query string
    (environ("s3", "GET", "/"), "s3", "ListBuckets", False),
    (environ("s3", "PUT", "/bucket"), "s3", "CreateBucket", True),
    (environ("s3", "PUT", "/bucket", "policy"), "s3", "PutBucketPolicy", True),
    (environ("s3", "GET", "/bucket", "policy"), "s3", "GetBucketPolicy", False),
    (environ("s3", "GET", "/bucket", "list-type=2&prefix=a"), "s3", "ListObjectsV2", False),
    (environ("s3", "HEAD", "/bucket/a/b"), "s3", "HeadObject", False),
    (environ("s3", "PUT", "/bucket/a/b"), "s3", "PutObject", True),
    (environ("s3", "POST", "/bucket", "delete"), "s3", "DeleteObjects", True),
    (environ("s3", "POST", "/bucket/a", "uploads"), "s3", "CreateMultipartUpload", True),
    (environ("s3", "DELETE", "/bucket/a", "uploadId=1"), "s3", "AbortMultipartUpload", True),
    # what no operation matches is named by method and path, and may change unless the method says that it reads
    (environ("apigateway", "PUT", "/nothing/here"), "apigateway", "PUT /nothing/here", True),
    (environ("apigateway", "GET", "/nothing/here"), "apigateway", "GET /nothing/here", False),
]


@pytest.mark.parametrize(("request_", "service", "action", "mutates"), CASES, ids=[f"{c[1]}:{c[2]}" for c in CASES])
def test_a_request_is_named(request_: dict[str, Any], service: str, action: str, mutates: bool) -> None:
    call = identify(request_)
    assert call is not None
    assert (call.service, call.action, call.mutates) == (service, action, mutates)
    assert (call.region, call.key_id) == ("eu-west-1", "KEY")


def test_a_form_can_be_read_again() -> None:
    request = environ("ec2", form={"Action": "DescribeVpcs"})
    identify(request)
    assert request["wsgi.input"].read() == b"Action=DescribeVpcs"


def test_a_presigned_url_is_named() -> None:
    request = environ("s3", "GET", "/bucket/a", "X-Amz-Credential=KEY%2F20300101%2Feu-west-1%2Fs3%2Faws4_request")
    del request["HTTP_AUTHORIZATION"]
    call = identify(request)
    assert call is not None
    assert (call.action, call.key_id) == ("GetObject", "KEY")


def test_an_unsigned_request_is_no_call() -> None:
    request = environ("s3", "GET", "/bucket/a")
    del request["HTTP_AUTHORIZATION"]
    assert identify(request) is None
