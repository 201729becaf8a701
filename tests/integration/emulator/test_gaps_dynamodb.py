"""Gaps of DynamoDB."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def dynamodb(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("dynamodb")


def create(dynamodb: Any, name: str) -> dict[str, Any]:
    return dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pathspec", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pathspec", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )["TableDescription"]


@pytest.mark.gap("dynamodb/table-description")
def test_a_table_has_an_id_and_no_empty_lists(dynamodb: Any, name: str) -> None:
    made = create(dynamodb, name)
    read = dynamodb.describe_table(TableName=name)["Table"]
    assert uuid.UUID(made["TableId"])
    assert read["TableId"] == made["TableId"]
    assert "GlobalSecondaryIndexes" not in read
    assert "LocalSecondaryIndexes" not in read


@pytest.mark.gap("dynamodb/time-to-live-twice")
def test_a_time_to_live_is_set_once(dynamodb: Any, name: str, refused: Refused) -> None:
    create(dynamodb, name)
    wanted = {"TableName": name, "TimeToLiveSpecification": {"Enabled": True, "AttributeName": "ttl"}}
    dynamodb.update_time_to_live(**wanted)
    with refused("ValidationException", "TimeToLive is already enabled"):
        dynamodb.update_time_to_live(**wanted)
    wanted["TimeToLiveSpecification"]["Enabled"] = False
    dynamodb.update_time_to_live(**wanted)


@pytest.mark.gap("dynamodb/update-table-encryption")
def test_the_encryption_of_a_table_can_be_changed(dynamodb: Any, emulator: Emulator, name: str) -> None:
    key = emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
    create(dynamodb, name)
    wanted = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}
    dynamodb.update_table(TableName=name, SSESpecification=wanted)
    assert dynamodb.describe_table(TableName=name)["Table"]["SSEDescription"]["KMSMasterKeyArn"] == key
