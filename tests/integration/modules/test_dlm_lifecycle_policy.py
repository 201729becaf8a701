# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module dlm_lifecycle_policy against the emulator."""

from __future__ import annotations

import pytest
from steps import Module

NAME = "metaflow-staging-elk-1"
OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}
PRESENT = {
    "name": NAME,
    "description": "Data of metaflow-staging-elk-1",
    "execution_role_arn": "arn:aws:iam::123456789012:role/metaflow-staging-hosts-backup",
    "target_tags": {"Name": f"{NAME}-data"},
    "snapshot_tags": OURS,
    "retain_count": 7,
    "tags": OURS,
    "wait_timeout": 1,
}
ABSENT = {"name": NAME, "state": "absent", "wait_timeout": 1}


@pytest.fixture
def dlm(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("dlm")


@pytest.fixture
def policy(dlm, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "dlm_lifecycle_policy")


def live(dlm):
    """Return the one policy that there is."""
    (summary,) = dlm.get_lifecycle_policies()["Policies"]
    return dlm.get_lifecycle_policy(PolicyId=summary["PolicyId"])["Policy"]


def test_twelve_steps(policy, dlm):
    made = policy.change(PRESENT)["lifecycle_policy"]
    assert live(dlm)["PolicyDetails"]["Schedules"][0]["RetainRule"] == {"Count": 7}
    assert live(dlm)["Tags"] == OURS | {"Name": NAME}

    changed = policy.change(PRESENT | {"retain_count": 3, "tags": {"team": "ml"}})["lifecycle_policy"]
    assert changed["policy_id"] == made["policy_id"]
    assert live(dlm)["PolicyDetails"]["Schedules"][0]["RetainRule"] == {"Count": 3}
    assert live(dlm)["Tags"] == {"Name": NAME, "team": "ml"}

    assert policy.change(ABSENT)["lifecycle_policy"] == {}
    assert dlm.get_lifecycle_policies()["Policies"] == []


def test_a_policy_that_was_turned_off_by_hand_is_turned_on(policy, dlm):
    policy.run(PRESENT)
    dlm.update_lifecycle_policy(PolicyId=live(dlm)["PolicyId"], State="DISABLED")
    policy.change(PRESENT)
    assert live(dlm)["State"] == "ENABLED"


def test_a_lost_answer_makes_no_second_policy(policy, dlm, emulator):
    emulator.request("POST", "/_emulator/faults", {"action": "dlm:CreateLifecyclePolicy", "kind": "drop", "nth": [1]})
    policy.run(PRESENT)
    assert len(dlm.get_lifecycle_policies()["Policies"]) == 1
