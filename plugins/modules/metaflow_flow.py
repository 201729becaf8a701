#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# `python flow.py step-functions create` uploads and updates at every call, even with --only-json, and neither it nor
# community.aws.stepfunctions_state_machine can tell whether a flow is deployed as it stands in its folder.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: metaflow_flow
version_added: 0.1.0
short_description: Deploy flows to Step Functions
description:
  - Deploys each flow of a list with Metaflow's own C(step-functions create), if it is not deployed as it stands.
  - That is told by two tags on the state machine. C(mlops.metaflow/source) is the digest of the flow's files (see
    below), its options, Metaflow's configuration, version and extensions; C(mlops.metaflow/deployed) that of the
    definition, role, log level and schedule as they were live after the deployment. A flow is deployed where either
    differs, so what somebody changed by hand is put right. Unchanged flows cost a few reading calls; Metaflow is not
    even started.
  - The files of a flow are those that Metaflow packages of its folder, without other flows in that folder unless a
    file imports them or names them, and files that the code names by their path (C(Config), C(IncludeFile)). What the
    code reads in another way, or from the environment, when it is deployed doesn't count.
  - A deployment is first rehearsed, by the same command with all writing calls held back. So each step is checked
    against the machines of its queue before anything is deployed, and C(--check --diff) shows the change of the state
    machine.
author:
  - The metaflow-ansible authors
options:
  flows:
    description: The flows. One that is deployed and not in this list is kept, and a warning says so.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the flow is called here; it stands in the state machine's tag C(mlops.metaflow/flow).
        type: str
        required: true
      state:
        description: V(absent) removes the state machine and its schedule. Executions that run come to their end.
        type: str
        choices: [present, absent]
        default: present
      file:
        description: The flow's file, relative to O(source). Needed where it is present.
        type: str
      parameters:
        description: Values of the flow's parameters for runs by the schedule.
        type: dict
        default: {}
      schedule:
        description:
          - Six fields of an EventBridge cron expression in UTC, in place of the flow's own C(@schedule).
          - V(none) takes the schedule away. Left open, C(@schedule) holds.
        type: str
      with:
        description: Decorators for all steps that don't have them, as for C(--with).
        type: list
        elements: str
        default: []
      project:
        description: For a flow with C(@project).
        type: dict
        suboptions:
          name:
            description: The project's name in the code; another one there is an error.
            type: str
          branch:
            description: The branch, as for C(--branch).
            type: str
          production:
            description: Whether it is the production branch, as for C(--production).
            type: bool
            default: false
      tags:
        description: Metaflow's tags of its runs.
        type: list
        elements: str
        default: []
      environment:
        description: Environment variables of the steps, by C(@environment). Not the place for a secret.
        type: dict
        default: {}
      secrets:
        description: Ids of secrets whose values the steps get as environment variables, by C(@secrets).
        type: list
        elements: str
        default: []
      max_workers:
        description: Most tasks of a foreach at a time.
        type: int
      namespace:
        description: Namespace of its runs, in place of the production token.
        type: str
      authorize:
        description: The production token of a deployment that somebody else made by hand, to take it over.
        type: str
      workflow_timeout:
        description: Longest time of an execution in seconds.
        type: int
      use_distributed_map:
        description: Whether a foreach is a distributed map, for more than 40 tasks at a time.
        type: bool
        default: false
      log_execution_history:
        description: Whether the history of executions goes to the log group of Metaflow's configuration.
        type: bool
        default: true
      options:
        description: More options that stand before C(step-functions), e.g. C(--environment=pypi).
        type: list
        elements: str
        default: []
  source:
    description: The folder that the flows' files are relative to. Needed where a flow is to be present.
    type: path
  prefix:
    description: How the names of state machines begin (C(METAFLOW_SFN_STATE_MACHINE_PREFIX)).
    type: str
    required: true
  tags:
    description: Tags of the state machines. By those that begin with C(mlops.metaflow/) the module knows its own.
    type: dict
    required: true
  retire:
    description: Whether to remove flows that are deployed and no longer in the list.
    type: bool
    default: false
  owner:
    description:
      - Metaflow's user that owns the deployments. Metaflow lets nobody else deploy over them. Needed where a flow is to
        be present.
    type: str
  metaflow_profile:
    description: Metaflow's profile, as in C(METAFLOW_PROFILE). Without it, the default profile.
    type: str
  home:
    description: The directory of the configuration files, as in C(METAFLOW_HOME).
    type: path
    default: ~/.metaflowconfig
  metaflow_python:
    description: The interpreter that has Metaflow and what the flows import. Needed where a flow is to be present.
    type: path
  reserved_memory_percent:
    description: Share of an instance's memory that kernel and hypervisor take, so that jobs can't have it.
    type: float
    default: 5
  forks:
    description: How many commands of Metaflow run at a time.
    type: int
    default: 4
  timeout:
    description: Longest time in seconds of one command of Metaflow.
    type: int
    default: 300
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Rehearses the deployments and writes nothing. Without Metaflow's configuration it can't, and says so.
    support: full
  diff_mode:
    description: Shows what differs in each state, secrets masked and without what is random.
    support: full
  idempotent:
    description: Makes no changing call for a flow that is deployed as it stands.
    support: full
seealso:
  - module: mlops.metaflow.metaflow_config
  - module: mlops.metaflow.metaflow_execution
"""

EXAMPLES = r"""
- name: Ensure the flows
  mlops.metaflow.metaflow_flow:
    source: /srv/flows
    metaflow_python: /srv/flows-venv/bin/python
    metaflow_profile: prod
    prefix: metaflow-prod
    owner: metaflow-prod
    tags: {mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod, mlops.metaflow/component: flows}
    flows:
      - name: download
        file: download.py
        schedule: "0 6 * * ? *"
        with: [retry]
        parameters: {limit: 1000}
        secrets: [metaflow-prod/flows/USDA_API_KEY]
      - name: old-report
        state: absent
"""

RETURN = r"""
flows:
  description: The flows of the list, and those that are deployed without being in it.
  returned: success
  type: list
  elements: dict
  contains:
    name: {type: str, sample: download, description: The flow's name in the list.}
    outcome:
      description:
        - V(deployed), V(unchanged), V(retired), V(kept) (not in the list) or V(absent) (there was nothing to remove).
          Check mode says what would be.
      type: str
      sample: deployed
    reason: {type: str, sample: new, description: Why it is deployed.}
    flow_name: {type: str, sample: DownloadFlow, description: The name of its class.}
    state_machine_name: {type: str, sample: metaflow-prod_DownloadFlow, description: The state machine's name.}
    state_machine_arn:
      description: The state machine's ARN.
      type: str
      sample: arn:aws:states:eu-west-1:123456789012:stateMachine:metaflow-prod_DownloadFlow
"""

from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_converge import Flows
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_config import ConfigError

SUBOPTIONS = {
    "name": {"required": True},
    "state": {"choices": ["present", "absent"], "default": "present"},
    "file": {},
    "parameters": {"type": "dict", "default": {}},
    "schedule": {},
    "with": {"type": "list", "elements": "str", "default": []},
    "project": {
        "type": "dict",
        "options": {"name": {}, "branch": {}, "production": {"type": "bool", "default": False}},
    },
    "tags": {"type": "list", "elements": "str", "default": []},
    "environment": {"type": "dict", "default": {}},
    "secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "max_workers": {"type": "int"},
    "namespace": {},
    "authorize": {},
    "workflow_timeout": {"type": "int"},
    "use_distributed_map": {"type": "bool", "default": False},
    "log_execution_history": {"type": "bool", "default": True},
    "options": {"type": "list", "elements": "str", "default": []},
}


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "flows": {"type": "list", "elements": "dict", "required": True, "options": SUBOPTIONS},
            "source": {"type": "path"},
            "prefix": {"required": True},
            "tags": {"type": "dict", "required": True},
            "retire": {"type": "bool", "default": False},
            "owner": {},
            "metaflow_profile": {},
            "home": {"type": "path", "default": "~/.metaflowconfig"},
            "metaflow_python": {"type": "path"},
            "reserved_memory_percent": {"type": "float", "default": 5},
            "forks": {"type": "int", "default": 4},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    try:
        Flows(module).run()
    except ConfigError as error:
        module.fail_json(msg=str(error))
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg="Failed to read or to change the flows of the account")


if __name__ == "__main__":
    main()
