#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# Replaces community.aws.ecs_taskdefinition, which doesn't see a changed value in a list (a variable, a command, a port)
# nor a changed cpu, memory, network mode, execution role or platform, takes a health check's defaults for a change,
# returns an old revision where that matches, and nothing in check mode, has no tags, demands containers to delete, and
# deregisters one revision at a time without deleting it.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ecs_task_definition
version_added: 0.1.0
short_description: Manage the revisions of an ECS task definition
description:
  - Registers a new revision of a task definition when the latest active one says something else, and only then.
  - What AWS fills in (C(cpu) 0, C(essential), C(protocol), C(hostPort), defaults of health checks, empty lists) and the
    order of variables, secrets, ports and volumes are no difference.
  - To delete, it deregisters and deletes all revisions. Tasks and services that run on them go on.
author:
  - The metaflow-ansible authors
options:
  family:
    description: Name of the task definition without its revision.
    type: str
    required: true
    aliases: [name]
  container_definitions:
    description:
      - The containers, in the spelling of the API's RegisterTaskDefinition (C(portMappings), C(logConfiguration), ...).
      - >-
        Everyone who may describe the task definition reads C(environment), and so does everyone who sees a diff.
        Passwords and keys belong into C(secrets): a C(name) and, as C(valueFrom), the ARN of an SSM parameter or of a
        Secrets Manager secret; of a secret's JSON one key by C(<arn>:<key>::). The execution role must be allowed to
        read them.
      - Required when O(state=present).
    type: list
    elements: dict
  cpu:
    description: CPU of the whole task, in 1/1024 vCPU (V(512)) or with a unit (V(0.5 vCPU)). Fargate demands it.
    type: str
  memory:
    description: Memory of the whole task, in MiB (V(1024)) or with a unit (V(1 GB)). Fargate demands it.
    type: str
  network_mode:
    description: How the containers reach the network. V(awsvpc) by default where Fargate is required, else V(bridge).
    type: str
    choices: [awsvpc, bridge, host, none]
  requires_compatibilities:
    description: Where the task must be able to run.
    type: list
    elements: str
    choices: [EC2, FARGATE, EXTERNAL]
  execution_role_arn:
    description: Role by which ECS itself pulls the image, reads the secrets and writes the log.
    type: str
  task_role_arn:
    description: Role of the containers.
    type: str
  runtime_platform:
    description: Processor and system that the images need. Left open, it is X86_64 Linux on Fargate, and any on EC2.
    type: dict
    suboptions:
      cpu_architecture:
        description: The processor.
        type: str
        choices: [X86_64, ARM64]
      operating_system_family:
        description: The operating system, V(LINUX) or one of the API's C(WINDOWS_SERVER_...).
        type: str
  volumes:
    description: The volumes that containers mount, in the spelling of the API.
    type: list
    elements: dict
  keep_revisions:
    description:
      - How many active revisions are kept, the latest included; older ones are deregistered.
      - A service goes on with a deregistered revision that it runs, but can't be set back to one. All by default.
    type: int
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the metadata service's task definition, and keep five revisions to go back to
  mlops.metaflow.ecs_task_definition:
    family: metaflow-metadata-service
    requires_compatibilities: [FARGATE]
    cpu: "512"
    memory: 1 GB
    execution_role_arn: arn:aws:iam::123456789012:role/metaflow-execution
    keep_revisions: 5
    container_definitions:
      - name: metadata-service
        image: public.ecr.aws/outerbounds/metaflow_metadata_service:2.5.0
        portMappings:
          - containerPort: 8080
        environment:
          - name: MF_METADATA_DB_NAME
            value: metaflow
        secrets:
          - name: MF_METADATA_DB_PSWD
            valueFrom: "arn:aws:secretsmanager:us-east-1:123456789012:secret:metaflow-db-AbCdEf:password::"
    tags:
      Component: metadata_service

- name: Ensure no revision is left
  mlops.metaflow.ecs_task_definition:
    family: metaflow-metadata-service
    state: absent
"""

RETURN = r"""
task_definition:
  description:
    - The latest active revision, without what AWS fills in; in check mode, as it would be. Empty when O(state=absent).
    - It has the declared options too, in snake_case (C(container_definitions), C(cpu), C(volumes), ...).
  returned: always
  type: dict
  contains:
    active_revisions:
      description: Numbers of the active revisions, the latest first.
      type: list
      elements: int
      sample: [7, 6, 5]
    family: {type: str, sample: metaflow-metadata-service, description: Name of the task definition.}
    revision: {type: int, sample: 7, description: Number of the latest active revision.}
    status: {type: str, sample: ACTIVE, description: What AWS says of the revision.}
    tags: {type: dict, sample: {"Component": "metadata_service"}, description: The revision's tags.}
    task_definition_arn:
      description: ARN of the latest active revision.
      type: str
      sample: arn:aws:ecs:us-east-1:123456789012:task-definition/metaflow-metadata-service:7
"""

from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.validate import ParamValidator

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.metaflow.plugins.module_utils import diff
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    options,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.task_definition import normal_form, typed

#: DeleteTaskDefinitions takes as many at a time.
DELETED_AT_ONCE = 10


class TaskDefinition(AwsResource):
    """The family of a task definition, seen by its latest active revision."""

    kind = "ECS task definition"
    service = "ecs"
    result_key = "task_definition"
    verbatim = ("tags", "dockerLabels", "options", "driverOpts", "labels")

    def __init__(self, module):
        super().__init__(module)
        self.shape = self.client.meta.service_model.operation_model("RegisterTaskDefinition").input_shape
        # Both sides are in normal form, so that all is compared whole: what is no longer declared is a difference.
        self.unordered = tuple(self.shape.members)
        self.registered = []

    @property
    def name(self):
        return self.params["family"]

    def declare(self):
        if self.params["keep_revisions"] is not None and self.params["keep_revisions"] < 1:
            raise Failed("keep_revisions must be 1 or more: the latest revision always stays.")
        on_fargate = "FARGATE" in (self.params["requires_compatibilities"] or [])
        declared = {
            "family": self.name,
            "containerDefinitions": self.params["container_definitions"],
            "cpu": self.params["cpu"],
            "memory": self.params["memory"],
            "networkMode": self.params["network_mode"] or ("awsvpc" if on_fargate else None),
            "requiresCompatibilities": self.params["requires_compatibilities"],
            "executionRoleArn": self.params["execution_role_arn"],
            "taskRoleArn": self.params["task_role_arn"],
            "runtimePlatform": diff.api_form(self.params["runtime_platform"]),
            "volumes": self.params["volumes"],
        }
        definition = typed({key: value for key, value in declared.items() if value is not None}, self.shape)
        problems = ParamValidator().validate(definition, self.shape)
        if problems.has_errors():
            raise Failed(problems.generate_report().replace("\n", "; "))
        return {**dict.fromkeys(self.shape.members), **normal_form(definition), "tags": self.params["tags"]}

    def read(self):
        # The list may lag behind a revision that was registered a moment ago.
        self.active = sorted({*self.revisions("ACTIVE"), *self.registered}, reverse=True)
        if self.params["state"] == "absent":
            found = {"activeRevisions": self.active, "inactiveRevisions": self.revisions("INACTIVE")}
            return {"family": self.name, **found} if any(found.values()) else None
        if not self.active:
            return None
        answer = self.client.describe_task_definition(taskDefinition=self.versioned(self.active[0]), include=["TAGS"])
        return {
            **normal_form(answer["taskDefinition"]),
            "tags": boto3_tag_list_to_ansible_dict(answer.get("tags", []), "key", "value"),
            "activeRevisions": self.active,
        }

    def revisions(self, status):
        """Return the numbers of the family's revisions that have this status, the latest first."""
        pages = self.client.get_paginator("list_task_definitions").paginate(familyPrefix=self.name, status=status)
        names = (arn.rsplit("/", 1)[1].rsplit(":", 1) for page in pages for arn in page["taskDefinitionArns"])
        return sorted((int(revision) for family, revision in names if family == self.name), reverse=True)

    def versioned(self, revision):
        """Return the short name of a revision, as the API takes it."""
        return f"{self.name}:{revision}"

    def refine(self, desired, live):
        """Add what the latest revision will be, and which revisions stay."""
        keep = self.params["keep_revisions"]
        if live is None:
            return {**desired, "revision": self.next_revision(), "activeRevisions": [self.next_revision()]}
        for role in ("executionRoleArn", "taskRoleArn"):
            desired = {**desired, role: diff.named(desired[role], live.get(role))}
        definition = {key: value for key, value in desired.items() if key != "tags"}
        if not diff.changes(definition, live, self.unordered):
            return {**desired, "activeRevisions": self.active[:keep]}
        revision = self.next_revision()
        return {
            **desired,
            "revision": revision,
            "taskDefinitionArn": f"{live['taskDefinitionArn'].rsplit(':', 1)[0]}:{revision}",
            "activeRevisions": [revision, *self.active][:keep],
        }

    def next_revision(self):
        """Return the number that AWS will give: it counts on from the deregistered ones."""
        return max([*self.active, *self.revisions("INACTIVE"), 0]) + 1

    def predict(self, desired):
        return {
            "taskDefinitionArn": self.arn(f"task-definition/{self.versioned(desired['revision'])}"),
            "status": "ACTIVE",
        }

    def create(self, desired):
        self.register(desired, desired["tags"])

    def carries_tags(self, changes):
        return "revision" in changes

    def update(self, live, desired, changes):
        active = live["activeRevisions"]
        if self.carries_tags(changes):
            tags = diff.tags_after(desired["tags"], live["tags"], self.params["purge_tags"])
            active = [self.register(desired, tags), *active]
        if self.params["keep_revisions"]:
            for revision in active[self.params["keep_revisions"] :]:
                self.client.deregister_task_definition(taskDefinition=self.versioned(revision))

    def register(self, desired, tags):
        """Register a revision, and return its number."""
        definition = {key: value for key, value in desired.items() if key in self.shape.members and value is not None}
        own = {key: value for key, value in (tags or {}).items() if not key.startswith("aws:")}
        definition["tags"] = ansible_dict_to_boto3_tag_list(own, "key", "value")
        revision = self.client.register_task_definition(**definition)["taskDefinition"]["revision"]
        self.registered.append(revision)
        return revision

    def delete(self, live):
        for revision in live["activeRevisions"]:
            self.client.deregister_task_definition(taskDefinition=self.versioned(revision))
        doomed = [self.versioned(number) for number in live["activeRevisions"] + live["inactiveRevisions"]]
        for start in range(0, len(doomed), DELETED_AT_ONCE):
            answer = self.client.delete_task_definitions(taskDefinitions=doomed[start : start + DELETED_AT_ONCE])
            if answer["failures"]:
                failures = (f"{failure['arn']}: {failure['reason']}" for failure in answer["failures"])
                raise Failed(f"AWS deregistered but did not delete {'; '.join(failures)}")

    def tag(self, live, tags):
        tags = ansible_dict_to_boto3_tag_list(tags, "key", "value")
        self.client.tag_resource(resourceArn=live["taskDefinitionArn"], tags=tags)

    def untag(self, live, keys):
        self.client.untag_resource(resourceArn=live["taskDefinitionArn"], tagKeys=keys)


def main():
    platform = {"cpu_architecture": {"choices": ["X86_64", "ARM64"]}, "operating_system_family": {}}
    places = ["EC2", "FARGATE", "EXTERNAL"]
    module = AnsibleAWSModule(
        argument_spec=options(
            family={"required": True, "aliases": ["name"]},
            container_definitions={"type": "list", "elements": "dict"},
            cpu={},
            memory={},
            network_mode={"choices": ["awsvpc", "bridge", "host", "none"]},
            requires_compatibilities={"type": "list", "elements": "str", "choices": places},
            execution_role_arn={},
            task_role_arn={},
            runtime_platform={"type": "dict", "options": platform},
            volumes={"type": "list", "elements": "dict"},
            keep_revisions={"type": "int"},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["container_definitions"])],
        supports_check_mode=True,
    )
    TaskDefinition(module).run()


if __name__ == "__main__":
    main()
