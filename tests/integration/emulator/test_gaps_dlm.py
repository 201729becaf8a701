"""Data Lifecycle Manager, which moto lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]

DETAILS = {
    "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
    "ResourceTypes": ["VOLUME"],
    "TargetTags": [{"Key": "Name", "Value": "data"}],
    "Schedules": [
        {
            "Name": "daily",
            "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["03:00"]},
            "RetainRule": {"Count": 7},
        }
    ],
}


@pytest.mark.gap("dlm/lifecycle-policies")
def test_a_policy_is_kept_changed_tagged_and_deleted(emulator: Emulator, name: str, refused: Refused) -> None:
    dlm = emulator.client("dlm")
    made = dlm.create_lifecycle_policy(
        ExecutionRoleArn="arn:aws:iam::123456789012:role/backups",
        Description=name,
        State="ENABLED",
        PolicyDetails=DETAILS,
        Tags={"Name": name},
    )["PolicyId"]
    (summary,) = [one for one in dlm.get_lifecycle_policies()["Policies"] if one["Tags"] == {"Name": name}]
    assert (summary["PolicyId"], summary["State"], summary["Description"]) == (made, "ENABLED", name)

    dlm.update_lifecycle_policy(PolicyId=made, State="DISABLED")
    policy = dlm.get_lifecycle_policy(PolicyId=made)["Policy"]
    assert (policy["State"], policy["PolicyDetails"]) == ("DISABLED", DETAILS)
    dlm.tag_resource(ResourceArn=policy["PolicyArn"], Tags={"team": "ml"})
    dlm.untag_resource(ResourceArn=policy["PolicyArn"], TagKeys=["Name"])
    assert dlm.list_tags_for_resource(ResourceArn=policy["PolicyArn"])["Tags"] == {"team": "ml"}
    found = emulator.client("resourcegroupstaggingapi").get_resources(ResourceTypeFilters=["dlm"])
    assert policy["PolicyArn"] in [one["ResourceARN"] for one in found["ResourceTagMappingList"]]

    dlm.delete_lifecycle_policy(PolicyId=made)
    with refused("ResourceNotFoundException"):
        dlm.get_lifecycle_policy(PolicyId=made)
