# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module s3_bucket against the emulator."""

from __future__ import annotations

import json

import pytest
from steps import Killed, Module, answering, killed_after

CODE = "ansible_collections.mlops.metaflow.plugins.modules.s3_bucket"
NAME = "metaflow-staging-123456789012-us-east-1"
OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}
MINIMAL = {"name": NAME, "tags": OURS, "wait_timeout": 20}
KEY = "arn:aws:kms:us-east-1:123456789012:key/0b7a6c5d-1111-4222-8333-444455556666"
SCRATCH = {"ID": "expire-scratch", "Filter": {"Prefix": "scratch/"}, "Expiration": {"Days": 14}}
READERS = {
    "Sid": "Readers",
    "Effect": "Allow",
    "Principal": {"AWS": ["arn:aws:iam::123456789012:role/reader"]},
    "Action": ["s3:GetObject"],
    "Resource": [f"arn:aws:s3:::{NAME}/*"],
}
FULL = MINIMAL | {
    "encryption": "aws:kms",
    "kms_key": KEY,
    "policy": json.dumps({"Version": "2012-10-17", "Statement": [READERS]}),
    "noncurrent_version_days": 30,
    "lifecycle_rules": [SCRATCH],
    "tags": OURS | {"team": "ml"},
}
ABSENT = {"name": NAME, "state": "absent", "tags": OURS, "wait_timeout": 20}


@pytest.fixture
def s3(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("s3")


@pytest.fixture
def bucket(s3, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "s3_bucket")


def exists(s3):
    return NAME in [one["Name"] for one in s3.list_buckets()["Buckets"]]


def shown(s3):
    """Return every part of the bucket as S3 shows it."""
    tags = s3.get_bucket_tagging(Bucket=NAME)["TagSet"]
    encryption = s3.get_bucket_encryption(Bucket=NAME)["ServerSideEncryptionConfiguration"]["Rules"]
    return {
        "block": s3.get_public_access_block(Bucket=NAME)["PublicAccessBlockConfiguration"],
        "ownership": s3.get_bucket_ownership_controls(Bucket=NAME)["OwnershipControls"]["Rules"],
        "encryption": encryption,
        "versioning": s3.get_bucket_versioning(Bucket=NAME)["Status"],
        "rules": s3.get_bucket_lifecycle_configuration(Bucket=NAME)["Rules"],
        "policy": json.loads(s3.get_bucket_policy(Bucket=NAME)["Policy"]),
        "logging": s3.get_bucket_logging(Bucket=NAME).get("LoggingEnabled"),
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
    }


def test_twelve_steps(bucket, s3):
    made = bucket.change(MINIMAL)["bucket"]
    assert (made["name"], made["arn"], made["region"]) == (NAME, f"arn:aws:s3:::{NAME}", "us-east-1")
    live = shown(s3)
    assert set(live["block"].values()) == {True}
    assert live["ownership"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert live["encryption"][0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert live["versioning"] == "Enabled"
    assert [rule["ID"] for rule in live["rules"]] == ["abort-incomplete-uploads"]
    assert [statement["Sid"] for statement in live["policy"]["Statement"]] == ["RequireTLS"]
    assert live["logging"] is None
    assert live["tags"] == OURS

    changed = bucket.change(FULL)["bucket"]
    assert changed["encryption"] == {
        "sse_algorithm": "aws:kms",
        "kms_master_key_id": KEY,
        "bucket_key_enabled": True,
    }
    live = shown(s3)
    assert live["encryption"] == [
        {
            "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
            "BucketKeyEnabled": True,
        }
    ]
    assert {rule["ID"] for rule in live["rules"]} == {
        "abort-incomplete-uploads",
        "expire-noncurrent-versions",
        "expire-scratch",
    }
    assert [statement["Sid"] for statement in live["policy"]["Statement"]] == ["Readers", "RequireTLS"]
    assert live["tags"] == FULL["tags"]

    assert bucket.change(ABSENT)["bucket"] == {}
    assert not exists(s3)


def test_check_mode_predicts_on_an_empty_account(bucket):
    predicted = bucket.run(FULL | {"kms_key": "arn:aws:kms:us-east-1:123456789012:key/predicted"}, check=True)
    assert predicted["bucket"]["arn"] == f"arn:aws:s3:::{NAME}"
    assert predicted["bucket"]["encryption"]["kms_master_key_id"].endswith("key/predicted")
    assert predicted["diff"]["before"] == {}
    assert predicted["diff"]["after"]["tags"] == FULL["tags"]


BY_HAND = {
    "block": lambda s3: s3.put_public_access_block(
        Bucket=NAME,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": False,
            "RestrictPublicBuckets": True,
        },
    ),
    "no block": lambda s3: s3.delete_public_access_block(Bucket=NAME),
    "ownership": lambda s3: s3.put_bucket_ownership_controls(
        Bucket=NAME, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    ),
    "encryption": lambda s3: s3.put_bucket_encryption(
        Bucket=NAME,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    ),
    "versioning": lambda s3: s3.put_bucket_versioning(Bucket=NAME, VersioningConfiguration={"Status": "Suspended"}),
    "one more rule": lambda s3: s3.put_bucket_lifecycle_configuration(
        Bucket=NAME, LifecycleConfiguration={"Rules": [*shown(s3)["rules"], SCRATCH | {"ID": "x", "Status": "Enabled"}]}
    ),
    "no rules": lambda s3: s3.delete_bucket_lifecycle(Bucket=NAME),
    "policy": lambda s3: s3.put_bucket_policy(
        Bucket=NAME, Policy=json.dumps({"Version": "2012-10-17", "Statement": [READERS]})
    ),
    "no policy": lambda s3: s3.delete_bucket_policy(Bucket=NAME),
    "tag": lambda s3: s3.put_bucket_tagging(
        Bucket=NAME, Tagging={"TagSet": [{"Key": k, "Value": v} for k, v in (OURS | {"team": "x", "y": "z"}).items()]}
    ),
}


@pytest.mark.parametrize("by_hand", BY_HAND)
def test_what_was_changed_by_hand_is_mended(bucket, s3, by_hand):
    bucket.run(FULL)
    before = shown(s3)
    BY_HAND[by_hand](s3)
    bucket.run(FULL)
    assert shown(s3) == before


def test_access_logging_goes_on_and_off(bucket, s3):
    s3.create_bucket(Bucket="logs", ObjectOwnership="BucketOwnerEnforced")
    delivery = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::logs/*",
    }
    s3.put_bucket_policy(Bucket="logs", Policy=json.dumps({"Version": "2012-10-17", "Statement": [delivery]}))
    bucket.run(MINIMAL)
    bucket.change(MINIMAL | {"access_logging": {"bucket": "logs", "prefix": "datastore/"}})
    assert shown(s3)["logging"] == {"TargetBucket": "logs", "TargetPrefix": "datastore/"}
    bucket.change(MINIMAL)
    assert shown(s3)["logging"] is None


def test_a_policy_that_means_the_same_is_no_difference(bucket, s3):
    bucket.run(FULL)
    policy = shown(s3)["policy"]
    # So S3 writes it: single values instead of lists of one.
    policy["Statement"][0] |= {"Action": "s3:GetObject", "Principal": {"AWS": READERS["Principal"]["AWS"][0]}}
    s3.put_bucket_policy(Bucket=NAME, Policy=json.dumps(policy))
    bucket.run(FULL, changes=False)


def test_other_tags_stay_without_purge(bucket, s3):
    bucket.run(FULL)
    bucket.run(MINIMAL | {"purge_tags": False, "tags": OURS | {"owner": "ann"}})
    assert shown(s3)["tags"] == FULL["tags"] | {"owner": "ann"}


def test_a_bucket_in_another_region(bucket, emulator):
    made = bucket.run(MINIMAL | {"region": "eu-west-1"})["bucket"]
    assert made["region"] == "eu-west-1"
    there = emulator.client("s3", region="eu-west-1").get_bucket_location(Bucket=NAME)
    assert there["LocationConstraint"] == "eu-west-1"
    assert "it is in eu-west-1, not in us-east-1" in bucket.refused(MINIMAL)
    assert "it is in eu-west-1, not in us-east-1" in bucket.refused(ABSENT)


def test_a_bucket_of_another_stack_is_neither_changed_nor_removed(bucket, s3):
    s3.create_bucket(Bucket=NAME)
    assert "adopt=true" in bucket.refused(MINIMAL)
    assert "adopt=true" in bucket.refused(ABSENT | {"force": True})
    bucket.run(MINIMAL | {"tags": OURS | {"mlops.metaflow/environment": "prod"}, "adopt": True})
    said = "tagged for the stack metaflow/prod, and the declared tags are for metaflow/staging"
    assert said in bucket.refused(MINIMAL)
    assert said in bucket.refused(ABSENT)
    assert "the declared tags are for -/-" in bucket.refused({"name": NAME, "state": "absent", "force": True})

    bucket.change(MINIMAL | {"adopt": True})
    assert shown(s3)["tags"] == OURS


def test_a_bucket_of_another_account_is_refused(bucket):
    # The emulator has one account. On AWS, HeadBucket answers so by ExpectedBucketOwner.
    with answering("HeadBucket", "403", "Forbidden"):
        assert "belongs to another AWS account" in bucket.refused(MINIMAL)
        assert "belongs to another AWS account" in bucket.refused(ABSENT)


def test_a_bucket_that_s3_shows_by_half_counts_as_none(bucket):
    bucket.run(MINIMAL)
    with answering("GetBucketPolicy", "NoSuchBucket"):  # a deletion that hasn't come everywhere yet
        bucket.run(ABSENT, changes=False)


def test_a_name_that_another_account_has_just_taken(bucket):
    with answering("CreateBucket", "BucketAlreadyExists"):
        said = bucket.run(MINIMAL, fails=True)["msg"]
    assert (
        said == f"Failed to create S3 bucket '{NAME}': another AWS account has a bucket of this name; choose another."
    )


def test_a_call_whose_answer_was_lost_is_no_error(bucket, s3):
    s3.create_bucket(Bucket=NAME)  # what the first attempt did; the SDK repeats it, and S3 says:
    with answering("CreateBucket", "BucketAlreadyOwnedByYou"), answering("HeadBucket", "404", times=1):
        bucket.run(MINIMAL)
    assert shown(s3)["tags"] == OURS


def test_a_run_that_was_killed_anywhere_is_completed(bucket, s3):
    bucket.survives_kills(lambda: FULL, lambda: shown(s3))


def fill(s3):
    """Put objects, versions, delete markers and an unfinished upload into the bucket."""
    for number in range(5):
        for _ in range(2):
            s3.put_object(Bucket=NAME, Key=f"a b/ü{number}&<>", Body=b"x")
    s3.delete_object(Bucket=NAME, Key="a b/ü0&<>")
    s3.create_multipart_upload(Bucket=NAME, Key="big")


def test_a_bucket_with_objects_goes_only_by_force(bucket, s3):
    bucket.run(MINIMAL)
    fill(s3)
    assert "force=true" in bucket.refused(ABSENT)
    bucket.change(ABSENT | {"force": True})
    assert not exists(s3)


def test_delete_markers_count_as_objects(bucket, s3):
    bucket.run(MINIMAL)
    version = s3.put_object(Bucket=NAME, Key="gone", Body=b"x")["VersionId"]
    s3.delete_object(Bucket=NAME, Key="gone")
    s3.delete_object(Bucket=NAME, Key="gone", VersionId=version)
    assert "force=true" in bucket.refused(ABSENT)


def test_emptying_goes_on_where_it_was_killed(bucket, s3, monkeypatch):
    monkeypatch.setattr(f"{CODE}.Bucket._first_objects.__defaults__", (3,))
    bucket.run(MINIMAL)
    fill(s3)
    with pytest.raises(Killed), killed_after(3):  # the upload and two batches
        bucket.run_module(bucket.name, ABSENT | {"force": True})
    left = s3.list_object_versions(Bucket=NAME)
    assert len(left["Versions"]) + len(left.get("DeleteMarkers", [])) == 11 - 6
    bucket.change(ABSENT | {"force": True})
    assert not exists(s3)


def test_an_object_that_cant_be_removed_is_named(bucket, s3):
    s3.create_bucket(Bucket=NAME, ObjectLockEnabledForBucket=True)
    bucket.run(MINIMAL | {"adopt": True})
    s3.put_object(Bucket=NAME, Key="held", Body=b"x", ObjectLockLegalHoldStatus="ON")
    said = bucket.run_module(bucket.name, ABSENT | {"force": True}, fails=True)["msg"]
    assert "'held'" in said
    assert exists(s3)
