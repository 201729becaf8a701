#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of community.aws.codebuild_project (10.0): it has no check mode, updates the project at every run, can't say
# where the log goes, and fails where a project has never been changed.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: codebuild_project
short_description: Manage a CodeBuild project whose source lies in S3
version_added: 0.1.0
description:
  - Creates, changes and removes a project of CodeBuild that builds in a container of Linux, with its buildspec in the
    project.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the project.
    type: str
    required: true
  state:
    description: Whether the project should exist.
    choices: [present, absent]
    default: present
    type: str
  description:
    description: What the project is for.
    type: str
  source_location:
    description: Bucket and key of the source, C(bucket/key.zip). Needed with O(state=present).
    type: str
  buildspec:
    description: The buildspec, as text. Needed with O(state=present).
    type: str
  environment:
    description: Where it is built.
    type: dict
    suboptions:
      type:
        description: Kind of container.
        type: str
        choices: [LINUX_CONTAINER, ARM_CONTAINER]
        default: LINUX_CONTAINER
      image:
        description: Image of the container.
        type: str
        required: true
      compute_type:
        description: Size of the machine.
        type: str
        default: BUILD_GENERAL1_SMALL
      privileged_mode:
        description: Whether the build may run a container engine.
        type: bool
        default: false
  service_role:
    description: ARN of the role that builds have. Needed with O(state=present).
    type: str
  timeout_in_minutes:
    description: Longest time of a build.
    type: int
    default: 60
  queued_timeout_in_minutes:
    description: Longest time that a build waits for a machine.
    type: int
    default: 60
  log_group:
    description: Log group of builds. Needed with O(state=present).
    type: str
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the project that builds images
  mlops.metaflow.codebuild_project:
    name: metaflow-prod-flow-image
    source_location: metaflow-prod-123456789012-eu-west-1/flow-image/context.zip
    buildspec: "{{ lookup('ansible.builtin.file', 'buildspec.yml') }}"
    environment: {image: "aws/codebuild/amazonlinux-x86_64-standard:5.0", privileged_mode: true}
    service_role: arn:aws:iam::123456789012:role/metaflow-prod-flow-image
    log_group: /aws/codebuild/metaflow-prod-flow-image
"""

RETURN = r"""
project:
  description: The project as CodeBuild shows it, with its tags.
  returned: success
  type: dict
  sample:
    arn: arn:aws:codebuild:eu-west-1:123456789012:project/metaflow-prod-flow-image
    name: metaflow-prod-flow-image
    tags: {Team: data}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.diff import api_form, tags_after
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, AwsResource, options


class Project(AwsResource):
    """A project, keyed by its name. Its tags are a part of it, and are written with it."""

    kind = "CodeBuild project"
    service = "codebuild"
    result_key = "project"

    def declare(self):
        params = self.params
        source = {"type": "S3", "location": params["source_location"], "buildspec": params["buildspec"]}
        declared = {
            "name": self.name,
            "source": source,
            "artifacts": {"type": "NO_ARTIFACTS"},
            "environment": api_form(params["environment"]),
            "serviceRole": params["service_role"],
            "timeoutInMinutes": params["timeout_in_minutes"],
            "queuedTimeoutInMinutes": params["queued_timeout_in_minutes"],
            "logsConfig": {"cloudWatchLogs": {"status": "ENABLED", "groupName": params["log_group"]}},
        }
        return declared | {key: params[key] for key in ("description", "tags") if params[key] is not None}

    def read(self):
        found = self.client.batch_get_projects(names=[self.name])["projects"]
        if not found:
            return None
        tags = boto3_tag_list_to_ansible_dict(found[0].get("tags") or [], "key", "value")
        times = {key: str(found[0][key]) for key in ("created", "lastModified") if key in found[0]}
        return {**found[0], **times, "tags": tags}

    def create(self, desired):
        self.client.create_project(**self._request(desired, desired.get("tags", {})))

    def update(self, live, desired, changes):
        tags = live["tags"]
        if "tags" in desired:
            tags = tags_after(desired["tags"], tags, self.params["purge_tags"])
        self.client.update_project(**self._request(desired, tags))

    def _request(self, desired, tags):
        return {**desired, "tags": ansible_dict_to_boto3_tag_list(tags, "key", "value")}

    def carries_tags(self, changes):
        return bool(changes)

    def delete(self, live):
        self.client.delete_project(name=self.name)

    def tag(self, live, tags):
        self._write_all_tags({**live["tags"], **tags})

    def untag(self, live, keys):
        live["tags"] = {key: value for key, value in live["tags"].items() if key not in keys}
        self._write_all_tags(live["tags"])

    def _write_all_tags(self, tags):
        self.client.update_project(name=self.name, tags=ansible_dict_to_boto3_tag_list(tags, "key", "value"))

    def predict(self, desired):
        return {"arn": self.arn(f"project/{self.name}"), "tags": {}}


def main():
    environment = {
        "type": {"choices": ["LINUX_CONTAINER", "ARM_CONTAINER"], "default": "LINUX_CONTAINER"},
        "image": {"required": True},
        "compute_type": {"default": "BUILD_GENERAL1_SMALL"},
        "privileged_mode": {"type": "bool", "default": False},
    }
    needed = ("source_location", "buildspec", "environment", "service_role", "log_group")
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            description={},
            source_location={},
            buildspec={},
            environment={"type": "dict", "options": environment},
            service_role={},
            timeout_in_minutes={"type": "int", "default": 60},
            queued_timeout_in_minutes={"type": "int", "default": 60},
            log_group={},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", needed)],
        supports_check_mode=True,
    )
    Project(module).run()


if __name__ == "__main__":
    main()
