"""ecs_task_definition against the emulated account."""

from __future__ import annotations

import copy

import pytest

MODULE = "mlops.metaflow.ecs_task_definition"
ARN = "arn:aws:ecs:us-east-1:123456789012:task-definition/metadata:"
EXECUTION_ROLE = "arn:aws:iam::123456789012:role/execution"

SERVICE = {
    "family": "metadata",
    "requires_compatibilities": ["FARGATE"],
    "cpu": "0.5 vCPU",
    "memory": "1 GB",
    "execution_role_arn": EXECUTION_ROLE,
    "task_role_arn": "arn:aws:iam::123456789012:role/task",
    "runtime_platform": {"cpu_architecture": "X86_64", "operating_system_family": "LINUX"},
    "volumes": [{"name": "scratch"}],
    "container_definitions": [
        {
            "name": "service",
            "image": "netflixoss/metaflow_metadata_service:v2.5.0",
            "portMappings": [{"containerPort": 8080}, {"containerPort": 8082}],
            "environment": [{"name": "MF_METADATA_PORT", "value": 8080}, {"name": "MF_METADATA_DB_NAME", "value": "m"}],
            "secrets": [{"name": "MF_METADATA_DB_PSWD", "valueFrom": "arn:aws:ssm:us-east-1:123456789012:parameter/p"}],
            "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/scratch"}],
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "metadata"}},
            "healthCheck": {"command": ["CMD-SHELL", "curl -f localhost:8080/ping"]},
        }
    ],
    "tags": {"Component": "metadata_service", "a_b": "c"},
}


@pytest.fixture(autouse=True)
def ecs(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("ecs")


def service(**container):
    """Return the arguments with other keys of the container; None takes one away."""
    args = copy.deepcopy(SERVICE)
    args["container_definitions"][0].update(container)
    args["container_definitions"][0] = {k: v for k, v in args["container_definitions"][0].items() if v is not None}
    return args


def active(ecs):
    return [
        int(arn.rsplit(":", 1)[1]) for arn in ecs.list_task_definitions(familyPrefix="metadata")["taskDefinitionArns"]
    ]


def test_twelve_steps(converge, ecs):
    predicted, made = converge(MODULE, SERVICE)
    definition = made["task_definition"]
    assert predicted["task_definition"]["task_definition_arn"] == definition["task_definition_arn"] == ARN + "1"
    assert definition["tags"] == SERVICE["tags"]
    assert definition["cpu"] == "512"
    assert definition["network_mode"] == "awsvpc"
    assert definition["container_definitions"][0]["log_configuration"]["options"] == {"awslogs-group": "metadata"}
    registered = ecs.describe_task_definition(taskDefinition="metadata:1")["taskDefinition"]["containerDefinitions"][0]
    assert {"name": "MF_METADATA_PORT", "value": "8080"} in registered["environment"]

    predicted, made = converge(MODULE, service(image="netflixoss/metaflow_metadata_service:v2.5.1"))
    for result in (predicted, made):
        assert result["task_definition"]["task_definition_arn"] == ARN + "2"
        assert result["task_definition"]["revision"] == 2
        assert result["task_definition"]["tags"] == SERVICE["tags"]
        assert result["diff"]["before"]["containerDefinitions"][0]["image"].endswith("v2.5.0")
        assert result["diff"]["after"]["containerDefinitions"][0]["image"].endswith("v2.5.1")
    assert active(ecs) == [1, 2]

    _predicted, made = converge(MODULE, {"family": "metadata", "state": "absent"})
    assert made["task_definition"] == {}
    for status in ("ACTIVE", "INACTIVE"):
        assert ecs.list_task_definitions(familyPrefix="metadata", status=status)["taskDefinitionArns"] == []


def swapped(key):
    """Return the arguments with the container's list in the opposite order."""
    return service(**{key: SERVICE["container_definitions"][0][key][::-1]})


@pytest.mark.parametrize(
    "args",
    [
        swapped("environment"),
        swapped("portMappings"),
        service(essential=True, cpu=0, systemControls=[]),
        service(portMappings=[{"containerPort": port, "hostPort": port, "protocol": "tcp"} for port in (8080, 8082)]),
        service(healthCheck=SERVICE["container_definitions"][0]["healthCheck"] | {"interval": 30, "retries": 3}),
        SERVICE | {"cpu": "512", "memory": "1024"},
        SERVICE | {"tags": None},
    ],
    ids=["variables", "ports", "defaults", "host ports", "health check", "amounts", "tags left alone"],
)
def test_what_means_the_same_makes_no_revision(run_module, emulator, ecs, args):
    run_module(MODULE, SERVICE)
    before = emulator.mutations()
    assert run_module(MODULE, args)["changed"] is False
    assert emulator.mutations() == before


@pytest.mark.parametrize(
    "args",
    [
        service(environment=SERVICE["container_definitions"][0]["environment"][:1]),
        service(
            environment=[{"name": "MF_METADATA_PORT", "value": "9090"}, {"name": "MF_METADATA_DB_NAME", "value": "m"}]
        ),
        service(secrets=None),
        service(healthCheck=None),
        SERVICE | {"memory": "2 GB"},
        SERVICE | {"execution_role_arn": EXECUTION_ROLE + "2"},
        SERVICE | {"runtime_platform": None},
        SERVICE | {"volumes": [], "container_definitions": service(mountPoints=None)["container_definitions"]},
    ],
    ids=["variable gone", "value", "secrets gone", "check gone", "memory", "role", "platform gone", "volume gone"],
)
def test_what_differs_makes_one_revision(run_module, ecs, args):
    run_module(MODULE, SERVICE)
    assert run_module(MODULE, args, check=True)["changed"] is True
    assert run_module(MODULE, args)["task_definition"]["revision"] == 2
    assert run_module(MODULE, args)["changed"] is False
    assert active(ecs) == [1, 2]


def test_other_tags_make_no_revision(converge, ecs):
    converge(MODULE, SERVICE)
    predicted, made = converge(MODULE, SERVICE | {"tags": {"Component": "service"}})
    assert predicted["task_definition"]["tags"] == made["task_definition"]["tags"] == {"Component": "service"}
    assert active(ecs) == [1]


@pytest.mark.parametrize(
    ("options", "tags"),
    [
        ({"tags": None}, SERVICE["tags"]),
        ({"tags": {"Owner": "ml"}, "purge_tags": False}, SERVICE["tags"] | {"Owner": "ml"}),
        ({"tags": {"Owner": "ml"}}, {"Owner": "ml"}),
    ],
    ids=["left alone", "added", "replaced"],
)
def test_a_new_revision_carries_the_tags(converge, options, tags):
    converge(MODULE, SERVICE)
    _predicted, made = converge(MODULE, service(image="other") | options)
    assert made["task_definition"]["revision"] == 2
    assert made["task_definition"]["tags"] == tags


def test_older_revisions_are_deregistered(converge, run_module, ecs):
    for image in "abc":
        run_module(MODULE, service(image=image))
    predicted, made = converge(MODULE, service(image="d") | {"keep_revisions": 2})
    assert made["task_definition"]["active_revisions"] == [4, 3]
    assert predicted["task_definition"]["active_revisions"] == [4, 3]
    assert made["diff"]["before"]["activeRevisions"] == [3, 2, 1]
    _predicted, made = converge(MODULE, service(image="d") | {"keep_revisions": 1, "tags": {"Kept": "1"}})
    assert made["task_definition"]["tags"] == {"Kept": "1"}, "deregistering does not keep tags from being written"
    assert active(ecs) == [4]


def test_a_deregistered_family_counts_on(converge, ecs, run_module):
    run_module(MODULE, SERVICE)
    ecs.deregister_task_definition(taskDefinition="metadata:1")
    predicted, made = converge(MODULE, SERVICE)
    assert (
        predicted["task_definition"]["task_definition_arn"]
        == made["task_definition"]["task_definition_arn"]
        == ARN + "2"
    )


def test_deletion_goes_on_where_a_killed_run_stopped(converge, run_module, ecs):
    """Deregistered and not yet deleted; more than AWS deletes with one call."""
    for image in range(12):
        run_module(MODULE, service(image=f"image:{image}"))
        ecs.deregister_task_definition(taskDefinition=f"metadata:{image + 1}")
    converge(MODULE, {"family": "metadata", "state": "absent"})
    assert ecs.list_task_definitions(familyPrefix="metadata", status="INACTIVE")["taskDefinitionArns"] == []


def test_a_family_whose_name_begins_alike_is_left_alone(run_module, converge, ecs):
    run_module(MODULE, SERVICE | {"family": "metadata-ui"})
    run_module(MODULE, SERVICE)
    converge(MODULE, {"family": "metadata", "state": "absent"})
    assert ecs.list_task_definitions(familyPrefix="metadata-ui")["taskDefinitionArns"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (SERVICE | {"keep_revisions": 0}, "keep_revisions must be 1 or more"),
        (service(port_mappings=[]), 'Unknown parameter in containerDefinitions[0]: "port_mappings"'),
        (service(memory="lots"), "Invalid type for parameter containerDefinitions[0].memory"),
        ({"family": "metadata"}, "container_definitions"),
    ],
    ids=["keep nothing", "unknown key", "no number", "no containers"],
)
def test_bad_input_is_named_and_nothing_touched(run_module, emulator, args, message):
    for check in (True, False):
        assert message in run_module(MODULE, args, check=check, fails=True)["msg"]
    assert emulator.mutations() == []
