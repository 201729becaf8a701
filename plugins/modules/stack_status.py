#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# amazon.aws has a module for each kind of resource and none for Batch's jobs or executions; this one reads all that
# a page about the stack shows, in concurrent calls, and judges it.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_status
version_added: 0.1.0
short_description: Say how a stack is - components, queues, flows, alarms
description:
  - Reads the live state of a stack's components, its job queues with the number of jobs by state, the last executions
    of its flows and chains, and CloudWatch's alarms of its name, in concurrent calls. Changes nothing.
  - What the caller may not read is V(unknown), and the rest is read all the same.
  - Returns no secret - no value of one, no environment, no input or output of an execution.
author:
  - The metaflow-ansible authors
options:
  stack:
    description: Value of the tag C(mlops.metaflow/stack).
    type: str
    required: true
  environment:
    description: Value of the tag C(mlops.metaflow/environment).
    type: str
    required: true
  prefix:
    description: How the names of the stack's alarms begin.
    type: str
    required: true
  state_machine_prefix:
    description: How the names of its state machines begin.
    type: str
    required: true
  components:
    description: The components to look at, in this order. Those that nobody knows to read are left out.
    type: list
    elements: str
    required: true
  names:
    description: What the stack's resources are called.
    type: dict
    required: true
    suboptions:
      vpc: {type: list, elements: str, required: true, description: Name of the VPC.}
      subnet: {type: list, elements: str, required: true, description: Names of the subnets.}
      adopted: {type: dict, default: {}, description: "What is the stack's by id: kind, name, id."}
      bucket: {type: str, required: true, description: Name of the bucket.}
      secret: {type: str, required: true, description: Name of the database's secret.}
      flow_secrets: {type: str, required: true, description: How the names of the flows' secrets begin.}
      roles: {type: list, elements: str, required: true, description: Names of the roles.}
      repository: {type: str, required: true, description: Name of the repository.}
      database: {type: str, required: true, description: Identifier of the database.}
      load_balancer: {type: str, required: true, description: Name of the load balancer.}
      rest_api: {type: str, default: "", description: Name of the REST API; empty where there is none.}
      vpc_link: {type: str, default: "", description: Name of the VPC link.}
      host_prefix: {type: str, required: true, description: How the names of the machines begin.}
      hosts: {type: list, elements: str, default: [], description: "Names in C(hosts_list) of those to be there."}
      flow_image: {type: str, required: true, description: "The image of flows, as repository:tag."}
      flow_image_wanted: {type: bool, default: false, description: Whether it should be there.}
      table: {type: str, required: true, description: Name of Step Functions' table.}
      cluster: {type: str, required: true, description: Name of the ECS cluster.}
      service: {type: str, required: true, description: Name of the metadata service.}
      target_group: {type: str, required: true, description: Name of its target group.}
  urls:
    description: Addresses to show, by name, in which C({rest_api_id}) and C({dns_name}) are filled in.
    type: dict
    default: {}
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reads the same.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
seealso:
  - module: mlops.metaflow.batch_diagnose
"""

EXAMPLES = r"""
# playbooks/status.yml passes the stack's names.
- name: See how the queues are
  mlops.metaflow.stack_status:
    stack: metaflow
    environment: prod
    prefix: metaflow-prod
    state_machine_prefix: metaflow-prod
    components: [batch]
    names: "{{ names }}"
  register: seen
"""

RETURN = r"""
status:
  description: How the stack is.
  returned: success
  type: dict
  contains:
    collected_at: {type: str, sample: "2026-11-24T15:04:05+00:00", description: When it was read.}
    account: {type: str, sample: "123456789012", description: The account.}
    region: {type: str, sample: eu-west-1, description: The region.}
    health:
      description: V(ok), V(busy), V(unknown), V(bad) (also while an alarm rings), or V(absent) where nothing is there.
      type: str
      sample: ok
    components:
      description: The components.
      type: list
      elements: dict
      sample: [{name: datastore, status: ok, parts: [{name: bucket x, status: ok, detail: versioning enabled}]}]
    queues:
      description: The job queues with their number of jobs by state, each counted to 1000.
      type: list
      elements: dict
      sample: [{name: metaflow-prod, state: ENABLED, status: VALID, jobs: {RUNNABLE: 0, RUNNING: 2}}]
    flows:
      description: Flows and chains with their schedules and last executions; those that failed last come first.
      type: list
      elements: dict
      sample: [{name: HelloFlow, kind: flow, schedule: "cron(0 6 * * ? *)", executions: [{status: SUCCEEDED}]}]
    alarms:
      description: CloudWatch's alarms; those that ring first.
      type: list
      elements: dict
      sample: [{name: metaflow-prod-database-cpu, state: OK}]
    urls:
      description: Addresses, in order.
      type: list
      elements: dict
      sample: [{name: metadata service, url: "https://…"}]
    unchecked:
      description: What could not be read.
      type: list
      elements: str
      sample: ["alarms: AWS answers AccessDenied"]
"""

from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.iam import get_aws_account_info
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import activity, discovery, health
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import concurrently, error_code

LOG_GROUP_OF_JOBS = "/aws/batch/job"


class Reader:
    """Reads the sections of the page; what AWS refuses is noted, and empty."""

    def __init__(self, scope):
        self.scope = scope
        self.unchecked = []

    def attempt(self, what, read):
        try:
            return read()
        except botocore.exceptions.ClientError as error:
            self.unchecked.append(f"{what}: AWS answers {error_code(error)}")
            return []


def urls(scope, names, given):
    """Return the addresses whose parts are there."""
    found = {}
    if "{rest_api_id}" in "".join(given.values()) and names["rest_api"]:
        found["rest_api_id"] = discovery.READERS["rest_api"](scope, [names["rest_api"]])
    if "{dns_name}" in "".join(given.values()):
        found["dns_name"] = discovery.READERS["load_balancer"](scope, [names["load_balancer"]])
    key = {"rest_api_id": "id", "dns_name": "dns_name"}
    values = {name: next(iter(items.values()))[key[name]] for name, items in found.items() if items}
    shown = []
    for name, url in given.items():
        for placeholder, value in values.items():
            url = url.replace(f"{{{placeholder}}}", value)
        if "{" not in url:
            shown.append({"name": name, "url": url})
    return shown


def overall(components, alarms):
    """Return the health of the whole: that of its components, and bad while an alarm rings."""
    whole = health.worst(component["status"] for component in components)
    return "bad" if any(alarm["state"] == "ALARM" for alarm in alarms) else whole


def console(scope, names, region):
    """Return the pages of AWS's console; none where AWS is emulated, as nobody shows them then."""
    if "amazonaws.com" not in scope.client("batch").meta.endpoint_url:
        return []
    group = LOG_GROUP_OF_JOBS.replace("/", "$252F")  # the console's own encoding
    home = f"https://{region}.console.aws.amazon.com"
    return [
        {"name": "jobs", "url": f"{home}/batch/home?region={region}#jobs"},
        {"name": "state machines", "url": f"{home}/states/home?region={region}#/statemachines"},
        {"name": "bucket", "url": f"{home}/s3/buckets/{names['bucket']}?region={region}"},
        {"name": "logs of jobs", "url": f"{home}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}"},
        {"name": "alarms", "url": f"{home}/cloudwatch/home?region={region}#alarmsV2:"},
    ]  # fmt: skip


def main():
    required = {"required": True}
    listed = {"type": "list", "elements": "str", "required": True}
    names = {
        "vpc": listed, "subnet": listed, "adopted": {"type": "dict", "default": {}}, "bucket": required,
        "secret": {"required": True, "no_log": False}, "flow_secrets": {"required": True, "no_log": False},
        "roles": listed, "repository": required, "database": required, "load_balancer": required,
        "rest_api": {"default": ""}, "vpc_link": {"default": ""}, "table": required, "cluster": required,
        "service": required, "target_group": required, "host_prefix": required,
        "hosts": {"type": "list", "elements": "str", "default": []}, "flow_image": required,
        "flow_image_wanted": {"type": "bool", "default": False},
    }  # fmt: skip
    module = AnsibleAWSModule(
        argument_spec={
            "stack": required,
            "environment": required,
            "prefix": required,
            "state_machine_prefix": required,
            "components": listed,
            "names": {"type": "dict", "required": True, "options": names},
            "urls": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = module.params
    client = discovery.client_factory(module)
    scope = discovery.Scope(params["stack"], params["environment"], client)
    reader, judge = Reader(scope), health.Health(scope, params["names"])
    known = [name for name in params["components"] if hasattr(judge, f"_{name}")]
    try:
        account, _ = get_aws_account_info(module)
        read = concurrently(
            {
                "queues": partial(reader.attempt, "job queues", partial(activity.queues, scope)),
                "flows": partial(
                    reader.attempt, "flows", partial(activity.flows, scope, params["state_machine_prefix"])
                ),
                "alarms": partial(reader.attempt, "alarms", partial(activity.alarms, scope, params["prefix"])),
                "urls": partial(reader.attempt, "addresses", partial(urls, scope, params["names"], params["urls"])),
                **{f"component {name}": partial(judge.component, name) for name in known},
            }
        )
    except botocore.exceptions.BotoCoreError as error:
        module.fail_json_aws(error, msg=f"Failed to read the stack '{scope.stack}' of '{scope.environment}'")
    # One of which nothing is there and nothing is asked for, such as machines, is left out.
    components = [component for name in known if (component := read[f"component {name}"])["parts"]]
    module.exit_json(
        changed=False,
        status={
            "collected_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "account": account,
            "region": module.region,
            "health": overall(components, read["alarms"]),
            "components": components,
            "queues": read["queues"],
            "flows": read["flows"],
            "alarms": read["alarms"],
            "urls": [*read["urls"], *console(scope, params["names"], module.region)],
            "unchecked": reader.unchecked,
        },
    )


if __name__ == "__main__":
    main()
