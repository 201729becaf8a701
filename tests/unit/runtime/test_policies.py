"""IAM's rules, as cases: (statements, action, resource, context) → allowed or not."""

import pytest

from emulator.runtime.policies import allows

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:db-AbCdEf"
READ = "secretsmanager:GetSecretValue"


def allow(action=READ, resource=ARN, **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(**more):
    return allow(**more) | {"Effect": "Deny"}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], False),
        (allow(), True),
        ([allow()], True),
        ([allow(action="secretsmanager:*")], True),
        ([allow(action=["s3:GetObject", "SecretsManager:getsecretvalue"])], True),
        ([allow(action="s3:*")], False),
        ([allow(resource="*")], True),
        ([allow(resource=ARN[:-6] + "??????")], True),
        ([allow(resource=ARN[:-6] + "?")], False),
        ([allow(resource=ARN.lower())], False),
        ([allow(resource="arn:aws:secretsmanager:us-east-1:123456789012:secret:other-*")], False),
        ([allow(), deny()], False),
        ([allow(), deny(action="s3:*")], True),
        ([{"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}], True),
        ([{"Effect": "Allow", "NotAction": "secretsmanager:*", "Resource": "*"}], False),
        ([{"Effect": "Allow", "Action": "*", "NotResource": ARN}], False),
    ],
)
def test_statements(statements, expected):
    assert allows([{"Statement": statements}], READ, ARN) is expected


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:SourceIp": "10.1.2.3"}, True),
        ({"IpAddress": {"aws:SourceIp": ["192.0.2.1", "10.0.0.0/8"]}}, {"aws:SourceIp": "11.1.2.3"}, False),
        ({"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8"]}}, {"aws:SourceIp": "10.1.2.3"}, False),
        ({"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8"]}}, {"aws:SourceIp": "11.1.2.3"}, True),
        ({"StringEquals": {"kms:ViaService": "ssm"}}, {"KMS:viaservice": "ssm"}, True),
        ({"StringEquals": {"kms:ViaService": "ssm"}}, {}, False),
        ({"StringEqualsIfExists": {"kms:ViaService": "ssm"}}, {}, True),
        ({"StringNotEquals": {"kms:ViaService": "ssm"}}, {}, True),
        ({"StringLike": {"kms:ViaService": "ssm.*"}}, {"kms:ViaService": "ssm.us-east-1"}, True),
        ({"Null": {"aws:TokenIssueTime": "true"}}, {}, True),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:SecureTransport": "false"}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:SecureTransport": "true"}, False),
        ({"ForAnyValue:StringEquals": {"a:b": "x"}}, {"a:b": ["y", "x"]}, True),
        ({"ForAnyValue:StringEquals": {"a:b": "x"}}, {"a:b": ["y"]}, False),
        ({"ForAnyValue:StringEquals": {"a:b": "x"}}, {}, False),
        ({"ForAllValues:StringEquals": {"a:b": ["x", "y"]}}, {"a:b": ["y", "x"]}, True),
        ({"ForAllValues:StringEquals": {"a:b": "x"}}, {"a:b": ["y", "x"]}, False),
        ({"ForAllValues:StringEquals": {"a:b": "x"}}, {}, True),
    ],
)
def test_conditions(condition, context, expected):
    assert allows([{"Statement": allow(Condition=condition)}], READ, ARN, context) is expected


def test_an_unknown_operator_is_an_error_not_a_guess():
    with pytest.raises(KeyError, match="DateGreaterThan"):
        allows([{"Statement": allow(Condition={"DateGreaterThan": {"a:b": "2020"}})}], READ, ARN, {"a:b": "2021"})
