"""A stack in a VPC and with a bucket that were there before: both are used as they are, and stay when the stack goes.

And what only the account can tell of the variables is told before the first change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from emulated_aws import Emulator
from stack_runs import Run, Stack, changes_outside_the_lock

pytestmark = pytest.mark.xdist_group("adopted")

COMPONENTS = ("network", "datastore", "identity", "batch")
BUCKET = "raw-data-of-somebody"


@dataclass(frozen=True)
class Existing:
    """What somebody has in the account."""

    vpc: str
    subnets: list[str]
    account: Emulator

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of a stack that uses it."""
        return {
            "network_vpc_id": self.vpc,
            "network_private_subnet_ids": self.subnets[:2],
            "stack_bucket_name": BUCKET,
            "datastore_adopt": "true",  # the command line gives text
        }

    def shown(self) -> str:
        """All that AWS shows of it, in text."""
        ec2, s3 = self.account.client("ec2"), self.account.client("s3")
        in_vpc = [{"Name": "vpc-id", "Values": [self.vpc]}]
        bucket = {
            "versioning": s3.get_bucket_versioning(Bucket=BUCKET).get("Status"),
            "encryption": s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"],
            "tags": s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"],
            "object": s3.get_object(Bucket=BUCKET, Key="raw.csv")["ETag"],
        }
        network = [
            ec2.describe_vpcs(VpcIds=[self.vpc])["Vpcs"],
            ec2.describe_subnets(Filters=in_vpc)["Subnets"],
            ec2.describe_route_tables(Filters=in_vpc)["RouteTables"],
            ec2.describe_internet_gateways()["InternetGateways"],
            ec2.describe_nat_gateways()["NatGateways"],
            ec2.describe_vpc_endpoints()["VpcEndpoints"],
        ]
        return json.dumps([network, bucket], default=str, sort_keys=True)


@pytest.fixture(scope="module")
def existing(account: Emulator) -> Existing:
    """A VPC with subnets in two zones, and a bucket that is not as the stack would make it."""
    ec2, s3 = account.client("ec2"), account.client("s3")
    vpc = ec2.create_vpc(CidrBlock="172.16.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"172.16.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
            "SubnetId"
        ]
        for number, zone in enumerate("abb")
    ]
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [{"Key": "owner", "Value": "somebody"}]})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    s3.put_object(Bucket=BUCKET, Key="raw.csv", Body=b"1,2,3")
    return Existing(vpc, subnets, account)


def converge(stack: Stack, variables: dict[str, Any], *components: str) -> Run:
    return stack.run("--tags", ",".join(components), "--diff", **variables)


def test_what_does_not_fit_is_told_by_all_components_before_the_first_change(
    stack: Stack, account: Emulator, existing: Existing
) -> None:
    rds = account.client("rds")
    rds.create_db_instance(
        DBInstanceIdentifier="metaflow-local",
        Engine="postgres",
        DBInstanceClass="db.t4g.small",
        AllocatedStorage=50,
        MasterUsername="metaflow",
        MasterUserPassword="emulated-password",
        Tags=[{"Key": "mlops.metaflow/allocated-storage", "Value": "30"}],
    )
    account.request("POST", "/_emulator/calls/reset")
    same_zone = {"network_private_subnet_ids": existing.subnets[1:]}
    said = converge(
        stack, existing.variables | same_zone | {"database_allocated_storage": "25"}, "network", "database"
    ).refused()
    assert account.mutations() == []
    assert "network_private_subnet_ids both lie in us-east-1b; use two zones" in said
    assert "database_allocated_storage '25' is less than the 30 GiB that the database metaflow-local has" in said
    rds.delete_db_instance(DBInstanceIdentifier="metaflow-local", SkipFinalSnapshot=True)


@pytest.fixture(scope="module")
def runs(stack: Stack, account: Emulator, existing: Existing) -> dict[str, Any]:
    """What was there before; a run, a second one, and the removal of the stack; what was there after each."""
    before = existing.shown()
    first = converge(stack, existing.variables, *COMPONENTS).succeeded()
    batch = account.client("batch").describe_compute_environments()["computeEnvironments"]
    converged = existing.shown()
    account.request("POST", "/_emulator/calls/reset")
    second = converge(stack, existing.variables, *COMPONENTS).succeeded()
    calls = changes_outside_the_lock(account)
    stack.destroy(confirm="local", **existing.variables).succeeded()
    return {
        "shown": [before, converged, existing.shown()],
        "first": first,
        "batch": batch,
        "second": second,
        "calls": calls,
    }


def test_what_was_there_is_never_changed_nor_removed(runs: dict[str, Any]) -> None:
    before, converged, destroyed = runs["shown"]
    assert converged == before
    assert destroyed == before


def test_a_second_run_changes_nothing(runs: dict[str, Any]) -> None:
    assert runs["first"].changed == {"identity", "batch"}
    assert (runs["second"].changed, runs["calls"]) == (set(), [])


def test_other_components_stand_in_the_existing_subnets(runs: dict[str, Any], existing: Existing) -> None:
    assert runs["batch"]
    for environment in runs["batch"]:
        assert environment["computeResources"]["subnets"] == existing.subnets[:2]


def test_the_run_says_in_what_the_bucket_differs(runs: dict[str, Any]) -> None:
    said = " ".join(runs["first"].output.split())
    assert f"The bucket {BUCKET} is used as it is. It differs from one that the stack would make in:" in said
    assert "Versioning" in said.partition("would make in:")[2][:200]


def test_no_key_is_made_for_a_bucket_of_somebody_else(runs: dict[str, Any], account: Emulator) -> None:
    aliases = [alias["AliasName"] for alias in account.client("kms").list_aliases()["Aliases"]]
    assert [alias for alias in aliases if "datastore" in alias] == []
