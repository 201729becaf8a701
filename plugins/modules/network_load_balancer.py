#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of community.aws.elb_network_lb and community.aws.elb_target_group (10.0), which have neither check mode (the
# task is skipped, and the next one finds no ARN) nor diff. The first knows no security groups, can't change subnets and
# doesn't notice another scheme; the second tags a target group after it has made it, and deregisters the targets that
# ECS has registered unless modify_targets=false. Neither knows which target groups belong to the load balancer.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: network_load_balancer
short_description: Manage a Network Load Balancer with its target groups and listeners
version_added: 0.1.0
description:
  - Declares a Network Load Balancer whole. Listeners and target groups of its own that are no longer declared go.
  - A target group is the load balancer's own when its tag C(LoadBalancer) has the load balancer's name, which it gets
    when it is created. Who is registered in it is left to ECS.
  - Only health check, attributes and tags of a target group change in place. To change its port, protocol, target type
    or VPC, give it another name too; its listener then goes over to it, and the old one is removed.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the load balancer, at most 32 letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(absent) removes the load balancer with its listeners, waits until its network interfaces are gone, and removes
        its target groups.
      - With deletion protection on, that needs O(deletion_protection=false) in the same task.
    choices: [present, absent]
    default: present
    type: str
  scheme:
    description: Whether it has public addresses. Can't be changed.
    choices: [internal, internet-facing]
    default: internal
    type: str
  subnets:
    description: Ids of its subnets, one per availability zone. Needed for O(state=present).
    type: list
    elements: str
  security_groups:
    description:
      - Ids of its security groups. Left out, it has none, and admits everybody who reaches it.
      - AWS can change them, but neither add the first nor remove the last one later.
    type: list
    elements: str
    default: []
  private_link_rules:
    description:
      - Whether the security groups apply to connections from VPC links and endpoints too.
      - Those of an API Gateway have no fixed source address; V(false) lets them in.
    type: bool
    default: true
  deletion_protection:
    description: Whether AWS refuses to delete it. Left out, it is left as it is.
    type: bool
  cross_zone:
    description: Whether each address sends to the targets of all zones, and not only of its own.
    type: bool
    default: true
  target_groups:
    description: The groups of targets that listeners send to.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name, at most 32 letters, digits and hyphens, unique in the account and region.
        type: str
        required: true
      port:
        description: Port of the targets.
        type: int
        required: true
      protocol:
        description: Protocol to the targets.
        choices: [TCP, TLS]
        default: TCP
        type: str
      target_type:
        description: What is registered in it. Fargate tasks are V(ip).
        choices: [ip, instance, alb]
        default: ip
        type: str
      vpc_id:
        description: Id of the targets' VPC.
        type: str
        required: true
      deregistration_delay:
        description: How long connections to a target that leaves may go on, in seconds.
        type: int
        default: 300
      health_check:
        description: How targets are checked.
        type: dict
        default: {}
        suboptions:
          protocol:
            description: V(TCP) only connects.
            choices: [TCP, HTTP, HTTPS]
            default: TCP
            type: str
          path:
            description: Path that is asked for by V(HTTP) and V(HTTPS).
            type: str
            default: /
          port:
            description: Port that is checked; V(traffic-port) is that of the target.
            type: str
            default: traffic-port
          interval:
            description: Time between two checks of a target, in seconds (5 to 300).
            type: int
            default: 30
          timeout:
            description: After how many seconds without an answer a check has failed (2 to 120, at most the interval).
            type: int
            default: 5
          healthy_threshold:
            description: After how many good checks a target counts as healthy (2 to 10).
            type: int
            default: 3
          unhealthy_threshold:
            description: After how many bad checks a target counts as unhealthy (2 to 10).
            type: int
            default: 3
  listeners:
    description: On which ports it listens, and where each sends to.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      protocol:
        description: V(TLS) ends TLS at the load balancer and needs O(listeners[].certificate).
        choices: [TCP, TLS]
        default: TCP
        type: str
      target_group:
        description: Name of one of O(target_groups).
        type: str
        required: true
      certificate:
        description: ARN of the certificate.
        type: str
      ssl_policy:
        description: Which TLS versions and ciphers are admitted.
        type: str
        default: ELBSecurityPolicy-TLS13-1-2-2021-06
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the load balancer of the metadata service
  mlops.metaflow.network_load_balancer:
    name: metaflow-prod
    subnets: [subnet-0a1b2c3d4e5f60718, subnet-0a1b2c3d4e5f60719]
    deletion_protection: true
    target_groups:
      - name: metaflow-prod-api
        port: 8080
        vpc_id: vpc-0a1b2c3d4e5f60718
        deregistration_delay: 30
        health_check: {protocol: HTTP, path: /ping, interval: 10, healthy_threshold: 2, unhealthy_threshold: 2}
    listeners:
      - {port: 80, target_group: metaflow-prod-api}
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Remove it
  mlops.metaflow.network_load_balancer:
    name: metaflow-prod
    state: absent
    deletion_protection: false
"""

RETURN = r"""
load_balancer:
  description: The load balancer, or an empty map when it is absent.
  returned: success
  type: dict
  sample:
    arn: arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/metaflow-prod/50dc6c495c0c9188
    name: metaflow-prod
    dns_name: metaflow-prod-50dc6c495c0c9188.elb.eu-west-1.amazonaws.com
    canonical_hosted_zone_id: Z2IFOLAFXWLO4F
    scheme: internal
    state: active
    vpc_id: vpc-0a1b2c3d4e5f60718
    subnets: [subnet-0a1b2c3d4e5f60718, subnet-0a1b2c3d4e5f60719]
    security_groups: []
    target_groups:
      metaflow-prod-api: arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/metaflow-prod-api/6d0ecf831ee
    listeners:
      "80": arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/net/metaflow-prod/50dc6c495c0c9188/f2f7dc8efc
    tags: {mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
"""

from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible_collections.amazon.aws.plugins.module_utils.iam import get_aws_account_info
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.mlops.metaflow.plugins.module_utils import diff, elbv2
from ansible_collections.mlops.metaflow.plugins.module_utils.elbv2 import pairs
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    error_code,
    options,
    patient_client,
)

#: Says whose a target group is: AWS itself forgets it when the listener goes.
TAG_OWNER = "LoadBalancer"


class NetworkLoadBalancer(AwsResource):
    kind = "Network Load Balancer"
    service = "elbv2"
    result_key = "load_balancer"
    unordered = ("tags", "Subnets", "SecurityGroups", "TargetGroups", "Listeners")
    said = ""

    def declare(self):
        params = self.params
        tags = {**(params["tags"] or {}), TAG_OWNER: self.name}
        groups = {group["name"]: elbv2.target_group(group, tags) for group in params["target_groups"]}
        for one in params["listeners"]:
            if one["target_group"] not in groups:
                raise Failed(f"listener {one['port']} sends to '{one['target_group']}', which is not in target_groups.")
        attributes = {
            "load_balancing.cross_zone.enabled": params["cross_zone"],
            "deletion_protection.enabled": params["deletion_protection"],
        }
        desired = {
            "Scheme": params["scheme"],
            "Subnets": params["subnets"],
            "SecurityGroups": params["security_groups"],
            "Attributes": {key: str(value).lower() for key, value in attributes.items() if value is not None},
            "TargetGroups": groups,
            "Listeners": {str(one["port"]): elbv2.listener(one) for one in params["listeners"]},
            "tags": params["tags"],
        }
        if params["security_groups"]:
            desired["PrivateLinkRules"] = "on" if params["private_link_rules"] else "off"
        return desired

    def read(self):
        seen = elbv2.look(self.client, self.name)
        self._note(seen["described"])
        own = {name: group for name, group in seen["groups"].items() if self._owns(name, group, seen["described"])}
        if not seen["described"] and not own:
            return None
        arns = {name: group["TargetGroupArn"] for name, group in own.items()}
        attributes = elbv2.attributes_of_target_groups(self.client, arns)
        groups = {
            name: elbv2.live_target_group(group, attributes[name], self._managed(group["tags"]))
            for name, group in own.items()
        }
        nothing = {"Listeners": {}, "ListenerArns": {}, "tags": {}}
        return {"TargetGroups": groups, "TargetGroupArns": arns, **(seen["live"] or nothing)}

    def _note(self, described):
        """Keep what AWS says of its state; refuse to go on with a load balancer of another type."""
        state = described["State"] if described else {}
        self.said = ": ".join(state[key] for key in ("Code", "Reason") if state.get(key))
        if described and described["Type"] != "network":
            raise Failed(f"there is a load balancer of this name and of type {described['Type']}; choose another name.")

    def _owns(self, name, group, described):
        """Tell whether a target group is the load balancer's own: by tag, or declared and already behind it."""
        if group["tags"].get(TAG_OWNER) == self.name:
            return True
        if self.params["state"] == "absent" or name not in {group["name"] for group in self.params["target_groups"]}:
            return False
        if not described or described["LoadBalancerArn"] not in group["LoadBalancerArns"]:
            raise Failed(f"there is a target group '{name}' that is not its own; choose another name.")
        return True

    def _managed(self, tags):
        """Return those of a target group's tags that the module answers for."""
        declared = self.params["tags"]
        purge = declared is not None and self.params["purge_tags"]
        keys = {*(declared or {}), TAG_OWNER}
        return {key: value for key, value in tags.items() if key in keys or (purge and not key.startswith("aws:"))}

    def settled(self, live):
        if live.get("State") == "failed":
            raise Failed(f"AWS couldn't set it up ({self.said}).")
        return live.get("State") in ("active", "active_impaired")

    def last_word(self):
        return self.said

    # Changing

    def refuse(self, live, desired, changes):
        if desired is None:
            protected = live.get("Attributes", {}).get("deletion_protection.enabled") == "true"
            if protected and self.params["deletion_protection"] is not False:
                raise Failed("its deletion protection is on. To delete it all the same: deletion_protection=false.")
            return
        for name, have in live["TargetGroups"].items():
            want = desired["TargetGroups"].get(name, have)
            if fixed := [key for key in elbv2.FIXED if have[key] != want[key]]:
                raise Failed(f"AWS can't change {', '.join(fixed)} of target group '{name}'; give it another name too.")
        if "Arn" not in live:
            return
        if "Scheme" in changes:
            raise Failed(f"AWS can't change its scheme ({live['Scheme']}). Delete it first, or choose another name.")
        if bool(live["SecurityGroups"]) != bool(desired["SecurityGroups"]):
            raise Failed("AWS can't add the first security group, nor remove the last. Delete it first.")

    def create(self, desired):
        nothing = {"TargetGroups": {}, "TargetGroupArns": {}, "Listeners": {}, "ListenerArns": {}}
        self.update(nothing, desired, desired)

    def update(self, live, desired, changes):
        # The load balancer comes first: from then on a run that is killed left something that the next one finds.
        arn = live.get("Arn")
        if arn is None:
            arn = live["Arn"] = self._create_balancer(desired)
        elif "Subnets" in changes:
            self.client.set_subnets(LoadBalancerArn=arn, Subnets=desired["Subnets"])
        if desired["SecurityGroups"] and changes.keys() & {"SecurityGroups", "PrivateLinkRules"}:
            self.client.set_security_groups(
                LoadBalancerArn=arn,
                SecurityGroups=desired["SecurityGroups"],
                EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic=desired["PrivateLinkRules"],
            )
        if "Attributes" in changes:
            self.client.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=pairs(changes["Attributes"]))
        groups = {name: self._ensure_target_group(name, live, want) for name, want in desired["TargetGroups"].items()}
        for port, want in desired["Listeners"].items():
            self._ensure_listener(port, live, want, groups[want["TargetGroup"]])
        self._purge(live, desired)

    def _create_balancer(self, desired):
        # Idempotent at AWS: the same call again returns the same load balancer.
        answer = self.client.create_load_balancer(
            Name=self.name,
            Type="network",
            Scheme=desired["Scheme"],
            Subnets=desired["Subnets"],
            **({"SecurityGroups": desired["SecurityGroups"]} if desired["SecurityGroups"] else {}),
            **({"Tags": pairs(desired["tags"])} if desired["tags"] else {}),
        )
        return answer["LoadBalancers"][0]["LoadBalancerArn"]

    def _ensure_target_group(self, name, live, want):
        """Create a target group, or change what AWS can change; return its ARN."""
        have, arn = live["TargetGroups"].get(name), live["TargetGroupArns"].get(name)
        check = {key: want[key] for key in elbv2.HEALTH_CHECK if key in want}
        if have is None:
            fixed = {key: want[key] for key in elbv2.FIXED}
            answer = self.client.create_target_group(Name=name, Tags=pairs(want["tags"]), **fixed, **check)
            arn, have = answer["TargetGroups"][0]["TargetGroupArn"], {"tags": want["tags"], **check}
        if diff.changes(check, have):
            self.client.modify_target_group(TargetGroupArn=arn, **check)
        if have.get("Attributes") != want["Attributes"]:
            self.client.modify_target_group_attributes(TargetGroupArn=arn, Attributes=pairs(want["Attributes"]))
        self._write_tags_of(arn, *diff.tag_changes(want["tags"], have["tags"], purge=True))
        return arn

    def _ensure_listener(self, port, live, want, target_group_arn):
        have, request = live["Listeners"].get(port), elbv2.listener_request(want, target_group_arn)
        if have is None:
            self.client.create_listener(LoadBalancerArn=live["Arn"], Port=int(port), **request)
        elif have != want:
            self.client.modify_listener(ListenerArn=live["ListenerArns"][port], **request)

    def _purge(self, live, desired):
        """Remove the listeners, then the target groups, that are no longer declared."""
        for port in live["Listeners"].keys() - desired["Listeners"].keys():
            self.client.delete_listener(ListenerArn=live["ListenerArns"][port])
        for name in live["TargetGroups"].keys() - desired["TargetGroups"].keys():
            self._delete_target_group(live["TargetGroupArns"][name])

    # AWS says so for some seconds after the listener, or the load balancer, is gone.
    @AWSRetry.jittered_backoff(catch_extra_error_codes=["ResourceInUse"])
    def _delete_target_group(self, arn):
        self.client.delete_target_group(TargetGroupArn=arn)

    def _write_tags_of(self, arn, to_set, to_unset):
        if to_unset:
            self.client.remove_tags(ResourceArns=[arn], TagKeys=to_unset)
        if to_set:
            self.client.add_tags(ResourceArns=[arn], Tags=pairs(to_set))

    def tag(self, live, tags):
        self._write_tags_of(live["Arn"], tags, [])

    def untag(self, live, keys):
        self._write_tags_of(live["Arn"], {}, keys)

    # Deleting

    def delete(self, live):
        if arn := live.get("Arn"):
            self._delete_balancer(arn, live)
        for group_arn in live["TargetGroupArns"].values():
            self._delete_target_group(group_arn)

    def _delete_balancer(self, arn, live):
        if live["Attributes"]["deletion_protection.enabled"] == "true":
            off = pairs({"deletion_protection.enabled": "false"})
            self.client.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=off)
        try:
            # Takes the listeners along. To delete them first would leave a dead load balancer where AWS refuses this.
            self.client.delete_load_balancer(LoadBalancerArn=arn)
        except ClientError as error:
            if error_code(error) != "ResourceInUse":
                raise
            raise Failed(f"{self._user(arn)} still sends through it; delete that first.") from error
        # Until it is gone, its target groups are in use.
        self.wait_for("deleted", lambda: elbv2.find(self.client, self.name) is None)
        if self.params["wait"]:
            self.wait_for("rid of its network interfaces", lambda: not self._interfaces(arn))

    def _user(self, arn):
        """Name what AWS says that the load balancer is in use by."""
        pages = patient_client(self.module, "apigateway").get_paginator("get_vpc_links").paginate()
        links = [link["name"] for page in pages for link in page["items"] if arn in link["targetArns"]]
        return f"VPC link '{links[0]}' of API Gateway" if links else "a VPC endpoint service"

    def _interfaces(self, arn):
        """Return its network interfaces; they are gone some time after it, and hold its subnets and security groups."""
        name = {"Name": "description", "Values": [f"ELB {arn.partition('loadbalancer/')[2]}"]}
        return patient_client(self.module, "ec2").describe_network_interfaces(Filters=[name])["NetworkInterfaces"]

    def shown(self, resource):
        parts = {"TargetGroups", "TargetGroupArns", "Listeners", "ListenerArns"}
        # In check mode AWS has named nothing yet.
        arn = resource.get("Arn") or self._predicted_arn(f"loadbalancer/net/{self.name}")
        listener = arn.replace(":loadbalancer/", ":listener/") + "/predicted"
        groups, listeners = resource.get("TargetGroupArns", {}), resource.get("ListenerArns", {})
        return {
            "name": self.name,
            "dns_name": f"{self.name}.predicted",
            **super().shown({key: value for key, value in resource.items() if key not in parts}),
            "arn": arn,
            "target_groups": {
                name: groups.get(name) or self._predicted_arn(f"targetgroup/{name}")
                for name in resource["TargetGroups"]
            },
            "listeners": {port: listeners.get(port) or listener for port in resource["Listeners"]},
        }

    def _predicted_arn(self, path):
        account, partition = get_aws_account_info(self.module)
        return f"arn:{partition}:elasticloadbalancing:{self.module.region}:{account}:{path}/predicted"


def main():
    health_check = {
        "protocol": {"choices": ["TCP", "HTTP", "HTTPS"], "default": "TCP"},
        "path": {"default": "/"},
        "port": {"default": "traffic-port"},
        "interval": {"type": "int", "default": 30},
        "timeout": {"type": "int", "default": 5},
        "healthy_threshold": {"type": "int", "default": 3},
        "unhealthy_threshold": {"type": "int", "default": 3},
    }
    group = {
        "name": {"required": True},
        "port": {"type": "int", "required": True},
        "protocol": {"choices": ["TCP", "TLS"], "default": "TCP"},
        "target_type": {"choices": ["ip", "instance", "alb"], "default": "ip"},
        "vpc_id": {"required": True},
        "deregistration_delay": {"type": "int", "default": 300},
        "health_check": {"type": "dict", "default": {}, "options": health_check},
    }
    one_listener = {
        "port": {"type": "int", "required": True},
        "protocol": {"choices": ["TCP", "TLS"], "default": "TCP"},
        "target_group": {"required": True},
        "certificate": {},
        "ssl_policy": {"default": "ELBSecurityPolicy-TLS13-1-2-2021-06"},
    }
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            scheme={"choices": ["internal", "internet-facing"], "default": "internal"},
            subnets={"type": "list", "elements": "str"},
            security_groups={"type": "list", "elements": "str", "default": []},
            private_link_rules={"type": "bool", "default": True},
            deletion_protection={"type": "bool"},
            cross_zone={"type": "bool", "default": True},
            target_groups={"type": "list", "elements": "dict", "default": [], "options": group},
            listeners={
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": one_listener,
                "required_if": [("protocol", "TLS", ["certificate"])],
            },
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["subnets"])],
        supports_check_mode=True,
    )
    NetworkLoadBalancer(module).run()


if __name__ == "__main__":
    main()
