# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module db_instance against the emulator."""

from __future__ import annotations

import json

import pytest
from steps import Module, answering

NAME = "metaflow-test"
PASSWORD = "a-password-that-nobody-sees-94f1"
ABSENT = {"name": NAME, "state": "absent", "wait_timeout": 20}


@pytest.fixture
def rds(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("rds")


@pytest.fixture
def surroundings(emulator):
    """Return a function that makes what an instance stands on, and returns the arguments for one."""

    def make():
        ec2, clients = emulator.client("ec2"), {name: emulator.client(name) for name in ("rds", "kms")}
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for number, zone in enumerate(("us-east-1a", "us-east-1b"))
        ]
        group = ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
        clients["rds"].create_db_subnet_group(
            DBSubnetGroupName="subnets", DBSubnetGroupDescription="subnets", SubnetIds=subnets
        )
        emulator.client("secretsmanager").create_secret(
            Name="database", SecretString=json.dumps({"username": "metaflow", "password": PASSWORD})
        )
        return {
            "name": NAME,
            "engine_version": "17",
            "db_instance_class": "db.t4g.small",
            "kms_key": clients["kms"].create_key()["KeyMetadata"]["Arn"],
            "db_name": "metaflow",
            "master_user_secret": "database",
            "db_subnet_group_name": "subnets",
            "vpc_security_group_ids": [group],
            "tags": {"a_B": "c"},
            "wait_timeout": 20,
        }

    return make


@pytest.fixture
def minimal(rds, surroundings):
    """The arguments of an instance in an account that has what it stands on."""
    return surroundings()


@pytest.fixture
def instance(rds, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "db_instance")


def state(rds):
    """Return what RDS shows of the instance that does not come by chance."""
    (live,) = rds.describe_db_instances()["DBInstances"]
    kept = (
        "DBInstanceIdentifier", "DBInstanceClass", "AllocatedStorage", "MaxAllocatedStorage", "BackupRetentionPeriod",
        "StorageEncrypted", "PubliclyAccessible", "MultiAZ", "DeletionProtection", "CopyTagsToSnapshot",
        "AutoMinorVersionUpgrade", "StorageType", "DBName", "MasterUsername", "TagList",
    )  # fmt: skip
    return {key: live[key] for key in kept}


def test_twelve_steps(instance, rds, minimal):
    made = instance.change(minimal)["db_instance"]
    assert (made["db_instance_status"], made["engine_version"][:3]) == ("available", "17.")
    assert made["tags"] == {"a_B": "c"}
    live = state(rds)
    assert live["StorageEncrypted"] and not live["PubliclyAccessible"] and live["CopyTagsToSnapshot"]
    assert (live["MasterUsername"], live["DBName"], live["StorageType"]) == ("metaflow", "metaflow", "gp3")

    changed = instance.change(
        minimal
        | {
            "db_instance_class": "db.m7g.large",
            "allocated_storage": 50,
            "backup_retention_period": 14,
            "multi_az": True,
            "deletion_protection": True,
            "tags": {"Team": "data"},
        }
    )["db_instance"]
    assert changed["tags"] == {"Team": "data"}
    live = state(rds)
    assert (live["DBInstanceClass"], live["AllocatedStorage"]) == ("db.m7g.large", 50)
    assert (live["BackupRetentionPeriod"], live["MultiAZ"], live["DeletionProtection"]) == (14, True, True)

    assert "deletion_protection=false" in instance.refused(ABSENT)
    assert instance.change(ABSENT | {"deletion_protection": False})["db_instance"] == {}
    assert rds.describe_db_instances()["DBInstances"] == []
    assert rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"] == []


def test_the_password_is_the_secrets_and_is_shown_nowhere(instance, rds, minimal, emulator):
    result = instance.change(minimal)
    assert PASSWORD not in json.dumps(result)
    assert PASSWORD not in json.dumps(instance.run(minimal, changes=False))


def test_a_snapshot_keeps_what_was_in_it(instance, rds, minimal):
    instance.run(minimal)
    instance.change(ABSENT | {"final_snapshot": "metaflow-test-final"})
    (snapshot,) = rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert (snapshot["DBSnapshotIdentifier"], snapshot["Encrypted"]) == ("metaflow-test-final", True)
    tags = rds.list_tags_for_resource(ResourceName=snapshot["DBSnapshotArn"])["TagList"]
    assert tags == [{"Key": "a_B", "Value": "c"}]


def test_storage_never_shrinks(instance, rds, minimal):
    instance.run(minimal | {"allocated_storage": 50})
    instance.run(minimal, changes=False)
    assert state(rds)["AllocatedStorage"] == 50


def test_a_minor_version_that_rds_applied_is_no_difference(instance, rds, minimal):
    (older, *_) = rds.describe_db_engine_versions(Engine="postgres", EngineVersion="17")["DBEngineVersions"]
    instance.run(minimal | {"engine_version": older["EngineVersion"]})
    instance.run(minimal, changes=False)


def test_a_major_version_needs_a_word_and_there_is_no_way_back(instance, rds, minimal):
    instance.run(minimal | {"engine_version": "16"})
    assert "allow_major_version_upgrade=true" in instance.refused(minimal)
    allowed = minimal | {"allow_major_version_upgrade": True}
    # Which minor version comes with it is RDS's choice, so check mode shows the major one.
    assert instance.run(allowed, check=True)["diff"]["after"]["EngineVersion"] == "17"
    assert instance.run(allowed)["db_instance"]["engine_version"].startswith("17.")
    instance.run(allowed, changes=False)
    older = minimal | {"engine_version": "16", "allow_major_version_upgrade": True}
    assert "RDS can't go back to 16" in instance.refused(older)


def test_what_rds_cannot_change_is_refused_by_name(instance, rds, minimal):
    instance.run(minimal)
    assert "RDS can't change DBName of an instance" in instance.refused(minimal | {"db_name": "other"})


def test_deletion_protection_that_is_left_open_stays(instance, rds, minimal):
    instance.run(minimal | {"deletion_protection": True})
    instance.run(minimal, changes=False)


def test_check_mode_predicts_arn_and_address(instance, rds, minimal):
    predicted = instance.run(minimal, check=True)["db_instance"]
    made = instance.run(minimal)["db_instance"]
    assert predicted["db_instance_arn"] == made["db_instance_arn"]
    assert predicted["endpoint"]["port"] == made["endpoint"]["port"] == 5432


def test_it_survives_kills(instance, rds, surroundings):
    instance.survives_kills(surroundings, lambda: state(rds))


def test_a_deletion_survives_kills(instance, rds, surroundings, emulator):
    """The protection goes by a call of its own."""
    from steps import Killed, killed_after

    for calls in (1, 2):
        emulator.reset()
        instance.run(surroundings() | {"deletion_protection": True})
        absent = ABSENT | {"deletion_protection": False}
        with killed_after(calls), pytest.raises(Killed):
            instance.run_module(instance.name, absent)
        assert instance.run_module(instance.name, absent)["db_instance"] == {}
        assert rds.describe_db_instances()["DBInstances"] == []


def test_a_missing_secret_is_named_before_anything_is_made(instance, rds, minimal):
    message = instance.run(minimal | {"master_user_secret": "missing"}, fails=True)["msg"]
    assert message.startswith(f"Failed to create RDS instance '{NAME}': ") and "ResourceNotFoundException" in message


def test_what_aws_refuses_is_passed_on(instance, rds, minimal):
    with answering("CreateDBInstance", "InstanceQuotaExceeded", "Quota exceeded."):
        message = instance.run(minimal, fails=True)["msg"]
    assert message.startswith(f"Failed to create RDS instance '{NAME}': ") and "Quota exceeded." in message
