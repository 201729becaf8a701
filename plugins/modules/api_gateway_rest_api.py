#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# Replaces community.aws.api_gateway, which says "changed" at every run and reads nothing in check mode; which creates
# another API at every run without tags; which never changes an API that it has found, and so never deploys one again;
# whose ARNs know one partition; and which has neither policy, access log, throttling nor VPC link.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: api_gateway_rest_api
version_added: 0.1.0
short_description: Manage a REST API of API Gateway, with its routes, its stage and its deployment
description:
  - Creates, changes and deletes a REST API that forwards its routes to HTTP backends.
  - What a stage serves is a deployment, a snapshot of routes and resource policy. The module writes the digest of what
    it declared into the deployment's description, and deploys when the stage's deployment has another one. So it also
    does when somebody else has deployed, or when an earlier run was killed before it did.
  - AWS takes no token that would make the creation safe to repeat, so the module looks for the API before it creates
    one, also after an answer that was lost. It adopts the API that is there and names any second one in a warning.
author:
  - The metaflow-ansible authors
options:
  state:
    description: Whether the API should exist. V(absent) deletes it with all of its stages.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - Name of the API.
      - Names are not unique in AWS. Where O(tags) has the tags C(mlops.metaflow/stack) and
        C(mlops.metaflow/environment), only an API that carries both is taken for this one.
    type: str
    required: true
  description:
    description: Description of the API.
    type: str
  endpoint_type:
    description: Who reaches the API; V(PRIVATE) also needs a O(policy).
    type: str
    choices: [EDGE, REGIONAL, PRIVATE]
    default: REGIONAL
  vpc_endpoint_ids:
    description: Ids of the VPC endpoints with which a V(PRIVATE) API is associated.
    type: list
    elements: str
  security_policy:
    description:
      - TLS versions and ciphers that clients may use, e.g. V(SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09).
      - AWS's own choice for a V(REGIONAL) API is V(TLS_1_0), which admits TLS 1.0 and later.
    type: str
  endpoint_access_mode:
    description:
      - V(STRICT) admits only requests whose host name and TLS server name are the API's own.
      - AWS demands it beside a O(security_policy) that begins with C(SecurityPolicy_).
    type: str
    choices: [BASIC, STRICT]
  policy:
    description:
      - Resource policy, as a map or as JSON. C(execute-api:/*) stands for the API's own ARN.
      - An empty map removes it; left open, it stays as it is.
      - Policies of the same meaning are the same, however they are written.
    type: json
  routes:
    description: The routes. Required when O(state=present).
    type: list
    elements: dict
    suboptions:
      path:
        description: Path with its variables, e.g. V(/flows/{flow}); V(/{proxy+}) is every path that has no route.
        type: str
        required: true
      method:
        description: HTTP method; V(ANY) is every one that has no route at this path.
        type: str
        choices: [ANY, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT]
        required: true
      authorization_type:
        description: V(AWS_IAM) admits signed requests of principals that may C(execute-api:Invoke) the route.
        type: str
        choices: [NONE, AWS_IAM]
        default: NONE
      api_key_required:
        description: Whether a request must carry an API key of a usage plan of this stage, as C(x-api-key).
        type: bool
        default: false
      integration:
        description: Where requests go.
        type: dict
        required: true
        suboptions:
          type:
            description: V(HTTP_PROXY) passes requests and answers on; V(MOCK) answers 200 without a backend.
            type: str
            choices: [HTTP_PROXY, MOCK]
            default: HTTP_PROXY
          uri:
            description: URL of the backend, with variables that O(routes[].integration.request_parameters) fill.
            type: str
          http_method:
            description: Method of the request to the backend. By default that of the route.
            type: str
          vpc_link_id:
            description: Id of the VPC link that leads to the backend. By default the internet does.
            type: str
          request_parameters:
            description:
              - 'Map of backend parameter to source, e.g.
                C(integration.request.path.proxy: method.request.path.proxy).'
              - What the route must declare for it (C(method.request.…)) is declared; path variables are required.
            type: dict
            default: {}
          timeout_in_millis:
            description: How long the backend may take, from V(50) to V(29000) milliseconds.
            type: int
            default: 29000
  purge_routes:
    description: Whether routes that are not declared are removed.
    type: bool
    default: true
  stage:
    description:
      - The stage, which is deployed when it must be and carries the API's tags. Without it, nothing is deployed.
      - What is left open stays as it is.
    type: dict
    suboptions:
      name:
        description: Name of the stage; the first part of the path in URLs.
        type: str
        required: true
      access_log_group_arn:
        description:
          - ARN of the log group for the access log; an empty one switches the log off.
          - AWS demands that a role for logs is set in the account's settings of API Gateway first.
        type: str
      access_log_format:
        description: Format of the access log; one line, with C($context.requestId). Nothing in the default is secret.
        type: str
        default: >-
          {"requestId": "$context.requestId", "ip": "$context.identity.sourceIp", "time": "$context.requestTime",
          "method": "$context.httpMethod", "path": "$context.path", "status": "$context.status",
          "apiKeyId": "$context.identity.apiKeyId", "caller": "$context.identity.caller",
          "latency": "$context.responseLatency", "error": "$context.error.message"}
      logging_level:
        description: Which events of its own API Gateway logs.
        type: str
        choices: ["OFF", ERROR, INFO]
      metrics_enabled:
        description: Whether CloudWatch gets metrics for each route, which costs extra.
        type: bool
      throttling_rate_limit:
        description: Requests per second that the stage takes in the long run.
        type: float
      throttling_burst_limit:
        description: Requests that the stage takes at once.
        type: int
      tracing_enabled:
        description: Whether AWS X-Ray traces requests.
        type: bool
      variables:
        description: Stage variables. Those that are not in the map are removed.
        type: dict
  wait:
    description: Whether to wait until AWS has taken over a change of O(security_policy), or the API is gone.
    type: bool
    default: true
  wait_timeout:
    description: Longest time in seconds for each wait.
    type: int
    default: 600
attributes:
  check_mode:
    description: Predicts the change and the API, and changes nothing.
    support: full
  diff_mode:
    description: Shows what is declared, before and after; C(deployed) is the digest of routes and policy.
    support: full
  idempotent:
    description: Makes no changing call where API, stage and deployment are as declared.
    support: full
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
# The metadata service behind a network load balancer, its schema migrations on port 8082. Clients have an API key;
# an upgrade of the schema is administration, so it is signed, and no client's key reaches it.
- name: Ensure the API of the metadata service
  mlops.metaflow.api_gateway_rest_api:
    name: metaflow-prod
    policy:
      Version: "2012-10-17"
      Statement:
        - Effect: Allow
          Principal: "*"
          Action: execute-api:Invoke
          Resource: execute-api:/*
          Condition: {IpAddress: {"aws:SourceIp": [198.51.100.0/24, 203.0.113.7/32]}}
    routes:
      - path: /
        method: ANY
        api_key_required: true
        integration: {uri: "http://{{ nlb_dns }}/", vpc_link_id: "{{ vpc_link_id }}"}
      - path: /{proxy+}
        method: ANY
        api_key_required: true
        integration:
          uri: "http://{{ nlb_dns }}/{proxy}"
          vpc_link_id: "{{ vpc_link_id }}"
          request_parameters: {integration.request.path.proxy: method.request.path.proxy}
      - path: /db_schema_status
        method: GET
        api_key_required: true
        integration: {uri: "http://{{ nlb_dns }}:8082/db_schema_status", vpc_link_id: "{{ vpc_link_id }}"}
      - path: /upgrade
        method: PATCH
        authorization_type: AWS_IAM
        integration: {uri: "http://{{ nlb_dns }}:8082/upgrade", vpc_link_id: "{{ vpc_link_id }}"}
    stage:
      name: api
      throttling_rate_limit: 200
      throttling_burst_limit: 400
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Ensure the API is gone
  mlops.metaflow.api_gateway_rest_api:
    name: metaflow-prod
    state: absent
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod
"""

RETURN = r"""
rest_api:
  description: The API; in check mode, as it would be. Empty with O(state=absent).
  returned: always
  type: dict
  contains:
    arn:
      description: ARN of the API, for tags and for policies about its configuration.
      type: str
      sample: arn:aws:apigateway:eu-west-1::/restapis/a1b2c3d4e5
    endpoint_configuration:
      description: Type of the endpoint and associated VPC endpoints.
      type: dict
      sample: {"types": ["REGIONAL"]}
    execution_arn:
      description: ARN for policies about calls of the API; C(/{stage}/{method}/{path}) follows.
      type: str
      sample: arn:aws:execute-api:eu-west-1:123456789012:a1b2c3d4e5
    id:
      description: Id of the API; C((predicted\)) in check mode on an empty account.
      type: str
      sample: a1b2c3d4e5
    invoke_url:
      description: URL of the stage, without a slash at its end. Only with O(stage).
      type: str
      sample: https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/api
    name:
      description: Name of the API.
      type: str
      sample: metaflow-prod
    policy:
      description: The resource policy, as a map; empty where there is none.
      type: dict
      sample: {}
    root_resource_id:
      description: Id of the resource C(/).
      type: str
      sample: 2bmcebwxq4
    routes:
      description: The routes as they are configured, by method and path, in AWS's terms.
      type: dict
      sample:
        GET /ping: {"apiKeyRequired": false, "authorizationType": NONE, "integration": {"type": MOCK}}
    stage:
      description: The stage, as AWS describes it. C(deployed) is the description of its deployment.
      type: dict
      sample: {"deployed": "sha256:0e5f…", "deployment_id": "k2v9ab", "stage_name": "api"}
    tags:
      description: The API's tags.
      type: dict
      sample: {"mlops.metaflow/stack": metaflow}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, options
from ansible_collections.mlops.metaflow.plugins.module_utils.rest_api import RestApi
from ansible_collections.mlops.metaflow.plugins.module_utils.rest_api_plan import ROUTE_OPTIONS, STAGE_OPTIONS


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            description={},
            endpoint_type={"choices": ["EDGE", "REGIONAL", "PRIVATE"], "default": "REGIONAL"},
            vpc_endpoint_ids={"type": "list", "elements": "str"},
            security_policy={},
            endpoint_access_mode={"choices": ["BASIC", "STRICT"]},
            policy={"type": "json"},
            routes={"type": "list", "elements": "dict", "options": ROUTE_OPTIONS},
            purge_routes={"type": "bool", "default": True},
            stage={"type": "dict", "options": STAGE_OPTIONS},
            **TAG_OPTIONS,
        ),
        supports_check_mode=True,
        required_if=[("state", "present", ["routes"])],
    )
    RestApi(module).run()


if __name__ == "__main__":
    main()
