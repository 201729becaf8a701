"""Gaps of RDS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def rds(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("rds")


def create(rds: Any, name: str, **more: Any) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "DBInstanceIdentifier": name,
        "Engine": "postgres",
        "DBInstanceClass": "db.t4g.small",
        "AllocatedStorage": 20,
        "MasterUsername": "metaflow",
        "MasterUserPassword": "long-enough",
    }
    return rds.create_db_instance(**(wanted | more))["DBInstance"]


@pytest.mark.gap("rds/engine-versions")
def test_versions_of_postgresql_are_listed_and_resolved(rds: Any, name: str, refused: Refused) -> None:
    found = rds.describe_db_engine_versions(Engine="postgres", EngineVersion="17")["DBEngineVersions"]
    assert {v["MajorEngineVersion"] for v in found} == {"17"}
    assert {v["DBParameterGroupFamily"] for v in found} == {"postgres17"}
    assert len(rds.describe_db_engine_versions(Engine="postgres")["DBEngineVersions"]) > len(found)
    (default,) = rds.describe_db_engine_versions(Engine="postgres", EngineVersion="16", DefaultOnly=True)[
        "DBEngineVersions"
    ]
    assert create(rds, name, EngineVersion="16")["EngineVersion"] == default["EngineVersion"]
    targets = {t["EngineVersion"]: t["IsMajorVersionUpgrade"] for t in default["ValidUpgradeTarget"]}
    newest = max(targets, key=lambda v: [int(n) for n in v.split(".")])
    assert targets[newest]
    with refused("InvalidParameterCombination", "Cannot find version 9.99 for postgres"):
        create(rds, f"{name}b", EngineVersion="9.99")
    with refused("InvalidParameterCombination", "AllowMajorVersionUpgrade"):
        rds.modify_db_instance(DBInstanceIdentifier=name, EngineVersion=newest)
    changed = rds.modify_db_instance(
        DBInstanceIdentifier=name, EngineVersion=newest, AllowMajorVersionUpgrade=True, ApplyImmediately=True
    )
    assert changed["DBInstance"]["EngineVersion"] == newest


@pytest.mark.gap("rds/orderable-options")
def test_orderable_classes_of_postgresql(rds: Any) -> None:
    version = rds.describe_db_engine_versions(Engine="postgres", DefaultOnly=True)["DBEngineVersions"][0]
    pages = rds.get_paginator("describe_orderable_db_instance_options").paginate(
        Engine="postgres", EngineVersion=version["EngineVersion"], DBInstanceClass="db.t4g.small"
    )
    options = [o for page in pages for o in page["OrderableDBInstanceOptions"]]
    assert {o["StorageType"] for o in options} >= {"gp2", "gp3"}
    assert all(o["SupportsStorageEncryption"] and o["MinStorageSize"] >= 20 for o in options)
    assert {z["Name"] for z in options[0]["AvailabilityZones"]} >= {"us-east-1a", "us-east-1b"}


@pytest.mark.gap("rds/instance-validation")
@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        ({"DBInstanceClass": "db.t9.huge"}, "InvalidParameterCombination", "DBInstanceClass=db.t9.huge"),
        ({"AllocatedStorage": 5}, "InvalidParameterValue", "Invalid storage size"),
        ({"MasterUserPassword": "short"}, "InvalidParameterValue", "shorter than 8"),
    ],
)
def test_a_wrong_instance_is_refused(
    rds: Any, name: str, refused: Refused, wrong: dict[str, Any], code: str, message: str
) -> None:
    with refused(code, message):
        create(rds, name, **wrong)


@pytest.mark.gap("rds/parameter-groups")
def test_parameters_of_a_group(rds: Any, name: str, refused: Refused) -> None:
    with refused("DBParameterGroupNotFound"):
        rds.describe_db_parameter_groups(DBParameterGroupName=name)
    with refused("InvalidParameterValue", "postgres99 is not a valid parameter group family"):
        rds.create_db_parameter_group(DBParameterGroupName=name, DBParameterGroupFamily="postgres99", Description=name)
    rds.create_db_parameter_group(DBParameterGroupName=name, DBParameterGroupFamily="postgres14", Description=name)
    pages = rds.get_paginator("describe_db_parameters").paginate(DBParameterGroupName=name)
    found = {p["ParameterName"]: p for page in pages for p in page["Parameters"]}
    assert found["rds.force_ssl"]["ParameterValue"] == "0"
    assert found["rds.force_ssl"]["IsModifiable"]
    assert rds.describe_db_parameters(DBParameterGroupName=name, Source="user")["Parameters"] == []
    force = {"ParameterName": "rds.force_ssl", "ParameterValue": "1", "ApplyMethod": "immediate"}
    rds.modify_db_parameter_group(DBParameterGroupName=name, Parameters=[force])
    (changed,) = rds.describe_db_parameters(DBParameterGroupName=name, Source="user")["Parameters"]
    assert (changed["ParameterName"], changed["ParameterValue"]) == ("rds.force_ssl", "1")
    with refused("InvalidParameterValue", "Could not find parameter with name: nothing"):
        rds.modify_db_parameter_group(DBParameterGroupName=name, Parameters=[force | {"ParameterName": "nothing"}])


@pytest.mark.gap("rds/dependencies")
def test_groups_of_an_instance_cannot_be_deleted(rds: Any, network: Any, name: str, refused: Refused) -> None:
    rds.create_db_subnet_group(DBSubnetGroupName=name, DBSubnetGroupDescription=name, SubnetIds=network.subnets)
    rds.create_db_parameter_group(DBParameterGroupName=name, DBParameterGroupFamily="postgres17", Description=name)
    create(rds, name, DBSubnetGroupName=name, DBParameterGroupName=name)
    with refused("InvalidDBSubnetGroupStateFault"):
        rds.delete_db_subnet_group(DBSubnetGroupName=name)
    with refused("InvalidDBParameterGroupState"):
        rds.delete_db_parameter_group(DBParameterGroupName=name)
    rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    rds.delete_db_subnet_group(DBSubnetGroupName=name)
    rds.delete_db_parameter_group(DBParameterGroupName=name)


@pytest.mark.gap("rds/final-snapshot")
def test_a_deletion_says_what_becomes_of_the_data(rds: Any, name: str, refused: Refused) -> None:
    create(rds, name)
    with refused("InvalidParameterCombination", "FinalDBSnapshotIdentifier is required"):
        rds.delete_db_instance(DBInstanceIdentifier=name)
    with refused("InvalidParameterCombination", "can not be specified"):
        rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True, FinalDBSnapshotIdentifier=name)
    rds.delete_db_instance(DBInstanceIdentifier=name, FinalDBSnapshotIdentifier=f"{name}-final")
    snapshots = rds.describe_db_snapshots(DBSnapshotIdentifier=f"{name}-final")["DBSnapshots"]
    assert [s["DBInstanceIdentifier"] for s in snapshots] == [name]


@pytest.mark.gap("rds/network-interface")
def test_an_instance_holds_its_subnet_and_group(
    rds: Any, emulator: Emulator, network: Any, name: str, refused: Refused
) -> None:
    ec2 = emulator.client("ec2")
    rds.create_db_subnet_group(DBSubnetGroupName=name, DBSubnetGroupDescription=name, SubnetIds=network.subnets)
    create(rds, name, DBSubnetGroupName=name, VpcSecurityGroupIds=[network.group])
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=network.group)
    other = ec2.create_security_group(GroupName=f"{name}-b", Description=name, VpcId=network.vpc)["GroupId"]
    rds.modify_db_instance(DBInstanceIdentifier=name, VpcSecurityGroupIds=[other], ApplyImmediately=True)
    ec2.delete_security_group(GroupId=network.group)
    rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    ec2.delete_security_group(GroupId=other)
    for subnet in network.subnets:
        ec2.delete_subnet(SubnetId=subnet)
