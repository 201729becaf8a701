#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# In place of community.aws.stepfunctions_state_machine (10.0), which sets no logging, compares definitions as texts,
# finds a state machine in the first page of the list only, and shows no diff.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: state_machine
version_added: 0.1.0
short_description: Manage state machines of Step Functions
description:
  - Creates, updates in place and deletes a standard state machine with its log and its tags.
  - Executions that run while it is updated go on with the definition that they began with.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the state machine, unique in account and region.
    type: str
    required: true
  definition:
    description: The definition in Amazon States Language. Needed with O(state=present).
    type: dict
  role_arn:
    description: ARN of the role that executions act as. Needed with O(state=present).
    type: str
  log_group_arn:
    description:
      - ARN of the log group of CloudWatch Logs that executions are logged to, without C(:*) at its end.
      - Left open, the log stays as it is; a new state machine has none.
    type: str
  log_level:
    description: What is logged.
    type: str
    choices: [ALL, ERROR, FATAL]
    default: ALL
  log_execution_data:
    description: Whether inputs and outputs are logged too.
    type: bool
    default: false
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure that the state machine is there
  mlops.metaflow.state_machine:
    name: hello
    definition:
      StartAt: Hello
      States: {Hello: {Type: Pass, End: true}}
    role_arn: arn:aws:iam::123456789012:role/hello
    log_group_arn: arn:aws:logs:eu-west-1:123456789012:log-group:/aws/vendedlogs/states/hello

- name: Ensure that it is gone, and don't wait for its executions
  mlops.metaflow.state_machine:
    name: hello
    state: absent
    wait: false
"""

RETURN = r"""
state_machine:
  description: The state machine; in check mode, as it would be. Empty when O(state=absent).
  returned: always
  type: dict
  contains:
    name: {type: str, sample: hello, description: Its name.}
    state_machine_arn:
      description: Its ARN.
      type: str
      sample: arn:aws:states:eu-west-1:123456789012:stateMachine:hello
    status: {type: str, sample: ACTIVE, description: ACTIVE or DELETING.}
    definition: {type: dict, sample: {"StartAt": "Hello"}, description: Its definition.}
    role_arn: {type: str, sample: "arn:aws:iam::123456789012:role/hello", description: The role of its executions.}
    logging_configuration: {type: dict, sample: {"level": "ALL"}, description: What is logged where.}
    tags: {type: dict, sample: {"Component": "chains"}, description: Its tags.}
"""

import json
import time
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import absent_when, tag_map
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    error_code,
    options,
)

#: Pauses in seconds between attempts with a role that IAM may not have told all of AWS about yet; None ends them.
ROLE_PAUSES = (1, 2, 4, 8, 16, None)


class StateMachine(AwsResource):
    """A state machine, keyed by its name."""

    kind = "state machine"
    service = "stepfunctions"
    result_key = "state_machine"
    unordered = ("tags", "definition")
    verbatim = ("tags", "definition")

    def declare(self):
        declared = {
            "name": self.name,
            "definition": self.params["definition"],
            "roleArn": self.params["role_arn"],
            "tags": self.params["tags"],
        }
        if self.params["log_group_arn"]:
            group = {"logGroupArn": self.params["log_group_arn"] + ":*"}
            declared["loggingConfiguration"] = {
                "level": self.params["log_level"],
                "includeExecutionData": self.params["log_execution_data"],
                "destinations": [{"cloudWatchLogsLogGroup": group}],
            }
        return {key: value for key, value in declared.items() if value is not None}

    @property
    def machine_arn(self):
        """The ARN follows from the name."""
        return self.arn(f"stateMachine:{self.name}").replace(f":{self.service}:", ":states:")

    def read(self):
        with absent_when("StateMachineDoesNotExist"):
            live = self.client.describe_state_machine(stateMachineArn=self.machine_arn)
            keys = ("name", "stateMachineArn", "status", "roleArn", "loggingConfiguration")
            return {
                **{key: live[key] for key in keys if key in live},
                "definition": json.loads(live["definition"]),
                "tags": tag_map(self.client.list_tags_for_resource(resourceArn=self.machine_arn)["tags"]),
            }
        return None

    def predict(self, desired):
        return {"stateMachineArn": self.machine_arn, "status": "ACTIVE", "tags": {}}

    def deleting(self, live):
        return live["status"] == "DELETING"

    def create(self, desired):
        # Asked twice for the same, AWS makes it once.
        arguments = {key: desired[key] for key in ("name", "roleArn", "loggingConfiguration") if key in desired}
        self._with_role(
            self.client.create_state_machine,
            **arguments,
            definition=_document(desired["definition"]),
            type="STANDARD",
            tags=_tag_list(desired.get("tags")),
        )

    def update(self, live, desired, changes):
        arguments = {}
        if "definition" in changes:
            arguments["definition"] = _document(desired["definition"])
        # Parts of the log can't be written alone.
        arguments |= {key: desired[key] for key in ("roleArn", "loggingConfiguration") if key in changes}
        self._with_role(self.client.update_state_machine, stateMachineArn=live["stateMachineArn"], **arguments)

    def _with_role(self, call, **arguments):
        """Make a call that AWS refuses as long as a new role, or its policy, isn't known everywhere."""
        for pause in ROLE_PAUSES:
            try:
                return call(**arguments)
            except botocore.exceptions.ClientError as error:
                if pause is None or error_code(error) != "AccessDeniedException":
                    raise
            time.sleep(pause)
        raise AssertionError("the last pause is None, and ends the loop")

    def delete(self, live):
        self.client.delete_state_machine(stateMachineArn=live["stateMachineArn"])

    def tag(self, live, tags):
        self.client.tag_resource(resourceArn=live["stateMachineArn"], tags=_tag_list(tags))

    def untag(self, live, keys):
        self.client.untag_resource(resourceArn=live["stateMachineArn"], tagKeys=keys)


def _document(definition):
    return json.dumps(definition, sort_keys=True, indent=2)


def _tag_list(tags):
    return [{"key": key, "value": value} for key, value in (tags or {}).items()]


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            definition={"type": "dict"},
            role_arn={},
            log_group_arn={},
            log_level={"choices": ["ALL", "ERROR", "FATAL"], "default": "ALL"},
            log_execution_data={"type": "bool", "default": False},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["definition", "role_arn"])],
        supports_check_mode=True,
    )
    StateMachine(module).run()


if __name__ == "__main__":
    main()
