"""Gaps of IAM."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def iam(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("iam")


@pytest.mark.gap("iam/service-linked-role-names")
def test_a_service_linked_role_has_the_services_own_spelling(iam: Any) -> None:
    role = iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")["Role"]
    assert role["RoleName"] == "AWSServiceRoleForECS"


def policy(*statements: tuple[str, Any, Any]) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": e, "Action": a, "Resource": r} for e, a, r in statements],
        }
    )


@pytest.mark.gap("iam/policy-dependencies")
def test_an_attached_policy_cannot_be_deleted(iam: Any, name: str, refused: Refused) -> None:
    arn = iam.create_policy(PolicyName=name, PolicyDocument=policy(("Allow", "s3:GetObject", "*")))["Policy"]["Arn"]
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn=arn)
    with refused("DeleteConflict", "attached to entities"):
        iam.delete_policy(PolicyArn=arn)
    iam.detach_user_policy(UserName=name, PolicyArn=arn)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy(("Allow", "s3:PutObject", "*")), SetAsDefault=True)
    with refused("DeleteConflict", "more than one version"):
        iam.delete_policy(PolicyArn=arn)
    iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    iam.delete_policy(PolicyArn=arn)
    with refused("NoSuchEntity"):
        iam.get_policy(PolicyArn=arn)


def decisions(answer: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(r["EvalActionName"], r["EvalResourceName"]): r["EvalDecision"] for r in answer["EvaluationResults"]}


@pytest.mark.gap("iam/simulation")
def test_policies_are_simulated(iam: Any, name: str, refused: Refused) -> None:
    principal = '"Principal": {"Service": "ec2.amazonaws.com"}'
    trust = policy(("Allow", "sts:AssumeRole", "*")).replace('"Resource": "*"', principal)
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    bucket, secret = "arn:aws:s3:::bucket/a", "arn:aws:s3:::bucket/secret/a"
    inline = policy(("Allow", "s3:Get*", "arn:aws:s3:::bucket/*"), ("Deny", "s3:*", "arn:aws:s3:::bucket/secret/*"))
    iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=inline)
    managed = iam.create_policy(PolicyName=name, PolicyDocument=policy(("Allow", ["s3:PutObject"], [bucket])))
    iam.attach_role_policy(RoleName=name, PolicyArn=managed["Policy"]["Arn"])
    answer = iam.simulate_principal_policy(
        PolicySourceArn=arn, ActionNames=["s3:GetObject", "s3:PutObject"], ResourceArns=[bucket, secret]
    )
    assert decisions(answer) == {
        ("s3:GetObject", bucket): "allowed",
        ("s3:GetObject", secret): "explicitDeny",
        ("s3:PutObject", bucket): "allowed",
        ("s3:PutObject", secret): "explicitDeny",
    }
    assert answer["EvaluationResults"][0]["MatchedStatements"][0]["SourcePolicyId"] == "inline"
    custom = iam.simulate_custom_policy(
        PolicyInputList=[policy(("Allow", "batch:SubmitJob", "*"))],
        ActionNames=["batch:SubmitJob", "batch:TerminateJob"],
    )
    assert decisions(custom) == {("batch:SubmitJob", "*"): "allowed", ("batch:TerminateJob", "*"): "implicitDeny"}
    with refused("NoSuchEntity"):
        iam.simulate_principal_policy(PolicySourceArn=f"{arn}x", ActionNames=["s3:GetObject"])


@pytest.fixture
def enforced(emulator: Emulator) -> Iterator[Callable[[], None]]:
    """Lets a test turn on IAM's checks, and turns them off again."""

    def set_checks(first_calls_unchecked: str) -> None:
        request = urllib.request.Request(
            f"{emulator.endpoint}/moto-api/reset-auth",
            first_calls_unchecked.encode(),
            {"Content-Type": "text/plain"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200

    yield lambda: set_checks("0")
    set_checks("inf")


@pytest.mark.gap("iam/json-denials")
def test_denials_of_json_services_are_json(
    iam: Any, emulator: Emulator, name: str, refused: Refused, enforced: Callable[[], None]
) -> None:
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    session = boto3.Session(**keys, region_name="us-east-1")
    denied = {
        "stepfunctions": ("list_state_machines", "AccessDeniedException"),
        "dynamodb": ("list_tables", "AccessDeniedException"),
        "batch": ("describe_job_queues", "AccessDeniedException"),
        "sns": ("list_topics", "AccessDenied"),
    }
    clients = {service: session.client(service, endpoint_url=emulator.endpoint) for service in denied}
    enforced()
    for service, (operation, code) in denied.items():
        with refused(code, "is not authorized to perform"):
            getattr(clients[service], operation)()
    with refused("UnrecognizedClientException"):
        emulator.client("stepfunctions").list_state_machines()
