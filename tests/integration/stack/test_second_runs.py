"""Runs on the complete stack: nothing to do, one component alone, and what somebody has changed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from account_dump import Account
from stack_runs import COMPONENTS, Complete, Stack, changes_outside_the_lock

pytestmark = pytest.mark.xdist_group("complete-stack")


def forget_calls(complete: Complete) -> None:
    complete.stack.emulator.request("POST", "/_emulator/calls/reset")


def test_the_recap_has_a_line_for_each_component(complete: Complete) -> None:
    assert sorted(complete.run.recap) == sorted(COMPONENTS)
    assert complete.run.changed == set(COMPONENTS) - {"hosts"}  # there is no machine by default


def test_a_second_run_goes_through_no_tasks_and_makes_no_changing_call(complete: Complete) -> None:
    complete.stack.run().succeeded()  # another person's machine may have been the last that converged the client
    before = complete.account.dump()
    forget_calls(complete)
    run = complete.stack.run().succeeded()
    assert run.changed == set(), run.output
    assert run.unchanged == set(COMPONENTS)
    assert "The stack metaflow-local stands in us-east-1" in run.output
    assert complete.stack.emulator.mutations() == []
    assert json.dumps(complete.account.dump()) == json.dumps(before)


#: What the tasks read and the comparison with the record need not: call → why.
NOT_COMPARED = {
    "sts:GetCallerIdentity": "who runs it",
    "ec2:DescribeAvailabilityZones": "the region's",
    "ec2:DescribeTags": "stands in the resources' own descriptions",
    "ssm:GetParametersByPath": "the run lock",
    "iam:ListPolicies": "how a stock module finds the policy that is read",
    "iam:ListPolicyVersions": "the default version is read",
    "dlm:GetLifecyclePolicies": "no launch template, no machine; test_hosts.py has some",
    "ec2:DescribeInstances": "the same",
    "ec2:DescribeSnapshots": "the same",
    "ec2:DescribeVolumes": "the same",
    "apigateway:GetStage": "stands in GetStages",
    "apigateway:GetDeployment": "can't be changed; the stage names it",
    "apigateway:GetApiKey": "the key's value, for the client's configuration",
    "ecr:DescribeImageScanFindings": "what is known of an image, which no role sets",
    "stepfunctions:ListExecutions": "executions that run, which keep what they may start",
    "ec2:DescribeInstanceTypes": "what fits on a machine; EC2's own",
    "events:DescribeRule": "stands in ListRules",
    "secretsmanager:GetSecretValue": "another value is another version, and those are read",
    "secretsmanager:GetResourcePolicy": "no role writes policies of secrets",
    "s3:HeadBucket": "whether the bucket is there, as the other calls tell",
    "s3:ListObjectsV2": "Metaflow looks at its datastore",
}


def test_the_comparison_reads_all_that_the_tasks_read(complete: Complete) -> None:
    """An attribute that a role sets and the comparison doesn't read would drift unseen."""
    forget_calls(complete)
    complete.stack.run(playbook="playbooks/drift.yml").succeeded()
    compared = complete.stack.emulator.actions()
    forget_calls(complete)
    run = complete.stack.run(full=True).succeeded()
    assert run.changed == set(), run.output
    assert changes_outside_the_lock(complete.stack.emulator) == []
    read = complete.stack.emulator.actions()
    assert {"ec2:DescribeSubnets", "rds:DescribeDBInstances", "batch:DescribeJobQueues"} <= read & compared
    changes = {"ssm:PutParameter", "ssm:DeleteParameters"}
    assert read - compared - changes - set(NOT_COMPARED) == set()
    assert set(NOT_COMPARED) <= read  # nothing in the table is out of date


def test_check_mode_finds_no_change_and_makes_no_changing_call(complete: Complete) -> None:
    before = complete.account.dump()
    forget_calls(complete)
    run = complete.stack.run("--check", "--diff", full=True).succeeded()
    assert run.changed == set(), run.output
    assert complete.stack.emulator.mutations() == []
    assert json.dumps(complete.account.dump()) == json.dumps(before)


# A tag and a limit choose by different means, so both are used, each for every other component.
@pytest.mark.parametrize(
    ("component", "option"),
    [(component, ("--tags", "--limit")[number % 2]) for number, component in enumerate(COMPONENTS)],
)
def test_one_component_converges_alone(complete: Complete, component: str, option: str) -> None:
    forget_calls(complete)
    run = complete.stack.run(option, component, full=True).succeeded()
    # The tasks that all components share run on the first host of the inventory.
    busy = {host for host, counts in run.recap.items() if counts["ok"] and host != COMPONENTS[0]}
    assert busy == {component} - {COMPONENTS[0]}
    assert run.recap[component]["ok"] >= 3
    assert run.changed == set(), run.output
    assert changes_outside_the_lock(complete.stack.emulator) == []


def test_skipped_components_are_left_out(complete: Complete) -> None:
    skipped = set(COMPONENTS) - {"registry", "step_functions"}
    run = complete.stack.run("--skip-tags", ",".join(skipped)).succeeded()
    assert run.unchanged == {"registry", "step_functions"}


def test_a_tag_that_names_no_component_is_refused(complete: Complete) -> None:
    forget_calls(complete)
    message = complete.stack.run("--tags", "batch,notebok").refused()
    assert "--tags notebok names no component; they are network, " in message
    assert complete.stack.emulator.mutations() == []


#: What the differences name after all changes by hand below.
DRIFTED = (
    "describe_route_tables.RouteTables[metaflow-local-private-1].Routes",
    "describe_subnets.Subnets[metaflow-local-public-2]",
    "get_bucket_versioning Bucket=", "get_key_rotation_status", "get_role_policy RoleName=metaflow-local-batch-job",
    "imageTagMutability", "SecurityGroups[metaflow-local-database].IpPermissions", "BackupRetentionPeriod",
    "jobQueues[metaflow-local].priority", "throttle.rateLimit", "retentionInDays", "describe_task_definition",
    "describe_images", ".metaflowconfig/config_local.json",
)  # fmt: skip

#: The state machine of the flow that the complete stack has.
HELLO = "arn:aws:states:us-east-1:123456789012:stateMachine:metaflow-local_HelloFlow"

# What somebody changes by hand: component → a function of the account, its stack that changes one attribute or more.
DRIFT: dict[str, list[Callable[[Account, Stack], Any]]] = {}


def drift(component: str) -> Callable[[Callable[[Account, Stack], Any]], Callable[[Account, Stack], Any]]:
    """Register a change by hand to a component."""

    def register(change: Callable[[Account, Stack], Any]) -> Callable[[Account, Stack], Any]:
        DRIFT.setdefault(component, []).append(change)
        return change

    return register


def named(account: Account, operation: str, key: str, name: str) -> dict[str, Any]:
    """Return the resource of EC2 that has a name."""
    (found,) = account.items("ec2", operation, key, Filters=[{"Name": "tag:Name", "Values": [name]}])
    return found


@drift("network")
def delete_the_way_out(account: Account, stack: Stack) -> None:
    table = named(account, "describe_route_tables", "RouteTables", "metaflow-local-private-1")
    account.client("ec2").delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")


@drift("network")
def delete_a_subnets_tag(account: Account, stack: Stack) -> None:
    subnet = named(account, "describe_subnets", "Subnets", "metaflow-local-public-2")
    account.client("ec2").delete_tags(Resources=[subnet["SubnetId"]], Tags=[{"Key": "mlops.metaflow/component"}])


@drift("datastore")
def suspend_versioning(account: Account, stack: Stack) -> None:
    (bucket,) = account.items("s3", "list_buckets", "Buckets")
    account.client("s3").put_bucket_versioning(Bucket=bucket["Name"], VersioningConfiguration={"Status": "Suspended"})


@drift("datastore")
def stop_rotation(account: Account, stack: Stack) -> None:
    account.client("kms").disable_key_rotation(
        KeyId=account.client("kms").describe_key(KeyId="alias/metaflow-local-datastore")["KeyMetadata"]["KeyId"]
    )


@drift("identity")
def widen_a_role(account: Account, stack: Stack) -> None:
    name = "metaflow-local-batch-job"
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    account.client("iam").put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=json.dumps(document))


@drift("secrets")
def replace_a_value(account: Account, stack: Stack) -> None:
    account.client("secretsmanager").put_secret_value(
        SecretId="metaflow-local/flows/CANARY", SecretString='{"CANARY": "by hand"}'
    )


@drift("registry")
def let_tags_be_overwritten(account: Account, stack: Stack) -> None:
    account.client("ecr").put_image_tag_mutability(repositoryName="metaflow-local/flows", imageTagMutability="MUTABLE")


@drift("database")
def open_the_database(account: Account, stack: Stack) -> None:
    group = named(account, "describe_security_groups", "SecurityGroups", "metaflow-local-database")
    everybody = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    account.client("ec2").authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[everybody])


@drift("database")
def keep_backups_for_a_day(account: Account, stack: Stack) -> None:
    account.client("rds").modify_db_instance(
        DBInstanceIdentifier="metaflow-local", BackupRetentionPeriod=1, ApplyImmediately=True
    )


@drift("batch")
def let_a_queue_go_first(account: Account, stack: Stack) -> None:
    account.client("batch").update_job_queue(jobQueue="metaflow-local", priority=99)


@drift("api")
def throttle_the_clients(account: Account, stack: Stack) -> None:
    (plan,) = account.items("apigateway", "get_usage_plans", "items")
    account.client("apigateway").update_usage_plan(
        usagePlanId=plan["id"], patchOperations=[{"op": "replace", "path": "/throttle/rateLimit", "value": "1"}]
    )


@drift("step_functions")
def keep_logs_for_a_day(account: Account, stack: Stack) -> None:
    account.client("logs").put_retention_policy(logGroupName="/aws/vendedlogs/states/metaflow-local", retentionInDays=1)


@drift("flow_image")
def take_the_image_out_of_use(account: Account, stack: Stack) -> None:
    account.client("ecr").batch_delete_image(repositoryName="metaflow-local/flows", imageIds=[{"imageTag": "current"}])


@drift("metadata_service")
def deregister_the_task_definition(account: Account, stack: Stack) -> None:
    (arn,) = account.items("ecs", "list_task_definitions", "taskDefinitionArns")
    account.client("ecs").deregister_task_definition(taskDefinition=arn)


@drift("client_config")
def send_jobs_elsewhere(account: Account, stack: Stack) -> None:
    path = stack.home / ".metaflowconfig" / "config_local.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "METAFLOW_BATCH_JOB_QUEUE": "elsewhere"}))


@drift("flows")
def stop_the_schedule(account: Account, stack: Stack) -> None:
    account.client("events").disable_rule(Name="metaflow-local_HelloFlow")


@drift("flows")
def end_a_step_early(account: Account, stack: Stack) -> None:
    client = account.client("stepfunctions")
    machine = client.describe_state_machine(stateMachineArn=HELLO)
    definition = json.loads(machine["definition"])
    definition["States"]["start"]["Parameters"]["Timeout"]["AttemptDurationSeconds"] = 60
    client.update_state_machine(stateMachineArn=HELLO, definition=json.dumps(definition))


@drift("chains")
def run_a_chain_at_noon(account: Account, stack: Stack) -> None:
    account.client("events").put_rule(Name="metaflow-local-chain-nightly", ScheduleExpression="cron(0 12 * * ? 2099)")


def test_what_was_changed_by_hand_is_named_and_mended(complete: Complete) -> None:
    for changes in DRIFT.values():
        for change in changes:
            change(complete.account, complete.stack)
    drifted = complete.account.dump()
    forget_calls(complete)

    found = complete.stack.home / "drift.json"
    said = complete.stack.run(playbook="playbooks/drift.yml", drift_file=str(found), drift_fail=True).refused()
    assert f"{', '.join(sorted(DRIFT))} differs from the last converge" in said
    differing = [(difference["component"], difference["path"]) for difference in json.loads(found.read_text())]
    for attribute in DRIFTED:
        assert [path for _, path in differing if attribute in path], attribute
    checked = complete.stack.run("--check", "--diff").succeeded()
    assert checked.changed == set(DRIFT)
    assert complete.stack.emulator.mutations() == []
    assert json.dumps(complete.account.dump()) == json.dumps(drifted)

    mended = complete.stack.run("--diff").succeeded()
    assert mended.changed == set(DRIFT)

    # What it was before, but for the revision of the task definition that takes the deregistered one's place.
    again = complete.stack.run(full=True).succeeded()
    assert again.changed == set(), again.output


def test_after_a_repair_the_other_waves_are_left_alone(complete: Complete) -> None:
    """Network is in the first wave; as soon as it is mended, all others equal their last converge again."""
    complete.stack.run().succeeded()
    delete_the_way_out(complete.account, complete.stack)
    repaired = complete.stack.run().succeeded()
    assert repaired.changed == {"network"}
    assert repaired.unchanged == set(COMPONENTS) - {"network"}
    nothing = complete.stack.run(playbook="playbooks/drift.yml").succeeded()
    assert "Nothing differs from the last converge: api, batch, " in nothing.output
