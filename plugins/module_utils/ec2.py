# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What resources of EC2 that are known by a name in their VPC have in common."""

from __future__ import annotations

from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
    boto3_tag_specifications,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import AwsResource, Failed


class Ec2Resource(AwsResource):
    """A resource of a VPC, known by its tag ``Name``, or a name that EC2 keeps besides; its id is AWS's own."""

    service = "ec2"
    #: The key of the resource's id, e.g. ``RouteTableId``.
    id_key = ""
    #: How such an id begins, e.g. ``rtb-``.
    id_prefix = ""
    #: The filter of the describe call that takes ids, e.g. ``route-table-id``.
    id_filter = ""
    #: The filter of the describe call that takes names.
    name_filter = "tag:Name"
    #: EC2's word for the resource where tags are given at creation, e.g. ``route-table``.
    tag_type = ""

    def describe(self, filters):
        """Return all resources of the kind that EC2's filters admit, as EC2 describes them."""
        raise NotImplementedError

    def declared_tags(self):
        """Return the declared tags with the name among them, or None for "leave the others as they are"."""
        tags = self.params["tags"]
        return None if tags is None else {**tags, "Name": self.name}

    def specifications(self):
        """Return the tags as a create call takes them: so the next run finds what a killed one has made."""
        return boto3_tag_specifications(self.declared_tags() or {"Name": self.name}, types=[self.tag_type])

    def named(self):
        """Return the one resource of the name in the VPC with its tags as a map, or None.

        Its id is taken for a name too: so one that has lost its tag can still be deleted.

        :raises Failed: if several have the name.
        """
        key = self.id_filter if self.name.startswith(self.id_prefix) else self.name_filter
        vpc = {"Name": "vpc-id", "Values": [self.params["vpc_id"]]}
        found = self.describe([vpc, {"Name": key, "Values": [self.name]}])
        if len(found) > 1:
            ids = ", ".join(sorted(one[self.id_key] for one in found))
            raise Failed(
                f"{len(found)} have this name in {self.params['vpc_id']}: {ids}. Delete or rename all but one."
            )
        return {**found[0], "tags": boto3_tag_list_to_ansible_dict(found[0].get("Tags", []))} if found else None

    def tag(self, live, tags):
        self.client.create_tags(Resources=[live[self.id_key]], Tags=ansible_dict_to_boto3_tag_list(tags))

    def untag(self, live, keys):
        self.client.delete_tags(Resources=[live[self.id_key]], Tags=[{"Key": key} for key in keys])
