"""Gaps of S3."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from emulated_aws import Emulator


def deny(bucket: str, condition: dict[str, dict[str, str]]) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
                    "Condition": condition,
                }
            ],
        }
    )


@pytest.mark.gap("s3/bucket-policy-conditions")
def test_a_statement_counts_only_where_its_conditions_hold(emulator: Emulator, name: str) -> None:
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_policy(Bucket=name, Policy=deny(name, {"Bool": {"aws:SecureTransport": "false"}}))
    s3.put_object(Bucket=name, Key="a", Body=b"1")
    assert s3.get_object(Bucket=name, Key="a")["Body"].read() == b"1"

    s3.put_bucket_policy(Bucket=name, Policy=deny(name, {"Bool": {"aws:SecureTransport": "true"}}))
    with pytest.raises(ClientError, match=r"403|AccessDenied"):
        s3.get_object(Bucket=name, Key="a")


@pytest.mark.gap("s3/create-bucket-tags")
def test_a_bucket_is_created_with_its_tags(emulator: Emulator, name: str) -> None:
    s3 = emulator.client("s3", region="eu-west-1")
    configuration = {"LocationConstraint": "eu-west-1", "Tags": [{"Key": "stack", "Value": name}]}
    s3.create_bucket(Bucket=name, CreateBucketConfiguration=configuration)
    assert s3.get_bucket_tagging(Bucket=name)["TagSet"] == [{"Key": "stack", "Value": name}]
