#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of amazon.aws.rds_instance (10.1), which takes the master password only as an argument of the play, so that
# it passes through the controller; this one reads it where it is needed, from the secret that the instance's clients
# refer to. Besides, the stock module shows no diff.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: db_instance
short_description: Manage an encrypted RDS database instance whose password stays in Secrets Manager
version_added: 0.1.0
description:
  - Creates, changes and removes a database instance of RDS that is encrypted and has no public address.
  - The master password is read from a secret at creation. It is in no argument, result, diff or log.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Identifier of the instance (C(DBInstanceIdentifier)).
    type: str
    required: true
  state:
    description:
      - Whether the instance should exist. With deletion protection on, V(absent) needs O(deletion_protection=false) in
        the same task.
    choices: [present, absent]
    default: present
    type: str
  engine:
    description: Database engine.
    type: str
    default: postgres
  engine_version:
    description:
      - Version of the engine, e.g. V(17) or V(17.4). A major version alone takes RDS's default minor one when it
        creates it, and accepts any later one, so that RDS's own minor upgrades are no difference.
      - Needed for O(state=present).
    type: str
  allow_major_version_upgrade:
    description: Whether a higher major version in O(engine_version) may be applied. RDS can't go back.
    type: bool
    default: false
  db_instance_class:
    description: Machine of the instance, e.g. V(db.t4g.small). Needed for O(state=present).
    type: str
  allocated_storage:
    description: Size of the storage in GiB. RDS can raise it, and never lower it; what has grown by itself is accepted.
    type: int
    default: 20
  max_allocated_storage:
    description: Up to how many GiB the storage grows by itself.
    type: int
    default: 100
  storage_type:
    description: Kind of storage.
    type: str
    default: gp3
  kms_key:
    description: ARN of the KMS key that encrypts storage, snapshots and logs. Can't be changed.
    type: str
  db_name:
    description: Name of the database that is created with the instance.
    type: str
  master_user_secret:
    description: Name or ARN of the secret, a JSON object with C(username) and C(password). Counts at creation.
    type: str
  port:
    description: Port of the database.
    type: int
    default: 5432
  db_subnet_group_name:
    description: Subnet group of the instance.
    type: str
  vpc_security_group_ids:
    description: Ids of the security groups.
    type: list
    elements: str
    default: []
  db_parameter_group_name:
    description: Parameter group of the instance.
    type: str
  multi_az:
    description: Whether a standby in another zone takes over when the zone of the instance fails.
    type: bool
    default: false
  backup_retention_period:
    description: How many days of backups are kept; V(0) switches them off.
    type: int
    default: 7
  deletion_protection:
    description: Whether RDS refuses to delete the instance. Left out, it is left as it is.
    type: bool
  final_snapshot:
    description:
      - With O(state=absent), name of the snapshot that is taken first. Left out, the data is lost, and so are the
        automatic backups.
    type: str
  wait_timeout:
    description: How long to wait, in seconds. A new instance takes RDS 5 to 10 minutes.
    type: int
    default: 1800
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the database of the metadata service, and don't wait for it yet
  mlops.metaflow.db_instance:
    name: metaflow-prod
    engine_version: "17"
    db_instance_class: db.t4g.small
    kms_key: arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab
    db_name: metaflow
    master_user_secret: metaflow-prod/database
    db_subnet_group_name: metaflow-prod
    vpc_security_group_ids: [sg-0123456789abcdef0]
    db_parameter_group_name: metaflow-prod
    deletion_protection: true
    wait: false

- name: Remove it, and keep what is in it
  mlops.metaflow.db_instance:
    name: metaflow-prod
    state: absent
    deletion_protection: false
    final_snapshot: metaflow-prod-2026-11-24
"""

RETURN = r"""
db_instance:
  description: The instance as RDS describes it.
  returned: success
  type: dict
  sample:
    db_instance_identifier: metaflow-prod
    db_instance_status: available
    endpoint: {address: metaflow-prod.abc123.eu-west-1.rds.amazonaws.com, port: 5432}
    storage_encrypted: true
    tags: {mlops.metaflow/stack: metaflow}
"""

import json
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    error_code,
    options,
    patient_client,
)

#: Option -> key of the RDS API, for what is declared and compared under one name.
KEYS = {
    "engine": "Engine",
    "engine_version": "EngineVersion",
    "db_instance_class": "DBInstanceClass",
    "allocated_storage": "AllocatedStorage",
    "max_allocated_storage": "MaxAllocatedStorage",
    "storage_type": "StorageType",
    "kms_key": "KmsKeyId",
    "db_name": "DBName",
    "port": "Port",
    "db_subnet_group_name": "DBSubnetGroupName",
    "vpc_security_group_ids": "VpcSecurityGroupIds",
    "db_parameter_group_name": "DBParameterGroupName",
    "multi_az": "MultiAZ",
    "backup_retention_period": "BackupRetentionPeriod",
    "deletion_protection": "DeletionProtection",
}

#: What holds for every instance of ours.
ALWAYS = {
    "StorageEncrypted": True,
    "PubliclyAccessible": False,
    "CopyTagsToSnapshot": True,
    "AutoMinorVersionUpgrade": True,
}

#: What RDS can't change on an instance that exists.
FIXED = ("Engine", "KmsKeyId", "DBName", "StorageEncrypted", "DBSubnetGroupName")

#: Statuses out of which RDS does not come by itself.
BROKEN = (
    "failed",
    "inaccessible-encryption-credentials",
    "incompatible-network",
    "incompatible-parameters",
    "incompatible-restore",
    "insufficient-capacity",
    "storage-full",
)


def flattened(instance):
    """Return an instance as described, with the keys under which it is declared.

    A change that RDS has accepted and not finished counts as made.
    """
    pending = {key: value for key, value in instance.get("PendingModifiedValues", {}).items() if key in KEYS.values()}
    groups = [group["VpcSecurityGroupId"] for group in instance.get("VpcSecurityGroups", [])]
    # Backups move it on every few minutes, which is no difference.
    lasting = {key: value for key, value in instance.items() if key != "LatestRestorableTime"}
    return {
        **lasting,
        "Port": instance.get("Endpoint", {}).get("Port") or instance.get("DbInstancePort"),
        "DBSubnetGroupName": instance.get("DBSubnetGroup", {}).get("DBSubnetGroupName"),
        "VpcSecurityGroupIds": groups,
        "DBParameterGroupName": next(
            (group["DBParameterGroupName"] for group in instance.get("DBParameterGroups", [])), None
        ),
        "tags": boto3_tag_list_to_ansible_dict(instance.get("TagList", [])),
        **pending,
    }


def version_covers(declared, live):
    """Tell whether a live version is one that the declared (perhaps major) version stands for."""
    return live == declared or live.startswith(declared + ".")


class Instance(AwsResource):
    kind = "RDS instance"
    service = "rds"
    result_key = "db_instance"
    unordered = ("tags", "VpcSecurityGroupIds")

    def declare(self):
        given = {key: self.params[option] for option, key in KEYS.items() if self.params[option] is not None}
        tags = {"tags": self.params["tags"]} if self.params["tags"] is not None else {}
        return {"DBInstanceIdentifier": self.name, **given, **ALWAYS, **tags}

    def read(self):
        try:
            instance = self.client.describe_db_instances(DBInstanceIdentifier=self.name)["DBInstances"][0]
        except ClientError as error:
            if error_code(error) not in ("DBInstanceNotFound", "DBInstanceNotFoundFault"):
                raise
            return None
        return flattened(instance)

    def refine(self, desired, live):
        if live is None:
            return desired
        refined = dict(desired)
        if version_covers(desired["EngineVersion"], live["EngineVersion"]):
            refined["EngineVersion"] = live["EngineVersion"]
        # Storage grows by itself and never shrinks.
        refined["AllocatedStorage"] = max(desired["AllocatedStorage"], live["AllocatedStorage"])
        if live["Port"] is None:  # RDS shows the port when it has made the endpoint
            refined.pop("Port")
        return refined

    def refuse(self, live, desired, changes):
        if desired is None:
            if live["DeletionProtection"] and self.params["deletion_protection"] is not False:
                raise Failed("its deletion protection is on. To delete it all the same: deletion_protection=false.")
            return
        fixed = [key for key in FIXED if key in changes]
        if fixed:
            raise Failed(
                f"RDS can't change {', '.join(fixed)} of an instance that exists. "
                "Restore a snapshot under another name, or declare what is there."
            )
        version = changes.get("EngineVersion")
        if version and version.partition(".")[0] != live["EngineVersion"].partition(".")[0]:
            self.refuse_major(live["EngineVersion"], version)

    def refuse_major(self, live, version):
        if int(version.partition(".")[0]) < int(live.partition(".")[0]):
            raise Failed(f"it runs version {live}, and RDS can't go back to {version}.")
        if not self.params["allow_major_version_upgrade"]:
            raise Failed(
                f"it runs version {live}. The step to {version} can't be undone: take a snapshot, then set "
                "allow_major_version_upgrade=true."
            )

    def create(self, desired):
        own = {key: value for key, value in desired.items() if key != "tags"}
        self.client.create_db_instance(
            **own, **self.credentials(), Tags=ansible_dict_to_boto3_tag_list(desired.get("tags", {}))
        )

    def credentials(self):
        """Read the master user and the password from the secret; the values go nowhere but into the one call."""
        secrets = patient_client(self.module, "secretsmanager")
        value = json.loads(secrets.get_secret_value(SecretId=self.params["master_user_secret"])["SecretString"])
        self.module.no_log_values.add(value["password"])
        return {"MasterUsername": value["username"], "MasterUserPassword": value["password"]}

    def update(self, live, desired, changes):
        # What the API calls otherwise when it changes it.
        arguments = {{"Port": "DBPortNumber"}.get(key, key): value for key, value in changes.items()}
        if "EngineVersion" in changes:
            arguments["AllowMajorVersionUpgrade"] = self.params["allow_major_version_upgrade"]
        self.client.modify_db_instance(DBInstanceIdentifier=self.name, ApplyImmediately=True, **arguments)

    def delete(self, live):
        if live["DeletionProtection"]:
            self.client.modify_db_instance(
                DBInstanceIdentifier=self.name, DeletionProtection=False, ApplyImmediately=True
            )
        snapshot = self.params["final_snapshot"]
        self.client.delete_db_instance(
            DBInstanceIdentifier=self.name,
            SkipFinalSnapshot=not snapshot,
            DeleteAutomatedBackups=not snapshot,
            **({"FinalDBSnapshotIdentifier": snapshot} if snapshot else {}),
        )

    def tag(self, live, tags):
        self.client.add_tags_to_resource(ResourceName=live["DBInstanceArn"], Tags=ansible_dict_to_boto3_tag_list(tags))

    def untag(self, live, keys):
        self.client.remove_tags_from_resource(ResourceName=live["DBInstanceArn"], TagKeys=keys)

    def settled(self, live):
        status = live["DBInstanceStatus"]
        if status in BROKEN:
            raise Failed(f"its status is {status}, and RDS won't come out of it by itself.")
        return status == "available" and not live.get("PendingModifiedValues")

    def deleting(self, live):
        return live["DBInstanceStatus"] == "deleting"

    def predict(self, desired):
        return {
            "DBInstanceArn": self.arn(f"db:{self.name}"),
            "DBInstanceStatus": "predicted",
            "Endpoint": {"Address": f"{self.name}.predicted", "Port": desired["Port"]},
        }


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            engine={"default": "postgres"},
            engine_version={},
            allow_major_version_upgrade={"type": "bool", "default": False},
            db_instance_class={},
            allocated_storage={"type": "int", "default": 20},
            max_allocated_storage={"type": "int", "default": 100},
            storage_type={"default": "gp3"},
            kms_key={"no_log": False},
            db_name={},
            master_user_secret={"no_log": False},
            port={"type": "int", "default": 5432},
            db_subnet_group_name={},
            vpc_security_group_ids={"type": "list", "elements": "str", "default": []},
            db_parameter_group_name={},
            multi_az={"type": "bool", "default": False},
            backup_retention_period={"type": "int", "default": 7},
            deletion_protection={"type": "bool"},
            final_snapshot={},
            **(TAG_OPTIONS | {"wait_timeout": {"type": "int", "default": 1800}}),
        ),
        required_if=[
            ("state", "present", ["engine_version", "db_instance_class", "master_user_secret", "kms_key", "db_name"])
        ],
        supports_check_mode=True,
    )
    Instance(module).run()


if __name__ == "__main__":
    main()
