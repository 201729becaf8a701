"""A second environment in the same account: it comes and goes, and touches neither the first nor anybody else's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from account_dump import Account, differences
from emulated_aws import ROOT
from stack_runs import Complete, Run, Stack

pytestmark = pytest.mark.xdist_group("complete-stack")

REGION = "eu-west-1"
PREFIX = "metaflow-second"
#: Tags of somebody else's stack, which differs from ours by its environment alone.
OTHERS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "second-2"}


def second_inventory(directory: Path) -> Path:
    """A copy of inventories/local with another environment and another region."""
    copy = directory / "inventory"
    shutil.copytree(ROOT / "inventories" / "local", copy, ignore=shutil.ignore_patterns(".state"))
    variables = copy / "group_vars" / "all.yml"
    text = variables.read_text()
    for old, new in (
        ("stack_environment: local", "stack_environment: second"),
        ("stack_region: us-east-1", f"stack_region: {REGION}"),
    ):
        assert old in text
        text = text.replace(old, new)
    variables.write_text(text)
    return copy


def make_decoys(account: Account) -> None:
    """Make what isn't ours: without tags, with another stack's, with names that begin like ours."""
    listed = [{"Key": key, "Value": value} for key, value in OTHERS.items()]
    ec2, iam = account.client("ec2"), account.client("iam")
    for tags in ([], listed):
        spec = [{"ResourceType": "vpc", "Tags": tags}] if tags else []
        vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16", TagSpecifications=spec)["Vpc"]["VpcId"]
        ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")
        ec2.create_security_group(GroupName=f"{PREFIX}-2atch", Description="not ours", VpcId=vpc)
    ec2.allocate_address(Domain="vpc")
    account.client("s3").create_bucket(
        Bucket=f"{PREFIX}-2-data", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    account.client("kms").create_key(
        Description="not ours", Tags=[{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in listed]
    )
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    iam.create_role(RoleName=f"{PREFIX}-2-batch-job", AssumeRolePolicyDocument=trust, Tags=listed)
    iam.create_role(RoleName="payroll", AssumeRolePolicyDocument=trust)
    account.client("logs").create_log_group(logGroupName=f"/aws/vendedlogs/states/{PREFIX}-2", tags=OTHERS)
    account.client("secretsmanager").create_secret(Name=f"{PREFIX}-2/database", SecretString="x", Tags=listed)
    account.client("apigateway").create_rest_api(name=f"{PREFIX}-2", tags=OTHERS)
    account.client("ecr").create_repository(repositoryName=f"{PREFIX}-2/flows")


def remove_decoys(account: Account) -> None:
    """Remove those that every region shows, the first environment's too."""
    account.client("s3").delete_bucket(Bucket=f"{PREFIX}-2-data")
    for role in (f"{PREFIX}-2-batch-job", "payroll"):
        account.client("iam").delete_role(RoleName=role)


def without_ours(dump: Any) -> Any:
    """Return a dump without the list items that speak of the second environment (IAM and S3 know no regions)."""
    if isinstance(dump, dict):
        return {key: without_ours(value) for key, value in dump.items() if f"{PREFIX}-123456789012" not in key}
    if isinstance(dump, list):
        return [without_ours(item) for item in dump if isinstance(item, list | dict) is False or not is_ours(item)]
    return dump


def is_ours(item: Any) -> bool:
    names = ("RoleName", "InstanceProfileName", "Arn", "Name", "ResourceARN")
    return isinstance(item, dict) and any(
        f"{PREFIX}-" in str(item.get(name, "")) and f"{PREFIX}-2" not in str(item.get(name)) for name in names
    )


@dataclass
class Life:
    """The second environment's life: what the account showed of the first, and of the region, at each point."""

    complete: Complete
    stack: Stack
    first: list[dict[str, Any]]
    region: list[dict[str, Any]]
    converged: Run
    refusals: list[str]
    destroyed: Run


@pytest.fixture(scope="module")
def life(complete: Complete, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    directory = tmp_path_factory.mktemp("second")
    stack = Stack(complete.stack.emulator, directory / "home", second_inventory(directory))
    account = Account(stack.emulator, REGION)
    make_decoys(account)

    def look() -> tuple[dict[str, Any], dict[str, Any]]:
        return without_ours(complete.account.dump()), account.dump()

    before = look()
    converged = stack.run().succeeded()
    meanwhile = look()
    refusals = [stack.destroy().refused(), stack.destroy(confirm="local").refused()]
    refused = look()
    destroyed = stack.destroy(confirm="second").succeeded()
    after = look()
    first, region = zip(before, meanwhile, refused, after, strict=True)
    yield Life(complete, stack, list(first), list(region), converged, refusals, destroyed)
    remove_decoys(account)


def test_it_is_complete_beside_the_first(life: Life) -> None:
    built = life.region[1]
    (service,) = [answer for call, answer in built.items() if f"{PREFIX}-metadata" in call and "services" in call]
    assert service["services"][0]["runningCount"] == 1
    assert {counts["failed"] for counts in life.converged.recap.values()} == {0}


def test_the_first_is_not_touched_by_building_and_removing_it(life: Life) -> None:
    before, meanwhile, _, after = life.first
    assert differences(before, meanwhile) == {}
    assert differences(before, after) == {}


def test_the_first_ones_profile_is_kept(life: Life) -> None:
    """Both write to the same directory when one person has both."""
    assert (life.complete.stack.home / ".metaflowconfig" / "config_local.json").exists()
    assert not list((life.stack.home / ".metaflowconfig").glob("config_second*.json"))


@pytest.mark.parametrize("number", [0, 1])
def test_destroy_is_refused_unless_the_environment_is_named(life: Life, number: int) -> None:
    assert (
        "This removes the stack of the environment 'second' in eu-west-1, account 123456789012."
        in life.refusals[number]
    )
    assert "To confirm it, name the environment: -e confirm=second" in life.refusals[number]
    assert differences(life.region[1], life.region[2]) == {}


#: What AWS goes on showing of what is deleted, or of what deletes itself.
SHOWN_FOR_A_WHILE = (
    "ec2 describe_nat_gateways", "ec2 describe_tags", "ecs ", "kms ", "resourcegroupstaggingapi ",
)  # fmt: skip


def test_destroy_removes_what_is_ours_and_nothing_else(life: Life) -> None:
    before, after = life.region[0], life.region[3]
    changed = differences(before, after)
    assert {call: how for call, how in changed.items() if not call.startswith(SHOWN_FOR_A_WHILE)} == {}

    account = Account(life.stack.emulator, REGION)
    kms, ecs = account.client("kms"), account.client("ecs")
    keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in account.items("kms", "list_keys", "Keys")]
    assert [key["KeyState"] for key in keys if PREFIX in key["Description"]] == ["PendingDeletion"] * 3
    assert "Enabled" in [key["KeyState"] for key in keys if key["Description"] == "not ours"]
    gateways = account.items("ec2", "describe_nat_gateways", "NatGateways")
    assert {gateway["State"] for gateway in gateways} <= {"deleted"}
    assert account.items("ecs", "list_task_definitions", "taskDefinitionArns") == []
    assert {cluster["status"] for cluster in ecs.describe_clusters(clusters=[PREFIX])["clusters"]} <= {"INACTIVE"}


def test_destroy_says_what_it_removes_line_by_line(life: Life) -> None:
    assert life.destroyed.changed == life.converged.changed  # no flow, no chain
