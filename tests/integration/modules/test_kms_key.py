# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module kms_key against the emulator."""

from __future__ import annotations

import pytest
from steps import Module

MINIMAL = {"name": "alias/test"}
TAGS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/component": "secrets"}
FULL = MINIMAL | {"description": "Secrets", "tags": TAGS}
ABSENT = FULL | {"state": "absent", "pending_window": 7}


@pytest.fixture
def kms(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("kms")


@pytest.fixture
def kms_key(kms, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "kms_key")


def keys(kms):
    """Return the keys that are not on their way out."""
    found = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
    return [key for key in found if key["KeyState"] != "PendingDeletion"]


def left_by_a_killed_run(kms, **tags):
    """Make a key without an alias."""
    tag_list = [{"TagKey": key, "TagValue": value} for key, value in (TAGS | tags).items()]
    return kms.create_key(Tags=tag_list)["KeyMetadata"]["KeyId"]


def test_twelve_steps(kms_key, kms):
    made = kms_key.change(MINIMAL)["kms_key"]
    changed = kms_key.change(FULL | {"enable_key_rotation": False})["kms_key"]
    assert changed == made | {"description": "Secrets", "key_rotation_enabled": False, "tags": TAGS}
    (live,) = keys(kms)
    assert (live["Arn"], live["Description"]) == (made["arn"], "Secrets")
    assert kms.get_key_rotation_status(KeyId=live["KeyId"])["KeyRotationEnabled"] is False

    assert kms_key.change(ABSENT)["kms_key"] == {}
    assert keys(kms) == []


def test_a_key_on_its_way_out_or_disabled_is_taken_back(kms_key, kms):
    made = kms_key.run(FULL)["kms_key"]
    kms_key.run(ABSENT)
    assert kms_key.change(FULL)["kms_key"] == made
    kms.disable_key(KeyId=made["key_id"])
    assert kms_key.change(FULL)["kms_key"] == made


def test_what_a_killed_run_has_left_gets_the_alias(kms_key, kms):
    left = left_by_a_killed_run(kms)
    assert kms_key.change(FULL)["kms_key"]["key_id"] == left
    assert len(keys(kms)) == 1


def test_what_killed_runs_have_left_goes_with_the_key(kms_key, kms):
    others = left_by_a_killed_run(kms, **{"mlops.metaflow/component": "database"})
    kms_key.run(FULL)
    for _ in range(2):
        left_by_a_killed_run(kms)
    kms_key.change(ABSENT)
    assert [key["KeyId"] for key in keys(kms)] == [others]
    left_by_a_killed_run(kms)  # while the key itself is on its way out
    kms_key.change(ABSENT)
    assert [key["KeyId"] for key in keys(kms)] == [others]


def test_a_key_with_another_alias_is_not_touched(kms_key, kms):
    other = left_by_a_killed_run(kms)
    kms.create_alias(AliasName="alias/other", TargetKeyId=other)
    assert kms_key.run(FULL)["kms_key"]["key_id"] != other
    kms_key.run(ABSENT)
    assert [key["KeyId"] for key in keys(kms)] == [other]


def test_a_window_that_kms_does_not_know_is_refused(kms_key):
    assert kms_key.refused(ABSENT | {"pending_window": 3}) == "pending_window is 3; KMS allows 7 to 30 days"


def test_it_survives_kills(kms_key, kms):
    def state():
        (live,) = keys(kms)
        tags = {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=live["KeyId"])["Tags"]}
        alias = [alias["AliasName"] for alias in kms.list_aliases(KeyId=live["KeyId"])["Aliases"]]
        return live["Description"], tags, alias, kms.get_key_rotation_status(KeyId=live["KeyId"])["KeyRotationEnabled"]

    kms_key.survives_kills(lambda: FULL, state)
