"""What a converge shows, and what it makes: no secret anywhere, nothing open that need not be."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from account_dump import Account
from stack_runs import CANARY, Complete

pytestmark = pytest.mark.xdist_group("complete-stack")


def database_password(account: Account) -> str:
    secret = account.client("secretsmanager").get_secret_value(SecretId="metaflow-local/database")["SecretString"]
    return json.loads(secret)["password"]


def api_key(account: Account) -> str:
    (key,) = account.items("apigateway", "get_api_keys", "items", includeValues=True)
    return key["value"]


SECRETS: dict[str, Callable[[Account], str]] = {
    "a flow's secret": lambda account: CANARY,
    "the database's password": database_password,
    "the API key": api_key,
}


@pytest.fixture(params=SECRETS)
def secret(request: pytest.FixtureRequest, complete: Complete) -> list[str]:
    """A secret of the stack in the forms in which it may be written down."""
    value = SECRETS[request.param](complete.account)
    assert len(value) >= 20
    return [value, base64.b64encode(value.encode()).decode().rstrip("=")]


def test_the_log_holds_no_secret(complete: Complete, secret: list[str]) -> None:
    assert "TASK [mlops.metaflow.secrets : Ensure the database's password" in complete.run.output
    lines = [line for line in complete.run.output.splitlines() if any(form in line for form in secret)]
    assert lines == []


def test_no_command_line_holds_a_secret(complete: Complete, secret: list[str]) -> None:
    assert any("ProofFlow" in line or "proof_flow.py" in line for line in complete.command_lines), "nothing was watched"
    assert [line for line in complete.command_lines if any(form in line for form in secret)] == []


def test_no_task_definition_holds_a_secret(complete: Complete, secret: list[str]) -> None:
    ecs = complete.account.client("ecs")
    (arn,) = complete.account.items("ecs", "list_task_definitions", "taskDefinitionArns")
    definition = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    by_reference = {entry["name"] for entry in definition["containerDefinitions"][0]["secrets"]}
    assert by_reference == {"MF_METADATA_DB_USER", "MF_METADATA_DB_PSWD"}
    assert not any(form in json.dumps(definition, default=str) for form in secret)


def test_the_record_of_the_last_converge_holds_no_secret(complete: Complete, secret: list[str]) -> None:
    """Nor does what playbooks/drift.yml shows, which is made of it."""
    (bucket,) = complete.account.client("s3").list_buckets(Prefix="metaflow-local-")["Buckets"]
    place = {"Bucket": bucket["Name"], "Key": "mlops.metaflow/record.json"}
    record = complete.account.client("s3").get_object(**place)["Body"].read().decode()
    assert "METAFLOW_SERVICE_HEADERS" in record  # Metaflow writes them into a state machine, with the API key
    assert not any(form in record for form in secret)


def test_no_file_is_left_that_holds_a_secret(complete: Complete, secret: list[str]) -> None:
    home = complete.stack.home
    config = home / ".metaflowconfig" / "config_local.json"  # has the API key, for this user alone
    assert config.stat().st_mode & 0o777 == 0o600
    files = [path for path in home.rglob("*") if path.is_file() and path != config]
    assert [path for path in files if any(form.encode() in path.read_bytes() for form in secret)] == []


def test_the_run_leaves_no_temporary_file(complete: Complete) -> None:
    home = complete.stack.home
    temporary = [path for path in complete.files if path.parts[0] == "tmp" and len(path.parts) > 1]
    ansibles = [path for path in complete.files if path.parts[0] == ".ansible" and (home / path).is_file()]
    assert temporary + ansibles == []


def test_nothing_admits_the_whole_world(complete: Complete) -> None:
    groups = complete.account.items("ec2", "describe_security_groups", "SecurityGroups")
    ours = [group for group in groups if group["GroupName"].startswith("metaflow-local")]
    assert len(ours) == 4
    sources = [
        (group["GroupName"], source)
        for group in groups
        for permission in group["IpPermissions"]
        for source in [r["CidrIp"] for r in permission["IpRanges"]] + [r["CidrIpv6"] for r in permission["Ipv6Ranges"]]
    ]
    assert sources, "the load balancer's rule should be here"
    assert [source for source in sources if source[1].endswith("/0")] == []


#: The roles of the complete stack, without the prefix.
ROLES = {
    "batch-execution", "batch-instance", "batch-job", "chain-nightly", "chains-events", "chains-notices", "events",
    "flow-image", "metadata-execution", "step-functions",
}  # fmt: skip


def statements(account: Account) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each statement of the policies of the stack, with the policy's name."""
    details = list(account.pages("iam", "get_account_authorization_details", Filter=["Role", "LocalManagedPolicy"]))
    documents = [
        (policy["PolicyName"], policy["PolicyDocument"])
        for page in details
        for role in page["RoleDetailList"]
        for policy in role["RolePolicyList"]
    ]
    documents += [
        (policy["Arn"], version["Document"])
        for page in details
        for policy in page["Policies"]
        for version in policy["PolicyVersionList"]
        if version["IsDefaultVersion"]
    ]
    for name, document in documents:
        for statement in document["Statement"]:
            yield name, statement


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_no_policy_of_ours_allows_a_whole_service(complete: Complete) -> None:
    found = list(statements(complete.account))
    own = {name.rpartition("/")[2].removeprefix("metaflow-local-") for name, _ in found}
    assert own == ROLES - {"batch-instance"} | {"flow-author"}  # instances have AWS's own policy
    wide = [(name, action) for name, s in found for action in as_list(s["Action"]) if action.endswith("*")]
    assert wide == []


#: Actions of AWS that know no resources (Service Authorization Reference), so that "*" is all that can be said.
WITHOUT_RESOURCES = {
    "batch:DescribeComputeEnvironments", "batch:DescribeJobDefinitions", "batch:DescribeJobQueues",
    "batch:DescribeJobs", "batch:ListJobs", "ecr:GetAuthorizationToken", "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies", "logs:GetLogDelivery",
    "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery", "states:ListStateMachines",
}  # fmt: skip


def test_policies_name_the_resources_wherever_aws_can(complete: Complete) -> None:
    open_actions = {
        action
        for _, s in statements(complete.account)
        if "*" in as_list(s["Resource"])
        for action in as_list(s["Action"])
    }
    assert open_actions <= WITHOUT_RESOURCES


def test_all_storage_is_encrypted(complete: Complete) -> None:
    # DynamoDB and ECR encrypt everything; DynamoDB shows it only where the key is one of KMS.
    account = complete.account
    (bucket,) = account.items("s3", "list_buckets", "Buckets")
    encryption = account.client("s3").get_bucket_encryption(Bucket=bucket["Name"])
    (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
    (database,) = account.items("rds", "describe_db_instances", "DBInstances")
    (repository,) = account.items("ecr", "describe_repositories", "repositories")
    volumes = [
        mapping["Ebs"]
        for version in launch_template_versions(account)
        for mapping in version["LaunchTemplateData"]["BlockDeviceMappings"]
    ]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert rule["BucketKeyEnabled"]
    assert database["StorageEncrypted"]
    assert repository["encryptionConfiguration"]["encryptionType"] in ("AES256", "KMS")
    assert [volume["Encrypted"] for volume in volumes] == [True]
    secrets = account.items("secretsmanager", "list_secrets", "SecretList")
    # Those of AWS's own services have AWS's own key, which is not shown.
    own = [secret for secret in secrets if not secret["Name"].startswith("events!")]
    assert [secret["Name"] for secret in own if "KmsKeyId" not in secret] == []


def launch_template_versions(account: Account) -> list[dict[str, Any]]:
    (template,) = account.items("ec2", "describe_launch_templates", "LaunchTemplates")
    return account.items(
        "ec2",
        "describe_launch_template_versions",
        "LaunchTemplateVersions",
        LaunchTemplateId=template["LaunchTemplateId"],
    )


def test_instances_have_imdsv2_only(complete: Complete) -> None:
    versions = launch_template_versions(complete.account)
    assert [version["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] for version in versions] == ["required"]


def test_the_keys_rotate(complete: Complete) -> None:
    keys = complete.account.items("kms", "list_keys", "Keys")
    kms = complete.account.client("kms")
    assert [kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] for key in keys] == [True] * 3


def test_the_bucket_is_private_versioned_and_takes_tls_only(complete: Complete) -> None:
    s3 = complete.account.client("s3")
    (bucket,) = complete.account.items("s3", "list_buckets", "Buckets")
    name = bucket["Name"]
    assert set(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values()) == {True}
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    denied = [
        s
        for s in json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
        if s["Effect"] == "Deny" and s["Condition"].get("Bool") == {"aws:SecureTransport": "false"}
    ]
    assert [(s["Principal"], s["Action"]) for s in denied] == [("*", "s3:*")]


def test_the_database_is_in_private_subnets_and_reached_by_its_clients_only(complete: Complete) -> None:
    account = complete.account
    (database,) = account.items("rds", "describe_db_instances", "DBInstances")
    assert not database["PubliclyAccessible"]
    routes = account.items("ec2", "describe_route_tables", "RouteTables")
    to_the_internet = {
        association.get("SubnetId")
        for table in routes
        if any(route.get("GatewayId", "").startswith("igw-") for route in table["Routes"])
        for association in table["Associations"]
    }
    subnets = {subnet["SubnetIdentifier"] for subnet in database["DBSubnetGroup"]["Subnets"]}
    assert len(subnets) == 2 and not subnets & to_the_internet
    groups = {g["GroupId"]: g for g in account.items("ec2", "describe_security_groups", "SecurityGroups")}
    own = [groups[group["VpcSecurityGroupId"]] for group in database["VpcSecurityGroups"]]
    admitted = [
        pair["GroupId"] for group in own for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]
    ]
    assert [groups[group]["GroupName"] for group in admitted] == ["metaflow-local-database-clients"]
    assert [rule["IpRanges"] for group in own for rule in group["IpPermissions"]] == [[]]


def test_only_services_of_this_account_may_use_the_roles(complete: Complete) -> None:
    details = complete.account.pages("iam", "get_account_authorization_details", Filter=["Role"])
    trusts = {
        role["RoleName"]: role["AssumeRolePolicyDocument"]["Statement"][0]
        for page in details
        for role in page["RoleDetailList"]
        if not role["Path"].startswith("/aws-service-role/")  # AWS makes these itself
    }
    unbound = {name for name, trust in trusts.items() if "aws:SourceAccount" not in json.dumps(trust)}
    assert {name.removeprefix("metaflow-local-") for name in trusts} == ROLES
    assert unbound == {"metaflow-local-batch-instance"}  # EC2 sends no source account


def test_the_configuration_is_for_its_user_only(complete: Complete) -> None:
    modes = {path.name: mode for path, mode in complete.files.items() if path.parts[0] == ".metaflowconfig"}
    assert modes == {".metaflowconfig": 0o700, "config_local.json": 0o600}
