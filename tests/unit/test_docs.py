"""The generated documents are what their scripts write now, and what they say of roles, inventories and IAM holds."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.session
import pytest
import yaml
from botocore import xform_name

from docs import draw_stack, write_deployer_policy, write_roles
from emulator.runtime.policies import allows

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def load(*parts: str) -> dict:
    return yaml.safe_load(ROOT.joinpath(*parts).read_text())


def children(inventory: str) -> dict:
    return load("inventories", inventory, "stack.yml")["all"]["children"]


# What the scripts write


def test_the_picture_is_drawn_from_the_inventory_as_it_is():
    assert draw_stack.PICTURE.read_text() == draw_stack.draw(), "run docs/draw_stack.py"


def test_the_picture_shows_every_component():
    picture = draw_stack.PICTURE.read_text()
    components = {host for wave in children("local")["stack"]["children"].values() for host in wave["hosts"]}
    assert components == set(re.findall(r'class="name"[^>]*>([^<]+)<', picture)) - {"emulator"}


def test_the_pages_of_roles_are_written_from_the_roles_as_they_are():
    written = {path.name: path.read_text() for path in write_roles.PAGES.iterdir()}
    assert written == write_roles.pages(), "run docs/write_roles.py"


@pytest.mark.parametrize("role", ROLES)
def test_the_specification_has_the_defaults_of_the_role(role):
    defaults = load("roles", role, "defaults", "main.yml")
    options = write_roles.specification(role)["options"]
    assert {name for name, option in options.items() if not option.get("required")} == defaults.keys()
    stated = {name: option["default"] for name, option in options.items() if "default" in option}
    assert stated == {name: defaults[name] for name in stated}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    missing = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert missing == []


# The inventory of an AWS account


def test_prod_has_the_components_of_local_and_no_emulated_account():
    local = children("local")
    local.pop("account")
    assert children("prod") == local


def test_prod_leaves_what_is_required_to_be_filled_in():
    text = (ROOT / "inventories" / "prod" / "group_vars" / "all.yml").read_text()
    options = write_roles.specification("stack")["options"]
    required = {name for name, option in options.items() if option.get("required")}
    assert not required & yaml.safe_load(text).keys()
    for name in required:
        assert re.search(rf"\(required\).*\n(# .*\n)?# {name}: \S", text), name


# The policy of whoever deploys


def test_the_policy_is_written_from_its_template_as_it_is():
    assert write_deployer_policy.EXAMPLE.read_text() == write_deployer_policy.example()


def test_the_policy_has_the_actions_that_were_recorded_and_no_others():
    recorded = {
        action
        for statement in write_deployer_policy.statements()
        if "unrecorded" not in statement
        for action in statement["actions"]
    }
    assert recorded == write_deployer_policy.recorded_actions()


#: What a module can call and no role lets it: the roles always declare lifecycle, policy and tags, and no access log;
#: routes that somebody else made stay.
UNUSED = {
    "ec2:DeleteRoute",
    "s3:DeleteBucketLifecycle", "s3:DeleteBucketPolicy", "s3:DeleteBucketTagging", "s3:PutBucketLogging",
    "ecr:DeleteLifecyclePolicy",
}  # fmt: skip


def calls_of(service: str) -> dict[str, str]:
    """Return the calls of a service by the names of boto3's methods: create_vpc → ec2:CreateVpc."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(operation): f"{service}:{operation}" for operation in model.operation_names}


def test_the_policy_has_whatever_our_modules_can_call():
    """A change that the recorded runs had no reason for, a drift that is mended, needs its permission too."""
    recorded = {call.split(":")[0] for call in write_deployer_policy.CALLS.read_text().split()}
    by_method: dict[str, set[str]] = {}
    for service in recorded:
        for method, call in calls_of(service).items():
            by_method.setdefault(method, set()).add(call)
    allowed = {action for statement in write_deployer_policy.statements() for action in statement["actions"]}

    missing = {}
    for path in sorted([*(ROOT / "plugins/modules").glob("*.py"), *(ROOT / "plugins/module_utils").glob("*.py")]):
        code = path.read_text().rpartition('RETURN = r"""')[2]
        methods = {*re.findall(r"\.([a-z]+_[a-z_0-9]+)\(", code), *re.findall(r'"([a-z]+_[a-z_0-9]+)"', code)}
        for method in methods & by_method.keys():
            possible = by_method[method] - UNUSED
            if possible and not any(set(write_deployer_policy.actions_of(call)) <= allowed for call in possible):
                missing[f"{path.name}: {method}"] = possible
    missing.pop("batch_job_queue.py: terminate_jobs")  # an option of the module, which calls TerminateJob
    assert missing == {}


def test_no_action_has_a_wildcard():
    actions = [action for statement in write_deployer_policy.statements() for action in statement["actions"]]
    assert [action for action in actions if "*" in action] == []


def test_the_parts_are_the_policy_and_fit_into_managed_policies():
    whole = write_deployer_policy.policy(**write_deployer_policy.EXAMPLE_STACK)
    parts = write_deployer_policy.parts(whole)
    assert [statement for part in parts for statement in part["Statement"]] == whole["Statement"]
    assert max(len(write_deployer_policy.compact(part)) for part in parts) <= write_deployer_policy.LIMIT


HERE = "eu-west-1:123456789012"
SECRET = f"arn:aws:secretsmanager:{HERE}:secret"
OURS = {"aws:ResourceTag/mlops.metaflow/stack": "metaflow", "aws:ResourceTag/mlops.metaflow/environment": "prod"}
STAGING = OURS | {"aws:ResourceTag/mlops.metaflow/environment": "staging"}
TO_ECS = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
TO_LAMBDA = {"iam:PassedToService": "lambda.amazonaws.com"}
ADMINISTRATOR = {"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"}
AUTHOR = {"iam:PolicyARN": "arn:aws:iam::123456789012:policy/metaflow-prod-flow-author"}


@pytest.mark.parametrize(
    ("action", "resource", "context", "allowed"),
    [
        ("ec2:CreateVpc", f"arn:aws:ec2:{HERE}:vpc/*", {"aws:RequestedRegion": "eu-west-1"}, True),
        ("ec2:CreateVpc", "arn:aws:ec2:us-east-1:123456789012:vpc/*", {"aws:RequestedRegion": "us-east-1"}, False),
        ("ec2:DeleteVpc", f"arn:aws:ec2:{HERE}:vpc/vpc-1", OURS, True),
        ("ec2:DeleteVpc", f"arn:aws:ec2:{HERE}:vpc/vpc-1", STAGING, False),
        ("ec2:DeleteVpc", f"arn:aws:ec2:{HERE}:vpc/vpc-1", {}, False),
        ("ec2:CreateTags", f"arn:aws:ec2:{HERE}:vpc/vpc-1", {"ec2:CreateAction": "CreateVpc"}, True),
        ("ec2:CreateTags", f"arn:aws:ec2:{HERE}:vpc/vpc-1", {}, False),
        ("ec2:TerminateInstances", f"arn:aws:ec2:{HERE}:instance/i-1", OURS, True),
        ("ec2:TerminateInstances", f"arn:aws:ec2:{HERE}:instance/i-1", STAGING, False),
        ("ec2:RunInstances", f"arn:aws:ec2:{HERE}:instance/*", {}, False),
        ("ec2:DeleteSnapshot", "arn:aws:ec2:eu-west-1::snapshot/snap-1", STAGING, False),
        ("dlm:DeleteLifecyclePolicy", f"arn:aws:dlm:{HERE}:policy/policy-1", STAGING, False),
        ("iam:CreateRole", "arn:aws:iam::123456789012:role/metaflow-prod-batch-job", {}, True),
        ("iam:CreateRole", "arn:aws:iam::123456789012:role/metaflow-staging-batch-job", {}, False),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/metaflow-prod-metadata-execution", TO_ECS, True),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/metaflow-prod-metadata-execution", TO_LAMBDA, False),
        ("iam:AttachRolePolicy", "arn:aws:iam::123456789012:role/metaflow-prod-events", ADMINISTRATOR, False),
        ("iam:AttachRolePolicy", "arn:aws:iam::123456789012:role/metaflow-prod-events", AUTHOR, True),
        ("kms:ScheduleKeyDeletion", f"arn:aws:kms:{HERE}:key/1", OURS, True),
        ("kms:ScheduleKeyDeletion", f"arn:aws:kms:{HERE}:key/1", STAGING, False),
        ("kms:Decrypt", f"arn:aws:kms:{HERE}:key/1", {"kms:ResourceAliases": ["alias/metaflow-prod-secrets"]}, True),
        ("kms:Decrypt", f"arn:aws:kms:{HERE}:key/1", {"kms:ResourceAliases": ["alias/payroll"]}, False),
        ("s3:DeleteBucket", "arn:aws:s3:::metaflow-prod-123456789012-eu-west-1", {}, True),
        ("s3:DeleteBucket", "arn:aws:s3:::payroll", {}, False),
        (
            "secretsmanager:GetSecretValue",
            f"{SECRET}:metaflow-prod/database-AbC123",
            {},
            True,
        ),
        ("secretsmanager:GetSecretValue", f"{SECRET}:payroll-AbC123", {}, False),
        ("ssm:PutParameter", f"arn:aws:ssm:{HERE}:parameter/metaflow/prod/run-lock/7", {}, True),
        ("ssm:PutParameter", f"arn:aws:ssm:{HERE}:parameter/metaflow/staging/run-lock/7", {}, False),
        ("rds:DeleteDBInstance", f"arn:aws:rds:{HERE}:db:metaflow-prod", {}, True),
        ("rds:DeleteDBInstance", f"arn:aws:rds:{HERE}:db:payroll", {}, False),
        ("ecs:UpdateService", f"arn:aws:ecs:{HERE}:service/metaflow-prod/metaflow-prod-metadata", {}, True),
        ("batch:DeleteJobQueue", f"arn:aws:batch:{HERE}:job-queue/metaflow-prod", {}, True),
        ("batch:DeleteJobQueue", f"arn:aws:batch:{HERE}:job-queue/payroll", {}, False),
        ("dynamodb:DeleteTable", f"arn:aws:dynamodb:{HERE}:table/metaflow-prod-step-functions", {}, True),
        ("ecr:DeleteRepository", f"arn:aws:ecr:{HERE}:repository/metaflow-prod/flows", {}, True),
        ("logs:DeleteLogGroup", f"arn:aws:logs:{HERE}:log-group:/metaflow/prod/metadata-service", {}, True),
        ("logs:DeleteLogGroup", f"arn:aws:logs:{HERE}:log-group:/aws/lambda/payroll", {}, False),
        ("states:DeleteStateMachine", f"arn:aws:states:{HERE}:stateMachine:metaflow-prod_TrainFlow", {}, True),
        ("states:DeleteStateMachine", f"arn:aws:states:{HERE}:stateMachine:metaflow-prod-2_TrainFlow", {}, False),
        ("events:PutTargets", f"arn:aws:events:{HERE}:rule/payroll", {}, False),
        ("execute-api:Invoke", f"arn:aws:execute-api:{HERE}:a1b2c3d4e5/api/PATCH/upgrade", {}, True),
        ("execute-api:Invoke", f"arn:aws:execute-api:{HERE}:a1b2c3d4e5/api/GET/flows", {}, False),
    ],
)
def test_the_policy_reaches_the_stack_and_not_its_neighbours(action, resource, context, allowed):
    policy = write_deployer_policy.policy(**write_deployer_policy.EXAMPLE_STACK)
    assert allows([policy], action, resource, context) is allowed
