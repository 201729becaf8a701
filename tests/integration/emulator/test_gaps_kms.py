"""Gaps of KMS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def kms(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("kms")


@pytest.mark.gap("kms/key-identifiers")
def test_a_deletion_is_scheduled_by_arn(kms: Any, refused: Refused) -> None:
    key = kms.create_key()["KeyMetadata"]
    for operation in (kms.disable_key, kms.enable_key):
        operation(KeyId=key["Arn"])
    assert kms.schedule_key_deletion(KeyId=key["Arn"], PendingWindowInDays=7)["KeyId"] == key["Arn"]
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "PendingDeletion"
    kms.cancel_key_deletion(KeyId=key["Arn"])
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "Disabled"
    with refused("NotFoundException"):
        kms.schedule_key_deletion(KeyId="12345678-1234-1234-1234-123456789012", PendingWindowInDays=7)


@pytest.mark.gap("kms/key-states")
def test_a_key_pending_deletion_is_of_no_use(kms: Any, name: str, refused: Refused) -> None:
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=f"alias/{name}", TargetKeyId=key)
    sealed = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    with refused("DisabledException"):
        kms.encrypt(KeyId=f"alias/{name}", Plaintext=b"x")
    kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"x"
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    for call in (
        lambda: kms.encrypt(KeyId=f"alias/{name}", Plaintext=b"x"),
        lambda: kms.decrypt(CiphertextBlob=sealed),
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256"),
        lambda: kms.enable_key(KeyId=key),
        lambda: kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "b"}]),
        lambda: kms.create_alias(AliasName=f"alias/{name}-b", TargetKeyId=key),
        lambda: kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7),
    ):
        with refused("KMSInvalidStateException", "is pending deletion"):
            call()
    kms.delete_alias(AliasName=f"alias/{name}")
    kms.cancel_key_deletion(KeyId=key)


@pytest.mark.gap("kms/keys-of-objects")
def test_no_object_is_written_under_a_key_that_is_going(
    kms: Any, emulator: Emulator, name: str, refused: Refused
) -> None:
    s3 = emulator.client("s3")
    key = kms.create_key()["KeyMetadata"]
    s3.create_bucket(Bucket=name)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key["Arn"]}}
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    s3.put_object(Bucket=name, Key="a", Body=b"x")
    kms.disable_key(KeyId=key["KeyId"])
    with refused("KMS.DisabledException"):
        s3.put_object(Bucket=name, Key="a", Body=b"x")
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    with refused("KMS.KMSInvalidStateException", "is pending deletion"):
        s3.put_object(Bucket=name, Key="a", Body=b"x")
    kms.cancel_key_deletion(KeyId=key["KeyId"])
    kms.enable_key(KeyId=key["KeyId"])
    s3.put_object(Bucket=name, Key="a", Body=b"x", ServerSideEncryption="aws:kms")


@pytest.mark.gap("kms/keys-of-databases")
def test_no_database_is_made_under_a_key_that_is_going(
    kms: Any, emulator: Emulator, name: str, refused: Refused
) -> None:
    key = kms.create_key()["KeyMetadata"]
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    with refused("KMSKeyNotAccessibleFault"):
        emulator.client("rds").create_db_instance(
            DBInstanceIdentifier=name, Engine="postgres", DBInstanceClass="db.t4g.micro", AllocatedStorage=20,
            MasterUsername="u", MasterUserPassword="not-a-secret", StorageEncrypted=True, KmsKeyId=key["Arn"],
        )  # fmt: skip
