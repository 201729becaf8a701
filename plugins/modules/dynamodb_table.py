#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of community.aws.dynamodb_table (10.0), which knows neither encryption, time to live, point-in-time recovery
# nor deletion protection, shows no diff, and returns no table in check mode; and of community.aws.dynamodb_ttl, which
# has no check mode (the task is skipped) and fails on a table that is still being created.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: dynamodb_table
short_description: Manage an on-demand DynamoDB table, declared whole
version_added: 0.1.0
description:
  - Creates, changes and removes a table that is paid by request, with its encryption, time to live, point-in-time
    recovery and deletion protection.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the table.
    type: str
    required: true
  state:
    description:
      - Whether the table should exist. V(absent) removes it with all its items.
      - With deletion protection on, that needs O(deletion_protection=false) in the same task.
    choices: [present, absent]
    default: present
    type: str
  hash_key:
    description: Name of the partition key. Needed for O(state=present). Can't be changed.
    type: str
  hash_key_type:
    description: Its type, C(S)tring, C(N)umber or C(B)inary.
    choices: [S, N, B]
    default: S
    type: str
  range_key:
    description: Name of the sort key. Can't be changed.
    type: str
  range_key_type:
    description: Its type, C(S)tring, C(N)umber or C(B)inary.
    choices: [S, N, B]
    default: S
    type: str
  ttl_attribute:
    description:
      - Name of the attribute that holds the time (seconds since 1970) after which DynamoDB removes an item. Left out,
        no item goes by itself.
      - DynamoDB admits one change of it per hour.
    type: str
  kms_key:
    description: ARN of the KMS key that encrypts the table. Left out, it is a key of DynamoDB's own, free of charge.
    type: str
  point_in_time_recovery:
    description: Whether the table can be restored to any second of the last 35 days.
    type: bool
    default: true
  deletion_protection:
    description: Whether AWS refuses to delete it. Left out, it is left as it is.
    type: bool
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the table that Metaflow's foreach needs on Step Functions
  mlops.metaflow.dynamodb_table:
    name: metaflow-prod-step-functions
    hash_key: pathspec
    ttl_attribute: ttl
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Remove it
  mlops.metaflow.dynamodb_table:
    name: metaflow-prod-step-functions
    state: absent
"""

RETURN = r"""
table:
  description:
    - The table, or an empty map when it is absent.
    - C(time_to_live) and C(kms_key) are there only where they are set.
  returned: success
  type: dict
  sample:
    arn: arn:aws:dynamodb:eu-west-1:123456789012:table/metaflow-prod-step-functions
    name: metaflow-prod-step-functions
    status: ACTIVE
    billing_mode: PAY_PER_REQUEST
    hash_key: {name: pathspec, type: S}
    time_to_live: ttl
    kms_key: arn:aws:kms:eu-west-1:123456789012:key/0b7a6c5d-1111-4222-8333-444455556666
    point_in_time_recovery: true
    deletion_protection: false
    tags: {mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
"""

from contextlib import suppress
from functools import partial

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    concurrently,
    error_code,
    options,
)


def encryption(kms_key):
    """Return the SSESpecification for a KMS key, or for a key that DynamoDB owns (None)."""
    return {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": kms_key} if kms_key else {"Enabled": False}


def live_keys(table):
    """Return ``{"HashKey": {"Name", "Type"}, "RangeKey": …}`` from DynamoDB's description of a table."""
    types = {attribute["AttributeName"]: attribute["AttributeType"] for attribute in table["AttributeDefinitions"]}
    names = {key["KeyType"]: key["AttributeName"] for key in table["KeySchema"]}
    return {
        part: {"Name": names[kind], "Type": types[names[kind]]} if kind in names else None
        for part, kind in (("HashKey", "HASH"), ("RangeKey", "RANGE"))
    }


class Table(AwsResource):
    kind = "DynamoDB table"
    service = "dynamodb"
    result_key = "table"

    def declare(self):
        params = self.params
        if params["kms_key"] and ":key/" not in params["kms_key"]:
            raise Failed("kms_key must be the key's ARN (…:key/…): DynamoDB shows no alias, so it can't be compared.")
        desired = {
            "BillingMode": "PAY_PER_REQUEST",
            "HashKey": {"Name": params["hash_key"], "Type": params["hash_key_type"]},
            "RangeKey": params["range_key"] and {"Name": params["range_key"], "Type": params["range_key_type"]},
            "TimeToLive": params["ttl_attribute"],
            "KmsKey": params["kms_key"],
            "PointInTimeRecovery": params["point_in_time_recovery"],
            "tags": params["tags"],
        }
        if params["deletion_protection"] is not None:
            desired["DeletionProtection"] = params["deletion_protection"]
        return desired

    # Reading

    def _describe(self):
        try:
            return self.client.describe_table(TableName=self.name)["Table"]
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
            return None

    def _time_to_live(self):
        return self.client.describe_time_to_live(TableName=self.name)["TimeToLiveDescription"]

    def _recovery(self):
        answer = self.client.describe_continuous_backups(TableName=self.name)["ContinuousBackupsDescription"]
        return answer["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"

    def _tags(self, arn):
        pages = self.client.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
        return boto3_tag_list_to_ansible_dict([tag for page in pages for tag in page["Tags"]])

    def read(self):
        table = self._describe()
        if table and table["TableStatus"] == "CREATING" and not self.module.check_mode:
            self._wait_until_active()  # until then DynamoDB doesn't show, change or delete all of it
            table = self._describe()
        if table is None:
            return None
        known = {"Arn": table["TableArn"], "Name": self.name, "Status": table["TableStatus"]}
        if table["TableStatus"] == "DELETING":
            return known
        details = concurrently(
            {
                "time_to_live": self._time_to_live,
                "PointInTimeRecovery": self._recovery,
                "tags": partial(self._tags, table["TableArn"]),
            }
        )
        time_to_live = details.pop("time_to_live")
        return {
            **known,
            "BillingMode": table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
            **live_keys(table),
            "TimeToLive": time_to_live["AttributeName"] if "ENABL" in time_to_live["TimeToLiveStatus"] else None,
            "KmsKey": table.get("SSEDescription", {}).get("KMSMasterKeyArn"),
            "DeletionProtection": table.get("DeletionProtectionEnabled", False),
            **details,
        }

    def _is_active(self):
        table = self._describe()
        if table["TableStatus"] == "INACCESSIBLE_ENCRYPTION_CREDENTIALS":
            raise Failed("DynamoDB may not use its KMS key: look at the key's policy and state.")
        return table["TableStatus"] == "ACTIVE" and table.get("SSEDescription", {}).get("Status") != "UPDATING"

    def _wait_until_active(self):
        self.wait_for("active", self._is_active)

    def settled(self, live):
        return self._is_active()

    def deleting(self, live):
        return live["Status"] == "DELETING"

    # Changing

    def refuse(self, live, desired, changes):
        if desired is None:
            if live["DeletionProtection"] and self.params["deletion_protection"] is not False:
                raise Failed("its deletion protection is on. To delete it all the same: deletion_protection=false.")
        elif changes.keys() & {"HashKey", "RangeKey"}:
            raise Failed("DynamoDB can't change the keys of a table. Delete it first, or choose another name.")

    def create(self, desired):
        keys = [(desired[part], kind) for part, kind in (("HashKey", "HASH"), ("RangeKey", "RANGE")) if desired[part]]
        try:
            self.client.create_table(
                TableName=self.name,
                AttributeDefinitions=[{"AttributeName": k["Name"], "AttributeType": k["Type"]} for k, _ in keys],
                KeySchema=[{"AttributeName": key["Name"], "KeyType": kind} for key, kind in keys],
                BillingMode=desired["BillingMode"],
                **({"SSESpecification": encryption(desired["KmsKey"])} if desired["KmsKey"] else {}),
                DeletionProtectionEnabled=desired.get("DeletionProtection", False),
                Tags=ansible_dict_to_boto3_tag_list(desired["tags"] or {}),
            )
        except ClientError as error:
            if error_code(error) != "ResourceInUseException":  # the SDK repeated a call whose answer was lost
                raise
        self._wait_until_active()
        later = {part: desired[part] for part in ("TimeToLive", "PointInTimeRecovery") if desired[part]}
        self.update({"TimeToLive": None}, desired, later)

    def update(self, live, desired, changes):
        # DynamoDB takes one such change at a time.
        if "BillingMode" in changes:
            self._update_table(BillingMode=changes["BillingMode"])
        if "KmsKey" in changes:
            self._update_table(SSESpecification=encryption(changes["KmsKey"]))
        if "DeletionProtection" in changes:
            self._update_table(DeletionProtectionEnabled=changes["DeletionProtection"])
        if "TimeToLive" in changes:
            self._update_time_to_live(live["TimeToLive"], changes["TimeToLive"])
        if "PointInTimeRecovery" in changes:
            self._update_recovery(changes["PointInTimeRecovery"])

    def _update_table(self, **change):
        self.client.update_table(TableName=self.name, **change)
        self._wait_until_active()

    def _update_time_to_live(self, have, want):
        """Set the attribute; another one can only be set when the old one is off, which takes up to an hour."""
        for attribute, enabled in ((have, False), (want, True)):
            if attribute:
                self.wait_for(
                    "through with its last change of the time to live",
                    lambda: self._time_to_live()["TimeToLiveStatus"] in ("ENABLED", "DISABLED"),
                )
                self.client.update_time_to_live(
                    TableName=self.name,
                    TimeToLiveSpecification={"Enabled": enabled, "AttributeName": attribute},
                )

    # A new table's backups are "being enabled" for some seconds.
    @AWSRetry.jittered_backoff(catch_extra_error_codes=["ContinuousBackupsUnavailableException"])
    def _update_recovery(self, enabled):
        self.client.update_continuous_backups(
            TableName=self.name,
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": enabled},
        )

    def tag(self, live, tags):
        self.client.tag_resource(ResourceArn=live["Arn"], Tags=ansible_dict_to_boto3_tag_list(tags))

    def untag(self, live, keys):
        self.client.untag_resource(ResourceArn=live["Arn"], TagKeys=keys)

    def delete(self, live):
        if live["DeletionProtection"]:
            self._update_table(DeletionProtectionEnabled=False)
        self.client.delete_table(TableName=self.name)

    def predict(self, desired):
        return {"Arn": self.arn(f"table/{self.name}"), "Name": self.name, "DeletionProtection": False, "tags": {}}


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            hash_key={"no_log": False},
            hash_key_type={"choices": ["S", "N", "B"], "default": "S", "no_log": False},
            range_key={"no_log": False},
            range_key_type={"choices": ["S", "N", "B"], "default": "S", "no_log": False},
            ttl_attribute={},
            kms_key={"no_log": False},
            point_in_time_recovery={"type": "bool", "default": True},
            deletion_protection={"type": "bool"},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["hash_key"])],
        supports_check_mode=True,
    )
    Table(module).run()


if __name__ == "__main__":
    main()
