"""States in time: with --state-seconds, changes go through AWS's intermediate states."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from emulated_aws import Emulator

Refused = Callable[..., Any]
SECONDS = 1.5
LIMIT = 30


@pytest.fixture(scope="module")
def slow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator whose changes take time."""
    plain = ["--plain"] if request.config.getoption("--plain-moto") else []
    running = Emulator(tmp_path_factory.mktemp("slow"), "--state-seconds", str(SECONDS), *plain)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def emulator(slow: Emulator) -> Emulator:
    """In this module the other fixtures use the slow one."""
    return slow


def goes_through(read: Callable[[], str | None], *expected: str | None) -> bool:
    """Wait until a resource is in the last state (None: it is gone) and say whether it went there through the others.

    A slow machine may read too seldom to see all of them, but never one out of order.
    """
    seen: list[str | None] = []
    limit = time.monotonic() + LIMIT
    while not seen or seen[-1] != expected[-1]:
        assert time.monotonic() < limit, f"it stays in {seen}"
        try:
            state = read()
        except ClientError as error:
            assert "NotFound" in error.response["Error"]["Code"], error
            state = None
        if state not in seen[-1:]:
            seen.append(state)
        time.sleep(0.05)
    return len(seen) > 1 and [state for state in expected if state in seen] == seen


@pytest.mark.gap("states/database")
def test_a_database_takes_time(emulator: Emulator, network: Any, name: str, refused: Refused) -> None:
    rds = emulator.client("rds")

    def read() -> str:
        return rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DBInstanceStatus"]

    rds.create_db_subnet_group(DBSubnetGroupName=name, DBSubnetGroupDescription=name, SubnetIds=network.subnets)
    made = rds.create_db_instance(
        DBInstanceIdentifier=name,
        Engine="postgres",
        DBInstanceClass="db.t4g.small",
        AllocatedStorage=20,
        MasterUsername="metaflow",
        MasterUserPassword="long-enough",
        DBSubnetGroupName=name,
    )["DBInstance"]
    assert made["DBInstanceStatus"] == "creating"
    assert "Endpoint" not in made
    assert goes_through(read, "creating", "backing-up", "available")
    assert rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["Endpoint"]["Port"] == 5432
    change = {"DBInstanceIdentifier": name, "AllocatedStorage": 30, "ApplyImmediately": True}
    assert rds.modify_db_instance(**change)["DBInstance"]["DBInstanceStatus"] == "modifying"
    with refused("InvalidDBInstanceState"):
        rds.modify_db_instance(**change)
    assert goes_through(read, "modifying", "available")
    rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    with refused("InvalidDBInstanceState", "already being deleted"):
        rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    with refused("InvalidDBSubnetGroupStateFault"):
        rds.delete_db_subnet_group(DBSubnetGroupName=name)
    assert goes_through(read, "deleting", None)
    rds.delete_db_subnet_group(DBSubnetGroupName=name)


@pytest.mark.gap("states/nat-gateway")
def test_a_nat_gateway_takes_time(emulator: Emulator, network: Any, refused: Refused) -> None:
    ec2 = emulator.client("ec2")
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    made = ec2.create_nat_gateway(SubnetId=network.subnets[0], AllocationId=address)["NatGateway"]
    gateway = made["NatGatewayId"]

    def read() -> str:
        return ec2.describe_nat_gateways(NatGatewayIds=[gateway])["NatGateways"][0]["State"]

    assert goes_through(read, "pending", "available")
    ec2.delete_nat_gateway(NatGatewayId=gateway)
    with refused("InvalidIPAddress.InUse"):
        ec2.release_address(AllocationId=address)
    assert goes_through(read, "deleting", "deleted")
    ec2.release_address(AllocationId=address)


@pytest.mark.gap("states/load-balancer")
@pytest.mark.gap("states/api-vpc-link")
def test_a_load_balancer_and_a_link_take_time(emulator: Emulator, network: Any, name: str, refused: Refused) -> None:
    elbv2, api = emulator.client("elbv2"), emulator.client("apigateway")
    arn = elbv2.create_load_balancer(Name=name, Type="network", Subnets=network.subnets)["LoadBalancers"][0][
        "LoadBalancerArn"
    ]
    link = api.create_vpc_link(name=name, targetArns=[arn])["id"]
    assert goes_through(lambda: api.get_vpc_link(vpcLinkId=link)["status"], "PENDING", "AVAILABLE")

    def read() -> str:
        return elbv2.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"][0]["State"]["Code"]

    goes_through(read, "active")
    api.delete_vpc_link(vpcLinkId=link)
    with refused("ResourceInUse"):
        elbv2.delete_load_balancer(LoadBalancerArn=arn)
    assert goes_through(lambda: api.get_vpc_link(vpcLinkId=link)["status"], "DELETING", None)
    elbv2.delete_load_balancer(LoadBalancerArn=arn)


def fargate(emulator: Emulator, network: Any, name: str) -> dict[str, Any]:
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "batch.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    iam = emulator.client("iam")
    return {
        "computeEnvironmentName": name,
        "type": "MANAGED",
        "computeResources": {
            "type": "FARGATE",
            "maxvCpus": 4,
            "subnets": network.subnets,
            "securityGroupIds": [network.group],
        },
        "serviceRole": iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"],
    }


@pytest.mark.gap("states/batch")
def test_batch_takes_time(emulator: Emulator, network: Any, name: str, refused: Refused) -> None:
    batch = emulator.client("batch")

    def environment() -> str | None:
        found = batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"]
        return found[0]["status"] if found else None

    def queue() -> str | None:
        found = batch.describe_job_queues(jobQueues=[name])["jobQueues"]
        return found[0]["status"] if found else None

    batch.create_compute_environment(**fargate(emulator, network, name))
    order = {"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": name}]}
    with refused("ClientException", "being modified"):
        batch.create_job_queue(jobQueueName=name, priority=1, state="ENABLED", **order)
    assert goes_through(environment, "CREATING", "VALID")
    batch.create_job_queue(jobQueueName=name, priority=1, state="ENABLED", **order)
    assert goes_through(queue, "CREATING", "VALID")
    batch.update_job_queue(jobQueue=name, state="DISABLED")
    with refused("ClientException", "being modified"):
        batch.delete_job_queue(jobQueue=name)
    batch.update_compute_environment(computeEnvironment=name, state="DISABLED")
    assert goes_through(queue, "UPDATING", "VALID")
    batch.delete_job_queue(jobQueue=name)
    goes_through(environment, "VALID")
    assert goes_through(queue, "DELETING", None)
    batch.delete_compute_environment(computeEnvironment=name)
    assert goes_through(environment, "DELETING", None)


@pytest.mark.gap("states/notebook")
def test_a_notebook_takes_time(emulator: Emulator, name: str, refused: Refused) -> None:
    sagemaker = emulator.client("sagemaker")
    which = {"NotebookInstanceName": name}

    def read() -> str | None:
        found = sagemaker.list_notebook_instances(NameContains=name)["NotebookInstances"]
        return found[0]["NotebookInstanceStatus"] if found else None

    sagemaker.create_notebook_instance(**which, InstanceType="ml.t3.medium", RoleArn="arn:aws:iam::123456789012:role/x")
    assert goes_through(read, "Pending", "InService")
    sagemaker.stop_notebook_instance(**which)
    with refused("ValidationException", "Unable to transition to \\(Deleting\\)"):
        sagemaker.delete_notebook_instance(**which)
    assert goes_through(read, "Stopping", "Stopped")
    sagemaker.update_notebook_instance(**which, VolumeSizeInGB=10)
    assert goes_through(read, "Updating", "Stopped")
    sagemaker.delete_notebook_instance(**which)
    assert goes_through(read, "Deleting", None)


def test_a_reset_ends_what_takes_time(slow: Emulator, tmp_path: Path) -> None:
    ec2 = slow.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
    gateway = ec2.create_nat_gateway(SubnetId=subnet, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    ec2.delete_nat_gateway(NatGatewayId=gateway)
    slow.reset()
    time.sleep(SECONDS)
    assert ec2.describe_nat_gateways()["NatGateways"] == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("missing.toml", "'missing.toml' is neither a number of seconds nor a file: No such file or directory"),
        ("-1", "api-vpc-link = -1.0: give seconds, 0 or more"),
        ("wrong.toml", "'databse' takes no time; known are api-vpc-link, "),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, setting: str, message: str) -> None:
    (tmp_path / "wrong.toml").write_text("databse = 3\n")
    chosen = str(tmp_path / setting) if setting == "wrong.toml" else setting
    with pytest.raises(RuntimeError, match="emulator ended with 1") as refused:
        Emulator(tmp_path / "state", f"--state-seconds={chosen}")
    assert message in str(refused.value)


def test_a_file_sets_some_kinds(tmp_path: Path) -> None:
    (tmp_path / "seconds.toml").write_text("load-balancer = 60\n")
    running = Emulator(tmp_path / "state", "--state-seconds", str(tmp_path / "seconds.toml"))
    try:
        ec2 = running.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
        elbv2 = running.client("elbv2")
        elbv2.create_load_balancer(Name="slow", Type="network", Subnets=[subnet])
        assert elbv2.describe_load_balancers()["LoadBalancers"][0]["State"]["Code"] == "provisioning"
        gateway = ec2.create_nat_gateway(SubnetId=subnet, ConnectivityType="private")["NatGateway"]
        assert gateway["State"] == "available"
    finally:
        running.stop()
