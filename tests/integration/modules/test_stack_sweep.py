# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules that look at a whole stack and change nothing: stack_sweep, stack_info and stack_account."""

from __future__ import annotations

import json

import pytest
from steps import answering

SWEEP = "mlops.metaflow.stack_sweep"
INFO = "mlops.metaflow.stack_info"
ACCOUNT = "mlops.metaflow.stack_account"
STACK = {"stack": "metaflow", "environment": "test"}
ARGUMENTS = STACK | {"prefix": "metaflow-test"}
DOCUMENT = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
)
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


def tags(environment="test", stack="metaflow", component="network"):
    """Return tags as a map."""
    own = {"mlops.metaflow/stack": stack, "mlops.metaflow/environment": environment}
    return own | {"mlops.metaflow/component": component}


def tag_list(**whose):
    """Return tags as EC2, KMS and others write them."""
    return [{"Key": key, "Value": value} for key, value in tags(**whose).items()]


@pytest.fixture
def account(emulator):
    """The empty account."""
    emulator.reset()
    return emulator


@pytest.fixture
def sweep(run_module, account):
    """Return ``sweep(**more)``: the module's result, which changes nothing."""

    def sweep(**more):
        account.request("POST", "/_emulator/calls/reset")
        result = run_module(SWEEP, ARGUMENTS | more)
        assert not result["changed"] and account.mutations() == []
        return result

    return sweep


def make(account, name, whose):
    """Make one resource of many services, tagged as ``whose`` says (None: without tags)."""
    listed = [] if whose is None else tag_list(**whose)
    mapped = {} if whose is None else tags(**whose)
    lower = [{"key": tag["Key"], "value": tag["Value"]} for tag in listed]
    client = account.client
    spec = [{"ResourceType": "vpc", "Tags": listed}] if listed else []
    vpc = client("ec2").create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=spec)["Vpc"]
    client("ec2").create_security_group(
        GroupName=name, Description=name, VpcId=vpc["VpcId"],
        TagSpecifications=[{"ResourceType": "security-group", "Tags": listed}] if listed else [],
    )  # fmt: skip
    client("s3").create_bucket(Bucket=name)
    if listed:
        client("s3").put_bucket_tagging(Bucket=name, Tagging={"TagSet": listed})
    client("kms").create_key(Tags=[{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in listed])
    client("iam").create_role(RoleName=f"{name}-role", AssumeRolePolicyDocument=TRUST, Tags=listed)
    client("iam").create_policy(PolicyName=f"{name}-policy", PolicyDocument=DOCUMENT, Tags=listed)
    client("iam").create_instance_profile(InstanceProfileName=f"{name}-profile", Tags=listed)
    client("logs").create_log_group(logGroupName=name, **({"tags": mapped} if mapped else {}))
    client("secretsmanager").create_secret(Name=name, SecretString="x", Tags=listed)
    client("apigateway").create_rest_api(name=name, tags=mapped)
    client("apigateway").create_usage_plan(name=name, tags=mapped)
    client("ecs").create_cluster(clusterName=name, tags=lower)
    container = {"name": "c", "image": "i", "memory": 512}
    client("ecs").register_task_definition(family=f"{name}-task", containerDefinitions=[container], tags=lower)


#: What `make` makes of a stack's own, by its type.
OWN = {
    "ec2:vpc", "ec2:security-group", "s3", "kms:key", "iam:role", "iam:policy", "iam:instance-profile",
    "logs:log-group", "secretsmanager:secret", "apigateway:", "ecs:cluster", "ecs:task-definition",
}  # fmt: skip


def types(arns):
    """Return the types of ARNs."""
    found = set()
    for arn in arns:
        service, _, _, resource = arn.split(":", 5)[2:]
        found.add("s3" if service == "s3" else f"{service}:{resource.replace(':', '/').split('/')[0]}")
    return found


def test_all_that_carries_the_tags_or_the_names_is_listed(sweep, account):
    make(account, "metaflow-test-x", {})
    result = sweep()
    assert types(result["left"]) == OWN
    assert result["kept"] == []
    assert len([arn for arn in result["left"] if ":apigateway:" in arn]) == 2


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("metaflow-prod-x", {"environment": "prod"}),
        ("other-test-x", {"stack": "other"}),
        ("payroll", None),
        # These begin like this stack's names, and are another's.
        ("metaflow-test-b-x", {"environment": "test-b"}),
        ("metaflow-testing-x", None),
    ],
)
def test_what_is_not_this_stacks_is_never_listed(sweep, account, name, whose):
    make(account, name, whose)
    result = sweep()
    assert result["left"] == [] and result["kept"] == []


def test_a_role_without_tags_counts_by_its_name(sweep, account):
    """A run that was killed, or a person, may have left it so."""
    account.client("iam").create_role(RoleName="metaflow-test-events", AssumeRolePolicyDocument=TRUST)
    assert types(sweep()["left"]) == {"iam:role"}


def test_what_is_deleted_or_will_be_by_itself_is_not_left(sweep, account):
    make(account, "metaflow-test-x", {})
    ec2, ecs = account.client("ec2"), account.client("ecs")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "tag:mlops.metaflow/stack", "Values": ["metaflow"]}])["Vpcs"][0]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    gateway = ec2.create_nat_gateway(
        SubnetId=subnet, ConnectivityType="private",
        TagSpecifications=[{"ResourceType": "natgateway", "Tags": tag_list()}],
    )["NatGateway"]["NatGatewayId"]  # fmt: skip
    assert "ec2:natgateway" in types(sweep()["left"])

    ec2.delete_nat_gateway(NatGatewayId=gateway)
    (key,) = account.client("kms").list_keys()["Keys"]
    account.client("kms").schedule_key_deletion(KeyId=key["KeyId"])
    account.client("secretsmanager").delete_secret(SecretId="metaflow-test-x", RecoveryWindowInDays=7)
    ecs.delete_cluster(cluster="metaflow-test-x")
    ecs.deregister_task_definition(taskDefinition="metaflow-test-x-task:1")
    gone = {"kms:key", "secretsmanager:secret", "ecs:cluster", "ecs:task-definition"}
    assert types(sweep()["left"]) == OWN - gone


def test_what_somebody_keeps_is_told_apart(sweep, account):
    make(account, "metaflow-test-x", {"component": "datastore"})
    result = sweep(keep=[{"component": "datastore", "types": ["s3", "kms:key"]}])
    assert types(result["kept"]) == {"s3", "kms:key"}
    assert types(result["left"]) == OWN - {"s3", "kms:key"}


def test_the_run_lock_is_not_left(sweep, account):
    account.client("ssm").put_parameter(
        Name="/metaflow/test/run-lock/1", Value="{}", Type="String", Tags=tag_list(component="stack")
    )
    assert sweep()["left"] == []


def test_a_service_that_does_not_answer_is_an_error_and_no_empty_list(run_module, account):
    with answering("ListRoles", "AccessDenied", "You may not list roles."):
        message = run_module(SWEEP, ARGUMENTS, fails=True)["msg"]
    assert message.startswith("Failed to sweep for stack 'metaflow' of 'test': ") and "You may not list" in message


def test_info_finds_what_is_this_stacks_and_nothing_else(run_module, account):
    for name, whose in (("metaflow-test", {}), ("metaflow-prod", {"environment": "prod"}), ("payroll", None)):
        make(account, name, whose)
    found = run_module(
        INFO,
        STACK | {"require": {"vpc": []}, "gather": {"security_group": [], "rest_api": ["metaflow-test", "payroll"]}},
    )["resources"]
    assert len(found["vpc"]) == 1
    assert list(found["security_group"]) == ["metaflow-test"]
    assert list(found["rest_api"]) == ["metaflow-test"]


def test_info_names_what_is_missing_and_who_makes_it(run_module, account):
    wanted = STACK | {"require": {"subnet": ["metaflow-test-private-1"]}}
    message = run_module(INFO, wanted, fails=True)["msg"]
    assert message == (
        "There is no subnet 'metaflow-test-private-1' of stack 'metaflow', environment 'test' in us-east-1; "
        "converge it first: --tags network."
    )


def test_info_predicts_in_check_mode_what_is_missing(run_module, account):
    wanted = STACK | {"require": {"subnet": ["metaflow-test-private-1"]}}
    found = run_module(INFO, wanted, check=True)["resources"]
    assert found["subnet"]["metaflow-test-private-1"]["predicted"]


def test_info_finds_by_id_what_was_there_before(run_module, account):
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="us-east-1b")["Subnet"]["SubnetId"]
    adopted = {"vpc": {"metaflow-test": vpc}, "subnet": {"metaflow-test-private-1": subnet}}
    wanted = STACK | {"adopted": adopted, "require": {"vpc": ["metaflow-test"], "subnet": ["metaflow-test-private-1"]}}
    found = run_module(INFO, wanted)["resources"]
    assert found["vpc"] == {"metaflow-test": {"id": vpc, "cidr_block": "10.0.0.0/16", "tags": {}, "adopted": True}}
    assert found["subnet"]["metaflow-test-private-1"]["availability_zone"] == "us-east-1b"
    assert run_module(INFO, STACK | {"gather": {"vpc": []}})["resources"] == {"vpc": {}}

    gone = STACK | {"adopted": {"vpc": {"metaflow-test": "vpc-0123"}}, "gather": {"vpc": []}}
    message = run_module(INFO, gone, fails=True)["msg"]
    assert "InvalidVpcID.NotFound" in message and "vpc-0123" in message


def test_info_refuses_a_kind_that_it_does_not_know(run_module, account):
    message = run_module(INFO, STACK | {"gather": {"vpcs": []}}, fails=True)["msg"]
    assert message.startswith("Unknown kind 'vpcs'; known are address, api_key, ")


def test_account_says_who_calls_and_where(run_module, account):
    result = run_module(ACCOUNT, {"account_id": "123456789012", "availability_zones": ["us-east-1b"]})
    assert result["account"]["account_id"] == "123456789012"
    assert "us-east-1a" in result["account"]["availability_zones"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"account_id": "111111111111"}, "belong to account 123456789012"),
        ({"account_id": "123456789012", "region": "us-east-9"}, "stack_region 'us-east-9' is no AWS region"),
        ({"account_id": "123456789012", "availability_zones": ["us-east-1z"]}, "names 'us-east-1z', which us-east-1"),
    ],
)
def test_account_refuses_what_is_not_meant(run_module, account, arguments, expected):
    assert expected in run_module(ACCOUNT, arguments, fails=True)["msg"]


def test_account_refuses_credentials_that_do_not_work(run_module, account):
    with answering("GetCallerIdentity", "InvalidClientTokenId", "The security token is invalid."):
        message = run_module(ACCOUNT, {"account_id": "123456789012"}, fails=True)["msg"]
    assert message.startswith("AWS does not accept the credentials in us-east-1 (account 123456789012 is expected): ")
