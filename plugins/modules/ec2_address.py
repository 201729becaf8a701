#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of amazon.aws.ec2_eip (10.1), which finds an address by its IP or its device only: without these it allocates
# one more at every run. With reuse_existing_ip_allowed and tag_name it takes any that is not associated, so that one in
# use by a NAT gateway is never found again. It repeats AllocateAddress, which takes no client token, when the answer is
# lost; it returns no ids in check mode, and shows no diff.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_address
short_description: Manage an Elastic IP address, known by its name
version_added: 0.1.0
description:
  - Allocates, tags and releases an Elastic IP address for a VPC, and associates it with an instance.
  - An address is known by its tag C(Name), which it gets with its other tags in the call that allocates it. So a run
    that was killed right after leaves an address that the next run takes.
  - Where several addresses have the name, the one in use (else the oldest by id) is taken, and the others are named in
    a warning.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Value of the address's tag C(Name).
    type: str
    required: true
  instance_id:
    description: The instance to associate it with. Without it an association is left as it is.
    type: str
  state:
    description:
      - V(absent) releases every address of that name.
      - An address that is still associated is not released, unless with O(instance_id).
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
- name: Ensure an address for the NAT gateway
  mlops.metaflow.ec2_address:
    name: metaflow-prod-nat-1
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod
  register: address

- name: Release it
  mlops.metaflow.ec2_address:
    name: metaflow-prod-nat-1
    state: absent
"""

RETURN = r"""
address:
  description:
    - The address, or an empty map when it is absent.
    - C(association_id), C(network_interface_id) and C(private_ip_address) are there while it is associated.
  returned: success
  type: dict
  sample:
    allocation_id: eipalloc-0a1b2c3d4e5f60718
    public_ip: 203.0.113.25
    domain: vpc
    network_border_group: eu-west-1
    association_id: eipassoc-0a1b2c3d4e5f60718
    network_interface_id: eni-0a1b2c3d4e5f60718
    private_ip_address: 10.20.0.10
    tags: {Name: metaflow-prod-nat-1, mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
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


def by_preference(addresses):
    """Return the addresses, that in use first, then by id: every run chooses the same one."""
    return sorted(addresses, key=lambda address: ("AssociationId" not in address, address["AllocationId"]))


class Address(AwsResource):
    kind = "Elastic IP address"
    service = "ec2"
    result_key = "address"

    def declare(self):
        tags, instance = self.params["tags"], self.params["instance_id"]
        associated = {"InstanceId": instance} if instance else {}
        return {"Domain": "vpc", **associated, "tags": None if tags is None else {**tags, "Name": self.name}}

    def _all(self):
        filters = [{"Name": "tag:Name", "Values": [self.name]}, {"Name": "domain", "Values": ["vpc"]}]
        return by_preference(self.client.describe_addresses(Filters=filters)["Addresses"])

    def read(self):
        addresses = self._all()
        if not addresses:
            return None
        if len(addresses) > 1 and self.params["state"] == "present":
            others = ", ".join(f"{other['AllocationId']} ({other['PublicIp']})" for other in addresses[1:])
            self.module.warn(
                f"{len(addresses)} addresses are named '{self.name}'. {addresses[0]['AllocationId']} is used; "
                f"the others cost money for nothing, release them: {others}."
            )
        live = addresses[0]
        return {**live, "tags": boto3_tag_list_to_ansible_dict(live.pop("Tags"))}

    def refuse(self, live, desired, changes):
        if desired is not None:
            return
        for address in self._all():
            if "AssociationId" in address and not self.is_with_the_instance(address):
                user = address.get("NetworkInterfaceId") or address.get("InstanceId")
                raise Failed(
                    f"{address['AllocationId']} is still associated with {user}. Remove what uses it (a NAT gateway, "
                    "an instance) first."
                )

    def is_with_the_instance(self, address):
        """Tell whether an address is associated with the instance that the module is told of."""
        instance = self.params["instance_id"]
        return bool(instance) and address.get("InstanceId") == instance

    def create(self, desired):
        tags = desired["tags"] or {"Name": self.name}
        specifications = boto3_tag_specifications(tags, types=["elastic-ip"])
        self.create_once("allocate_address", self.read, Domain=desired["Domain"], TagSpecifications=specifications)
        self.update(self.read(), desired, desired)

    def update(self, live, desired, changes):
        if "InstanceId" in changes:
            self.client.associate_address(
                AllocationId=live["AllocationId"], InstanceId=desired["InstanceId"], AllowReassociation=True
            )

    def delete(self, live):
        for address in self._all():
            if self.is_with_the_instance(address) and "AssociationId" in address:
                self.client.disassociate_address(AssociationId=address["AssociationId"])
            self.client.release_address(AllocationId=address["AllocationId"])

    def tag(self, live, tags):
        self.client.create_tags(Resources=[live["AllocationId"]], Tags=ansible_dict_to_boto3_tag_list(tags))

    def untag(self, live, keys):
        self.client.delete_tags(Resources=[live["AllocationId"]], Tags=[{"Key": key} for key in keys])

    def predict(self, desired):
        return {"AllocationId": "eipalloc-predicted", "PublicIp": "(predicted)", "tags": {"Name": self.name}}


def main():
    module = AnsibleAWSModule(
        argument_spec=options(name={"required": True}, instance_id={}, **TAG_OPTIONS),
        supports_check_mode=True,
    )
    Address(module).run()


if __name__ == "__main__":
    main()
