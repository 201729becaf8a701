#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# No module of amazon.aws or community.aws makes the VPC link of a REST API; community.aws.api_gateway can only use one
# whose id is known, inside of a Swagger text.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: api_gateway_vpc_link
version_added: 0.1.0
short_description: Manage the VPC links of REST APIs in API Gateway
description:
  - Creates and deletes a VPC link, by which REST APIs reach a network load balancer, and waits until AWS has finished.
  - AWS takes no token that would make its creation safe to repeat, so the module looks for the link before it creates
    one, also after an answer that was lost. It adopts the link that is there and names any second one in a warning.
  - A link that AWS reports as V(FAILED) is deleted and made anew.
  - AWS can't change the target of a link. Where the one declared is another, for instance because the load balancer
    was replaced, a new link is made beside the old one, which APIs may still use, and which a warning names.
author:
  - The metaflow-ansible authors
options:
  state:
    description:
      - Whether the link should exist.
      - V(absent) deletes all links of this name that belong to the same stack. AWS refuses while an API uses one.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - Name of the link.
      - Names are not unique in AWS. Where O(tags) has the tags C(mlops.metaflow/stack) and
        C(mlops.metaflow/environment), only a link that carries both is taken for this one.
    type: str
    required: true
  target_arns:
    description:
      - ARN of the network load balancer, as a list of one, which is all that AWS takes.
      - Required when O(state=present).
    type: list
    elements: str
  wait:
    description: Whether to wait until the link is V(AVAILABLE), which takes AWS 2 to 10 minutes, or gone.
    type: bool
    default: true
  wait_timeout:
    description: Longest time in seconds for each wait.
    type: int
    default: 900
attributes:
  check_mode:
    description: Predicts the change and the link, and changes nothing.
    support: full
  diff_mode:
    description: Shows what is declared, before and after.
    support: full
  idempotent:
    description: Makes no changing call where the link is as declared.
    support: full
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the link from API Gateway to the metadata service's load balancer
  mlops.metaflow.api_gateway_vpc_link:
    name: metaflow-prod
    target_arns:
      - arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/metaflow-prod/50dc6c495c0c9188
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Start the creation now, and wait for it in a later task
  mlops.metaflow.api_gateway_vpc_link:
    name: metaflow-prod
    target_arns: ["{{ load_balancer_arn }}"]
    wait: false

- name: Ensure the link is gone, before its load balancer goes
  mlops.metaflow.api_gateway_vpc_link:
    name: metaflow-prod
    state: absent
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod
"""

RETURN = r"""
vpc_link:
  description: The link, as AWS describes it; in check mode, as it would be. Empty with O(state=absent).
  returned: always
  type: dict
  contains:
    arn:
      description: ARN of the link.
      type: str
      sample: arn:aws:apigateway:eu-west-1::/vpclinks/gim7c3
    id:
      description: Id of the link, for the integrations of an API; C((predicted\)) in check mode on an empty account.
      type: str
      sample: gim7c3
    name:
      description: Name of the link.
      type: str
      sample: metaflow-prod
    status:
      description: V(AVAILABLE), or V(PENDING) with O(wait=false).
      type: str
      sample: AVAILABLE
    status_message:
      description: What AWS says about the status, if anything.
      type: str
      sample: Your vpc link is ready for use
    tags:
      description: The link's tags.
      type: dict
      sample: {"mlops.metaflow/stack": metaflow}
    target_arns:
      description: ARN of the load balancer.
      type: list
      elements: str
      sample: ["arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/metaflow-prod/50dc6c495c0c9188"]
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.api_gateway import ApiGatewayResource
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, Failed, options

#: Which of several links of one name counts: one that works, one that soon may, one to replace, one that goes.
RANK = {"AVAILABLE": 0, "PENDING": 1, "FAILED": 2, "DELETING": 3}


class VpcLink(ApiGatewayResource):
    kind = "API Gateway VPC link"
    result_key = "vpc_link"
    collection = "vpclinks"

    def declare(self):
        desired = {"name": self.name, "targetArns": self.params["target_arns"], "failure": None}
        if self.params["tags"] is not None:
            desired["tags"] = self.params["tags"]
        return desired

    def read(self):
        live = self.find(self.items("get_vpc_links"), rank=self._rank)
        if live is None or (self.params["state"] == "present" and not self._is_to_target(live)):
            return None
        if live["status"] == "FAILED":
            live["failure"] = live.get("statusMessage") or "AWS gives no reason"
        return live

    def _rank(self, link):
        return not self._is_to_target(link), RANK[link["status"]]

    def _is_to_target(self, link):
        return link["targetArns"] == self.params["target_arns"]

    def deleting(self, live):
        return live["status"] == "DELETING"

    def settled(self, live):
        if "failure" in live:
            raise Failed(
                f"AWS could not set it up: {live['failure']}. Mend the cause (is {live['targetArns'][0]} an active "
                "network load balancer of this account?) and run again: the link is then made anew."
            )
        return live["status"] == "AVAILABLE"

    def last_word(self):
        return f"{self.found[0]['status']}: {self.found[0].get('statusMessage', '')}" if self.found else ""

    def create(self, desired):
        arguments = {key: desired[key] for key in ("name", "targetArns", "tags") if key in desired}
        self.create_once("create_vpc_link", self._working, **arguments)

    def _working(self):
        live = self.read()
        return live if live and live["status"] in ("AVAILABLE", "PENDING") else None

    def update(self, live, desired, changes):
        # What differs can only be "failure": a link to another target is no link of ours, and nothing else changes.
        self.client.delete_vpc_link(vpcLinkId=live["id"])
        self.create(desired)

    def carries_tags(self, changes):
        return "failure" in changes

    def delete(self, live):
        for link in self.found:
            if not self.deleting(link):
                self.client.delete_vpc_link(vpcLinkId=link["id"])


def main():
    spec = options(name={"required": True}, target_arns={"type": "list", "elements": "str"}, **TAG_OPTIONS)
    spec["wait_timeout"] = {"type": "int", "default": 900}
    module = AnsibleAWSModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_if=[("state", "present", ["target_arns"])],
    )
    if len(module.params["target_arns"] or [""]) != 1:
        module.fail_json(msg=f"target_arns must be a list of one ARN; it has {len(module.params['target_arns'])}.")
    VpcLink(module).run()


if __name__ == "__main__":
    main()
