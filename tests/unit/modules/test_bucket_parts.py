# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts of a bucket: from options, from S3's answers, and back to S3's calls."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import s3
from ansible_collections.mlops.metaflow.plugins.modules.s3_bucket import is_ours
from botocore import session, xform_name

S3 = session.get_session().get_service_model("s3")
ARN = "arn:aws:s3:::b"
ALLOW = {"Effect": "Allow", "Principal": {"AWS": "1"}, "Action": "s3:GetObject", "Resource": ARN}
KMS = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "k"}
EVERYTHING = {"Status": "Enabled", "Filter": {"Prefix": ""}}


def encryption(default, **rule):
    return {"ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": default, **rule}]}}


# part, S3's answer, what is read out of it
ANSWERS = {
    "kms": ("Encryption", encryption(KMS, BucketKeyEnabled=True), {**KMS, "BucketKeyEnabled": True}),
    "AES256": (
        "Encryption",
        encryption({"SSEAlgorithm": "AES256"}),
        {"SSEAlgorithm": "AES256", "BucketKeyEnabled": False},
    ),
    "blocked types": (
        "Encryption",
        encryption(KMS, BucketKeyEnabled=True, BlockedEncryptionTypes={"EncryptionType": ["SSE-C"]}),
        {**KMS, "BucketKeyEnabled": True},
    ),
    "never versioned": ("Versioning", {}, None),
    "versioned": ("Versioning", {"Status": "Enabled"}, "Enabled"),
    "ownership": (
        "ObjectOwnership",
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}},
        "ObjectWriter",
    ),
    "no log": ("AccessLogging", {}, None),
    "policy": ("Policy", {"Policy": '{"Statement": []}'}, {"Statement": []}),
    "tags": ("tags", {"TagSet": [{"Key": "k", "Value": "v"}]}, {"k": "v"}),
    "rule with an empty filter": (
        "LifecycleRules",
        {"Rules": [{"ID": "x", "Status": "Disabled", "Filter": {}}]},
        [{"ID": "x", "Status": "Disabled", "Filter": {"Prefix": ""}}],
    ),
    "rule in the older spelling": (
        "LifecycleRules",
        {"Rules": [{"ID": "x", "Status": "Enabled", "Prefix": "p/"}]},
        [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": "p/"}}],
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers(case):
    part, answer, expected = ANSWERS[case]
    assert s3.PARTS[part][2](answer) == expected


# part, value, the operation of S3 that writes it
VALUES = [
    ("PublicAccessBlock", {"BlockPublicAcls": True}, "put_public_access_block"),
    ("ObjectOwnership", "BucketOwnerEnforced", "put_bucket_ownership_controls"),
    ("Encryption", {**KMS, "BucketKeyEnabled": True}, "put_bucket_encryption"),
    (
        "Encryption",
        {"SSEAlgorithm": "AES256", "KMSMasterKeyID": None, "BucketKeyEnabled": False},
        "put_bucket_encryption",
    ),
    ("Versioning", "Suspended", "put_bucket_versioning"),
    ("LifecycleRules", [{"ID": "x", **EVERYTHING}], "put_bucket_lifecycle_configuration"),
    ("LifecycleRules", None, "delete_bucket_lifecycle"),
    ("Policy", {"Statement": [ALLOW]}, "put_bucket_policy"),
    ("Policy", None, "delete_bucket_policy"),
    ("AccessLogging", {"TargetBucket": "logs", "TargetPrefix": ""}, "put_bucket_logging"),
    ("AccessLogging", None, "put_bucket_logging"),
    ("tags", {"k": "v"}, "put_bucket_tagging"),
    ("tags", {}, "delete_bucket_tagging"),
]


@pytest.mark.parametrize(("part", "value", "operation"), VALUES)
def test_what_is_written_is_what_s3_takes_and_reads_back_the_same(part, value, operation):
    called, arguments = s3.writing(part, value)
    assert called == operation
    operations = {xform_name(name): name for name in S3.operation_names}
    assert set(arguments) <= set(S3.operation_model(operations[called]).input_shape.members)
    if value and part not in ("LifecycleRules", "AccessLogging", "Versioning", "tags"):
        read_back = s3.PARTS[part][2](arguments)
        assert read_back == (
            {key: one for key, one in value.items() if one is not None} if "SSE" in str(value) else value
        )


def params(**given):
    defaults = {
        "policy": None,
        "require_tls": False,
        "lifecycle_rules": [],
        "abort_incomplete_upload_days": 0,
        "noncurrent_version_days": None,
    }
    return defaults | given


def test_no_policy():
    assert s3.bucket_policy(params(), ARN) is None
    assert s3.bucket_policy(params(policy="null"), ARN) is None


@pytest.mark.parametrize("statement", [ALLOW, [ALLOW]])
def test_the_tls_statement_comes_after_the_persons(statement):
    policy = s3.bucket_policy(
        params(policy=json.dumps({"Version": "2008-10-17", "Statement": statement}), require_tls=True), ARN
    )
    assert policy["Version"] == "2008-10-17"
    assert policy["Statement"][0] == ALLOW
    tls = policy["Statement"][1]
    assert (tls["Effect"], tls["Principal"], tls["Action"]) == ("Deny", "*", "s3:*")
    assert tls["Resource"] == [ARN, f"{ARN}/*"]
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


# options, the rules that follow
RULES = [
    ({}, []),
    ({"lifecycle_rules": [{"Expiration": {"Days": 1}}]}, [{"ID": "rule-1", **EVERYTHING, "Expiration": {"Days": 1}}]),
    (
        {"lifecycle_rules": [{"ID": "x", "Status": "Disabled", "Filter": {"Prefix": "p"}}, {"Prefix": "q"}]},
        [
            {"ID": "x", "Status": "Disabled", "Filter": {"Prefix": "p"}},
            {"ID": "rule-2", "Status": "Enabled", "Filter": {"Prefix": "q"}},
        ],
    ),
    (
        {"abort_incomplete_upload_days": 7, "noncurrent_version_days": 30},
        [
            {
                "ID": "abort-incomplete-uploads",
                **EVERYTHING,
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            },
            {
                "ID": "expire-noncurrent-versions",
                **EVERYTHING,
                "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                "Expiration": {"ExpiredObjectDeleteMarker": True},
            },
        ],
    ),
]


@pytest.mark.parametrize(("options", "expected"), RULES)
def test_lifecycle_rules(options, expected):
    assert s3.lifecycle_rules(params(**options)) == expected


STAGING = {"mlops.metaflow/stack": "m", "mlops.metaflow/environment": "staging"}
PROD = STAGING | {"mlops.metaflow/environment": "prod"}


@pytest.mark.parametrize(
    ("live", "declared", "ours"),
    [
        (STAGING, STAGING, True),
        (STAGING | {"x": "y"}, STAGING | {"x": "z"}, True),
        (PROD, STAGING, False),
        ({}, STAGING, False),
        ({"x": "y"}, STAGING, False),
        (STAGING, None, False),
        ({}, None, True),
    ],
)
def test_whose_a_bucket_is(live, declared, ours):
    assert is_ours(live, declared) == ours
