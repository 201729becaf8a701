"""Bad input is told before the first change: the variable, its value and what is allowed, all of it at once."""

from __future__ import annotations

from typing import Any

import pytest
from emulated_aws import Emulator
from stack_runs import Run, Stack

pytestmark = pytest.mark.xdist_group("bad-input")

LONG = "an-environment-with-a-long-name"

#: A row is what is wrong, and what the message must say. The rows of a table are given to one run, so a variable may
#: stand in it once.
STACK = {
    "stack_environment": ("Prod", "stack_environment 'Prod' is not allowed: it must be 2 to 12 lower-case letters"),
    "stack_name": (LONG, f"stack_name '{LONG}' is not allowed: it must be 2 to 12 lower-case letters"),
    "stack_account_id": ("12345", "stack_account_id '12345' is not allowed: it must be the 12 digits"),
    "stack_extra_tags": ({f"tag-{n}": "x" for n in range(41)}, "it must be at most 40 tags"),
    "stack_regoin": ("eu-west-1", "'stack_regoin' is no variable of stack; did you mean 'stack_region'?"),
}

VALUES: dict[str, tuple[Any, str]] = {
    "network_vpc_cidr": (
        "10.0.0.0/29",
        "network_vpc_cidr '10.0.0.0/29' is not allowed: it must be a private IPv4 block",
    ),
    "network_subnet_prefix": (29, "network_subnet_prefix '29' is not allowed: it must be from the prefix length of"),
    "network_availability_zones": (
        ["us-east-1a", "eu-west-1b"],
        "is not allowed: it must be empty, or two different zones of us-east-1, e.g. ['us-east-1a', 'us-east-1b']",
    ),
    "stack_bucket_name": (
        "Under_score",
        "stack_bucket_name 'Under_score' is not allowed: it must be 3 to 63 lower-case",
    ),
    "datastore_noncurrent_version_days": (
        0,
        "datastore_noncurrent_version_days '0' is not allowed: it must be at least 1",
    ),
    "secrets_flow_values": ({"NOT A NAME": "canary-value"}, "it must be a map whose keys are names of environment"),
    "secrets_recovery_window": (3, "secrets_recovery_window '3' is not allowed: it must be 0, or 7 to 30 days"),
    "identity_permissions_boundary": (
        "boundary",
        "identity_permissions_boundary 'boundary' is not allowed: it must be",
    ),
    "identity_job_readable_arns": (["bucket"], "is not allowed: it must be a list of S3 ARNs"),
    "registry_untagged_images_kept": (0, "registry_untagged_images_kept '0' is not allowed: it must be at least 1"),
    "stack_database_identifier": ("-db", "stack_database_identifier '-db' is not allowed: it must be at most 63"),
    "database_engine_version": (
        "9.6",
        "database_engine_version '9.6' is not allowed: it must be a version of PostgreSQL",
    ),
    "database_instance_class": ("t4g.small", "database_instance_class 't4g.small' is not allowed: it must be an RDS"),
    "database_allocated_storage": (10, "database_allocated_storage '10' is not allowed: it must be from 20 (RDS's"),
    "database_backup_retention_period": (
        36,
        "database_backup_retention_period '36' is not allowed: it must be 0 to 35",
    ),
    "stack_load_balancer_name": (
        "x" * 33,
        f"stack_load_balancer_name '{'x' * 33}' is not allowed: it must be at most 32",
    ),
    "stack_metadata_target_group_name": ("y" * 33, "it must be at most 32 characters (Elastic Load Balancing)"),
    "stack_migration_target_group_name": ("z" * 33, f"stack_migration_target_group_name '{'z' * 33}' is not allowed"),
    "api_gateway_allowed_cidrs": (["10.0.0.1/8"], "it must be a list of IPv4 blocks without host bits"),
    "api_gateway_rate_limit": (20000, "api_gateway_rate_limit '20000' is not allowed: it must be 1 to 10000"),
    "api_gateway_burst_limit": (100, "api_gateway_burst_limit '100' is not allowed: it must be from api_gateway_rate"),
    "hosts_list": (
        [{"name": "a", "group": "elk", "instance_type": "t3.large", "ingress_cidrs": ["0.0.0.0/0"]}],
        "to open a machine to everybody, write [everywhere]",
    ),
    "hosts_ssh_cidrs": (
        ["0.0.0.0/0"],
        "hosts_ssh_cidrs '['0.0.0.0/0']' is not allowed: it must be a list of IPv4 blocks",
    ),
    "batch_volume_size": (8, "batch_volume_size '8' is not allowed: it must be 30 (what the ECS image needs) to 16384"),
    "batch_compute_environments": (
        [{"name": "a b", "type": "EC2", "maxv_cpus": 0}, {"name": "f", "type": "FARGATE", "maxv_cpus": 1}],
        "is not allowed: it must be a list whose names are different, of at most 32 letters",
    ),
    "batch_job_queues": (
        [{"name": "only", "compute_environments": ["nowhere"]}],
        "is not allowed: it must be a list in which exactly one queue has the empty name",
    ),
    "stack_state_machine_prefix": ("p" * 41, "it must be at most 40 letters, digits, hyphens and underscores"),
    "flow_image_requirements": (
        "/nowhere/requirements.txt",
        "flow_image_requirements is not allowed: there is no file /nowhere/requirements.txt on this machine",
    ),
    "flow_image_build_secrets": (["A B"], "it must be a list of keys of secrets_flow_values, e.g. [PIP_INDEX_URL]"),
    "flow_image_timeout_minutes": (1, "flow_image_timeout_minutes '1' is not allowed: it must be 5 to 480 minutes"),
    "metadata_service_image": (
        "metaflow:latest",
        "metadata_service_image 'metaflow:latest' is not allowed: it must be",
    ),
    "metadata_service_memory": (
        512,
        "metadata_service_memory '512' is not allowed: it must be what Fargate offers with",
    ),
    "metadata_service_desired_count": (0, "metadata_service_desired_count '0' is not allowed: it must be at least 1"),
    "metadata_service_db_pool_max": (
        0,
        "metadata_service_db_pool_max '0' is not allowed: it must be at least metadata",
    ),
    "client_config_profile": ("a/b", "client_config_profile 'a/b' is not allowed: it must be letters, digits, dots"),
    "client_config_extra": ({"SERVICE_URL": "x"}, "it must be a map of Metaflow's keys with their prefix METAFLOW_"),
    "flows_list": (
        [{"name": "a b", "file": "a.py"}, {"name": "c", "file": "c.py", "schedule": "0 6 * * *"}],
        "flows_list is not allowed: a b: the name has at most 64 letters, digits, dots, underscores and hyphens",
    ),
    "flows_source": ("/nowhere", "flows_source '/nowhere' is not allowed: it must be a folder that exists"),
    "flows_source_folder": ("../x", "flows_source_folder '../x' is not allowed: it must be a folder inside the source"),
    "flows_owner": ("root", "flows_owner 'root' is not allowed: it must be letters"),
    "flows_reserved_memory_percent": (
        50,
        "flows_reserved_memory_percent '50.0' is not allowed: it must be at least 0 and less than 50 percent",
    ),
    "flows_forks": (0, "flows_forks '0' is not allowed: it must be 1 or more"),
    "chains_list": ([{"name": "a b", "steps": []}], "chains_list is not allowed: a b: the name has at most 32 lower"),
    "chains_notice_webhook_url": (
        "http://hooks.example.com/failures",
        "chains_notice_webhook_url 'http://hooks.example.com/failures' is not allowed: it must be https://<host>/<path>",
    ),
    "chains_notice_webhook_header": ("X Token", "chains_notice_webhook_header 'X Token' is not allowed"),
    "chains_notice_webhook_secret": (
        "TOKEM",
        "chains_notice_webhook_secret 'TOKEM' is not allowed: it must be the name of a secret of secrets_flow_values",
    ),
    "chains_triggers": (
        [{"name": "again", "after": "A", "start": "A"}],
        "chains_triggers is not allowed: again: A would start itself for ever",
    ),
}

#: Further conditions on the same variables: what the messages of the table above say besides.
BESIDES = [
    "it must be a list where EC2 and SPOT environments name instance_types",
    "it must be a list with maxv_cpus of at least 1 each",
    "flows_list is not allowed: c: schedule '0 6 * * *' must have six fields",
    "chains_list is not allowed: a b: steps is missing or empty",
    "it must be a list whose compute_environments are among a b, f",
]

TYPES: dict[str, tuple[Any, str]] = {
    "network_nat_gateways": (3, "value of network_nat_gateways must be one of: 1, 2, got: 3"),
    "datastore_destroy_data": (
        "maybe",
        "'datastore_destroy_data' must be true or false, and is a text",
    ),
    "secrets_flow_vaules": ({}, "'secrets_flow_vaules' is no variable of secrets; did you mean 'secrets_flow_values'?"),
    "identity_author_role_names": ({"a": 1}, "'identity_author_role_names' must be a list, and is a map"),
    "registry_state": ("gone", "value of registry_state must be one of: present, absent, got: gone"),
    "database_instance_clas": (
        "x",
        "'database_instance_clas' is no variable of database; did you mean 'database_instance",
    ),
    "api_gateway_enabeld": (False, "'api_gateway_enabeld' is no variable of api; did you mean 'api_gateway_enabled'?"),
    "batch_compute_environments": ([{"name": "ec2", "type": "EC3", "maxv_cpus": 1}], "got: EC3"),
    "step_functions_log_retention_days": (31, "value of step_functions_log_retention_days must be one of: 1, 3, 5, 7"),
    "flow_image_builder": (
        "podman",
        "flow_image_builder must be one of: auto, docker, codebuild, got: podman",
    ),
    "metadata_service_cpu": (300, "value of metadata_service_cpu must be one of: 256, 512, 1024"),
    "client_config_verify_flow": ("perhaps", "'client_config_verify_flow' must be true or false, and is a text"),
    "flows_list": ([{"file": "a.py"}], "missing required arguments: name found in flows_list"),
    "chains_list": ("nightly", "an element of 'chains_list' must be a map, and is a text"),
    "chains_triggers": ([{"name": "x"}], "missing required arguments: after, start found in chains_triggers"),
}

TABLES = {"stack": STACK, "values": VALUES, "types": TYPES}


@pytest.fixture(scope="module", params=TABLES)
def refused(request: pytest.FixtureRequest, stack: Stack, account: Emulator) -> tuple[str, Run, str]:
    """A run with all wrong values of a table: the table's name, the run, its output in one line."""
    account.request("POST", "/_emulator/calls/reset")
    run = stack.run(**{variable: value for variable, (value, _) in TABLES[request.param].items()})
    assert account.calls() == [], "bad variables are told before AWS is asked for anything"
    return request.param, run, run.refused()


def test_all_that_is_wrong_is_told_at_once(refused: tuple[str, Run, str]) -> None:
    table, _, output = refused
    untold = {variable for variable, (_, message) in TABLES[table].items() if message not in output}
    assert untold == set(), output[-5000:]


def test_further_conditions_are_told_too(refused: tuple[str, Run, str]) -> None:
    table, _, output = refused
    if table == "values":
        assert [message for message in BESIDES if message not in output] == []


def test_a_secrets_value_is_not_quoted(refused: tuple[str, Run, str]) -> None:
    assert "canary-value" not in refused[2]


#: What only AWS can tell: variables, and what the message must say.
ACCOUNT = [
    (
        {"stack_region": "eu-west-9"},
        "stack_region 'eu-west-9' is no AWS region that botocore knows; allowed are af-south-1",
    ),
    (
        {"stack_account_id": "999999999999"},
        "The credentials belong to account 123456789012 (arn:aws:sts::123456789012:user/moto), "
        "but stack_account_id is '999999999999'.",
    ),
    (
        {"network_availability_zones": ["us-east-1a", "us-east-1z"]},
        "network_availability_zones names 'us-east-1z', which us-east-1 does not offer to this account; allowed are "
        "us-east-1a",
    ),
]


@pytest.mark.parametrize(("variables", "message"), ACCOUNT)
def test_a_wrong_region_account_or_zone_is_told_before_the_lock(
    stack: Stack, account: Emulator, variables: dict[str, Any], message: str
) -> None:
    account.request("POST", "/_emulator/calls/reset")
    assert message in stack.run("--tags", "registry", **variables).refused()
    assert account.mutations() == []


@pytest.mark.parametrize("component", ["metadata_service", "client_config"])
def test_a_component_alone_names_the_one_that_it_misses(stack: Stack, account: Emulator, component: str) -> None:
    maker = {"metadata_service": "network", "client_config": "api"}[component]
    output = stack.run("--tags", component).refused()
    assert f"The component '{component}' failed at the task 'Find " in output
    assert f"; converge it first: --tags {maker}." in output


def test_components_of_one_wave_tell_all_what_they_miss(stack: Stack) -> None:
    run = stack.run("--tags", "database,api,batch")
    assert run.refused().count("converge it first: --tags network.") >= 3
    assert run.failed == {"database", "api", "batch"}
