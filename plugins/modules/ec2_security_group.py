#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of amazon.aws.ec2_security_group (10.1), which sleeps three seconds for each new group before it first looks
# for it, and ten where a rule isn't shown at once; takes rules away before it adds others; and returns no ID in check
# mode.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_security_group
short_description: Manage a security group of a VPC, known by its name
version_added: 0.1.0
description:
  - Creates, changes and deletes a security group and its rules.
  - The rules of a group are those that are declared; what somebody adds by hand is taken away.
  - A group that is referred to, by a rule or by a network interface, can't be deleted before.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the group, unique in its VPC. It is its tag C(Name) too. To delete a group, its ID does too.
    type: str
    required: true
  vpc_id:
    description: ID of the VPC.
    type: str
    required: true
  description:
    description: What the group is for. It can't be changed.
    type: str
  rules:
    description: Who may connect. Each entry makes a rule for each of its ports and each of its sources.
    type: list
    elements: dict
    default: []
    suboptions: &suboptions
      proto:
        description: The protocol. V(all) takes no ports.
        type: str
        choices: [tcp, udp, all]
        required: true
      ports:
        description: Ports, or ranges of ports (V(8000-8010)). Without any, tcp and udp have no rule.
        type: list
        elements: str
        default: []
      cidr_ip:
        description: IPv4 ranges.
        type: list
        elements: str
        default: []
      group_id:
        description: IDs of security groups, for what has them.
        type: list
        elements: str
        default: []
      self:
        description: For what has this group itself.
        type: bool
        default: false
      rule_desc:
        description: What the rule is for.
        type: str
        default: ""
  rules_egress:
    description: Whereto connections may go, as O(rules). Without any, nothing goes out.
    type: list
    elements: dict
    default: []
    suboptions: *suboptions
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure that the database is reached by those who have the group of its clients
  mlops.metaflow.ec2_security_group:
    name: metaflow-prod-database
    description: Database of metaflow-prod
    vpc_id: vpc-0a1b2c3d4e5f60718
    rules:
      - {proto: tcp, ports: [5432], group_id: [sg-0a1b2c3d4e5f60718], rule_desc: PostgreSQL from the metadata service}
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Remove the group
  mlops.metaflow.ec2_security_group:
    name: metaflow-prod-database
    vpc_id: vpc-0a1b2c3d4e5f60718
    state: absent
"""

RETURN = r"""
security_group:
  description: The group, or an empty map when it is absent. Each rule has one source or destination.
  returned: success
  type: dict
  sample:
    group_id: sg-0a1b2c3d4e5f60718
    description: Database of metaflow-prod
    vpc_id: vpc-0a1b2c3d4e5f60718
    ingress:
      - ip_protocol: tcp
        from_port: 5432
        to_port: 5432
        group_id: sg-1a2b3c4d5e6f70819
        description: PostgreSQL from the metadata service
    egress: []
    tags: {Name: metaflow-prod-database, mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
"""

import ipaddress
import re

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.diff import canonical
from ansible_collections.mlops.metaflow.plugins.module_utils.ec2 import Ec2Resource
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, Failed, options

#: Where EC2 keeps the sources of a permission, and what names one of them.
SOURCES = {
    "IpRanges": "CidrIp",
    "Ipv6Ranges": "CidrIpv6",
    "PrefixListIds": "PrefixListId",
    "UserIdGroupPairs": "GroupId",
}

PORTS = ("FromPort", "ToPort")

#: EC2's words for the two directions, in the names of its keys and calls.
DIRECTIONS = {"Ingress": "IpPermissions", "Egress": "IpPermissionsEgress"}

#: Stands for the ID of a group that check mode would make.
PREDICTED = "sg-predicted"


def rules_of(permissions, owner):
    """Return EC2's permissions as rules, each with one source or destination.

    :param owner: the group's account. A group of another one is named together with it.
    """
    return [
        {
            "IpProtocol": permission["IpProtocol"],
            # EC2 leaves the ports of all protocols out, an emulator says -1; of ICMP, -1 is every type and code.
            **{key: permission[key] for key in PORTS if key in permission and permission["IpProtocol"] != "-1"},
            name: source[name],
            **({"UserId": source["UserId"]} if source.get("UserId", owner) != owner else {}),
            "Description": source.get("Description", ""),
        }
        for permission in permissions
        for sources, name in SOURCES.items()
        for source in permission.get(sources, [])
    ]


def permission(rule):
    """Return a rule as EC2's calls take it."""
    sources, name = next((sources, name) for sources, name in SOURCES.items() if name in rule)
    source = {key: rule[key] for key in (name, "UserId", "Description") if rule.get(key)}
    return {**{key: rule[key] for key in ("IpProtocol", *PORTS) if key in rule}, sources: [source]}


def declared_rules(entries, own_id):
    """Return the entries of O(rules) as rules, each once.

    :param own_id: ID of the group itself.
    """
    rules = {}
    for entry in entries:
        if entry["proto"] == "all" and entry["ports"]:
            raise Failed(f"a rule names the ports {', '.join(entry['ports'])}, and proto 'all' has none.")
        sources = [
            *({"CidrIp": ipv4_range(cidr)} for cidr in entry["cidr_ip"]),
            *({"GroupId": group} for group in entry["group_id"] + ([own_id] if entry["self"] else [])),
        ]
        for ports in [{}] if entry["proto"] == "all" else map(port_range, entry["ports"]):
            for source in sources:
                rule = {"IpProtocol": "-1" if entry["proto"] == "all" else entry["proto"], **ports, **source}
                rules[canonical(rule)] = {**rule, "Description": entry["rule_desc"]}
    return list(rules.values())


def port_range(text):
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not found:
        raise Failed(f"'{text}' is neither a port nor a range of ports (8000-8010).")
    return {"FromPort": int(found[1]), "ToPort": int(found[2] or found[1])}


def ipv4_range(text):
    """Return an IPv4 range as EC2 keeps it, without the bits of a host."""
    try:
        return str(ipaddress.IPv4Network(text, strict=False))
    except ValueError as error:
        raise Failed(f"'{text}' is no IPv4 range: {error}") from error


def by_meaning(rules):
    """Return ``{what is allowed: rule}``: a group has one rule for it, whatever its description."""
    return {canonical({key: value for key, value in rule.items() if key != "Description"}): rule for rule in rules}


class SecurityGroup(Ec2Resource):
    kind = "Security group"
    result_key = "security_group"
    id_key = "GroupId"
    id_prefix = "sg-"
    id_filter = "group-id"
    name_filter = "group-name"
    tag_type = "security-group"
    unordered = ("tags", *DIRECTIONS)
    #: what was declared, once it has been written
    written = None

    def declare(self):
        return {"Description": self.params["description"], "tags": self.declared_tags()}

    def refine(self, desired, live):
        own_id = live["GroupId"] if live else PREDICTED
        rules = {"Ingress": self.params["rules"], "Egress": self.params["rules_egress"]}
        return desired | {direction: declared_rules(entries, own_id) for direction, entries in rules.items()}

    def describe(self, filters):
        pages = self.client.get_paginator("describe_security_groups").paginate(Filters=filters)
        return [group for page in pages for group in page["SecurityGroups"]]

    def read(self):
        group = self.named()
        if group is None:
            return None
        rules = {
            direction: rules_of(group[permissions], group["OwnerId"]) for direction, permissions in DIRECTIONS.items()
        }
        return {key: group[key] for key in ("GroupId", "Description", "VpcId", "tags")} | rules

    def refuse(self, live, desired, changes):
        if "Description" in changes:
            raise Failed(f"its description is '{live['Description']}', and AWS can't change that. Choose another name.")

    def create(self, desired):
        self.create_once(
            "create_security_group",
            self.read,
            GroupName=self.name,
            Description=desired["Description"],
            VpcId=self.params["vpc_id"],
            TagSpecifications=self.specifications(),
        )
        looks = []

        def is_shown():
            looks.append(self.read())
            return looks[-1] and looks[-1]["Egress"]

        # AWS gives each new group a rule that lets everything out, and may show it a little later.
        self.wait_for("shown with its first rule", is_shown)
        self.update(looks[-1], self.refine(desired, looks[-1]), dict.fromkeys(DIRECTIONS))

    def update(self, live, desired, changes):
        self.written = desired
        for direction in [direction for direction in DIRECTIONS if direction in changes]:
            self.update_rules(direction.lower(), live["GroupId"], by_meaning(live[direction]), desired[direction])

    def update_rules(self, direction, group, has, rules):
        """Make the rules of one direction so; nothing that may go on is interrupted."""
        wants = by_meaning(rules)
        new = [permission(rule) for key, rule in wants.items() if key not in has]
        described = [permission(rule) for key, rule in wants.items() if key in has and rule != has[key]]
        gone = [permission(rule) for key, rule in has.items() if key not in wants]
        calls = {
            f"authorize_security_group_{direction}": new,
            f"update_security_group_rule_descriptions_{direction}": described,
            f"revoke_security_group_{direction}": gone,
        }
        for operation, permissions in calls.items():
            if permissions:
                getattr(self.client, operation)(GroupId=group, IpPermissions=permissions)

    def settled(self, live):
        # Not every part of EC2 shows what was written at once.
        return not self.written or all(by_meaning(live[one]) == by_meaning(self.written[one]) for one in DIRECTIONS)

    def delete(self, live):
        self.client.delete_security_group(GroupId=live["GroupId"])

    def predict(self, desired):
        return {"GroupId": PREDICTED, "VpcId": self.params["vpc_id"], "tags": {"Name": self.name}}


def main():
    rule = {
        "proto": {"required": True, "choices": ["tcp", "udp", "all"]},
        "ports": {"type": "list", "elements": "str", "default": []},
        "cidr_ip": {"type": "list", "elements": "str", "default": []},
        "group_id": {"type": "list", "elements": "str", "default": []},
        "self": {"type": "bool", "default": False},
        "rule_desc": {"default": ""},
    }
    rules = {"type": "list", "elements": "dict", "default": [], "options": rule}
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            vpc_id={"required": True},
            description={},
            rules=rules,
            rules_egress=rules,
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["description"])],
        supports_check_mode=True,
    )
    SecurityGroup(module).run()


if __name__ == "__main__":
    main()
