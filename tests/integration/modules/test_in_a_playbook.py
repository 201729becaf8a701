"""What Ansible adds to the modules' own tests: FQCN, doc fragments, action group, AnsiballZ, check mode and --diff."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PLAY = [
    {
        "name": "Compute",
        "hosts": "localhost",
        "gather_facts": False,
        # Reaches the modules only if the action group of meta/runtime.yml does.
        "module_defaults": {"group/mlops.metaflow.aws": {"region": "eu-central-1"}},
        "tasks": [
            {
                "name": "Ensure a compute environment",
                "mlops.metaflow.batch_compute_environment": {
                    "name": "fargate",
                    "compute_resources": {
                        "type": "FARGATE",
                        "maxv_cpus": 4,
                        "subnets": "{{ subnets }}",
                        "security_group_ids": "{{ groups_of_the_tasks }}",
                    },
                },
            },
            {
                "name": "Ensure a queue",
                "mlops.metaflow.batch_job_queue": {"name": "flows", "priority": 1, "compute_environments": ["fargate"]},
            },
            {
                "name": "Ensure a task definition",
                "mlops.metaflow.ecs_task_definition": {
                    "family": "metadata",
                    "container_definitions": [
                        {
                            "name": "service",
                            "image": "metadata",
                            "memory": "{{ 512 }}",
                            "environment": "{{ variables }}",
                        }
                    ],
                },
            },
            {
                "name": "Ensure a cluster",
                "mlops.metaflow.ecs_cluster": {"name": "flows", "capacity_providers": ["FARGATE"]},
            },
            {
                "name": "Ensure a service",
                "mlops.metaflow.ecs_service": {
                    "name": "metadata",
                    "cluster": "flows",
                    "task_definition": "metadata",
                    "desired_count": "{{ 0 }}",
                    "launch_type": "EC2",
                },
            },
        ],
    }
]


@pytest.fixture
def play(aws_environment, tmp_path):
    """Return ``play(*options)``, which runs PLAY on the account and returns its recap and its output."""
    emulator = aws_environment
    emulator.reset()
    ec2 = emulator.client("ec2", region="eu-central-1")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="tasks", Description="tasks", VpcId=vpc)["GroupId"]
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps(PLAY))
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "subnets": [subnet],
        "groups_of_the_tasks": [group],
        "variables": [{"name": "PORT", "value": 8080}],
    }
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
        counts = dict(item.split("=") for item in recap.split(":")[1].split())
        return int(counts["changed"]), done.stdout

    return run


def test_check_and_run(play, emulator):
    before = emulator.mutations()
    changed, output = play("--check", "--diff")
    assert changed == 5
    shown = {" ".join(line.split()) for line in output.splitlines()}
    assert {"+ computeEnvironmentName: fargate", "+ jobQueueName: flows", "+ value: '8080'"} <= shown, output
    assert {"+ clusterName: flows", "+ serviceName: metadata", "+ desiredCount: 0"} <= shown, output
    assert emulator.mutations() == before

    assert play()[0] == 5
    batch, ecs = (emulator.client(service, region="eu-central-1") for service in ("batch", "ecs"))
    (queue,) = batch.describe_job_queues(jobQueues=["flows"])["jobQueues"]
    assert queue["jobQueueArn"] == "arn:aws:batch:eu-central-1:123456789012:job-queue/flows"
    registered = ecs.describe_task_definition(taskDefinition="metadata")["taskDefinition"]
    assert registered["containerDefinitions"][0]["memory"] == 512
    (service,) = ecs.describe_services(cluster="flows", services=["metadata"])["services"]
    assert service["taskDefinition"] == registered["taskDefinitionArn"]
