#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# In place of community.aws.ecs_service (10.0), which reads `wait` only to delete: a service of which no task ever runs
# is "changed" and well. It doesn't compare networks, deployment settings, platform, launch type nor strategy; compares
# load balancers in their order, and never takes the last one away; fails on changed tags; deploys again at each run for
# the ARN of a task definition; leaves a failed rollout alone; returns nothing in check mode; shows no diff; and where
# it deletes, it waits for 100 seconds by default, and not for the tasks.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ecs_service
version_added: 0.1.0
short_description: Manage ECS services, and wait until their tasks are healthy
description:
  - Creates, changes and deletes a service of ECS that is deployed by rolling update.
  - Waits until the deployment is completed and all tasks run. A deployment that fails, or that the circuit breaker
    rolls back, is an error that says why its last task stopped and what ECS told about it.
  - When the last deployment has failed, the next run deploys again, whether anything is declared differently or not.
author:
  - The metaflow-ansible authors
options:
  name: {type: str, required: true, description: "Name of the service, unique in its cluster."}
  cluster: {type: str, default: default, description: Name or ARN of the cluster.}
  state:
    description:
      - Whether the service should exist. V(absent) scales it to 0, deletes it, and waits until it is V(INACTIVE) and
        none of its tasks is left.
    type: str
    choices: [present, absent]
    default: present
  task_definition:
    description:
      - ARN of the task definition, V(family:revision), or the family alone, which stands for its latest revision.
      - Required when O(state=present).
    type: str
  desired_count:
    description:
      - How many tasks run.
      - Left open, it stays as it is, for instance for an auto scaling policy; a new service gets 1.
    type: int
  launch_type:
    description:
      - Where the tasks run. AWS can change it by O(capacity_provider_strategy) only.
      - Without both, the cluster's default strategy counts for a new service.
    type: str
    choices: [FARGATE, EC2]
  capacity_provider_strategy:
    description: How the tasks are spread over the cluster's capacity providers. A change deploys again.
    type: list
    elements: dict
    suboptions:
      capacity_provider: {type: str, required: true, description: Name of the capacity provider.}
      weight: {type: int, default: 0, description: "Its share of the tasks, in relation to the other weights."}
      base: {type: int, default: 0, description: How many tasks it gets before the weights count.}
  platform_version: {type: str, description: "Version of Fargate, V(LATEST) or for instance V(1.4.0)."}
  network_configuration:
    description: The network of tasks in network mode V(awsvpc), which Fargate demands.
    type: dict
    suboptions:
      subnets: {type: list, elements: str, required: true, description: Ids of the subnets.}
      security_groups:
        description: Ids of the security groups. Left open, it is the VPC's default group for a new service.
        type: list
        elements: str
      assign_public_ip: {type: bool, description: Whether the tasks get public addresses.}
  load_balancers:
    description: Target groups in which the tasks are registered. An empty list removes them; left open, they stay.
    type: list
    elements: dict
    suboptions:
      target_group_arn: {type: str, required: true, description: ARN of the target group of a listener.}
      container_name: {type: str, required: true, description: The container that serves.}
      container_port: {type: int, required: true, description: The port on which it serves.}
  deployment_configuration:
    description: How a new deployment takes the place of the old one. What is left open stays as it is.
    type: dict
    suboptions:
      minimum_healthy_percent: {type: int, description: "Healthy tasks that stay meanwhile, in % of O(desired_count)."}
      maximum_percent: {type: int, description: "Tasks that may run meanwhile, in % of O(desired_count)."}
      deployment_circuit_breaker:
        description: Whether a deployment whose tasks don't come up ends.
        type: dict
        suboptions:
          enable: {type: bool, required: true, description: "Whether it fails. Without that, ECS tries for ever."}
          rollback: {type: bool, required: true, description: Whether the last completed one then comes back.}
  health_check_grace_period_seconds:
    description: Seconds for which a new task's failing health checks are ignored.
    type: int
  enable_execute_command:
    description: Whether C(aws ecs execute-command) opens a shell in the containers. A change deploys again.
    type: bool
  availability_zone_rebalancing:
    description: Whether ECS moves tasks when the zones have become uneven.
    type: str
    choices: [ENABLED, DISABLED]
  propagate_tags:
    description: From where new tasks get their tags. Those that run keep theirs.
    type: str
    choices: [SERVICE, TASK_DEFINITION, NONE]
  scheduling_strategy:
    description: Whether O(desired_count) tasks run, or one on each container instance. It can't be changed.
    type: str
    choices: [REPLICA, DAEMON]
    default: REPLICA
  wait_timeout: {type: int, default: 900, description: Longest time in seconds for each wait.}
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the metadata service runs, and goes back to the last good version where a new one doesn't come up
  mlops.metaflow.ecs_service:
    name: metaflow-metadata-service
    cluster: metaflow
    task_definition: metaflow-metadata-service
    desired_count: 2
    launch_type: FARGATE
    network_configuration:
      subnets: [subnet-0a1b2c3d4e5f60718]
      security_groups: [sg-0a1b2c3d4e5f60718]
      assign_public_ip: false
    load_balancers:
      - target_group_arn: arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/metaflow/6d0ecf831eec9f09
        container_name: metadata-service
        container_port: 8080
    deployment_configuration:
      deployment_circuit_breaker: {enable: true, rollback: true}
    propagate_tags: SERVICE
    tags:
      Component: metadata_service

- name: Ensure the service and its tasks are gone
  mlops.metaflow.ecs_service:
    name: metaflow-metadata-service
    cluster: metaflow
    state: absent
"""

RETURN = r"""
service:
  description:
    - The service; in check mode, as it would be. Empty when O(state=absent).
    - It has the declared options too (C(launch_type), C(load_balancers), ...), those of the
      network are below C(network_configuration.awsvpc_configuration).
  returned: always
  type: dict
  sample:
    cluster_arn: arn:aws:ecs:us-east-1:123456789012:cluster/metaflow
    desired_count: 2
    rollout_state: COMPLETED
    running_count: 2
    service_arn: arn:aws:ecs:us-east-1:123456789012:service/metaflow/metaflow-metadata-service
    service_name: metaflow-metadata-service
    status: ACTIVE
    tags: {Component: metadata_service}
    task_definition: arn:aws:ecs:us-east-1:123456789012:task-definition/metaflow-metadata-service:7
"""

from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import ansible_dict_to_boto3_tag_list
from ansible_collections.mlops.metaflow.plugins.module_utils import diff, ecs
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    error_code,
    options,
)

#: Changes that reach running tasks by a forced deployment only. For the strategy AWS demands it; a failed rollout has
#: nothing to change.
FORCED = {"capacityProviderStrategy", "enableExecuteCommand", "rolloutState"}

#: What follows from other changes.
DERIVED = {"launchType", "rolloutState"}


class Service(AwsResource):
    """A service of one cluster, keyed by its name. ``rolloutState`` is ours: AWS has it in the primary deployment."""

    kind = "ECS service"
    service = "ecs"
    result_key = "service"
    unordered = (
        "tags",
        "capacityProviderStrategy",
        "loadBalancers",
        "networkConfiguration.awsvpcConfiguration.securityGroups",
        "networkConfiguration.awsvpcConfiguration.subnets",
    )
    #: The id of the deployment that this run has made, or found, and whether AWS shows it yet.
    deployment = None
    deployment_seen = False

    @property
    def cluster(self):
        return self.params["cluster"].rsplit("/", 1)[-1]

    def declare(self):
        return {**ecs.declared_service(self.params), "taskDefinition": self.task_definition()}

    def task_definition(self):
        """Return the ARN of the declared revision, or of the family's latest one."""
        declared = self.params["task_definition"]
        name = declared.rsplit("/", 1)[-1]
        if ":" in name:
            return declared if declared.startswith("arn:") else self.arn(f"task-definition/{name}")
        try:
            return self.client.describe_task_definition(taskDefinition=name)["taskDefinition"]["taskDefinitionArn"]
        except ClientError as error:
            if error_code(error) != "ClientException":
                raise
            if self.module.check_mode:  # the task before may be about to register it
                return self.arn(f"task-definition/{name}:1")
            raise Failed(f"there is no active task definition '{name}'. Register one first.") from error

    def describe(self):
        try:
            answer = self.client.describe_services(cluster=self.cluster, services=[self.name], include=["TAGS"])
        except ClientError as error:
            if error_code(error) not in ("ClusterNotFoundException", "ServiceNotFoundException"):
                raise
            return None
        return next(iter(answer["services"]), None)

    def read(self):
        self.seen = self.describe()
        if self.seen is None or (self.seen["status"] == "INACTIVE" and not self.is_leaving_tasks()):
            return None
        return ecs.live_service(self.seen)

    def is_leaving_tasks(self):
        """Tell whether tasks of the service are still being stopped; only to delete it matters."""
        # By their group, because ListTasks need not know the name of an INACTIVE service any more.
        return self.params["state"] == "absent" and any(
            task.get("group") == f"service:{self.name}" and task["lastStatus"] != "STOPPED"
            for status in ("RUNNING", "STOPPED")
            for task in ecs.tasks(self.client, self.cluster, desiredStatus=status)
        )

    def refine(self, desired, live):
        if live is None:
            count = {"desiredCount": 1} if desired["schedulingStrategy"] == "REPLICA" else {}
            return {**count, **desired}
        controller = self.seen.get("deploymentController", {}).get("type", "ECS")
        if controller != "ECS":
            raise Failed(f"{controller} deploys it. This module knows rolling updates by ECS only.")
        if live["rolloutState"] == "FAILED":
            return {**desired, "rolloutState": "COMPLETED"}
        return desired

    def refuse(self, live, desired, changes):
        if "schedulingStrategy" in changes:
            raise Failed("AWS can't change its scheduling_strategy. Delete it first, or choose another name.")
        if changes.get("launchType") and live.get("launchType"):
            raise Failed("AWS can change its launch_type by capacity_provider_strategy only. Declare that instead.")

    def deleting(self, live):
        return live["status"] != "ACTIVE"

    def settled(self, live):
        primary = ecs.primary(self.seen)
        self.deployment = self.deployment or primary["id"]
        self.deployment_seen |= any(each["id"] == self.deployment for each in self.seen["deployments"])
        if not self.deployment_seen:  # AWS shows the service as it was before
            return False
        if primary["id"] != self.deployment or live["rolloutState"] == "FAILED":
            reason = ecs.rollout_failure(self.seen, self.deployment)
            raise Failed(f"{reason}. {self.history(self.deployment)}")
        return live["rolloutState"] == "COMPLETED" and live["runningCount"] == live["desiredCount"]

    def history(self, deployment):
        """Return in one line why tasks of a deployment stopped, and the service's last events."""
        stopped = ecs.tasks(self.client, self.cluster, serviceName=self.name, desiredStatus="STOPPED")
        own = [task for task in stopped if task["lastStatus"] == "STOPPED" and task.get("startedBy") == deployment]
        return ecs.history(self.seen["events"], own)

    def last_word(self):
        seen = self.seen
        if seen is None:
            return ""
        said = f"{seen['status']}, {seen['runningCount']} of {seen['desiredCount']} tasks run. "
        return said + (self.history(ecs.primary(seen)["id"]) if seen["status"] == "ACTIVE" else "")

    def predict(self, desired):
        return {
            "serviceArn": self.arn(f"service/{self.cluster}/{self.name}"),
            "clusterArn": self.arn(f"cluster/{self.cluster}"),
            "status": "ACTIVE",
            "rolloutState": "COMPLETED",
            "tags": {},
        }

    def create(self, desired):
        own = {key: value for key, value in desired.items() if value not in (None, [])}
        own["tags"] = ansible_dict_to_boto3_tag_list(desired.get("tags", {}), "key", "value")
        self.create_once("create_service", self.read, cluster=self.cluster, **own)

    def update(self, live, desired, changes):
        whole = diff.merged(live, changes, self.unordered)
        # None is a strategy that gives way to a launch type.
        change = {key: [] if whole[key] is None else whole[key] for key in changes.keys() - DERIVED}
        if changes.keys() & FORCED:
            change["forceNewDeployment"] = True
        answer = self.client.update_service(cluster=self.cluster, service=self.name, **change)
        self.deployment = ecs.primary(answer["service"])["id"]

    def tag(self, live, tags):
        tags = ansible_dict_to_boto3_tag_list(tags, "key", "value")
        self.client.tag_resource(resourceArn=live["serviceArn"], tags=tags)

    def untag(self, live, keys):
        self.client.untag_resource(resourceArn=live["serviceArn"], tagKeys=keys)

    def delete(self, live):
        # Scales it to 0 too, whatever it ran.
        self.client.delete_service(cluster=self.cluster, service=self.name, force=True)


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            cluster={"default": "default"},
            task_definition={},
            desired_count={"type": "int"},
            launch_type={"choices": ["FARGATE", "EC2"]},
            capacity_provider_strategy={"type": "list", "elements": "dict", "options": ecs.STRATEGY_OPTIONS},
            platform_version={},
            network_configuration={"type": "dict", "options": ecs.NETWORK_OPTIONS},
            load_balancers={"type": "list", "elements": "dict", "options": ecs.LOAD_BALANCER_OPTIONS},
            deployment_configuration={"type": "dict", "options": ecs.DEPLOYMENT_OPTIONS},
            health_check_grace_period_seconds={"type": "int"},
            enable_execute_command={"type": "bool"},
            availability_zone_rebalancing={"choices": ["ENABLED", "DISABLED"]},
            propagate_tags={"choices": ["SERVICE", "TASK_DEFINITION", "NONE"]},
            scheduling_strategy={"choices": ["REPLICA", "DAEMON"], "default": "REPLICA"},
            wait_timeout={"type": "int", "default": 900},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["task_definition"])],
        mutually_exclusive=[("launch_type", "capacity_provider_strategy")],
        supports_check_mode=True,
    )
    Service(module).run()


if __name__ == "__main__":
    main()
