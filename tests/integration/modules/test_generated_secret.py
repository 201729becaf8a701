"""generated_secret against the emulated account: create, again, modify, again, delete, again; checked and real."""

from __future__ import annotations

import importlib
import json
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULE = "mlops.metaflow.generated_secret"
NAME = "metaflow-test/database"
SECRET = {"name": NAME, "template": {"username": "metaflow"}, "tags": {"stack": "test", "a_B": "c"}}


@pytest.fixture(autouse=True)
def manager(emulator):
    """A client of the empty account's Secrets Manager."""
    emulator.reset()
    return emulator.client("secretsmanager")


def value(manager, **version):
    """Return the stored value."""
    return manager.get_secret_value(SecretId=NAME, **version)["SecretString"]


def test_the_life_of_a_secret_by_twelve_steps(converge, manager, emulator):
    key = emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
    predicted, made = converge(MODULE, SECRET)
    stored = json.loads(value(manager))
    assert stored.keys() == {"username", "password"}
    assert (stored["username"], len(stored["password"])) == ("metaflow", 32)
    assert made["secret"] | {"arn": "", "version_id": ""} == {
        "arn": "",
        "version_id": "",
        "name": NAME,
        "has_value": True,
        "tags": SECRET["tags"],
    }
    assert made["secret"]["arn"][:-6] == predicted["secret"]["arn"].removesuffix("??????")

    _, changed = converge(
        MODULE, SECRET | {"description": "The master user", "kms_key_id": key, "tags": {"stack": "x"}}
    )
    described = manager.describe_secret(SecretId=NAME)
    assert (described["Description"], described["KmsKeyId"]) == ("The master user", key)
    assert described["Tags"] == [{"Key": "stack", "Value": "x"}]
    assert changed["secret"]["version_id"] == made["secret"]["version_id"]
    assert json.loads(value(manager)) == stored

    _, deleted = converge(MODULE, {"name": NAME, "state": "absent", "recovery_window": 0})
    assert deleted["secret"] == {}
    assert manager.list_secrets(IncludePlannedDeletion=True)["SecretList"] == []


def test_without_a_template_the_value_is_the_password(run_module, manager):
    run_module(MODULE, {"name": NAME, "password_length": 64, "exclude_punctuation": True})
    assert len(value(manager)) == 64
    assert set(value(manager)) <= set(string.ascii_letters + string.digits)


def test_excluded_characters_are_not_used(run_module, manager):
    run_module(MODULE, {"name": NAME, "password_length": 4096})
    assert not set(value(manager)) & set("\"'@/\\ `$")


@pytest.mark.parametrize("theirs", [{"SecretString": "typed by a person"}, {"SecretBinary": b"by a program"}])
def test_a_value_that_exists_is_never_overwritten(converge, manager, theirs):
    manager.create_secret(Name=NAME, **theirs)
    converge(MODULE, SECRET)
    (field, kept) = next(iter(theirs.items()))
    assert manager.get_secret_value(SecretId=NAME)[field] == kept


def test_a_secret_without_a_value_gets_one(converge, manager):
    manager.create_secret(Name=NAME)
    _, made = converge(MODULE, {"name": NAME})
    assert made["diff"]["before"]["HasValue"] is False
    assert len(value(manager)) == 32


def test_rotation_makes_one_new_version(run_module, manager):
    first = run_module(MODULE, SECRET)["secret"]["version_id"]
    old = value(manager)
    checked = run_module(MODULE, SECRET | {"rotate": True}, check=True)
    assert checked["changed"]
    assert value(manager) == old
    second = run_module(MODULE, SECRET | {"rotate": True})["secret"]["version_id"]
    assert second != first
    assert value(manager) != old
    assert value(manager, VersionStage="AWSPREVIOUS") == old
    assert len(manager.describe_secret(SecretId=NAME)["VersionIdsToStages"]) == 2


def test_rotation_of_a_secret_that_is_not_there_makes_one_version(run_module, manager):
    made = run_module(MODULE, SECRET | {"rotate": True})
    assert list(manager.describe_secret(SecretId=NAME)["VersionIdsToStages"]) == [made["secret"]["version_id"]]


def test_a_deleted_secret_is_restored_with_its_value_and_said(converge, run_module, manager):
    run_module(MODULE, SECRET)
    old = value(manager)
    converge(MODULE, {"name": NAME, "state": "absent", "recovery_window": 7})
    assert "DeletedDate" in manager.describe_secret(SecretId=NAME)
    predicted, restored = converge(MODULE, SECRET)
    for result in (predicted, restored):
        assert "is restored with the value that it has" in json.dumps(result["warnings"])
    assert value(manager) == old


def test_a_secret_that_waits_for_its_deletion_can_go_at_once(converge, run_module, manager):
    run_module(MODULE, SECRET)
    run_module(MODULE, {"name": NAME, "state": "absent"})
    converge(MODULE, {"name": NAME, "state": "absent", "recovery_window": 0})
    assert manager.list_secrets(IncludePlannedDeletion=True)["SecretList"] == []


@pytest.fixture
def kms(emulator):
    """A key by all its names; the alias with the account's region."""
    client = emulator.client("kms")
    key = client.create_key()["KeyMetadata"]
    client.create_alias(AliasName="alias/stack", TargetKeyId=key["KeyId"])
    alias_arn = next(
        alias["AliasArn"] for alias in client.list_aliases()["Aliases"] if alias["AliasName"] == "alias/stack"
    )
    return {"id": key["KeyId"], "arn": key["Arn"], "alias": "alias/stack", "alias arn": alias_arn}


@pytest.mark.parametrize("shown", ["id", "arn", "alias", "alias arn"])
@pytest.mark.parametrize("declared", ["id", "arn", "alias", "alias arn"])
def test_a_key_is_the_same_by_whatever_name(run_module, manager, kms, declared, shown):
    """An alias that is shown may have moved to another key, so a declared key replaces it."""
    manager.create_secret(Name=NAME, SecretString="x", KmsKeyId=kms[shown])
    result = run_module(MODULE, {"name": NAME, "kms_key_id": kms[declared]}, check=True)
    assert result["changed"] == ("alias" in shown and "alias" not in declared)


def test_another_key_is_a_change(converge, run_module, manager, kms, emulator):
    other = emulator.client("kms").create_key()["KeyMetadata"]["Arn"]
    run_module(MODULE, {"name": NAME, "kms_key_id": other})
    converge(MODULE, {"name": NAME, "kms_key_id": kms["alias"]})
    assert manager.describe_secret(SecretId=NAME)["KmsKeyId"] == kms["alias"]


def test_tags_are_left_alone_unless_declared(run_module, manager):
    run_module(MODULE, SECRET)
    assert not run_module(MODULE, {"name": NAME})["changed"]
    run_module(MODULE, {"name": NAME, "tags": {"more": "x"}, "purge_tags": False})
    tags = {tag["Key"]: tag["Value"] for tag in manager.describe_secret(SecretId=NAME)["Tags"]}
    assert tags == SECRET["tags"] | {"more": "x"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "absent", "recovery_window": 3}, "recovery_window is 3"),
        ({"password_length": 4}, "password_length is 4"),
        ({"template": {"password": "x"}}, "template has a value for 'password'"),
    ],
)
def test_bad_input_is_named_before_any_call(run_module, emulator, options, words):
    assert words in run_module(MODULE, {"name": NAME, **options}, fails=True)["msg"]
    assert emulator.calls() == []


def test_an_error_that_quotes_the_value_is_blotted_out(run_module, monkeypatch):
    """AWS marks the parameter as sensitive and should not quote it; that is not for us to rely on."""
    module = importlib.import_module("ansible_collections.mlops.metaflow.plugins.modules.generated_secret")
    seen = []

    def quoting(self, desired):
        seen.append(self._value()["SecretString"])
        raise importlib.import_module("botocore.exceptions").ParamValidationError(report=f"bad value: {seen[0]}")

    monkeypatch.setattr(module.GeneratedSecret, "create", quoting)
    result = run_module(MODULE, {"name": NAME}, fails=True)
    assert "Failed to create secret 'metaflow-test/database'" in result["msg"]
    assert seen[0] not in json.dumps(result)


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/mlops.metaflow.aws: {region: us-east-1}
  tasks:
    - mlops.metaflow.generated_secret: &secret
        name: metaflow-test/database
        template: {username: metaflow}
      register: made
    - mlops.metaflow.generated_secret:
        <<: *secret
        rotate: true
    - ansible.builtin.debug:
        var: made
"""


def test_no_value_is_in_the_output_of_a_playbook(aws_environment, manager, tmp_path):
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-vvv", "--diff", str(playbook)]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    assert run.returncode == 0, output
    assert "changed=2" in output
    assert '"HasValue": true' in output
    stored = [value(manager), value(manager, VersionStage="AWSPREVIOUS")]
    for secret in [*stored, *(json.loads(one)["password"] for one in stored)]:
        assert secret not in output
        assert json.dumps(secret)[1:-1] not in output
