#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of amazon.aws.ec2_vol (10.1), which in check mode calls every volume that is there changed; ends well where
# another volume has the device; says nothing of a volume in the wrong zone or with another key; and shows no diff.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_volume
short_description: Manage an encrypted EBS volume, known by its name, and its attachment
version_added: 0.1.0
description:
  - Creates an encrypted gp3 volume, enlarges it, attaches it to an instance, and deletes it.
  - A volume is known by its tag C(Name), which it gets with its other tags in the call that creates it.
  - It survives the instance that it is attached to, also where somebody has said otherwise by hand.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Value of the volume's tag C(Name).
    type: str
    required: true
  availability_zone:
    description: Where it lies; required where it is to be present. It can't be changed.
    type: str
  size:
    description: Size in GiB; required where it is to be present. It can't shrink.
    type: int
  kms_key:
    description: ARN of the KMS key that encrypts it; without it, EBS's default key. It can't be changed.
    type: str
  instance_id:
    description:
      - The instance to attach it to. Without it an attachment is left as it is.
      - A volume that is attached to another instance that lives is refused; one whose instance is ending is waited for.
    type: str
  device_name:
    description: The device to attach it as.
    type: str
    default: /dev/sdf
  state:
    description: V(absent) deletes the volume with what is on it. One that is attached is not deleted.
    choices: [present, absent]
    default: present
    type: str
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the data volume
  mlops.metaflow.ec2_volume:
    name: metaflow-prod-elk-1-data
    availability_zone: eu-west-1a
    size: 100
    kms_key: arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9
    instance_id: i-0a1b2c3d4e5f60718
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod
  register: volume

- name: Delete it, and what is on it
  mlops.metaflow.ec2_volume:
    name: metaflow-prod-elk-1-data
    state: absent
"""

RETURN = r"""
volume:
  description:
    - The volume, or an empty map when it is absent.
    - C(instance_id), C(device), C(attachment) and C(delete_on_termination) are there while it is attached.
  returned: success
  type: dict
  sample:
    volume_id: vol-0a1b2c3d4e5f60718
    availability_zone: eu-west-1a
    size: 100
    volume_type: gp3
    encrypted: true
    kms_key_id: arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9
    state: in-use
    instance_id: i-0a1b2c3d4e5f60718
    device: /dev/sdf
    attachment: attached
    delete_on_termination: false
    tags: {Name: metaflow-prod-elk-1-data, mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
    boto3_tag_specifications,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    options,
)

#: What can't be changed once the volume is there.
FIXED = {
    "AvailabilityZone": "lies in {0}, and volumes don't move. Keep its machine in that zone, or make a new volume "
    "there from a snapshot.",
    "Encrypted": "is not encrypted. Make an encrypted one from a snapshot, with the same name.",
    "KmsKeyId": "is encrypted with {0}. Make a new one from a snapshot, with the key that you want and the same name.",
}


class Volume(AwsResource):
    kind = "EBS volume"
    service = "ec2"
    result_key = "volume"

    def declare(self):
        params = self.params
        volume = {
            "AvailabilityZone": params["availability_zone"],
            "Size": params["size"],
            "VolumeType": "gp3",
            "Encrypted": True,
        }
        if params["kms_key"]:
            volume["KmsKeyId"] = params["kms_key"]
        if params["instance_id"]:
            volume["InstanceId"] = params["instance_id"]
            volume["Device"] = params["device_name"]
            volume["DeleteOnTermination"] = False
        tags = params["tags"]
        return {**volume, "tags": None if tags is None else {**tags, "Name": self.name}}

    def read(self):
        filters = [
            {"Name": "tag:Name", "Values": [self.name]},
            {"Name": "status", "Values": ["creating", "available", "in-use", "error"]},
        ]
        pages = self.client.get_paginator("describe_volumes").paginate(Filters=filters)
        found = [volume for page in pages for volume in page["Volumes"]]
        if len(found) > 1:
            ids = ", ".join(sorted(volume["VolumeId"] for volume in found))
            raise Failed(f"{len(found)} volumes have this name: {ids}. Delete or rename all but one.")
        if not found:
            return None
        (volume,) = found
        attachment = next((one for one in volume["Attachments"] if one["State"] != "detached"), {})
        keys = ("VolumeId", "AvailabilityZone", "Size", "VolumeType", "Encrypted", "KmsKeyId", "State")
        return {
            **{key: volume[key] for key in keys if key in volume},
            **{key: attachment[key] for key in ("InstanceId", "Device", "DeleteOnTermination") if key in attachment},
            **({"Attachment": attachment["State"]} if attachment else {}),
            "tags": boto3_tag_list_to_ansible_dict(volume.get("Tags", [])),
        }

    def refuse(self, live, desired, changes):
        if desired is None:
            if "InstanceId" in live and self.lives(live["InstanceId"]):
                raise Failed(
                    f"it is attached to {live['InstanceId']}. Remove that instance, or detach the volume, first."
                )
            return
        for key, text in FIXED.items():
            if key in changes:
                raise Failed(f"it {text.format(live.get(key, 'another key'))}")
        if "Size" in changes and desired["Size"] < live["Size"]:
            raise Failed(f"it has {live['Size']} GiB, and volumes can't shrink: ask for at least that.")
        if "InstanceId" in changes and "InstanceId" in live and self.lives(live["InstanceId"]):
            raise Failed(f"it is attached to {live['InstanceId']}. Detach it, or remove that instance, first.")

    def lives(self, instance):
        """Tell whether an instance holds its volumes: it neither has ended nor is ending."""
        filters = [
            {"Name": "instance-id", "Values": [instance]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        return bool(self.client.describe_instances(Filters=filters)["Reservations"])

    def create(self, desired):
        tags = boto3_tag_specifications(desired["tags"] or {"Name": self.name}, types=["volume"])
        keys = ("AvailabilityZone", "Size", "VolumeType", "Encrypted", "KmsKeyId")
        # The SDK adds a client token, so that a call that it repeats makes no second volume.
        self.client.create_volume(TagSpecifications=tags, **{key: desired[key] for key in keys if key in desired})
        self.update(self.read(), desired, {"InstanceId": desired["InstanceId"]} if "InstanceId" in desired else {})

    def update(self, live, desired, changes):
        grown = {key: desired[key] for key in ("Size", "VolumeType") if key in changes}
        if grown:
            self.client.modify_volume(VolumeId=live["VolumeId"], **grown)
        if "InstanceId" in changes:
            self.attach(live["VolumeId"], desired)
        elif "Device" in changes:
            raise Failed(f"it is attached as {live['Device']}. Detach it first, when nothing uses it.")
        elif "DeleteOnTermination" in changes:
            mapping = {"DeviceName": desired["Device"], "Ebs": {"DeleteOnTermination": False}}
            self.client.modify_instance_attribute(InstanceId=desired["InstanceId"], BlockDeviceMappings=[mapping])

    def attach(self, volume, desired):
        """Attach it, once it is made, or its last instance has let it go."""
        self.wait_for("available", lambda: self.read()["State"] == "available")
        # A volume that is attached by itself outlives its instance.
        self.client.attach_volume(VolumeId=volume, InstanceId=desired["InstanceId"], Device=desired["Device"])

    def settled(self, live):
        if live["State"] == "error":
            raise Failed("its state is 'error': EBS has lost it. Restore it from a snapshot.")
        size, instance = self.params["size"], self.params["instance_id"]
        attached = not instance or (live.get("InstanceId"), live.get("Attachment")) == (instance, "attached")
        return live["State"] != "creating" and live["Size"] >= size and attached

    def last_word(self):
        live = self.read() or {}
        holder = f", attached to {live['InstanceId']}" if "InstanceId" in live else ""
        return f"{live['State']}{holder}" if live else ""

    def delete(self, live):
        self.client.delete_volume(VolumeId=live["VolumeId"])

    def tag(self, live, tags):
        self.client.create_tags(Resources=[live["VolumeId"]], Tags=ansible_dict_to_boto3_tag_list(tags))

    def untag(self, live, keys):
        self.client.delete_tags(Resources=[live["VolumeId"]], Tags=[{"Key": key} for key in keys])

    def predict(self, desired):
        return {"VolumeId": "vol-predicted", "State": "in-use" if "InstanceId" in desired else "available"}


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            availability_zone={},
            size={"type": "int"},
            kms_key={"no_log": False},
            instance_id={},
            device_name={"default": "/dev/sdf"},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ("availability_zone", "size"))],
        supports_check_mode=True,
    )
    Volume(module).run()


if __name__ == "__main__":
    main()
