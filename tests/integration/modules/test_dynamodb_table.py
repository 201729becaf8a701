# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module dynamodb_table against the emulator."""

from __future__ import annotations

import pytest
from steps import Module

NAME = "metaflow-staging-step-functions"
OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}
MINIMAL = {"name": NAME, "hash_key": "pathspec", "tags": OURS, "wait_timeout": 20}
ABSENT = {"name": NAME, "state": "absent", "wait_timeout": 20}
KEY = "arn:aws:kms:us-east-1:123456789012:key/0b7a6c5d-1111-4222-8333-444455556666"
FULL = MINIMAL | {
    "ttl_attribute": "ttl",
    "deletion_protection": True,
    "point_in_time_recovery": False,
    "tags": OURS | {"team": "ml"},
}


@pytest.fixture
def dynamodb(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("dynamodb")


@pytest.fixture
def table(dynamodb, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "dynamodb_table")


def state(dynamodb):
    """Return what DynamoDB shows of the table."""
    described = dynamodb.describe_table(TableName=NAME)["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=NAME)["ContinuousBackupsDescription"]
    tags = dynamodb.list_tags_of_resource(ResourceArn=described["TableArn"])["Tags"]
    return {
        "keys": described["KeySchema"],
        "attributes": described["AttributeDefinitions"],
        "billing": described["BillingModeSummary"]["BillingMode"],
        "encryption": described.get("SSEDescription", {}).get("KMSMasterKeyArn"),
        "protected": described["DeletionProtectionEnabled"],
        "ttl": dynamodb.describe_time_to_live(TableName=NAME)["TimeToLiveDescription"],
        "recovery": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
    }


def test_twelve_steps(table, dynamodb):
    made = table.change(MINIMAL)["table"]
    assert made == {
        "arn": f"arn:aws:dynamodb:us-east-1:123456789012:table/{NAME}",
        "name": NAME,
        "status": "ACTIVE",
        "billing_mode": "PAY_PER_REQUEST",
        "hash_key": {"name": "pathspec", "type": "S"},
        "point_in_time_recovery": True,
        "deletion_protection": False,
        "tags": OURS,
    }
    live = state(dynamodb)
    assert live["ttl"]["TimeToLiveStatus"] == "DISABLED"
    assert (live["recovery"], live["encryption"]) == ("ENABLED", None)

    changed = table.change(FULL)["table"]
    assert changed["time_to_live"] == "ttl"
    live = state(dynamodb)
    assert live["ttl"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
    assert (live["recovery"], live["protected"]) == ("DISABLED", True)
    assert live["tags"] == FULL["tags"]

    assert "deletion_protection=false" in table.refused(ABSENT)
    assert table.change(ABSENT | {"deletion_protection": False})["table"] == {}
    assert dynamodb.list_tables()["TableNames"] == []


def test_check_mode_predicts_on_an_empty_account(table):
    predicted = table.run(FULL, check=True)
    assert predicted["table"]["arn"] == f"arn:aws:dynamodb:us-east-1:123456789012:table/{NAME}"
    assert predicted["diff"]["after"]["TimeToLive"] == "ttl"


def test_a_sort_key(table, dynamodb):
    table.change(MINIMAL | {"range_key": "at", "range_key_type": "N"})
    live = state(dynamodb)
    assert live["keys"] == [
        {"AttributeName": "pathspec", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ]
    assert {"AttributeName": "at", "AttributeType": "N"} in live["attributes"]


BY_HAND = {
    "billing": lambda client: client.update_table(
        TableName=NAME,
        BillingMode="PROVISIONED",
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    ),
    "protection": lambda client: client.update_table(TableName=NAME, DeletionProtectionEnabled=False),
    "no time to live": lambda client: client.update_time_to_live(
        TableName=NAME, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"}
    ),
    "other time to live": lambda client: [
        client.update_time_to_live(
            TableName=NAME, TimeToLiveSpecification={"Enabled": enabled, "AttributeName": attribute}
        )
        for enabled, attribute in ((False, "ttl"), (True, "other"))
    ],
    "recovery": lambda client: client.update_continuous_backups(
        TableName=NAME, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    ),
    "tag": lambda client: client.tag_resource(
        ResourceArn=client.describe_table(TableName=NAME)["Table"]["TableArn"],
        Tags=[{"Key": "team", "Value": "x"}, {"Key": "y", "Value": "z"}],
    ),
}


@pytest.mark.parametrize("by_hand", BY_HAND)
def test_what_was_changed_by_hand_is_mended(table, dynamodb, by_hand):
    table.run(FULL)
    before = state(dynamodb)
    BY_HAND[by_hand](dynamodb)
    assert state(dynamodb) != before
    table.run(FULL)
    assert state(dynamodb) == before


def test_a_key_of_ones_own_from_the_start(table, dynamodb):
    assert table.change(MINIMAL | {"kms_key": KEY})["table"]["kms_key"] == KEY
    assert state(dynamodb)["encryption"] == KEY


def test_a_key_by_its_alias_is_refused(table):
    assert "must be the key's ARN" in table.refused(MINIMAL | {"kms_key": "alias/metaflow"})


def test_another_key_and_back_to_dynamodbs_own(table, dynamodb):
    table.run(MINIMAL)
    table.change(MINIMAL | {"kms_key": KEY})
    assert state(dynamodb)["encryption"] == KEY
    table.change(MINIMAL)
    assert state(dynamodb)["encryption"] is None


def test_other_keys_are_refused(table):
    table.run(MINIMAL)
    assert "can't change the keys" in table.refused(MINIMAL | {"hash_key": "other"})
    assert "can't change the keys" in table.refused(MINIMAL | {"range_key": "at"})


def test_a_run_that_was_killed_anywhere_is_completed(table, dynamodb):
    table.survives_kills(lambda: FULL, lambda: state(dynamodb))
