#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# No module of amazon.aws or community.aws makes usage plans or API keys; community.aws.api_gateway can only say, inside
# of a Swagger text, that a key is required, and leaves nobody with one.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: api_gateway_usage_plan
version_added: 0.1.0
short_description: Manage a usage plan of API Gateway and its API keys
description:
  - Creates, changes and deletes a usage plan, which says how much the holders of its API keys may call, and the keys.
  - AWS generates the values of the keys. The module neither reads nor returns them; who needs one fetches it by the
    key's id, which is not the value.
  - AWS takes no token that would make a creation safe to repeat, so the module looks for the plan and for each key
    before it creates one, also after an answer that was lost. It adopts what is there and names any second one in a
    warning.
  - To replace a key, declare a second one beside it, hand that out, then take the first one off the list with
    O(purge_api_keys=true).
author:
  - The metaflow-ansible authors
options:
  state:
    description:
      - Whether the plan should exist.
      - V(absent) deletes it with the keys that O(api_keys) names, and with O(purge_api_keys=true) all of its keys.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - Name of the plan.
      - Names are not unique in AWS. Where O(tags) has the tags C(mlops.metaflow/stack) and
        C(mlops.metaflow/environment), only a plan or key that carries both is taken for the one that is meant.
    type: str
    required: true
  description:
    description: Description of the plan.
    type: str
  throttle:
    description:
      - How fast the holder of one key may call, over all stages.
      - An empty map removes the limit; left open, it stays as it is.
    type: dict
    suboptions:
      rate_limit:
        description: Requests per second in the long run.
        type: float
      burst_limit:
        description: Requests at once.
        type: int
  quota:
    description:
      - How often the holder of one key may call in a period.
      - An empty map removes the limit; left open, it stays as it is.
    type: dict
    suboptions:
      limit:
        description: Requests in the period.
        type: int
      period:
        description: The period.
        type: str
        choices: [DAY, WEEK, MONTH]
      offset:
        description: Requests that are taken off the limit in the first period.
        type: int
        default: 0
  api_stages:
    description:
      - The stages that the plan admits to. Those that are not in the list are taken out of the plan.
      - Left open, they stay as they are.
    type: list
    elements: dict
    suboptions:
      api_id:
        description: Id of the REST API.
        type: str
        required: true
      stage:
        description: Name of the stage.
        type: str
        required: true
      throttle:
        description: Lower limits for single routes.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Path of the route, e.g. V(/db_schema_status).
            type: str
            required: true
          method:
            description: HTTP method of the route, as the API declares it.
            type: str
            required: true
          rate_limit:
            description: Requests per second in the long run.
            type: float
            required: true
          burst_limit:
            description: Requests at once.
            type: int
            required: true
  api_keys:
    description: The keys of the plan. They carry the tags of the plan.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the key.
        type: str
        required: true
      enabled:
        description: Whether the key is valid.
        type: bool
        default: true
  purge_api_keys:
    description: Whether keys of the plan that are not in O(api_keys) are deleted. A deleted key's value is lost.
    type: bool
    default: false
  wait:
    description: Whether to wait until the plan is gone with O(state=absent). Everything else is done at once.
    type: bool
    default: true
  wait_timeout:
    description: Longest time in seconds for the wait.
    type: int
    default: 600
attributes:
  check_mode:
    description: Predicts the change, the plan and its keys, and changes nothing.
    support: full
  diff_mode:
    description: Shows what is declared, before and after, without the keys' values.
    support: full
  idempotent:
    description: Makes no changing call where plan and keys are as declared.
    support: full
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure that the holder of one key may call the metadata service
  mlops.metaflow.api_gateway_usage_plan:
    name: metaflow-prod
    throttle: {rate_limit: 100, burst_limit: 200}
    api_stages:
      - api_id: "{{ rest_api.id }}"
        stage: api
        throttle: [{path: /db_schema_status, method: GET, rate_limit: 2, burst_limit: 5}]
    api_keys:
      - name: metaflow-prod
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Replace the key, step 1 of 2 (then hand out the new one)
  mlops.metaflow.api_gateway_usage_plan:
    name: metaflow-prod
    api_keys: [{name: metaflow-prod}, {name: metaflow-prod-2}]

- name: Replace the key, step 2 of 2
  mlops.metaflow.api_gateway_usage_plan:
    name: metaflow-prod
    api_keys: [{name: metaflow-prod-2}]
    purge_api_keys: true

- name: Ensure the plan and its key are gone
  mlops.metaflow.api_gateway_usage_plan:
    name: metaflow-prod
    state: absent
    api_keys: [{name: metaflow-prod}]
"""

RETURN = r"""
usage_plan:
  description: The plan; in check mode, as it would be. Empty with O(state=absent).
  returned: always
  type: dict
  contains:
    api_keys:
      description: The keys that O(api_keys) names, by name. C(attached) says whether the key belongs to the plan.
      type: dict
      sample: {"metaflow-prod": {"id": "k1l2m3n4o5", "enabled": true, "attached": true, "tags": {}}}
    api_stages:
      description: The stages that the plan admits to, by C(API id:stage), with the limits of single routes.
      type: dict
      sample: {"a1b2c3d4e5:api": {"/db_schema_status/GET": {"rateLimit": 2.0, "burstLimit": 5}}}
    arn:
      description: ARN of the plan.
      type: str
      sample: arn:aws:apigateway:eu-west-1::/usageplans/x1y2z3
    id:
      description: Id of the plan; C((predicted\)) in check mode on an empty account.
      type: str
      sample: x1y2z3
    name:
      description: Name of the plan.
      type: str
      sample: metaflow-prod
    other_keys:
      description: Names of the plan's other keys.
      type: list
      elements: str
      sample: []
    quota:
      description: The limit for a period, if there is one.
      type: dict
      sample: {"limit": 100000, "offset": 0, "period": MONTH}
    tags:
      description: The plan's tags.
      type: dict
      sample: {"mlops.metaflow/stack": metaflow}
    throttle:
      description: The limit of the rate, if there is one.
      type: dict
      sample: {"rate_limit": 100.0, "burst_limit": 200}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, options
from ansible_collections.mlops.metaflow.plugins.module_utils.usage_plan import OPTIONS, UsagePlan


def main():
    module = AnsibleAWSModule(
        argument_spec=options(name={"required": True}, **OPTIONS, **TAG_OPTIONS), supports_check_mode=True
    )
    UsagePlan(module).run()


if __name__ == "__main__":
    main()
