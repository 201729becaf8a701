"""The client configuration that a run writes: what is in it, and that Metaflow works with it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from stack_runs import Complete, Stack

pytestmark = pytest.mark.xdist_group("complete-stack")

FLOWS = Path(__file__).parent / "flows"

#: What Metaflow's client needs of a stack, without METAFLOW_ (facts of Metaflow 2.19: its configuration's names).
MUST = {
    "DEFAULT_DATASTORE", "DATASTORE_SYSROOT_S3", "DEFAULT_METADATA", "SERVICE_URL", "SERVICE_INTERNAL_URL",
    "SERVICE_AUTH_KEY", "BATCH_JOB_QUEUE", "ECS_S3_ACCESS_IAM_ROLE", "ECS_FARGATE_EXECUTION_ROLE", "SFN_IAM_ROLE",
    "EVENTS_SFN_ACCESS_IAM_ROLE", "SFN_DYNAMO_DB_TABLE", "SFN_STATE_MACHINE_PREFIX",
}  # fmt: skip


def profile_of(stack: Stack) -> Path:
    return stack.home / ".metaflowconfig" / "config_local.json"


def configuration(stack: Stack) -> dict[str, str]:
    """Return the written profile, its keys without their prefix."""
    written = json.loads(profile_of(stack).read_text())
    return {key.removeprefix("METAFLOW_"): value for key, value in written.items()}


def as_author(stack: Stack, *command: str, directory: Path) -> str:
    """Run Python as a flow's author does: the profile, the account's address and keys, and nothing else."""
    environment = stack.environment() | {
        "METAFLOW_PROFILE": "local",
        "METAFLOW_USER": "author",
        "AWS_ENDPOINT_URL": stack.emulator.endpoint,
        "AWS_ACCESS_KEY_ID": "emulated-account",
        "AWS_SECRET_ACCESS_KEY": "emulated-account-has-no-secrets",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_profile_has_every_key_that_metaflow_must_have(complete: Complete) -> None:
    config = configuration(complete.stack)
    assert {key for key in MUST if not config.get(key)} == set()
    assert config["DEFAULT_DATASTORE"] == "s3"
    assert config["DEFAULT_METADATA"] == "service"


def test_the_profile_names_what_is_in_the_account(complete: Complete) -> None:
    config, account = configuration(complete.stack), complete.account
    roles = {role["Arn"] for role in account.items("iam", "list_roles", "Roles")}
    keys = [key for key in config if key.endswith("_IAM_ROLE") or key == "ECS_FARGATE_EXECUTION_ROLE"]
    assert len(keys) == 4
    assert {config[key] for key in keys} <= roles
    assert config["BATCH_JOB_QUEUE"] in {
        queue["jobQueueName"] for queue in account.items("batch", "describe_job_queues", "jobQueues")
    }
    assert [config["SFN_DYNAMO_DB_TABLE"]] == account.items("dynamodb", "list_tables", "TableNames")
    assert config["DATASTORE_SYSROOT_S3"].split("/")[2] == account.items("s3", "list_buckets", "Buckets")[0]["Name"]
    groups = {group["arn"] for group in account.items("logs", "describe_log_groups", "logGroups")}
    assert config["SFN_EXECUTION_LOG_GROUP_ARN"] in groups


def test_an_unknown_flow_runs_with_the_profile_and_is_read_back(complete: Complete, tmp_path: Path) -> None:
    as_author(
        complete.stack, str(FLOWS / "letters.py"), "run", "--words", "one three", "--run-id-file", "run-id",
        directory=tmp_path,
    )  # fmt: skip
    run = f"LettersFlow/{(tmp_path / 'run-id').read_text()}"
    read = json.loads(as_author(complete.stack, str(FLOWS / "read_back.py"), run, directory=tmp_path))
    assert "Letters of one three" in read.pop("card")
    assert read == {
        "successful": True,
        "steps": {"start": 1, "split_words": 1, "title": 1, "count": 2, "add": 1, "both": 1, "end": 1},
        "total": 8,
        "letters": {"one": 3, "three": 5},
        "block": 1024 * 1024,
    }


def test_step_functions_accepts_an_unknown_flow(complete: Complete, tmp_path: Path) -> None:
    as_author(
        complete.stack, str(FLOWS / "letters.py"), "--with", "retry", "step-functions", "create", directory=tmp_path
    )
    client = complete.account.client("stepfunctions")
    machines = complete.account.items("stepfunctions", "list_state_machines", "stateMachines")
    (machine,) = (machine for machine in machines if machine["name"] == "metaflow-local_LettersFlow")
    try:
        config = configuration(complete.stack)
        described = client.describe_state_machine(stateMachineArn=machine["stateMachineArn"])
        assert described["name"] == f"{config['SFN_STATE_MACHINE_PREFIX']}_LettersFlow"
        assert described["roleArn"] == config["SFN_IAM_ROLE"]
        assert config["BATCH_JOB_QUEUE"] in described["definition"]
    finally:
        client.delete_state_machine(stateMachineArn=machine["stateMachineArn"])


@pytest.mark.parametrize(("headers", "status"), [({}, 403), ({"x-api-key": "wrong"}, 403)])
def test_the_service_is_closed_without_the_key(complete: Complete, headers: dict[str, str], status: int) -> None:
    request = urllib.request.Request(configuration(complete.stack)["SERVICE_URL"] + "/flows", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == status


def test_the_key_of_the_profile_opens_the_service(complete: Complete) -> None:
    config = configuration(complete.stack)
    key = {"x-api-key": config["SERVICE_AUTH_KEY"]}
    request = urllib.request.Request(config["SERVICE_URL"] + "/flows", headers=key)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert "ProofFlow" in {flow["flow_id"] for flow in json.load(answer)}


def test_a_persons_own_keys_are_kept_and_their_file_is_backed_up(complete: Complete, tmp_path: Path) -> None:
    theirs = {"METAFLOW_CONTACT_INFO": '{"Slack": "#us"}', "METAFLOW_BATCH_JOB_QUEUE": "old"}
    stack = Stack(complete.stack.emulator, tmp_path / "home")
    path = profile_of(stack)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(theirs))

    run = stack.run("--tags", "client_config").succeeded()

    written = json.loads(path.read_text())
    (backup,) = path.parent.glob("*.bak")
    assert run.changed == {"client_config"}
    assert written["METAFLOW_CONTACT_INFO"] == theirs["METAFLOW_CONTACT_INFO"]
    assert written["METAFLOW_BATCH_JOB_QUEUE"] == "metaflow-local"
    assert json.loads(backup.read_text()) == theirs
    assert {p.stat().st_mode & 0o777 for p in (path, backup)} == {0o600}
