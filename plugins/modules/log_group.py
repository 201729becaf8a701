#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# In place of amazon.aws.cloudwatchlogs_log_group (10.1), which writes the retention in check mode, deletes the log
# group with its logs when it doesn't know the retention (1096, 2192, 2557, 2922, 3288 days), and shows no diff.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: log_group
version_added: 0.1.0
short_description: Manage log groups of CloudWatch Logs
description:
  - Creates, changes and deletes a log group with its retention and its tags. CloudWatch encrypts it.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the log group, unique in account and region.
    type: str
    required: true
  retention_in_days:
    description:
      - How long CloudWatch keeps what is logged, in days.
      - Left open, it stays as it is; a new log group keeps everything for ever.
    type: int
    choices: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure that logs are kept for a month
  mlops.metaflow.log_group:
    name: /metaflow/prod/metadata-service
    retention_in_days: 30
    tags:
      Component: metadata_service

- name: Ensure that the log group is gone, with all that is in it
  mlops.metaflow.log_group:
    name: /metaflow/prod/metadata-service
    state: absent
"""

RETURN = r"""
log_group:
  description: The log group; in check mode, as it would be. Empty when O(state=absent).
  returned: always
  type: dict
  contains:
    log_group_arn:
      description: ARN of the log group.
      type: str
      sample: arn:aws:logs:us-east-1:123456789012:log-group:/metaflow/prod/metadata-service
    log_group_name: {type: str, sample: /metaflow/prod/metadata-service, description: Name of the log group.}
    retention_in_days: {type: int, sample: 30, description: "How long logs are kept; not there means for ever."}
    tags: {type: dict, sample: {"Component": "metadata_service"}, description: The log group's tags.}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, AwsResource, options

#: The retentions that PutRetentionPolicy takes.
RETENTIONS = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]


class LogGroup(AwsResource):
    """A log group, keyed by its name."""

    kind = "log group"
    service = "logs"
    result_key = "log_group"

    def declare(self):
        declared = {
            "logGroupName": self.name,
            "retentionInDays": self.params["retention_in_days"],
            "tags": self.params["tags"],
        }
        return {key: value for key, value in declared.items() if value is not None}

    def read(self):
        # The prefix finds others too, but the group of that very name is the first: they come sorted by name.
        groups = self.client.describe_log_groups(logGroupNamePrefix=self.name, limit=1)["logGroups"]
        if not groups or groups[0]["logGroupName"] != self.name:
            return None
        live = {key: groups[0].get(key) for key in ("logGroupName", "retentionInDays")}
        # `arn` ends in ":*", which stands for the streams and which the calls for tags don't take.
        live["logGroupArn"] = groups[0]["arn"].removesuffix(":*")
        live["tags"] = self.client.list_tags_for_resource(resourceArn=live["logGroupArn"])["tags"]
        return live

    def predict(self, desired):
        return {"logGroupArn": self.arn(f"log-group:{self.name}"), "tags": {}}

    def create(self, desired):
        arguments = {key: desired[key] for key in ("logGroupName", "tags") if desired.get(key)}
        self.client.create_log_group(**arguments)
        if "retentionInDays" in desired:
            self.update(None, desired, desired)

    def update(self, live, desired, changes):
        # Name and ARN say which it is, so the retention is all that can differ.
        self.client.put_retention_policy(logGroupName=self.name, retentionInDays=changes["retentionInDays"])

    def delete(self, live):
        self.client.delete_log_group(logGroupName=self.name)

    def tag(self, live, tags):
        self.client.tag_resource(resourceArn=live["logGroupArn"], tags=tags)

    def untag(self, live, keys):
        self.client.untag_resource(resourceArn=live["logGroupArn"], tagKeys=keys)


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            retention_in_days={"type": "int", "choices": RETENTIONS},
            **TAG_OPTIONS,
        ),
        supports_check_mode=True,
    )
    LogGroup(module).run()


if __name__ == "__main__":
    main()
