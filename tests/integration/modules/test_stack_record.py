# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module stack_record against the emulator: what it records, what it finds changed, what a bad one does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
MODULE = "mlops.metaflow.stack_record"
BUCKET, KEY = "metaflow-test-data", "mlops.metaflow/record.json"
WAVES = [["registry"], ["step_functions"]]
REPOSITORY = "metaflow-test/flows"


GIVEN = {
    "name": "metaflow", "environment": "test", "prefix": "metaflow-test", "partition": "aws",
    "account_id": "123456789012", "repository_name": REPOSITORY, "bucket_name": BUCKET,
}  # fmt: skip
#: What the role `stack` calls things, as in its defaults where these are made of the prefix alone.
DEFAULTS = {
    name.removeprefix("stack_"): value.replace("{{ stack_prefix }}", "metaflow-test")
    for name, value in yaml.safe_load((ROOT / "roles/stack/defaults/main.yml").read_text()).items()
    if isinstance(value, str)
}
ALL_NAMES = DEFAULTS | GIVEN
INPUTS = {"registry": "a digest", "step_functions": "another"}


@pytest.fixture
def account(emulator):
    """An account with a bucket and a repository, and else nothing of the stack."""
    emulator.reset()
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    emulator.client("ecr").create_repository(repositoryName=REPOSITORY)
    return emulator


@pytest.fixture
def record(run_module, account):
    """Return ``record(state, …)``, which runs the module."""

    def record(state="compared", check=False, fails=False, **args):
        arguments = {"bucket": BUCKET, "names": ALL_NAMES, "waves": WAVES, "inputs": INPUTS, "state": state, **args}
        return run_module(MODULE, arguments, check=check, fails=fails)

    return record


def test_what_was_recorded_is_unchanged_and_its_notes_come_back(record):
    assert record()["unchanged"] == []
    assert record("present", notes={"url": "https://x"})["changed"] is False
    compared = record()
    assert (compared["unchanged"], compared["differences"]) == (["registry", "step_functions"], [])
    assert compared["notes"] == {"url": "https://x"}


def test_a_change_by_hand_is_named_and_holds_up_the_later_waves(record, account):
    record("present")
    account.client("ecr").put_image_tag_mutability(repositoryName=REPOSITORY, imageTagMutability="IMMUTABLE")
    compared = record()
    assert (compared["unchanged"], compared["waiting"]) == ([], ["step_functions"])
    (difference,) = compared["differences"]
    assert difference["path"].endswith("imageTagMutability") and difference["component"] == "registry"
    assert (difference["recorded"], difference["live"]) == ("MUTABLE", "IMMUTABLE")


def test_other_inputs_are_a_change(record):
    record("present")
    assert record(inputs=INPUTS | {"registry": "new"})["unchanged"] == ["step_functions"]


def test_one_component_recorded_alone_leaves_the_others_entries(record):
    record("present")
    record("present", inputs={"registry": "new"})
    compared = record(inputs=INPUTS | {"registry": "new"})
    assert compared["unchanged"] == ["registry", "step_functions"]


def test_a_file_is_part_of_what_a_component_has(record, tmp_path):
    file = tmp_path / "config.json"
    given = {"inputs": {"client_config": "x"}, "files": {"client_config": [str(file)]}, "waves": [["client_config"]]}
    file.write_text("{}")
    file.chmod(0o640)  # a mode that no umask gives by itself
    record("present", **given)
    assert record(**given)["unchanged"] == ["client_config"]
    file.write_text("{ }")
    assert record(**given)["unchanged"] == []
    file.write_text("{}")
    file.chmod(0o600)
    assert record(**given)["unchanged"] == []
    file.unlink()
    assert record(**given)["unchanged"] == []


def test_files_of_a_component_that_is_not_selected_count_as_recorded(record, tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{}")
    both = {"inputs": {"client_config": "x", "flows": "y"}, "waves": [["client_config"], ["flows"]]}
    files = {"files": {"client_config": [str(file)]}}
    record("present", **both, **files)
    record("present", inputs={"flows": "y"}, waves=both["waves"])
    assert record(**both, **files)["unchanged"] == ["client_config", "flows"]
    file.write_text("{ }")
    assert record(inputs={"flows": "y"}, waves=both["waves"])["unchanged"] == ["flows"]
    assert record(**both, **files)["waiting"] == ["flows"]


BAD_RECORDS = {"no JSON": b"{", "no text": b"\xff\xfe", "another form": b"[1]", "another version": b'{"version": 99}'}


@pytest.mark.parametrize("content", BAD_RECORDS)
def test_a_bad_record_is_none_and_is_replaced(record, account, content):
    account.client("s3").put_object(Bucket=BUCKET, Key=KEY, Body=BAD_RECORDS[content])
    assert record()["unchanged"] == []
    record("present")
    assert record()["unchanged"] == ["registry", "step_functions"]


def test_without_a_bucket_there_is_no_record(record):
    compared = record(bucket="metaflow-nobodys-bucket")
    assert compared["unchanged"] == [] and "warnings" not in compared


def test_a_record_that_may_not_be_read_or_written_is_said(record, account):
    account.request("POST", "/_emulator/faults", {"action": "s3:GetObject", "kind": "deny", "percent": 100})
    assert "can't be read" in json.dumps(record()["warnings"])
    account.request("DELETE", "/_emulator/faults")
    account.request("POST", "/_emulator/faults", {"action": "s3:PutObject", "kind": "deny", "percent": 100})
    assert "can't be recorded" in json.dumps(record("present")["warnings"])
    account.request("DELETE", "/_emulator/faults")


def test_what_can_not_be_read_runs_and_is_said(record, account):
    record("present")
    account.request("POST", "/_emulator/faults", {"action": "ecr:DescribeRepositories", "kind": "deny", "percent": 100})
    compared = record()
    account.request("DELETE", "/_emulator/faults")
    assert compared["unchanged"] == []
    assert "What registry has in the account can't be read" in json.dumps(compared["warnings"])


def test_what_can_not_be_read_while_another_is_recorded_stays_as_it_was(record, account):
    record("present")
    account.request("POST", "/_emulator/faults", {"action": "ecr:DescribeRepositories", "kind": "deny", "percent": 100})
    account.request("POST", "/_emulator/calls/reset")
    recorded = record("present", inputs={"step_functions": "another"})
    account.request("DELETE", "/_emulator/faults")
    assert "What registry has in the account can't be read and so not be recorded" in json.dumps(recorded["warnings"])
    assert account.mutations() == []
    assert record()["unchanged"] == ["registry", "step_functions"]


def test_check_mode_writes_and_removes_nothing(record, account):
    record("present", check=True)
    assert record()["unchanged"] == []
    record("present")
    assert record("absent", check=True)["changed"] is True
    assert record()["unchanged"] == ["registry", "step_functions"]


def test_it_goes_with_all_its_versions(record, account):
    for number in range(3):
        record("present", notes={"number": number})
    assert record("absent")["changed"] is True
    assert "Versions" not in account.client("s3").list_object_versions(Bucket=BUCKET)
    assert record("absent")["changed"] is False
    assert record("absent", bucket="metaflow-nobodys-bucket")["changed"] is False
