# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""secret_file: a secret's way into a file of this machine, and nowhere else."""

from __future__ import annotations

import json
import stat

import pytest

MODULE = "mlops.metaflow.secret_file"
NAME = "metaflow-test/evidently/api_token"
VALUE = "canary-41f7"


@pytest.fixture(autouse=True)
def manager(emulator):
    """A client of Secrets Manager, which has one secret."""
    emulator.reset()
    client = emulator.client("secretsmanager")
    client.create_secret(Name=NAME, SecretString=VALUE)
    return client


@pytest.fixture
def write(run_module, emulator, tmp_path):
    path = tmp_path / "token"

    def write(check=False, **options):
        args = {"name": NAME, "region": "us-east-1", "path": str(path), "mode": "0600", **options}
        emulator.request("POST", "/_emulator/calls/reset")
        args = {option: value for option, value in args.items() if value is not None}
        result = run_module(MODULE, args, check=check)
        assert emulator.mutations() == []
        assert VALUE not in json.dumps(result)
        return result

    write.path = path
    return write


def test_a_file_is_written_once_and_again_when_the_secret_is_another(write, manager):
    assert write(check=True)["changed"]
    assert not write.path.exists()
    first = write()
    assert first["changed"]
    assert write.path.read_text() == VALUE + "\n"
    assert stat.S_IMODE(write.path.stat().st_mode) == 0o600
    assert not write()["changed"]
    version = manager.put_secret_value(SecretId=NAME, SecretString="another")["VersionId"]
    assert write(check=True)["changed"]
    assert write.path.read_text() == VALUE + "\n"
    assert write()["version_id"] == version != first["version_id"]
    assert write.path.read_text() == "another\n"


def test_another_mode_is_a_change(write):
    write()
    assert write(check=True, mode="0640")["changed"]
    assert write(mode="0640")["changed"]
    assert stat.S_IMODE(write.path.stat().st_mode) == 0o640


def test_without_a_mode_only_the_user_reads_it(write):
    write(mode=None)
    assert stat.S_IMODE(write.path.stat().st_mode) == 0o600


def test_a_field_of_a_json_object(write, manager):
    manager.put_secret_value(SecretId=NAME, SecretString=json.dumps({"password": "p"}))
    write(key="password")
    assert write.path.read_text() == "p\n"


def test_check_mode_knows_of_a_secret_that_is_not_there_yet(write):
    assert write(check=True, name="metaflow-test/none")["changed"]


@pytest.mark.parametrize(
    ("stored", "options", "reason"),
    [
        ({"SecretString": VALUE}, {"name": "metaflow-test/none"}, "ResourceNotFoundException"),
        ({"SecretString": VALUE}, {"key": "password"}, "it is no JSON object with the field 'password'"),
        ({"SecretString": '{"password": 1}'}, {"key": "password"}, "its field 'password' is no text"),
        ({"SecretBinary": b"canary"}, {}, "it holds bytes, and no text"),
        ({"SecretString": VALUE}, {"path": "/nowhere/token"}, "The directory of /nowhere/token is missing"),
    ],
)
def test_what_cannot_be_written_says_why(write, manager, run_module, stored, options, reason):
    manager.put_secret_value(SecretId=NAME, **stored)
    args = {"name": NAME, "region": "us-east-1", "path": str(write.path), **options}
    said = run_module(MODULE, args, fails=True)["msg"]
    assert reason in said
    assert VALUE not in said
    assert not write.path.exists()
