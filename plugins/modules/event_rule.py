#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# In place of amazon.aws.cloudwatchevent_rule (10.1), which has no check mode, no tags and no diff.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: event_rule
version_added: 0.1.0
short_description: Manage rules of EventBridge
description:
  - Creates, changes and deletes a rule of the default event bus, with all of its targets and its tags.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the rule, unique in account and region.
    type: str
    required: true
  description:
    description: What the rule is for.
    type: str
  schedule_expression:
    description: When it fires, in UTC, e.g. C(cron(0 6 * * ? *)) or C(rate(6 hours)).
    type: str
  event_pattern:
    description: Which events it fires for.
    type: dict
  targets:
    description: What it invokes. Needed with O(state=present). Other targets of the rule are removed.
    type: list
    elements: dict
    suboptions:
      id:
        description: What the target is called in the rule.
        type: str
        required: true
      arn:
        description: ARN of what is invoked.
        type: str
        required: true
      role_arn:
        description: ARN of the role that EventBridge acts as.
        type: str
      input:
        description: What the target gets, as JSON text; without it, the event.
        type: str
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure that the state machine starts at six every morning
  mlops.metaflow.event_rule:
    name: hello
    schedule_expression: cron(0 6 * * ? *)
    targets:
      - id: hello
        arn: arn:aws:states:eu-west-1:123456789012:stateMachine:hello
        role_arn: arn:aws:iam::123456789012:role/start-hello
        input: "{}"

- name: Ensure that the rule is gone
  mlops.metaflow.event_rule:
    name: hello
    state: absent
"""

RETURN = r"""
event_rule:
  description: The rule; in check mode, as it would be. Empty when O(state=absent).
  returned: always
  type: dict
  contains:
    name: {type: str, sample: hello, description: Its name.}
    arn: {type: str, sample: "arn:aws:events:eu-west-1:123456789012:rule/hello", description: Its ARN.}
    state: {type: str, sample: ENABLED, description: ENABLED or DISABLED.}
    description: {type: str, sample: "", description: What the rule is for.}
    schedule_expression: {type: str, sample: rate(6 hours), description: When it fires.}
    event_pattern: {type: dict, sample: {"source": ["aws.states"]}, description: Which events it fires for.}
    targets: {type: list, elements: dict, sample: [{"id": "hello"}], description: What it invokes.}
    tags: {type: dict, sample: {"Component": "chains"}, description: Its tags.}
"""

import json

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import absent_when, tag_map
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    options,
)

TARGET_KEYS = {"id": "Id", "arn": "Arn", "role_arn": "RoleArn", "input": "Input"}


class EventRule(AwsResource):
    """A rule of the default event bus, keyed by its name."""

    kind = "event rule"
    service = "events"
    result_key = "event_rule"
    unordered = ("tags", "EventPattern", "Targets")
    verbatim = ("tags", "EventPattern")

    def declare(self):
        declared = {
            "Name": self.name,
            "State": "ENABLED",
            "Description": self.params["description"],
            "Targets": [_target(target) for target in self.params["targets"]],
            "tags": self.params["tags"],
        }
        declared = {key: value for key, value in declared.items() if value is not None}
        # The one that is not asked for is not to be there: None says so.
        return declared | {
            "ScheduleExpression": self.params["schedule_expression"],
            "EventPattern": self.params["event_pattern"],
        }

    def read(self):
        with absent_when("ResourceNotFoundException"):
            live = self.client.describe_rule(Name=self.name)
            keys = ("Name", "Arn", "State", "Description", "ScheduleExpression")
            pattern = live.get("EventPattern")
            pages = self.client.get_paginator("list_targets_by_rule").paginate(Rule=self.name)
            return {
                **{key: live[key] for key in keys if key in live},
                "EventPattern": json.loads(pattern) if pattern else None,
                "Targets": [target for page in pages for target in page["Targets"]],
                "tags": tag_map(self.client.list_tags_for_resource(ResourceARN=live["Arn"])["Tags"]),
            }
        return None

    def predict(self, desired):
        return {"Arn": self.arn(f"rule/{self.name}"), "tags": {}}

    def create(self, desired):
        self._put_rule(desired, Tags=_tag_list(desired.get("tags")))
        self._put_targets(desired["Targets"])

    def update(self, live, desired, changes):
        if changes.keys() - {"Targets"}:
            self._put_rule(desired)
        if "Targets" in changes:
            self._put_targets(desired["Targets"])
            wanted = {target["Id"] for target in desired["Targets"]}
            self._remove_targets([target["Id"] for target in live["Targets"] if target["Id"] not in wanted])

    def _put_rule(self, desired, **more):
        """Write the rule, all of it: what is left out is taken away."""
        keys = ("Name", "State", "Description", "ScheduleExpression")
        arguments = {key: desired[key] for key in keys if desired.get(key) is not None}
        if desired["EventPattern"] is not None:
            arguments["EventPattern"] = json.dumps(desired["EventPattern"], sort_keys=True)
        self.client.put_rule(**arguments, **more)

    def _put_targets(self, targets):
        answer = self.client.put_targets(Rule=self.name, Targets=targets)
        _require_all(answer)

    def _remove_targets(self, ids):
        if ids:
            _require_all(self.client.remove_targets(Rule=self.name, Ids=ids))

    def delete(self, live):
        self._remove_targets([target["Id"] for target in live["Targets"]])
        self.client.delete_rule(Name=self.name)

    def tag(self, live, tags):
        self.client.tag_resource(ResourceARN=live["Arn"], Tags=_tag_list(tags))

    def untag(self, live, keys):
        self.client.untag_resource(ResourceARN=live["Arn"], TagKeys=keys)


def _target(option):
    return {name: option[key] for key, name in TARGET_KEYS.items() if option[key] is not None}


def _tag_list(tags):
    return [{"Key": key, "Value": value} for key, value in (tags or {}).items()]


def _require_all(answer):
    """Raise :class:`Failed` for targets that EventBridge has refused: its calls succeed all the same."""
    refused = [f"{entry['TargetId']}: {entry['ErrorMessage']}" for entry in answer.get("FailedEntries", [])]
    if refused:
        raise Failed("; ".join(refused))


def main():
    target = {
        "id": {"required": True},
        "arn": {"required": True},
        "role_arn": {},
        "input": {},
    }
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            description={},
            schedule_expression={},
            event_pattern={"type": "dict"},
            targets={"type": "list", "elements": "dict", "options": target},
            **TAG_OPTIONS,
        ),
        required_if=[
            ("state", "present", ["targets"]),
            ("state", "present", ["schedule_expression", "event_pattern"], True),
        ],
        mutually_exclusive=[("schedule_expression", "event_pattern")],
        supports_check_mode=True,
    )
    EventRule(module).run()


if __name__ == "__main__":
    main()
