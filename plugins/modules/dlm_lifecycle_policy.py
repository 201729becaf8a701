#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# No collection has a module for Data Lifecycle Manager.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: dlm_lifecycle_policy
short_description: Manage a policy of Data Lifecycle Manager that takes snapshots of volumes
version_added: 0.1.0
description:
  - Creates, changes and deletes a policy by which Data Lifecycle Manager takes snapshots of EBS volumes and deletes old
    ones.
  - A policy is known by its tag C(Name), which it gets with its other tags in the call that creates it.
  - Snapshots stay when their policy is deleted.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Value of the policy's tag C(Name).
    type: str
    required: true
  description:
    description:
      - What the policy is for; letters, digits, spaces, hyphens and underscores.
      - Required where it is to be present.
    type: str
  execution_role_arn:
    description: ARN of the role that Data Lifecycle Manager acts as. Required where the policy is to be present.
    type: str
  target_tags:
    description: The volumes that have one of these tags. Required where the policy is to be present.
    type: dict
  interval:
    description: Hours between two snapshots.
    type: int
    choices: [1, 2, 3, 4, 6, 8, 12, 24]
    default: 24
  time:
    description: The time (UTC) from which the first snapshot of a day is taken, within an hour.
    type: str
    default: "03:00"
  retain_count:
    description: How many snapshots of each volume are kept, 1 to 1000. Required where the policy is to be present.
    type: int
  snapshot_tags:
    description: Tags of the snapshots.
    type: dict
    default: {}
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure a daily snapshot of the data
  mlops.metaflow.dlm_lifecycle_policy:
    name: metaflow-prod-elk-1
    description: Data of metaflow-prod-elk-1
    execution_role_arn: arn:aws:iam::123456789012:role/metaflow-prod-hosts-backup
    target_tags: {Name: metaflow-prod-elk-1-data}
    retain_count: 7
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: End it; snapshots stay
  mlops.metaflow.dlm_lifecycle_policy:
    name: metaflow-prod-elk-1
    state: absent
"""

RETURN = r"""
lifecycle_policy:
  description: The policy, or an empty map when it is absent.
  returned: success
  type: dict
  sample:
    policy_id: policy-0a1b2c3d4e5f60718
    policy_arn: arn:aws:dlm:eu-west-1:123456789012:policy/policy-0a1b2c3d4e5f60718
    description: Data of metaflow-prod-elk-1
    state: ENABLED
    execution_role_arn: arn:aws:iam::123456789012:role/metaflow-prod-hosts-backup
    policy_details:
      policy_type: EBS_SNAPSHOT_MANAGEMENT
      resource_types: [VOLUME]
      target_tags: [{key: Name, value: metaflow-prod-elk-1-data}]
      schedules:
        - name: every 24 hours
          create_rule: {interval: 24, interval_unit: HOURS, times: ["03:00"]}
          retain_rule: {count: 7}
    tags: {Name: metaflow-prod-elk-1, mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    options,
)


def tag_list(tags):
    """Return a map of tags as Data Lifecycle Manager takes it, in the order of the keys."""
    return [{"Key": key, "Value": tags[key]} for key in sorted(tags)]


def in_order(details):
    """Return the details of a live policy with their lists of tags in the order of the keys."""
    schedules = [
        {**one, "TagsToAdd": sorted(one.get("TagsToAdd", []), key=lambda tag: tag["Key"])}
        for one in details.get("Schedules", [])
    ]
    targets = sorted(details.get("TargetTags", []), key=lambda tag: tag["Key"])
    return {**details, "TargetTags": targets, "Schedules": schedules}


class LifecyclePolicy(AwsResource):
    kind = "Lifecycle policy"
    service = "dlm"
    result_key = "lifecycle_policy"

    def declare(self):
        params, tags = self.params, self.params["tags"]
        schedule = {
            "Name": f"every {params['interval']} hours",
            "CopyTags": False,
            "TagsToAdd": tag_list(params["snapshot_tags"]),
            "CreateRule": {"Interval": params["interval"], "IntervalUnit": "HOURS", "Times": [params["time"]]},
            "RetainRule": {"Count": params["retain_count"]},
        }
        return {
            "Description": params["description"],
            "State": "ENABLED",
            "ExecutionRoleArn": params["execution_role_arn"],
            "PolicyDetails": {
                "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
                "ResourceTypes": ["VOLUME"],
                "TargetTags": tag_list(params["target_tags"] or {}),
                "Schedules": [schedule],
            },
            "tags": None if tags is None else {**tags, "Name": self.name},
        }

    def read(self):
        policies = self.client.get_lifecycle_policies()["Policies"]
        found = sorted(one["PolicyId"] for one in policies if one.get("Tags", {}).get("Name") == self.name)
        if len(found) > 1:
            raise Failed(f"{len(found)} policies have this name: {', '.join(found)}. Delete all but one.")
        if not found:
            return None
        policy = self.client.get_lifecycle_policy(PolicyId=found[0])["Policy"]
        keys = ("PolicyId", "PolicyArn", "Description", "State", "ExecutionRoleArn")
        return {
            **{key: policy[key] for key in keys},
            "PolicyDetails": in_order(policy["PolicyDetails"]),
            "tags": policy.get("Tags", {}),
        }

    def create(self, desired):
        declared = {key: value for key, value in desired.items() if key != "tags"}
        tags = desired["tags"] or {"Name": self.name}
        self.create_once("create_lifecycle_policy", self.read, Tags=tags, **declared)

    def update(self, live, desired, changes):
        # Details are replaced whole.
        self.client.update_lifecycle_policy(PolicyId=live["PolicyId"], **{key: desired[key] for key in changes})

    def delete(self, live):
        self.client.delete_lifecycle_policy(PolicyId=live["PolicyId"])

    def tag(self, live, tags):
        self.client.tag_resource(ResourceArn=live["PolicyArn"], Tags=tags)

    def untag(self, live, keys):
        self.client.untag_resource(ResourceArn=live["PolicyArn"], TagKeys=keys)

    def predict(self, desired):
        return {"PolicyId": "policy-predicted", "PolicyArn": self.arn("policy/policy-predicted")}


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            description={},
            execution_role_arn={},
            target_tags={"type": "dict"},
            interval={"type": "int", "choices": [1, 2, 3, 4, 6, 8, 12, 24], "default": 24},
            time={"default": "03:00"},
            retain_count={"type": "int"},
            snapshot_tags={"type": "dict", "default": {}},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ("description", "execution_role_arn", "target_tags", "retain_count"))],
        supports_check_mode=True,
    )
    LifecyclePolicy(module).run()


if __name__ == "__main__":
    main()
