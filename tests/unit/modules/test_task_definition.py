"""When two ECS task definitions are the same: cases of what a person writes and what AWS shows of it."""

from __future__ import annotations

import copy

import boto3
import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils.task_definition import normal_form, typed

SHAPE = (
    boto3.Session()
    .client("ecs", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    .meta.service_model.operation_model("RegisterTaskDefinition")
    .input_shape
)


def container(**keys):
    return {"containerDefinitions": [{"name": "a", **keys}]}


# What a person declares, and how AWS describes what it made of it.
SAME = [
    ("what AWS fills in", container(), container(cpu=0, essential=True, environment=[], mountPoints=[], volumesFrom=[],
                                                 portMappings=[], systemControls=[])),
    ("order of variables",
     container(environment=[{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]),
     container(environment=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])),
    ("order of secrets",
     container(secrets=[{"name": "B", "valueFrom": "y"}, {"name": "A", "valueFrom": "x"}]),
     container(secrets=[{"name": "A", "valueFrom": "x"}, {"name": "B", "valueFrom": "y"}])),
    ("protocol", container(portMappings=[{"containerPort": 80}]),
     container(portMappings=[{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}])),
    ("host port in awsvpc", {"networkMode": "awsvpc", **container(portMappings=[{"containerPort": 80}])},
     {"networkMode": "awsvpc", **container(portMappings=[{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}])}),
    ("host port in host mode", {"networkMode": "host", **container(portMappings=[{"containerPort": 80}])},
     {"networkMode": "host", **container(portMappings=[{"containerPort": 80, "hostPort": 80}])}),
    ("order of ports, in awsvpc",
     {"networkMode": "awsvpc", **container(portMappings=[{"containerPort": 81}, {"containerPort": 80}])},
     {"networkMode": "awsvpc", **container(portMappings=[{"containerPort": 80, "hostPort": 80},
                                                         {"containerPort": 81, "hostPort": 81}])}),
    ("health check", container(healthCheck={"command": ["CMD", "true"]}),
     container(healthCheck={"command": ["CMD", "true"], "interval": 30, "timeout": 5, "retries": 3, "startPeriod": 0})),
    ("mount", container(mountPoints=[{"sourceVolume": "v", "containerPath": "/v"}]),
     container(mountPoints=[{"sourceVolume": "v", "containerPath": "/v", "readOnly": False}])),
    ("linux parameters", container(linuxParameters={"initProcessEnabled": True}),
     container(linuxParameters={"initProcessEnabled": True, "devices": [], "tmpfs": [], "capabilities": {}})),
    ("log options", container(logConfiguration={"logDriver": "awslogs", "options": {"awslogs-group": "g"}}),
     container(logConfiguration={"logDriver": "awslogs", "options": {"awslogs-group": "g"}, "secretOptions": []})),
    ("network mode", {}, {"networkMode": "bridge", "placementConstraints": [], "volumes": []}),
    ("volume on the host", {"volumes": [{"name": "v"}]}, {"volumes": [{"name": "v", "host": {}}]}),
    ("order of volumes", {"volumes": [{"name": "b"}, {"name": "a"}]}, {"volumes": [{"name": "a"}, {"name": "b"}]}),
    ("EFS", {"volumes": [{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]},
     {"volumes": [{"name": "v", "efsVolumeConfiguration": {
         "fileSystemId": "fs-1", "rootDirectory": "/", "transitEncryption": "DISABLED"}}]}),
    ("compatibilities", {"requiresCompatibilities": ["FARGATE", "EC2"]},
     {"requiresCompatibilities": ["EC2", "FARGATE"]}),
    ("vCPU", {"cpu": "0.5 vCPU"}, {"cpu": "512"}),
    ("vCPU without a zero or a blank", {"cpu": ".25vcpu"}, {"cpu": "256"}),
    ("GB", {"memory": "1 GB"}, {"memory": "1024"}),
    ("GB in part", {"memory": "0.5GB"}, {"memory": "512"}),
    ("fault injection", {}, {"enableFaultInjection": False}),
]  # fmt: skip

DIFFERENT = [
    ("value of a variable", container(environment=[{"name": "A", "value": "1"}]),
     container(environment=[{"name": "A", "value": "2"}])),
    ("empty variable", container(environment=[{"name": "A", "value": ""}]), container()),
    ("variable taken away", container(), container(environment=[{"name": "A", "value": "1"}])),
    ("order of the command", container(command=["a", "b"]), container(command=["b", "a"])),
    ("order of environment files",
     container(environmentFiles=[{"type": "s3", "value": "x"}, {"type": "s3", "value": "y"}]),
     container(environmentFiles=[{"type": "s3", "value": "y"}, {"type": "s3", "value": "x"}])),
    ("not essential", container(essential=False), container(essential=True)),
    ("cpu", container(cpu=1), container(cpu=0)),
    ("no swap is not the default", container(linuxParameters={"maxSwap": 0}), container(linuxParameters={})),
    ("udp", container(portMappings=[{"containerPort": 80, "protocol": "udp"}]),
     container(portMappings=[{"containerPort": 80, "protocol": "tcp"}])),
    ("host port in bridge mode", container(portMappings=[{"containerPort": 80, "hostPort": 80}]),
     container(portMappings=[{"containerPort": 80, "hostPort": 0}])),
    ("restart policy off", container(restartPolicy={"enabled": False}), container(restartPolicy={"enabled": True})),
    ("X86_64 on EC2 is not any", {"runtimePlatform": {"cpuArchitecture": "X86_64"}}, {}),
    ("containers swapped", {"containerDefinitions": [{"name": "a"}, {"name": "b"}]},
     {"containerDefinitions": [{"name": "b"}, {"name": "a"}]}),
    ("memory", {"memory": "1 GB"}, {"memory": "1000"}),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "shown"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_same(declared, shown):
    assert normal_form(declared) == normal_form(shown)


@pytest.mark.parametrize(("one", "other"), [case[1:] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT])
def test_different(one, other):
    assert normal_form(one) != normal_form(other)


@pytest.mark.parametrize("definition", [case[index] for case in SAME + DIFFERENT for index in (1, 2)])
def test_normal_form_is_stable_and_leaves_its_argument(definition):
    before = copy.deepcopy(definition)
    once = normal_form(definition)
    assert normal_form(once) == once
    assert definition == before


def test_what_a_required_key_says_stays():
    """The normal form is what is registered: a required boolean must not be dropped for being false."""
    definition = normal_form(container(restartPolicy={"enabled": False}))
    assert definition["containerDefinitions"][0]["restartPolicy"] == {"enabled": False}


@pytest.mark.parametrize("text", ["lots", "1 TB", "-1", "1.2.3"])
def test_amounts_that_are_none_are_left_for_aws_to_refuse(text):
    assert normal_form({"cpu": text})["cpu"] == text


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (container(environment=[{"name": "PORT", "value": 8080}]), "8080"),
        (container(environment=[{"name": "RATE", "value": 0.5}]), "0.5"),
        (container(environment=[{"name": "ON", "value": True}]), "true"),
    ],
)
def test_values_of_variables_become_text(declared, expected):
    assert typed(declared, SHAPE)["containerDefinitions"][0]["environment"][0]["value"] == expected


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"cpu": "128", "essential": "false"}, {"cpu": 128, "essential": False}),
        ({"portMappings": [{"containerPort": "80"}]}, {"portMappings": [{"containerPort": 80}]}),
        ({"dockerLabels": {"team": 7}}, {"dockerLabels": {"team": "7"}}),
        ({"cpu": "many", "port_mappings": []}, {"cpu": "many", "port_mappings": []}),
        ({"command": None}, {"command": None}),
    ],
)
def test_scalars_get_the_types_of_the_api(declared, expected):
    assert typed(container(**declared), SHAPE) == container(**expected)
