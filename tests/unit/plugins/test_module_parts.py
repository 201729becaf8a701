# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure parts of the modules that look after a whole stack, and of db_instance, ecr_repository and the flow run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import botocore.exceptions
import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import discovery
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import Failed
from ansible_collections.mlops.metaflow.plugins.modules import (
    db_instance,
    ecr_repository,
    metaflow_flow_run,
    stack_account,
    stack_info,
    stack_lock,
    stack_sweep,
)

NOW = 1_790_000_000
HOST = socket.gethostname()


def lease(**changes):
    """A lease that this very process holds, until ten seconds after NOW."""
    own = {"owner": "ann@laptop", "host": HOST, "pid": os.getpid(), "expires": NOW + 10}
    return {**own, "started": stack_lock.process_started(os.getpid()), **changes}


def test_a_process_is_known_by_its_start_and_an_ended_one_by_none():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = stack_lock.process_started(child.pid)
    assert started == stack_lock.process_started(child.pid) != stack_lock.process_started(os.getpid())
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert stack_lock.process_started(child.pid) is None  # dead, and its parent hasn't asked yet
    child.communicate()
    assert stack_lock.process_started(child.pid) is None


def test_a_new_lease_says_who_holds_it_and_how_long():
    params = {"owner": "ann@laptop", "pid": os.getpid(), "lease_seconds": 10}
    assert stack_lock.new_lease(params, NOW + 0.7) == lease()


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, False),
        ({"expires": NOW}, True),
        ({"pid": 2**22 + 1}, True),  # no such process: the kernel gives none beyond 2^22
        ({"started": "another boot 17"}, True),  # the number was given to another process
        ({"host": "elsewhere", "pid": 2**22 + 1}, False),  # only its expiry tells
        ({"host": "elsewhere", "expires": NOW - 1}, True),
        ({"started": None}, False),  # a machine without /proc
    ],
)
def test_a_holder_is_dead(changes, dead):
    assert stack_lock.is_dead(lease(**changes), NOW) is dead


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, True),
        ({"expires": NOW - 1, "owner": "the same under another name"}, True),
        ({"pid": 1}, False),
        ({"host": "elsewhere"}, False),
        ({"started": "another boot 17"}, False),
    ],
)
def test_a_lease_is_ours(changes, ours):
    assert stack_lock.is_ours(lease(**changes), lease()) is ours


def test_the_message_names_the_holder_the_end_and_the_way_out():
    message = stack_lock.held_message(lease(pid=4711, expires=1_790_000_000))
    assert f"ann@laptop, process 4711 on {HOST}, until 14:13:20 UTC" in message
    assert "playbooks/unlock.yml" in message


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:ec2:eu-west-1:123456789012:vpc/vpc-1", "ec2:vpc"),
        ("arn:aws:s3:::bucket", "s3"),
        ("arn:aws:rds:eu-west-1:123456789012:snapshot:rds:metaflow-2026", "rds:snapshot"),
        ("arn:aws:logs:eu-west-1:123456789012:log-group:/aws/batch/job", "logs:log-group"),
        ("arn:aws:kms:eu-west-1:123456789012:key/1-2", "kms:key"),
        ("arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/net/a/b", "elasticloadbalancing:loadbalancer"),
    ],
)
def test_the_type_of_an_arn(arn, expected):
    assert stack_sweep.resource_type(arn) == expected


@pytest.mark.parametrize(
    ("arn", "component", "kept"),
    [
        ("arn:aws:s3:::bucket", "datastore", True),
        ("arn:aws:s3:::bucket", "registry", False),
        ("arn:aws:kms:eu-west-1:1:key/1", "datastore", True),
        ("arn:aws:ec2:eu-west-1:1:vpc/vpc-1", "datastore", False),
        ("arn:aws:s3:::bucket", None, False),
    ],
)
def test_what_is_meant_to_be_kept(arn, component, kept):
    keep = [{"component": "datastore", "types": ["s3", "kms:key"]}]
    assert stack_sweep.is_kept(arn, {discovery.TAG_COMPONENT: component}, keep) is kept


class Says:
    """A boto3 client whose every call gives one answer, or raises it."""

    def __init__(self, answer):
        self.answer = answer

    def __getattr__(self, name):
        def call(**arguments):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return call


def refusal(code):
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": ""}}, "Describe")


GONE = [
    ("arn:aws:ec2:e:1:natgateway/nat-1", {"NatGateways": [{"State": "deleted"}]}, True),
    ("arn:aws:ec2:e:1:natgateway/nat-1", {"NatGateways": [{"State": "available"}]}, False),
    ("arn:aws:ec2:e:1:natgateway/nat-1", refusal("NatGatewayNotFound"), True),
    ("arn:aws:ec2:e:1:vpc-endpoint/vpce-1", {"VpcEndpoints": [{"State": "Deleting"}]}, True),
    ("arn:aws:ec2:e:1:instance/i-1", {"Reservations": [{"Instances": [{"State": {"Name": "terminated"}}]}]}, True),
    ("arn:aws:ec2:e:1:instance/i-1", {"Reservations": [{"Instances": [{"State": {"Name": "stopped"}}]}]}, False),
    ("arn:aws:kms:e:1:key/1", {"KeyMetadata": {"KeyState": "PendingDeletion"}}, True),
    ("arn:aws:kms:e:1:key/1", {"KeyMetadata": {"KeyState": "Enabled"}}, False),
    ("arn:aws:secretsmanager:e:1:secret:a", {"DeletedDate": "yesterday"}, True),
    ("arn:aws:secretsmanager:e:1:secret:a", {}, False),
    ("arn:aws:ecs:e:1:cluster/c", {"clusters": [{"status": "INACTIVE"}]}, True),
    ("arn:aws:ecs:e:1:cluster/c", {"clusters": [{"status": "ACTIVE"}]}, False),
    ("arn:aws:ecs:e:1:service/c/s", {"services": [{"status": "DRAINING"}]}, False),
    ("arn:aws:ecs:e:1:service/c/s", refusal("ClusterNotFoundException"), True),
    ("arn:aws:ecs:e:1:task/c/t", {"tasks": [{"lastStatus": "STOPPED"}]}, True),
    ("arn:aws:ecs:e:1:task-definition/f:1", {"taskDefinition": {"status": "INACTIVE"}}, True),
    ("arn:aws:ecs:e:1:task-definition/f:1", {"taskDefinition": {"status": "ACTIVE"}}, False),
    ("arn:aws:batch:e:1:job-queue/q", {"jobQueues": [{"status": "DELETED"}]}, True),
    ("arn:aws:batch:e:1:compute-environment/c", {"computeEnvironments": [{"status": "VALID"}]}, False),
    ("arn:aws:s3:::bucket", {}, False),  # nothing to ask: what the tagging API lists is there
]


@pytest.mark.parametrize(("arn", "answer", "gone"), GONE)
def test_what_aws_still_shows_of_deleted_resources_is_gone(arn, answer, gone):
    assert stack_sweep.is_gone(lambda service: Says(answer), arn) is gone


def test_a_refusal_to_describe_is_no_proof_that_it_is_gone():
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        stack_sweep.is_gone(lambda service: Says(refusal("AccessDenied")), "arn:aws:kms:e:1:key/1")


@pytest.fixture
def looks(monkeypatch):
    """Return ``looks(*answers)``: what each look of a sweep finds; it gives the list of the pauses between them."""

    def looks(*answers):
        clock, pauses, remaining = [0], [], list(answers)

        def sleep(seconds):
            pauses.append(seconds)
            clock[0] += seconds

        monkeypatch.setattr(stack_sweep, "living", lambda scope, prefix: remaining.pop(0))
        monkeypatch.setattr(stack_sweep, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0]))
        return pauses

    return looks


def test_a_sweep_looks_again_until_nothing_is_left(looks):
    bucket, keep = "arn:aws:s3:::b", [{"component": "datastore", "types": ["s3"]}]
    ours = {bucket: {discovery.TAG_COMPONENT: "datastore"}}
    pauses = looks(ours | {"arn:aws:ec2:e:1:vpc/vpc-1": {}}, ours)
    assert stack_sweep.sweep(None, "p", keep, 120) == ([], [bucket])
    assert pauses == [stack_sweep.PAUSE]


def test_a_sweep_ends_with_what_is_left_when_its_time_is_up(looks):
    pauses = looks(*[{"arn:aws:ec2:e:1:vpc/vpc-1": {}}] * 3)
    assert stack_sweep.sweep(None, "p", [], 20) == (["arn:aws:ec2:e:1:vpc/vpc-1"], [])
    assert pauses == [stack_sweep.PAUSE] * 2


def test_a_sweep_without_patience_looks_once(looks):
    pauses = looks({"arn:aws:ec2:e:1:vpc/vpc-1": {}})
    assert stack_sweep.sweep(None, "p", [], 0)[0] and pauses == []


def test_what_is_required_and_not_there():
    found = {"vpc": {"a": {}}, "subnet": {}}
    assert stack_info.missing(found, {"vpc": ["a", "b"], "subnet": ["c"]}) == [("vpc", "b"), ("subnet", "c")]


def test_each_kind_is_read_with_its_names(monkeypatch):
    readers = {"vpc": lambda scope, names: dict.fromkeys(names, scope), "subnet": lambda scope, names: {}}
    monkeypatch.setattr(discovery, "READERS", readers)
    assert stack_info.read_all("scope", {"vpc": ["a"], "subnet": []}) == {"vpc": {"a": "scope"}, "subnet": {}}


@pytest.mark.parametrize("kind", sorted(discovery.READERS))
def test_check_mode_predicts_each_kind_with_what_roles_read_of_it(kind):
    predicted = discovery.predicted(kind, "name", "eu-west-1", "123456789012")
    assert predicted["predicted"] and predicted["id"] and predicted["status"] == "predicted"
    needed = {
        "vpc": {"cidr_block"},
        "subnet": {"cidr_block", "availability_zone", "vpc_id"},
        "load_balancer": {"arn", "dns_name"},
        "target_group": {"arn"},
        "db_instance": {"address", "port"},
        "kms_key": {"arn"},
        "secret": {"arn"},
    }
    assert needed.get(kind, set()) <= predicted.keys()


DESCRIBED = {
    "EngineVersion": "17.4",
    "AllocatedStorage": 50,
    "Endpoint": {"Address": "db.example", "Port": 5432},
    "DBSubnetGroup": {"DBSubnetGroupName": "subnets"},
    "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-1", "Status": "active"}],
    "DBParameterGroups": [{"DBParameterGroupName": "parameters"}],
    "TagList": [{"Key": "a", "Value": "b"}],
    "PendingModifiedValues": {"AllocatedStorage": 60, "MasterUserPassword": "****"},
    "DeletionProtection": True,
}


def test_an_instance_is_compared_under_the_names_of_its_declaration():
    flat = db_instance.flattened(DESCRIBED)
    assert (flat["Port"], flat["DBSubnetGroupName"], flat["VpcSecurityGroupIds"]) == (5432, "subnets", ["sg-1"])
    assert (flat["DBParameterGroupName"], flat["tags"]) == ("parameters", {"a": "b"})
    assert flat["AllocatedStorage"] == 60  # accepted by RDS and under way
    assert "MasterUserPassword" not in flat


def test_an_instance_without_an_endpoint_yet_has_no_port():
    assert db_instance.flattened({"EngineVersion": "17.4"})["Port"] is None


@pytest.mark.parametrize(
    ("declared", "live", "covers"),
    [("17", "17.4", True), ("17.4", "17.4", True), ("17.4", "17.5", False), ("1", "17.4", False), ("17", "17", True)],
)
def test_a_major_version_covers_its_minor_ones(declared, live, covers):
    assert db_instance.version_covers(declared, live) is covers


def instance(**params):
    """An Instance without a module around it."""
    made = object.__new__(db_instance.Instance)
    made.params = {"deletion_protection": None, "allow_major_version_upgrade": False, **params}
    return made


def test_grown_storage_and_applied_minor_versions_are_no_difference():
    desired = {"EngineVersion": "17", "AllocatedStorage": 20, "Port": 5432}
    refined = instance().refine(desired, db_instance.flattened(DESCRIBED))
    assert refined == {"EngineVersion": "17.4", "AllocatedStorage": 60, "Port": 5432}
    assert instance().refine(desired, None) == desired


@pytest.mark.parametrize(
    ("params", "desired", "changes", "message"),
    [
        ({}, None, {}, "deletion protection is on"),
        ({"deletion_protection": True}, None, {}, "deletion protection is on"),
        ({}, {}, {"KmsKeyId": "k", "DBName": "n"}, "can't change KmsKeyId, DBName"),
        ({}, {}, {"EngineVersion": "18"}, "The step to 18 can't be undone"),
        ({"allow_major_version_upgrade": True}, {}, {"EngineVersion": "16"}, "can't go back to 16"),
    ],
)
def test_what_rds_or_prudence_refuses(params, desired, changes, message):
    with pytest.raises(Failed, match=message):
        instance(**params).refuse(db_instance.flattened(DESCRIBED), desired, changes)


@pytest.mark.parametrize(
    ("params", "desired", "changes"),
    [
        ({"deletion_protection": False}, None, {}),
        ({"allow_major_version_upgrade": True}, {}, {"EngineVersion": "18"}),
        ({}, {}, {"EngineVersion": "17.5"}),
        ({}, {}, {"MultiAZ": True}),
    ],
)
def test_what_may_be_done(params, desired, changes):
    instance(**params).refuse(db_instance.flattened(DESCRIBED), desired, changes)


def test_a_change_is_made_at_once_and_under_the_names_of_the_modifying_call():
    called = {}
    changed = instance(name="metaflow")
    changed.client = SimpleNamespace(modify_db_instance=lambda **arguments: called.update(arguments))
    changed.update({}, {}, {"Port": 5433, "EngineVersion": "18"})
    assert called == {
        "DBInstanceIdentifier": "metaflow",
        "ApplyImmediately": True,
        "DBPortNumber": 5433,
        "EngineVersion": "18",
        "AllowMajorVersionUpgrade": False,
    }


@pytest.mark.parametrize(("status", "pending", "settled"), [("available", {}, True), ("modifying", {}, False)])
def test_an_instance_is_settled_when_nothing_is_pending(status, pending, settled):
    live = {"DBInstanceStatus": status, "PendingModifiedValues": pending}
    assert instance().settled(live) is settled
    assert instance().settled({**live, "PendingModifiedValues": {"MultiAZ": True}}) is False


@pytest.mark.parametrize("status", db_instance.BROKEN)
def test_waiting_ends_where_rds_does_not_come_out_of_it(status):
    with pytest.raises(Failed, match=status):
        instance().settled({"DBInstanceStatus": status})


def test_encryption_of_a_repository_is_for_ever():
    repository = object.__new__(ecr_repository.Repository)
    with pytest.raises(Failed, match="can't change the encryption"):
        repository.refuse({}, {"name": "flows"}, {"encryptionConfiguration": {"encryptionType": "KMS"}})
    repository.refuse({}, {"name": "flows"}, {"imageTagMutability": "MUTABLE"})
    repository.refuse({}, None, {})


class Stopped(Exception):
    """The module has failed."""


def region(name):
    def fail_json(msg):
        raise Stopped(msg)

    return SimpleNamespace(region=name, fail_json=fail_json)


@pytest.mark.parametrize("name", ["eu-west-1", "us-gov-west-1", "cn-north-1"])
def test_regions_of_all_partitions_are_known(name):
    stack_account.check_region(region(name))


def test_a_region_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(Stopped, match=r"^stack_region 'eu-west-9' is no AWS region .* eu-west-1, eu-west-2"):
        stack_account.check_region(region("eu-west-9"))


def test_a_flow_is_known_by_its_text(tmp_path):
    flow = tmp_path / "flow.py"
    flow.write_text("a")
    first = metaflow_flow_run.digest(flow)
    flow.write_text("b")
    assert first.startswith("source:") and len(first) == len("source:") + 16
    assert metaflow_flow_run.digest(flow) != first


def test_a_run_sees_one_profile_and_nothing_else_of_the_configuration(monkeypatch):
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "local")
    monkeypatch.setenv("METAFLOW_PROFILE", "mine")
    monkeypatch.setenv("OTHER", "kept")
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    made = metaflow_flow_run.environment("/home/ann/.metaflowconfig", "prod")
    assert {name: value for name, value in made.items() if name.startswith("METAFLOW_")} == {
        "METAFLOW_HOME": "/home/ann/.metaflowconfig",
        "METAFLOW_USER": "ann",
        "METAFLOW_PROFILE": "prod",
    }
    assert made["OTHER"] == "kept"
    assert "METAFLOW_PROFILE" not in metaflow_flow_run.environment("/home/ann/.metaflowconfig", None)


def test_root_runs_flows_under_another_name_because_metaflow_refuses_root(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    assert metaflow_flow_run.environment("/root/.metaflowconfig", None)["METAFLOW_USER"] == "ansible"


def test_the_command_of_a_flow():
    params = {"flow": "/f.py", "parameters": {"n": 3, "name": "a b"}, "run_options": ["--max-workers=2"]}
    assert metaflow_flow_run.command(params, "/bin/python", "source:1") == [
        "/bin/python", "/f.py", "--no-pylint", "run", "--tag=source:1", "--max-workers=2", "--n=3", "--name=a b",
    ]  # fmt: skip
