#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# amazon.aws has an *_info module for each kind of resource: a component that builds on six kinds would run six of
# them, one after the other. This one reads all kinds at once, in concurrent calls, by the stack's tags and names.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_info
short_description: Find what the stack's components made, by tags and names
version_added: 0.1.0
description:
  - Finds the live resources of one stack and environment in the account, in one pass of concurrent calls.
  - A component uses it to find what another component made, so that any component converges alone.
  - In check mode a required resource that doesn't exist yet is predicted, so that C(--check) goes through on an
    empty account.
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
  require:
    description:
      - Map of kind to a list of names that must exist. Any that is missing fails the module, with the component
        that makes it.
      - 'The kinds are C(vpc), C(subnet), C(internet_gateway), C(nat_gateway), C(address), C(route_table),
        C(vpc_endpoint), C(security_group), C(launch_template), C(load_balancer), C(target_group), C(rest_api),
        C(vpc_link), C(api_key), C(job_queue), C(compute_environment), C(db_instance), C(kms_key) (by alias), C(secret),
        C(flow_secret) (all below a prefix), C(state_machine) and C(event_rule) (all whose names begin so),
        C(started_by_running) (what executions of state machines that run may start), C(flow_image) (by
        C(repository:tag)), C(codebuild_project) and C(availability_zone).'
    type: dict
    default: {}
  gather:
    description: Map of kind to a list of names that may exist. An empty list asks for all that carry the tags.
    type: dict
    default: {}
  adopted:
    description:
      - What the stack uses without having made it - a map of kind (C(vpc), C(subnet)) to a map of name to ID.
      - Read by its ID for the kinds asked for, and returned under its name with C(adopted=true).
    type: dict
    default: {}
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reads the same; predicts what is required and missing.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Find the network that the batch component builds on
  mlops.metaflow.stack_info:
    stack: metaflow
    environment: prod
    require:
      vpc: [metaflow-prod]
      subnet: [metaflow-prod-private-1, metaflow-prod-private-2]
  register: __batch_found

- name: Show the VPC's id
  ansible.builtin.debug:
    var: __batch_found.resources.vpc['metaflow-prod'].id
"""

RETURN = r"""
resources:
  description:
    - Map of kind to a map of name to resource, for the kinds asked for.
    - Every resource has C(id) and, where AWS has them, C(arn), C(tags) and C(status); C(predicted=true) marks one
      that check mode assumes.
  returned: success
  type: dict
  sample:
    vpc:
      metaflow-prod: {id: vpc-0a1b2c3d4e5f60718, cidr_block: 10.20.0.0/16, tags: {Name: metaflow-prod}}
    load_balancer:
      metaflow-prod:
        id: arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/metaflow-prod/50dc6c495c0c9188
        dns_name: metaflow-prod-50dc6c495c0c9188.elb.eu-west-1.amazonaws.com
        status: active
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import discovery

#: A component asks for at most this many kinds; more threads would only queue at the connection pool (10).
MAX_WORKERS = 8


def read_all(scope, wanted):
    """Return ``{kind: {name: resource}}`` for the kinds in ``wanted``, read concurrently."""
    with ThreadPoolExecutor(max_workers=MAX_WORKERS) as pool:
        futures = {kind: pool.submit(discovery.READERS[kind], scope, names) for kind, names in wanted.items()}
    return {kind: future.result() for kind, future in futures.items()}


def with_adopted(scope, found, adopted):
    """Return what was found together with what is known by its id; that has its name before what the stack made."""
    return {
        kind: {**resources, **(discovery.read_adopted(scope, kind, adopted[kind]) if adopted.get(kind) else {})}
        for kind, resources in found.items()
    }


def missing(found, require):
    """Return ``[(kind, name)]`` of what is required and not there."""
    return [(kind, name) for kind, names in require.items() for name in names if name not in found[kind]]


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "stack": {"required": True},
            "environment": {"required": True},
            "require": {"type": "dict", "default": {}},
            "gather": {"type": "dict", "default": {}},
            "adopted": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    require, gather = module.params["require"], module.params["gather"]
    unknown = sorted({*require, *gather} - set(discovery.READERS))
    if unknown:
        module.fail_json(msg=f"Unknown kind '{unknown[0]}'; known are {', '.join(sorted(discovery.READERS))}.")

    client = discovery.client_factory(module)
    scope = discovery.Scope(module.params["stack"], module.params["environment"], client)
    wanted = {kind: [*require.get(kind, []), *(gather.get(kind) or [])] for kind in {**require, **gather}}
    try:
        found = with_adopted(scope, read_all(scope, wanted), module.params["adopted"])
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg=f"Failed to discover the stack '{scope.stack}' of '{scope.environment}'")

    for kind, name in missing(found, require):
        if not module.check_mode:
            maker = discovery.MAKERS.get(kind)
            how = f"converge it first: --tags {maker}" if maker else "converge the component that makes it first"
            module.fail_json(
                msg=f"There is no {kind} '{name}' of stack '{scope.stack}', environment '{scope.environment}' "
                f"in {module.region}; {how}."
            )
        found[kind][name] = discovery.predicted(kind, name, module.region, "000000000000")
    module.exit_json(changed=False, resources=found)


if __name__ == "__main__":
    main()
