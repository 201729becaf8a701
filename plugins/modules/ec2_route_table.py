#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of amazon.aws.ec2_vpc_route_table (10.1), which sleeps five seconds after each change; finds a table by all
# its tags together, so that it makes a second one when a tag changes; fails in check mode where a subnet is not there
# yet; and shows no diff.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_route_table
short_description: Manage a route table of a VPC, known by its name
version_added: 0.1.0
description:
  - Creates, changes and deletes a route table, its routes for IPv4 ranges and its subnets.
  - A table is known by its tag C(Name) in its VPC.
  - The route within the VPC, routes that a virtual private gateway propagates, and routes of gateway endpoints are left
    alone.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Value of the table's tag C(Name). To delete one that has lost this tag, its ID.
    type: str
    required: true
  vpc_id:
    description: ID of the VPC.
    type: str
    required: true
  routes:
    description: Routes for IPv4 ranges, each with one of O(routes[].gateway_id) and O(routes[].nat_gateway_id).
    type: list
    elements: dict
    default: []
    suboptions:
      destination_cidr_block:
        description: Where to, e.g. V(0.0.0.0/0).
        type: str
        required: true
      gateway_id:
        description: ID of an internet gateway or virtual private gateway.
        type: str
      nat_gateway_id:
        description: ID of a NAT gateway.
        type: str
  purge_routes:
    description: Whether to remove routes for other IPv4 ranges, e.g. one that somebody made for a peered network.
    type: bool
    default: true
  subnet_ids:
    description:
      - The subnets that use the table. A subnet that uses another one is taken from that.
      - A subnet that is no longer listed uses the VPC's main table again.
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
- name: Ensure the table of the private subnets
  mlops.metaflow.ec2_route_table:
    name: metaflow-prod-private-1
    vpc_id: vpc-0a1b2c3d4e5f60718
    routes:
      - {destination_cidr_block: 0.0.0.0/0, nat_gateway_id: nat-0a1b2c3d4e5f60718}
    subnet_ids: [subnet-0a1b2c3d4e5f60718]
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Remove it
  mlops.metaflow.ec2_route_table:
    name: metaflow-prod-private-1
    vpc_id: vpc-0a1b2c3d4e5f60718
    state: absent
"""

RETURN = r"""
route_table:
  description: The table, or an empty map when it is absent.
  returned: success
  type: dict
  sample:
    route_table_id: rtb-0a1b2c3d4e5f60718
    vpc_id: vpc-0a1b2c3d4e5f60718
    routes: [{destination_cidr_block: 0.0.0.0/0, nat_gateway_id: nat-0a1b2c3d4e5f60718}]
    subnet_ids: [subnet-0a1b2c3d4e5f60718]
    tags: {Name: metaflow-prod-private-1, mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.ec2 import Ec2Resource
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, options

#: A described route says with one of these keys where it leads.
TARGETS = (
    "GatewayId",
    "NatGatewayId",
    "TransitGatewayId",
    "VpcPeeringConnectionId",
    "NetworkInterfaceId",
    "EgressOnlyInternetGatewayId",
    "LocalGatewayId",
    "CarrierGatewayId",
    "CoreNetworkArn",
)


def made_by_hand(route):
    """Tell whether a described route is one for an IPv4 range that a call of CreateRoute made."""
    return "DestinationCidrBlock" in route and route.get("Origin") == "CreateRoute"


def brief(route):
    """Return a described route as it is declared: its range and its one target."""
    return {key: route[key] for key in ("DestinationCidrBlock", *TARGETS) if route.get(key)}


def by_range(routes):
    """Return routes as a map of IPv4 range to route: a table has one for each."""
    return {route["DestinationCidrBlock"]: route for route in routes}


class RouteTable(Ec2Resource):
    kind = "Route table"
    result_key = "route_table"
    id_key = "RouteTableId"
    id_prefix = "rtb-"
    id_filter = "route-table-id"
    tag_type = "route-table"
    unordered = ("tags", "Routes", "SubnetIds")

    def declare(self):
        routes = [
            {
                "DestinationCidrBlock": route["destination_cidr_block"],
                **({"GatewayId": route["gateway_id"]} if route["gateway_id"] else {}),
                **({"NatGatewayId": route["nat_gateway_id"]} if route["nat_gateway_id"] else {}),
            }
            for route in self.params["routes"]
        ]
        return {"Routes": routes, "SubnetIds": self.params["subnet_ids"], "tags": self.declared_tags()}

    def refine(self, desired, live):
        if live is None or self.params["purge_routes"]:
            return desired
        return {**desired, "Routes": list((by_range(live["Routes"]) | by_range(desired["Routes"])).values())}

    def describe(self, filters):
        pages = self.client.get_paginator("describe_route_tables").paginate(Filters=filters)
        return [table for page in pages for table in page["RouteTables"]]

    def read(self):
        table = self.named()
        if table is None:
            return None
        associations = {
            one["SubnetId"]: one["RouteTableAssociationId"]
            for one in table["Associations"]
            if one.get("SubnetId") and one.get("AssociationState", {}).get("State") != "disassociating"
        }
        self.associations = associations
        return {
            "RouteTableId": table["RouteTableId"],
            "VpcId": table["VpcId"],
            "Routes": [brief(route) for route in table["Routes"] if made_by_hand(route)],
            "SubnetIds": sorted(associations),
            "tags": table["tags"],
        }

    def create(self, desired):
        # The SDK adds a client token, so that a call that it repeats makes no second table.
        self.client.create_route_table(VpcId=self.params["vpc_id"], TagSpecifications=self.specifications())
        live = self.read()
        self.update(live, desired, {"Routes": desired["Routes"], "SubnetIds": desired["SubnetIds"]})

    def update(self, live, desired, changes):
        # First the routes: a subnet that comes to this table then finds its way out at once.
        if "Routes" in changes:
            self.update_routes(live["RouteTableId"], by_range(live["Routes"]), by_range(desired["Routes"]))
        if "SubnetIds" in changes:
            self.update_subnets(live["RouteTableId"], desired["SubnetIds"])

    def update_routes(self, table, live, desired):
        for destination, route in desired.items():
            if destination not in live:
                self.client.create_route(RouteTableId=table, **route)
            elif live[destination] != route:
                self.client.replace_route(RouteTableId=table, **route)
        for destination in live.keys() - desired.keys():
            self.client.delete_route(RouteTableId=table, DestinationCidrBlock=destination)

    def update_subnets(self, table, desired):
        for subnet in [one for one in desired if one not in self.associations]:
            elsewhere = self.association_elsewhere(subnet)
            if elsewhere:
                self.client.replace_route_table_association(AssociationId=elsewhere, RouteTableId=table)
            else:
                self.client.associate_route_table(RouteTableId=table, SubnetId=subnet)
        for subnet in self.associations.keys() - set(desired):
            self.client.disassociate_route_table(AssociationId=self.associations[subnet])

    def association_elsewhere(self, subnet):
        """Return the id of a subnet's association with another table, or None where it uses the VPC's main table."""
        for table in self.describe([{"Name": "association.subnet-id", "Values": [subnet]}]):
            for association in table["Associations"]:
                if association.get("SubnetId") == subnet:
                    return association["RouteTableAssociationId"]
        return None

    def delete(self, live):
        self.update_subnets(live["RouteTableId"], [])
        self.client.delete_route_table(RouteTableId=live["RouteTableId"])

    def predict(self, desired):
        return {"RouteTableId": "rtb-predicted", "VpcId": self.params["vpc_id"], "tags": {"Name": self.name}}


def main():
    route = {
        "destination_cidr_block": {"required": True},
        "gateway_id": {},
        "nat_gateway_id": {},
    }
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            vpc_id={"required": True},
            routes={
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": route,
                "mutually_exclusive": [("gateway_id", "nat_gateway_id")],
                "required_one_of": [("gateway_id", "nat_gateway_id")],
            },
            purge_routes={"type": "bool", "default": True},
            subnet_ids={"type": "list", "elements": "str", "default": []},
            **TAG_OPTIONS,
        ),
        supports_check_mode=True,
    )
    RouteTable(module).run()


if __name__ == "__main__":
    main()
