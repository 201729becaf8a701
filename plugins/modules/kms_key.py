#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# In place of amazon.aws.kms_key (10.1), which knows a key by its alias alone: of a run that was killed between the key
# and its alias a key is left that nobody finds again, and the next run makes another. It shows no diff either.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kms_key
version_added: 0.1.0
short_description: Manage symmetric keys of KMS
description:
  - Creates and changes a key of KMS for encryption, known by its alias, and schedules it for deletion.
  - A key that has O(tags) and no alias was left by a killed run. It gets the alias, or is scheduled for deletion too.
  - A key that is disabled or scheduled for deletion is taken back into use.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Alias of the key, with or without V(alias/), unique in account and region.
    type: str
    required: true
  description:
    description: What the key is for. Left open, it stays as it is.
    type: str
  enable_key_rotation:
    description: Whether KMS makes new key material every year. Old data stays readable.
    type: bool
    default: true
  pending_window:
    description: How many days KMS waits before it deletes the key, 7 to 30; until then it can be taken back.
    type: int
    default: 30
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the key of the secrets
  mlops.metaflow.kms_key:
    name: alias/metaflow-prod-secrets
    description: Secrets of metaflow-prod
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod
      mlops.metaflow/component: secrets

- name: Schedule it for deletion, in a week
  mlops.metaflow.kms_key:
    name: alias/metaflow-prod-secrets
    pending_window: 7
    state: absent
"""

RETURN = r"""
kms_key:
  description: The key; in check mode, as it would be. Empty when O(state=absent).
  returned: always
  type: dict
  contains:
    alias_name: {type: str, sample: alias/metaflow-prod-secrets, description: Its alias.}
    arn:
      description: ARN of the key. In check mode that of a key to come ends in V(predicted).
      type: str
      sample: arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab
    description: {type: str, sample: Secrets of metaflow-prod, description: What it is for.}
    key_id: {type: str, sample: 1234abcd-12ab-34cd-56ef-1234567890ab, description: Its id.}
    key_rotation_enabled: {type: bool, sample: true, description: Whether KMS makes new key material every year.}
    key_state: {type: str, sample: Enabled, description: Whether it can be used.}
    tags: {type: dict, sample: {"mlops.metaflow/component": "secrets"}, description: The key's tags.}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    concurrently,
    options,
    patient_client,
)

#: KMS has names of its own for the parts of a tag.
TAG_NAMES = {"tag_name_key_name": "TagKey", "tag_value_key_name": "TagValue"}


class KmsKey(AwsResource):
    """A symmetric key for encryption, keyed by its alias."""

    kind = "KMS key"
    service = "kms"
    result_key = "kms_key"

    @property
    def name(self):
        return f"alias/{self.params['name'].removeprefix('alias/')}"

    def declare(self):
        declared = {
            "AliasName": self.name,
            "Description": self.params["description"],
            "KeyRotationEnabled": self.params["enable_key_rotation"],
            "KeyState": "Enabled",
            "tags": self.params["tags"],
        }
        return {key: value for key, value in declared.items() if value is not None}

    def read(self):
        key = self._named() or next(iter(self.nameless()), None)
        if key is None:
            return None
        about = {"KeyId": key["KeyId"]}
        found = concurrently(
            {
                "rotation": lambda: self.client.get_key_rotation_status(**about)["KeyRotationEnabled"],
                "tags": lambda: self.client.list_resource_tags(**about)["Tags"],
            }
        )
        shown = {name: key.get(name) for name in ("AliasName", "Arn", "Description", "KeyId", "KeyState")}
        tags = boto3_tag_list_to_ansible_dict(found["tags"], **TAG_NAMES)
        return {**shown, "KeyRotationEnabled": found["rotation"], "tags": tags}

    def _named(self):
        """Return the key of the alias, or None. Where it shall be absent, one on its way out counts as none."""
        try:
            key = self.client.describe_key(KeyId=self.name)["KeyMetadata"]
        except self.client.exceptions.NotFoundException:
            return None
        gone = self.params["state"] == "absent" and key["KeyState"] == "PendingDeletion"
        return None if gone else key | {"AliasName": self.name}

    def nameless(self):
        """Return the keys in use that have all of the tags and no alias: those that killed runs have left."""
        if not self.params["tags"]:
            return []
        tagging = patient_client(self.module, "resourcegroupstaggingapi")
        wanted = [{"Key": key, "Values": [value]} for key, value in self.params["tags"].items()]
        pages = tagging.get_paginator("get_resources").paginate(TagFilters=wanted, ResourceTypeFilters=["kms:key"])
        arns = [found["ResourceARN"] for page in pages for found in page["ResourceTagMappingList"]]
        keys = [self.client.describe_key(KeyId=arn)["KeyMetadata"] for arn in sorted(arns)]
        in_use = [key for key in keys if key["KeyState"] != "PendingDeletion"]
        return [key for key in in_use if not self.client.list_aliases(KeyId=key["KeyId"])["Aliases"]]

    def predict(self, desired):
        return {"Arn": self.arn("key/predicted"), "KeyId": "predicted", "tags": {}}

    def create(self, desired):
        arguments = {"Description": desired.get("Description", "")}
        if desired.get("tags"):
            arguments["Tags"] = self._tag_list(desired["tags"])
        # Without tags nothing tells a key that was made from others: then a lost answer leaves one behind.
        answer = self.create_once("create_key", lambda: next(iter(self.nameless()), None), **arguments)
        key = answer.get("KeyMetadata", answer)
        self.update(key, desired, {name: desired[name] for name in ("AliasName", "KeyRotationEnabled")})

    def update(self, live, desired, changes):
        about = {"KeyId": live["KeyId"]}
        if "KeyState" in changes:
            if live["KeyState"] == "PendingDeletion":
                self.client.cancel_key_deletion(**about)
            self.client.enable_key(**about)
        if "Description" in changes:
            self.client.update_key_description(**about, Description=changes["Description"])
        if changes.get("KeyRotationEnabled") is True:
            self.client.enable_key_rotation(**about)
        if changes.get("KeyRotationEnabled") is False:
            self.client.disable_key_rotation(**about)
        if "AliasName" in changes:
            self.client.create_alias(AliasName=self.name, TargetKeyId=live["KeyId"])

    def delete(self, live):
        keys = {live["KeyId"], *(key["KeyId"] for key in self.nameless())}
        for key in sorted(keys):
            self.client.schedule_key_deletion(KeyId=key, PendingWindowInDays=self.params["pending_window"])

    def tag(self, live, tags):
        self.client.tag_resource(KeyId=live["KeyId"], Tags=self._tag_list(tags))

    def untag(self, live, keys):
        self.client.untag_resource(KeyId=live["KeyId"], TagKeys=keys)

    def _tag_list(self, tags):
        return ansible_dict_to_boto3_tag_list(tags, **TAG_NAMES)


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            description={},
            enable_key_rotation={"type": "bool", "default": True},
            pending_window={"type": "int", "default": 30},
            **TAG_OPTIONS,
        ),
        supports_check_mode=True,
    )
    if not 7 <= module.params["pending_window"] <= 30:
        module.fail_json(msg=f"pending_window is {module.params['pending_window']}; KMS allows 7 to 30 days")
    KmsKey(module).run()


if __name__ == "__main__":
    main()
