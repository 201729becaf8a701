#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of amazon.aws.ec2_vpc_endpoint (10.1), which fails where an existing gateway endpoint has other route tables
# than declared, and shows no diff.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_gateway_endpoint
short_description: Manage a gateway endpoint of a VPC, known by its name
version_added: 0.1.0
description:
  - Creates, changes and deletes a gateway endpoint, by which a VPC reaches S3 or DynamoDB inside AWS's network.
  - An endpoint is known by its tag C(Name) in its VPC.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Value of the endpoint's tag C(Name). To delete one that has lost this tag, its ID.
    type: str
    required: true
  vpc_id:
    description: ID of the VPC.
    type: str
    required: true
  service_name:
    description: Name of the service, e.g. V(com.amazonaws.eu-west-1.s3). It can't be changed.
    type: str
  route_table_ids:
    description: The route tables that get a route to the service.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure that traffic to S3 stays inside AWS
  mlops.metaflow.ec2_gateway_endpoint:
    name: metaflow-prod-s3
    vpc_id: vpc-0a1b2c3d4e5f60718
    service_name: com.amazonaws.eu-west-1.s3
    route_table_ids: [rtb-0a1b2c3d4e5f60718]
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Remove the endpoint
  mlops.metaflow.ec2_gateway_endpoint:
    name: metaflow-prod-s3
    vpc_id: vpc-0a1b2c3d4e5f60718
    state: absent
"""

RETURN = r"""
vpc_endpoint:
  description: The endpoint, or an empty map when it is absent.
  returned: success
  type: dict
  sample:
    vpc_endpoint_id: vpce-0a1b2c3d4e5f60718
    vpc_id: vpc-0a1b2c3d4e5f60718
    service_name: com.amazonaws.eu-west-1.s3
    state: available
    route_table_ids: [rtb-0a1b2c3d4e5f60718]
    tags: {Name: metaflow-prod-s3, mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.ec2 import Ec2Resource
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, Failed, options


class GatewayEndpoint(Ec2Resource):
    kind = "Gateway endpoint"
    result_key = "vpc_endpoint"
    id_key = "VpcEndpointId"
    id_prefix = "vpce-"
    id_filter = "vpc-endpoint-id"
    tag_type = "vpc-endpoint"
    unordered = ("tags", "RouteTableIds")

    def declare(self):
        return {
            "ServiceName": self.params["service_name"],
            "RouteTableIds": self.params["route_table_ids"],
            "tags": self.declared_tags(),
        }

    def describe(self, filters):
        filters = [*filters, {"Name": "vpc-endpoint-type", "Values": ["Gateway"]}]
        pages = self.client.get_paginator("describe_vpc_endpoints").paginate(Filters=filters)
        found = [endpoint for page in pages for endpoint in page["VpcEndpoints"]]
        # EC2 writes the state as "Available" and as "available".
        return [endpoint for endpoint in found if endpoint["State"].lower() != "deleted"]

    def read(self):
        endpoint = self.named()
        if endpoint is None:
            return None
        keys = ("VpcEndpointId", "VpcId", "ServiceName", "RouteTableIds", "tags")
        return {"State": endpoint["State"].lower(), **{key: endpoint[key] for key in keys}}

    def refuse(self, live, desired, changes):
        if "ServiceName" in changes:
            raise Failed(f"it leads to {live['ServiceName']}, and AWS can't change that. Choose another name.")

    def create(self, desired):
        self.create_once(
            "create_vpc_endpoint",
            self.read,
            VpcEndpointType="Gateway",
            VpcId=self.params["vpc_id"],
            ServiceName=desired["ServiceName"],
            RouteTableIds=desired["RouteTableIds"],
            TagSpecifications=self.specifications(),
        )

    def update(self, live, desired, changes):
        has, wants = set(live["RouteTableIds"]), set(desired["RouteTableIds"])
        self.client.modify_vpc_endpoint(
            VpcEndpointId=live["VpcEndpointId"],
            AddRouteTableIds=sorted(wants - has),
            RemoveRouteTableIds=sorted(has - wants),
        )

    def settled(self, live):
        return live["State"] == "available"

    def deleting(self, live):
        return live["State"] == "deleting"

    def delete(self, live):
        answer = self.client.delete_vpc_endpoints(VpcEndpointIds=[live["VpcEndpointId"]])
        for problem in answer.get("Unsuccessful", []):
            raise Failed(problem["Error"]["Message"])

    def predict(self, desired):
        return {
            "VpcEndpointId": "vpce-predicted",
            "VpcId": self.params["vpc_id"],
            "State": "predicted",
            "tags": {"Name": self.name},
        }


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            vpc_id={"required": True},
            service_name={},
            route_table_ids={"type": "list", "elements": "str", "default": []},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["service_name"])],
        supports_check_mode=True,
    )
    GatewayEndpoint(module).run()


if __name__ == "__main__":
    main()
