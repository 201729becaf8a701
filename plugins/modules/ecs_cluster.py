#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# In place of community.aws.ecs_cluster (10.0), which knows neither tags nor settings, takes another order of the same
# capacity providers for a change, returns nothing in check mode, shows no diff, takes a cluster that is being
# provisioned for none and creates it again, waits for nothing, and deletes without saying what is in the way.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ecs_cluster
version_added: 0.1.0
short_description: Manage ECS clusters
description:
  - Creates, changes and deletes an ECS cluster with its capacity providers, its Container Insights and its tags.
  - A cluster that AWS is provisioning is waited for, and so is one that is being deleted; one that is V(INACTIVE)
    counts as none.
  - A cluster in which services or tasks are left is not deleted; the message names them.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the cluster, unique in account and region.
    type: str
    required: true
  capacity_providers:
    description:
      - Names of the capacity providers that the cluster's tasks may use, V(FARGATE) and V(FARGATE_SPOT) among them.
      - Others are taken away. Left open, they stay as they are.
    type: list
    elements: str
  default_capacity_provider_strategy:
    description:
      - How tasks that name neither launch type nor strategy are spread over the capacity providers.
      - An empty list removes it; left open, it stays as it is.
    type: list
    elements: dict
    suboptions:
      capacity_provider: {type: str, required: true, description: "Its name, which must be one of the cluster's."}
      weight: {type: int, default: 0, description: "Its share of the tasks, in relation to the other weights."}
      base: {type: int, default: 0, description: How many tasks it gets before the weights count.}
  container_insights:
    description:
      - >-
        Whether CloudWatch collects metrics of the cluster's tasks: none, those of Container Insights, or those with
        enhanced observability. CloudWatch is paid by metric.
      - Left open, it stays as it is; a new cluster gets the account's default.
    type: str
    choices: [disabled, enabled, enhanced]
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure a cluster whose tasks go to SPOT where nothing else is said
  mlops.metaflow.ecs_cluster:
    name: metaflow
    capacity_providers: [FARGATE, FARGATE_SPOT]
    default_capacity_provider_strategy:
      - capacity_provider: FARGATE_SPOT
        weight: 1
    container_insights: disabled
    tags:
      Component: metadata_service

- name: Ensure the cluster is gone
  mlops.metaflow.ecs_cluster:
    name: metaflow
    state: absent
"""

RETURN = r"""
cluster:
  description: The cluster; in check mode, as it would be. Empty when O(state=absent).
  returned: always
  type: dict
  contains:
    capacity_providers:
      description: Names of its capacity providers.
      type: list
      elements: str
      sample: [FARGATE, FARGATE_SPOT]
    cluster_arn:
      description: ARN of the cluster.
      type: str
      sample: arn:aws:ecs:us-east-1:123456789012:cluster/metaflow
    cluster_name: {type: str, sample: metaflow, description: Name of the cluster.}
    container_insights: {type: str, sample: disabled, description: Which metrics CloudWatch collects.}
    default_capacity_provider_strategy:
      description: How tasks are spread where nothing else is said.
      type: list
      elements: dict
      sample:
        - capacity_provider: FARGATE_SPOT
          weight: 1
          base: 0
    status: {type: str, sample: ACTIVE, description: What AWS says of the cluster.}
    tags: {type: dict, sample: {"Component": "metadata_service"}, description: The cluster's tags.}
"""

import time
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

#: Pauses in seconds until an account's first cluster gets the service-linked role that its creation has just made.
ROLE_PAUSES = (5, 10, 20, 30, None)

#: What DeleteCluster answers while tasks that are being stopped, or their services, are on their way out.
STILL_IN_USE = ("ClusterContainsServicesException", "ClusterContainsTasksException", "UpdateInProgressException")

CAPACITY = ("capacityProviders", "defaultCapacityProviderStrategy")


class Cluster(AwsResource):
    """A cluster, keyed by its name. ``containerInsights`` is ours: AWS has it in a list of settings."""

    kind = "ECS cluster"
    service = "ecs"
    result_key = "cluster"
    unordered = ("tags", *CAPACITY)
    #: Why AWS did not delete it yet.
    refusal = ""

    def declare(self):
        declared = {
            "clusterName": self.name,
            "capacityProviders": self.params["capacity_providers"],
            "defaultCapacityProviderStrategy": diff.api_form(self.params["default_capacity_provider_strategy"]),
            "containerInsights": self.params["container_insights"],
            "tags": self.params["tags"],
        }
        return {key: value for key, value in declared.items() if value is not None}

    def read(self):
        answer = self.client.describe_clusters(clusters=[self.name], include=["ATTACHMENTS", "SETTINGS", "TAGS"])
        self.seen = next((each for each in answer["clusters"] if each["status"] != "INACTIVE"), None)
        return ecs.live_cluster(self.seen) if self.seen else None

    def is_busy(self):
        """Tell whether AWS is still at work on the cluster, which it then doesn't change, as last read."""
        return self.seen["status"] == "PROVISIONING" or self.seen.get("attachmentsStatus") == "UPDATE_IN_PROGRESS"

    def settled(self, live):
        if live["status"] == "FAILED" or self.seen.get("attachmentsStatus") == "UPDATE_FAILED":
            raise Failed(f"AWS could not set up its capacity providers ({self.last_word()}).")
        return live["status"] == "ACTIVE" and not self.is_busy()

    def deleting(self, live):
        return live["status"] == "DEPROVISIONING"

    def last_word(self):
        seen = self.seen or {}
        return ", ".join(word for word in (seen.get("status"), seen.get("attachmentsStatus"), self.refusal) if word)

    def predict(self, desired):
        return {"clusterArn": self.arn(f"cluster/{self.name}"), "status": "ACTIVE", "tags": {}}

    def create(self, desired):
        arguments = {key: desired[key] for key in ("clusterName", *CAPACITY) if key in desired}
        arguments["tags"] = ansible_dict_to_boto3_tag_list(desired.get("tags", {}), "key", "value")
        if "containerInsights" in desired:
            arguments["settings"] = insights(desired["containerInsights"])
        for pause in ROLE_PAUSES:
            try:
                self.client.create_cluster(**arguments)
                return
            except ClientError as error:
                if pause is None or "service linked role" not in str(error):
                    raise
            time.sleep(pause)

    def update(self, live, desired, changes):
        self.wait_for("free for a change", lambda: self.read() is None or not self.is_busy())
        if "containerInsights" in changes:
            self.client.update_cluster(cluster=self.name, settings=insights(changes["containerInsights"]))
        if changes.keys() & set(CAPACITY):
            whole = {**live, **changes}
            self.client.put_cluster_capacity_providers(cluster=self.name, **{key: whole[key] for key in CAPACITY})

    def refuse(self, live, desired, changes):
        if desired is not None:
            return
        for listing, key, what in (("list_services", "serviceArns", "services"), ("list_tasks", "taskArns", "tasks")):
            pages = self.client.get_paginator(listing).paginate(cluster=self.name)
            names = sorted(arn.rsplit("/", 1)[1] for page in pages for arn in page[key])
            if names:
                raise Failed(f"these {what} are left in it: {', '.join(names)}. Remove them first.")

    def delete(self, live):
        self.wait_for("rid of what is being stopped in it", self.is_deleted)

    def is_deleted(self):
        """Ask AWS to delete the cluster; False where it can't yet."""
        try:
            self.client.delete_cluster(cluster=self.name)
        except ClientError as error:
            if error_code(error) not in STILL_IN_USE:
                raise
            self.refusal = str(error)
            return False
        return True

    def tag(self, live, tags):
        tags = ansible_dict_to_boto3_tag_list(tags, "key", "value")
        self.client.tag_resource(resourceArn=live["clusterArn"], tags=tags)

    def untag(self, live, keys):
        self.client.untag_resource(resourceArn=live["clusterArn"], tagKeys=keys)


def insights(value):
    """Return the API's list of settings for a value of Container Insights."""
    return [{"name": "containerInsights", "value": value}]


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            capacity_providers={"type": "list", "elements": "str"},
            default_capacity_provider_strategy={"type": "list", "elements": "dict", "options": ecs.STRATEGY_OPTIONS},
            container_insights={"choices": ["disabled", "enabled", "enhanced"]},
            **TAG_OPTIONS,
        ),
        supports_check_mode=True,
    )
    Cluster(module).run()


if __name__ == "__main__":
    main()
