"""The machines of ELK and Evidently: made, mended, replaced with their data, removed.

One stack of the components that they stand on serves all tests of the file, which follow each other.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from emulated_aws import ROOT, Emulator
from stack_runs import Run, Stack, changes_outside_the_lock

pytestmark = pytest.mark.xdist_group("hosts")

FOUNDATION = "network,datastore,identity"
ELK = {
    "name": "elk-1",
    "group": "elk",
    "instance_type": "m6i.large",
    "key_name": "ops",
    "data_volume_size": 200,
    "ingress_cidrs": ["198.51.100.0/24"],
    "backup_count": 7,
}
EVIDENTLY = {
    "name": "ev-1",
    "group": "evidently",
    "instance_type": "t3.large",
    "key_name": "ops",
    "subnet": "public-1",
    "elastic_ip": True,
}
BOTH = {"hosts_list": [ELK, EVIDENTLY], "hosts_ssh_cidrs": ["203.0.113.7/32"]}


class Machines:
    """What EC2 shows of the machines."""

    def __init__(self, account: Emulator) -> None:
        self.account = account
        self.ec2 = account.client("ec2")

    def instance(self, name: str) -> dict[str, Any]:
        filters = [
            {"Name": "tag:Name", "Values": [f"metaflow-local-host-{name}"]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
        (reservation,) = self.ec2.describe_instances(Filters=filters)["Reservations"]
        return reservation["Instances"][0]

    def data(self, name: str) -> dict[str, Any]:
        filters = [{"Name": "tag:Name", "Values": [f"metaflow-local-host-{name}-data"]}]
        (volume,) = self.ec2.describe_volumes(Filters=filters)["Volumes"]
        return volume

    def group(self, name: str) -> dict[str, Any]:
        filters = [{"Name": "group-name", "Values": [f"metaflow-local-{name}"]}]
        (group,) = self.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        return group

    def admitted(self, name: str) -> dict[int | str, list[str]]:
        """Return port (with /udp, if it is) → who is admitted by a security group."""
        admitted: dict[int | str, list[str]] = {}
        for rule in self.group(name)["IpPermissions"]:
            port = f"{rule['FromPort']}/udp" if rule["IpProtocol"] == "udp" else rule["FromPort"]
            admitted[port] = [r["CidrIp"] for r in rule["IpRanges"]] + [g["GroupId"] for g in rule["UserIdGroupPairs"]]
        return admitted


def converge(stack: Stack, *options: str, **variables: Any) -> Run:
    """Converge the hosts alone, and forget what was called before."""
    stack.emulator.request("POST", "/_emulator/calls/reset")
    return stack.run("--tags", "hosts", "--diff", *options, **{**BOTH, **variables})


@pytest.fixture(scope="module")
def checked(stack: Stack, account: Emulator) -> Run:
    """A checked run where there is no machine yet."""
    stack.run("--tags", f"{FOUNDATION},hosts").succeeded()
    run = converge(stack, "--check").succeeded()
    assert account.mutations() == []
    return run


@pytest.fixture(scope="module")
def machines(checked: Run, stack: Stack, account: Emulator) -> Machines:
    """The two machines, converged."""
    assert converge(stack).succeeded().changed == {"hosts"}
    return Machines(account)


def test_without_machines_nothing_is_made_and_one_call_is_read(stack: Stack, checked: Run, account: Emulator) -> None:
    account.request("POST", "/_emulator/calls/reset")
    run = stack.run("--tags", "hosts").succeeded()
    assert "hosts" in run.unchanged
    assert not {"ec2:DescribeInstances", "dlm:GetLifecyclePolicies"} & account.actions()
    names = [role["RoleName"] for role in account.client("iam").list_roles()["Roles"]]
    assert [name for name in names if "-hosts-" in name] == []


def test_check_mode_names_what_it_would_make(checked: Run) -> None:
    assert checked.changed == {"hosts"}
    for name in ("EBS volume metaflow-local-host-elk-1-data", "Lifecycle policy metaflow-local-host-elk-1"):
        assert name in checked.output


def test_a_second_run_changes_nothing_and_reads_all_that_the_tasks_read(machines: Machines, stack: Stack) -> None:
    quick = converge(stack).succeeded()
    assert "hosts" in quick.unchanged and quick.changed == set()
    assert machines.account.mutations() == []
    compared = machines.account.actions()
    run = converge(stack, full=True).succeeded()
    assert run.changed == set(), run.output
    assert changes_outside_the_lock(machines.account) == []
    others = {
        "ec2:DescribeInstanceAttribute",  # stands in DescribeInstances
        "ec2:DescribeSnapshots",  # those that have been taken; the policy takes them
        "ec2:DescribeTags",  # stand in the resources' own descriptions
        "ssm:PutParameter", "ssm:DeleteParameters", "ssm:GetParametersByPath",  # the run lock
    }  # fmt: skip
    assert machines.account.actions() - compared - others == set()


def test_the_machines_are_as_asked_for(machines: Machines) -> None:
    elk, evidently = machines.instance("elk-1"), machines.instance("ev-1")
    assert (elk["InstanceType"], elk["KeyName"]) == ("m6i.large", "ops")
    assert elk["IamInstanceProfile"]["Arn"].endswith(":instance-profile/metaflow-local-hosts-elk")
    for instance in (elk, evidently):
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        volumes = {one["DeviceName"]: one["Ebs"]["VolumeId"] for one in instance["BlockDeviceMappings"]}
        found = machines.ec2.describe_volumes(VolumeIds=list(volumes.values()))["Volumes"]
        assert {(one["Encrypted"], one["VolumeType"]) for one in found} == {(True, "gp3")}
        assert set(volumes) == {"/dev/xvda", "/dev/sdf"}
    assert machines.data("elk-1")["Size"] == 200
    assert "PublicIpAddress" not in elk
    (address,) = machines.ec2.describe_addresses(
        Filters=[{"Name": "tag:Name", "Values": ["metaflow-local-host-ev-1"]}]
    )["Addresses"]
    assert address["InstanceId"] == evidently["InstanceId"]


def test_only_those_who_were_named_reach_the_machines(machines: Machines) -> None:
    office = ["198.51.100.0/24"]
    assert machines.admitted("host-elk-1") == {22: ["203.0.113.7/32"], 9200: office, 5601: office}
    assert machines.admitted("host-ev-1") == {22: ["203.0.113.7/32"]}
    vpc, themselves = ["10.20.0.0/16"], [machines.group("hosts-elk")["GroupId"]]
    assert machines.admitted("hosts-elk") == {9200: vpc, 5044: vpc, 50000: vpc, "50000/udp": vpc, 9300: themselves}
    assert machines.admitted("hosts-evidently") == {5000: vpc}


@pytest.fixture(scope="module")
def with_machines(machines: Machines, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The same stack by an inventory that looks for its machines, as that of an AWS account does."""
    inventory = tmp_path_factory.mktemp("inventory") / "local"
    shutil.copytree(ROOT / "inventories" / "local", inventory, ignore=shutil.ignore_patterns(".state"))
    for name in ("aws_ec2.yml", "group_vars/machines.yml"):
        shutil.copy(ROOT / "inventories" / "prod" / name, inventory / name)
    return Stack(stack.emulator, stack.home, inventory, BOTH)


def ansible(stack: Stack, program: str, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs to its end, with the inventory and the variables of a stack."""
    command = stack.command(**variables)
    given = command[command.index("-e") : command.index("-e") + 2]
    return subprocess.run(
        [sys.executable, "-m", "ansible", program, *options, "-i", str(stack.inventory), *given],
        cwd=ROOT, env=stack.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip


def listed(stack: Stack, **variables: Any) -> tuple[dict[str, Any], str]:
    """Return what ansible-inventory lists, and what it says besides."""
    run = ansible(stack, "inventory", "--list", **variables)
    return json.loads(run.stdout), run.stderr


def test_the_inventory_has_the_machines_in_their_groups(with_machines: Stack, machines: Machines) -> None:
    found, said = listed(with_machines)
    assert (found["elk"]["hosts"], found["evidently"]["hosts"]) == (["elk-1"], ["ev-1"]), said
    assert "hosts" in found["platform"]["hosts"] and "elk-1" not in found["platform"]["hosts"]
    for connection, plugin in (("ssh", "ansible.builtin.ssh"), ("ssm", "amazon.aws.aws_ssm")):
        way = ansible(
            with_machines, "adhoc", "elk", "-m", "ansible.builtin.debug", "-a",
            "msg='{{ ansible_connection }} {{ ansible_host }} {{ ansible_ssh_common_args }} {{ host_data_volume_id }}'",
            hosts_connection=connection,
        ).stdout  # fmt: skip
        elk = machines.instance("elk-1")
        assert f"{plugin} {elk['PrivateIpAddress']} -o StrictHostKeyChecking=yes" in way
        assert f"-o HostKeyAlias={elk['InstanceId']} -o GlobalKnownHostsFile=/dev/null" in " ".join(way.split())
        assert machines.data("elk-1")["VolumeId"] in way


def test_without_machines_or_a_permission_the_inventory_is_what_it_was(with_machines: Stack, account: Emulator) -> None:
    account.request("POST", "/_emulator/calls/reset")
    found, said = listed(with_machines, hosts_list=[])
    assert account.calls() == [] and said == "" and "hosts" not in found.get("elk", {})
    account.request("POST", "/_emulator/faults", {"action": "ec2:DescribeInstances", "kind": "deny", "percent": 100})
    found, said = listed(with_machines)
    account.request("DELETE", "/_emulator/faults")
    assert "EC2 can't be asked for the machines of hosts_list" in said
    assert "hosts" not in found.get("elk", {}) and "network" in found["foundation"]["hosts"]


def test_host_keys_are_learnt_from_ec2_and_kept(with_machines: Stack, machines: Machines) -> None:
    known = with_machines.inventory / ".state" / "known_hosts"
    playbook = "playbooks/known_hosts.yml"
    assert with_machines.run("--check", playbook=playbook).succeeded().changed == {"hosts"}
    assert not known.exists()
    assert with_machines.run(playbook=playbook).succeeded().changed == {"hosts"}
    lines = [line.split() for line in known.read_text().splitlines()]
    assert {line[0] for line in lines} == {machines.instance(name)["InstanceId"] for name in ("elk-1", "ev-1")}
    assert all(kind == "ssh-ed25519" for _, kind, _ in lines)
    assert known.stat().st_mode & 0o777 == 0o600
    machines.account.request("POST", "/_emulator/calls/reset")
    assert with_machines.run(playbook=playbook).succeeded().changed == set()
    assert "ec2:GetConsoleOutput" not in machines.account.actions()


def test_a_machine_that_was_just_made_is_converged_and_one_that_fails_stops_no_component(
    with_machines: Stack, machines: Machines
) -> None:
    """Nobody can sign in to an emulated machine: it is looked for at a port where nothing answers."""
    known = with_machines.inventory / ".state" / "known_hosts"
    known.unlink(missing_ok=True)
    old = machines.instance("ev-1")["InstanceId"]
    machines.ec2.terminate_instances(InstanceIds=[old])
    images = dict.fromkeys(("evidently_postgres_image", "evidently_base_image"), f"debian@sha256:{'0' * 64}")
    nowhere = {"ansible_host": "127.0.0.1", "ansible_port": 9, "host_connection_timeout": 1}
    both = ("--limit", "stack:machines", "--tags", "hosts,evidently")
    run = with_machines.run(*both, **images, **nowhere)
    assert run.failed == {"ev-1"}, run.output
    assert "'ev-1' failed at the task 'Wait until the machine answers':" in run.output
    # It is the new one, whose key SSH knows; the lock was given back, and what was converged is recorded.
    assert machines.instance("ev-1")["InstanceId"] != old
    assert machines.instance("ev-1")["InstanceId"] in known.read_text()
    assert "hosts" in with_machines.run("--tags", "hosts").succeeded().unchanged


def test_a_machine_whose_connection_dies_ends_no_run(with_machines: Stack, machines: Machines, tmp_path: Path) -> None:
    """`ssh` is a program that runs its first command here, and no other: the machine answers, and is lost."""
    ssh, called = tmp_path / "ssh", tmp_path / "called"
    ssh.write_text(
        # With -O it speaks to the connection that is kept, not to the machine.
        '#!/bin/sh\ncase " $* " in *" -O "*) exit 0 ;; esac\n'
        f'[ -e {called} ] && {{ echo "Connection reset by peer" >&2; exit 255; }}\n'
        f'touch {called}\nfor command; do :; done\nexec sh -c "$command"\n'
    )
    ssh.chmod(0o755)
    images = dict.fromkeys(("evidently_postgres_image", "evidently_base_image"), f"debian@sha256:{'0' * 64}")
    here = {"ansible_ssh_executable": str(ssh), "ansible_become": False}
    with_later = ("--limit", "stack:machines", "--tags", "hosts,evidently,chains")
    run = with_machines.run(*with_later, full=True, **images, **here)
    assert "Connection reset by peer" in run.refused(), run.output
    assert run.failed == {"ev-1"} and run.recap["ev-1"]["unreachable"] == 1, run.output
    assert "'ev-1' was lost: it could not be reached any more" in run.refused()
    assert run.recap["chains"]["ok"] > 0
    lock = machines.account.client("ssm").get_parameters_by_path(Path="/metaflow/local/run-lock")
    assert lock["Parameters"] == []


def test_what_somebody_changes_by_hand_is_mended(machines: Machines, stack: Stack) -> None:
    ec2, instance = machines.ec2, machines.instance("elk-1")
    everybody = {"IpProtocol": "tcp", "FromPort": 9200, "ToPort": 9200, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=machines.group("host-elk-1")["GroupId"], IpPermissions=[everybody])
    ec2.detach_volume(VolumeId=machines.data("elk-1")["VolumeId"], InstanceId=instance["InstanceId"])
    ec2.stop_instances(InstanceIds=[machines.instance("ev-1")["InstanceId"]])
    dlm = machines.account.client("dlm")
    (policy,) = dlm.get_lifecycle_policies()["Policies"]
    dlm.update_lifecycle_policy(PolicyId=policy["PolicyId"], State="DISABLED")

    assert converge(stack, "--check").succeeded().changed == {"hosts"}
    assert machines.account.mutations() == []
    assert converge(stack).succeeded().changed == {"hosts"}
    assert machines.admitted("host-elk-1")[9200] == ["198.51.100.0/24"]
    assert machines.data("elk-1")["Attachments"][0]["InstanceId"] == machines.instance("elk-1")["InstanceId"]
    assert machines.instance("ev-1")
    assert dlm.get_lifecycle_policies()["Policies"][0]["State"] == "ENABLED"


def test_a_terminated_machine_is_made_anew_with_its_data(machines: Machines, stack: Stack) -> None:
    before = {
        name: (machines.instance(name)["InstanceId"], machines.data(name)["VolumeId"]) for name in ("elk-1", "ev-1")
    }
    machines.ec2.terminate_instances(InstanceIds=[instance for instance, _ in before.values()])
    assert converge(stack).succeeded().changed == {"hosts"}
    for name, (instance, volume) in before.items():
        new, data = machines.instance(name), machines.data(name)
        assert new["InstanceId"] != instance
        assert (data["VolumeId"], data["Attachments"][0]["InstanceId"]) == (volume, new["InstanceId"])
    assert machines.ec2.describe_addresses()["Addresses"][-1]["InstanceId"] == machines.instance("ev-1")["InstanceId"]
    assert converge(stack, full=True).succeeded().changed == set()


def test_what_cannot_be_is_refused_before_anything_is_changed(machines: Machines, stack: Stack) -> None:
    smaller = [ELK | {"data_volume_size": 100, "subnet": "private-2"}, EVIDENTLY]
    said = converge(stack, hosts_list=smaller).refused()
    assert "puts 'elk-1' into the subnet private-2 in us-east-1b, and its data volume lies in us-east-1a" in said
    said = converge(stack, hosts_list=[ELK | {"data_volume_size": 100}, EVIDENTLY]).refused()
    assert "asks for data_volume_size 100 of 'elk-1', and its data volume has 200 GiB" in said
    wrong = {"name": "elk", "group": "elk", "instance_type": "t3.large", "elastic_ip": True, "backup_count": 1001}
    wrong |= {"root_volume_size": 4, "flow_user": "root"}
    ports = {"elk": [9200, "9200/sctp"], "evidently": [70000]}
    said = converge(stack, hosts_list=[wrong], hosts_ssh_cidrs=[], hosts_ports=ports).refused()
    for reason in (
        "whose names are no names of groups and components",
        "with root_volume_size of 8 and data_volume_size of 1 to 16384 GiB",
        "with backup_count of 0 to 1000",
        'with flow_user of at most 32 lower-case letters, digits, hyphens and underscores, and not "root"',
        "with elastic_ip in public subnets alone",
        "with a key_name each, as SSH asks for one; or hosts_connection: ssm",
        "a map with the ports of elk and evidently, 1 to 65535",
        "at least one IPv4 block, from which SSH is used; or hosts_connection: ssm",
    ):
        assert reason in said, reason
    assert changes_outside_the_lock(machines.account) == []


def test_a_changed_list_changes_the_machines(machines: Machines, stack: Stack) -> None:
    elk, kept = machines.instance("elk-1")["InstanceId"], machines.data("ev-1")["VolumeId"]
    larger = ELK | {"instance_type": "m6i.xlarge", "data_volume_size": "300", "backup_count": 0, "flow_user": "ann"}
    fewer = {"hosts_list": [larger], "hosts_destroy_data": False}
    checked = converge(stack, "--check", **fewer | {"hosts_destroy_data": True})
    assert checked.succeeded().changed == {"hosts"} and "EBS volume" in checked.output
    assert machines.account.mutations() == []
    assert converge(stack, **fewer).succeeded().changed == {"hosts"}
    assert (machines.instance("elk-1")["InstanceId"], machines.instance("elk-1")["InstanceType"]) == (elk, "m6i.xlarge")
    assert machines.data("elk-1")["Size"] == 300
    assert (machines.data("ev-1")["VolumeId"], machines.data("ev-1")["State"]) == (kept, "available")
    assert machines.ec2.describe_addresses(Filters=[{"Name": "tag:Name", "Values": ["*-ev-1"]}])["Addresses"] == []
    assert machines.account.client("dlm").get_lifecycle_policies()["Policies"] == []
    iam = machines.account.client("iam")
    names = [role["RoleName"] for role in iam.list_roles()["Roles"]]
    assert [name for name in names if "-hosts-" in name] == ["metaflow-local-hosts-elk"]
    (attached,) = iam.list_attached_role_policies(RoleName="metaflow-local-hosts-elk")["AttachedPolicies"]
    assert attached["PolicyName"] == "metaflow-local-flow-author", (
        "who runs flows on the machine may do what authors may"
    )
    assert converge(stack, full=True, **fewer).succeeded().changed == set()


def test_data_is_kept_until_somebody_says_otherwise(machines: Machines, stack: Stack) -> None:
    volume = machines.data("elk-1")["VolumeId"]
    snapshot = machines.ec2.create_snapshot(
        VolumeId=volume,
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": machines.data("elk-1")["Tags"]}],
    )["SnapshotId"]
    kept = stack.destroy(confirm="local", hosts_destroy_data=False).succeeded()
    said = " ".join(kept.output.split())
    assert f"volume/{volume}" in said and f"snapshot/{snapshot}" in said and "Kept, because" in said
    assert machines.data("elk-1")["VolumeId"] == volume

    # All of it goes with the default of the environment `local`; the sweep of destroy proves it.
    stack.destroy("--diff", confirm="local").succeeded()
    of_stack = [{"Name": "tag:mlops.metaflow/stack", "Values": ["metaflow"]}]
    assert machines.ec2.describe_volumes(Filters=of_stack)["Volumes"] == []
    assert machines.ec2.describe_snapshots(Filters=of_stack)["Snapshots"] == []
    assert machines.ec2.describe_launch_templates()["LaunchTemplates"] == []
