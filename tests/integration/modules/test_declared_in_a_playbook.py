# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bucket, load balancer, address and table in a real play: check mode on the empty account, then the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
REGION = "eu-central-1"
OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}

TASKS = [
    {
        "mlops.metaflow.s3_bucket": {
            "name": "metaflow-staging-data",
            "noncurrent_version_days": "{{ 30 }}",
            "tags": OURS,
        }
    },
    {
        "mlops.metaflow.network_load_balancer": {
            "name": "metaflow-staging",
            # In check mode on an empty account, the ids come from tasks that have made nothing yet.
            "subnets": "{{ ['subnet-predicted'] if ansible_check_mode else subnets }}",
            "target_groups": [{"name": "api", "port": "{{ 8080 }}", "vpc_id": "{{ vpc }}"}],
            "listeners": [{"port": "{{ 80 }}", "target_group": "api"}],
            "tags": OURS,
        },
        "register": "made",
    },
    {
        "ansible.builtin.assert": {
            "that": [
                "':eu-central-1:123456789012:loadbalancer/net/metaflow-staging/' in made.load_balancer.arn",
                "made.load_balancer.target_groups.api is match('arn:')",
            ]
        }
    },
    {"mlops.metaflow.ec2_address": {"name": "metaflow-staging-nat-1", "tags": OURS}},
    {"mlops.metaflow.dynamodb_table": {"name": "metaflow-staging", "hash_key": "pathspec", "tags": OURS}},
]


@pytest.fixture
def play(aws_environment, tmp_path):
    """Return ``play(*options)``, which runs the tasks on the empty account and returns its recap and its output."""
    emulator = aws_environment
    emulator.reset()
    ec2 = emulator.client("ec2", region=REGION)
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
    emulator.request("POST", "/_emulator/calls/reset")
    # Reaches the modules only if the action group of meta/runtime.yml does.
    defaults = {"group/mlops.metaflow.aws": {"region": REGION}}
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "vpc": vpc,
        "subnets": [subnet],
    }
    playbook = tmp_path / "play.json"
    play = {"hosts": "localhost", "gather_facts": False, "module_defaults": defaults, "tasks": TASKS}
    playbook.write_text(json.dumps([play]))
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {"localhost": host}}}))
    command = [Path(sys.executable).with_name("ansible-playbook"), playbook, "-i", inventory]

    def run(*options):
        done = subprocess.run(
            [*command, *options],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (recap,) = [line for line in done.stdout.splitlines() if line.startswith("localhost ")]
        return dict(item.split("=") for item in recap.split(":")[1].split()), done.stdout

    return run


def test_check_and_run(play, emulator):
    recap, output = play("--check", "--diff")
    assert (recap["changed"], recap["skipped"]) == ("4", "0")
    shown = {" ".join(line.split()) for line in output.splitlines()}
    assert {"+ BlockPublicAcls: true", "+ TargetGroup: api", "+ Domain: vpc", "+ Name: pathspec"} <= shown, output
    assert emulator.mutations() == []

    assert play()[0]["changed"] == "4"
    assert emulator.client("ec2", region=REGION).describe_addresses()["Addresses"]
    assert emulator.client("dynamodb", region=REGION).list_tables()["TableNames"] == ["metaflow-staging"]
