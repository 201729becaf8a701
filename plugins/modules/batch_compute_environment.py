#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# Replaces community.aws.batch_compute_environment, which refuses a hyphen in the name, knows only EC2 and SPOT, has no
# launch template, allocation strategy or tags of its own, changes only vCPUs, state and role, fails in check mode
# ("Unable to get compute environment information"), deletes without DISABLE and so is refused, and waits for nothing.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: batch_compute_environment
version_added: 0.1.0
short_description: Manage managed AWS Batch compute environments
description:
  - Creates, changes and deletes a managed compute environment of AWS Batch, and waits until AWS has finished.
  - Changes in place what AWS can change in place. For what it can't, the module fails before it changes anything, in
    check mode too. It never replaces an environment, since a job queue that holds it keeps it from being deleted.
  - An environment that AWS calls V(INVALID) is an error, with AWS's reason.
  - To delete, it disables first. Job queues that still use the environment are named in the error.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the environment, unique in account and region.
    type: str
    required: true
  compute_environment_state:
    description: Whether the environment takes jobs from its queues.
    type: str
    choices: [ENABLED, DISABLED]
    default: ENABLED
  service_role:
    description:
      - Name or ARN of the role by which AWS Batch works.
      - Left open, it is the service-linked role C(AWSServiceRoleForBatch). With a role of your own AWS changes little
        in place, and neither kind can be exchanged for the other.
    type: str
  compute_resources:
    description: Where jobs run. What is left open stays as it is. Required when O(state=present).
    type: dict
    suboptions:
      type:
        description: Instances or Fargate. AWS can change V(EC2) to V(SPOT) and back.
        type: str
        choices: [EC2, SPOT, FARGATE, FARGATE_SPOT]
        required: true
      maxv_cpus:
        description: Most vCPUs at a time.
        type: int
        required: true
      subnets:
        description: IDs of the subnets.
        type: list
        elements: str
        required: true
      security_group_ids:
        description: IDs of the security groups. Fargate demands them; instances may have them from the launch template.
        type: list
        elements: str
      minv_cpus:
        description: Fewest vCPUs, paid even without jobs; V(0) if left open. Fargate has neither this nor what follows.
        type: int
      desiredv_cpus:
        description: vCPUs to begin with. Only counts at creation, since AWS Batch moves it with the load.
        type: int
      instance_types:
        description: Families, sizes, or V(optimal), V(default_x86_64), V(default_arm64). Required for instances.
        type: list
        elements: str
      instance_role:
        description: Name or ARN of the instance profile. Required for instances.
        type: str
      allocation_strategy:
        description:
          - How instance types are chosen. Left open at creation, it is V(BEST_FIT_PROGRESSIVE) for V(EC2) and
            V(SPOT_PRICE_CAPACITY_OPTIMIZED) for V(SPOT).
          - With V(BEST_FIT), AWS's own default, only vCPUs, state and role can be changed afterwards.
        type: str
        choices:
          - BEST_FIT
          - BEST_FIT_PROGRESSIVE
          - BEST_FIT_PROGRESSIVE_ORDERED
          - SPOT_CAPACITY_OPTIMIZED
          - SPOT_CAPACITY_OPTIMIZED_PRIORITIZED
          - SPOT_PRICE_CAPACITY_OPTIMIZED
      launch_template:
        description: Launch template of the instances, by ID or by name.
        type: dict
        suboptions:
          launch_template_id: {type: str, description: ID of the template.}
          launch_template_name: {type: str, description: Name of the template.}
          version:
            description:
              - A number, V($Default) or V($Latest). AWS looks up the latter two when it creates or updates the
                environment, not when the template gets a new version.
            type: str
      ec2_configuration:
        description: Which images the instances start from.
        type: list
        elements: dict
        suboptions:
          image_type: {type: str, required: true, description: "Kind of image, such as V(ECS_AL2023)."}
          image_id_override: {type: str, description: ID of an image of your own.}
      bid_percentage:
        description: Highest price of a SPOT instance, in percent of its On-Demand price.
        type: int
      spot_iam_fleet_role:
        description: ARN of the role of the SPOT fleet. Only V(BEST_FIT) needs it. Can't be changed.
        type: str
      ec2_key_pair:
        description: Key pair for SSH to the instances.
        type: str
      placement_group:
        description: Placement group of the instances.
        type: str
      tags:
        description: Tags of the instances.
        type: dict
  update_policy:
    description: What becomes of running jobs when a change replaces the instances.
    type: dict
    suboptions:
      terminate_jobs_on_update: {type: bool, description: Whether they are ended at once. AWS's default is V(false).}
      job_execution_timeout_minutes: {type: int, description: "How long they may go on. AWS's default is V(30)."}
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure SPOT instances for flows
  mlops.metaflow.batch_compute_environment:
    name: metaflow-spot
    compute_resources:
      type: SPOT
      maxv_cpus: 64
      instance_types: [c6i, m6i, r6i]
      instance_role: metaflow-batch-instance
      launch_template:
        launch_template_name: metaflow-batch
        version: $Latest
      subnets: [subnet-0123456789abcdef0]
      security_group_ids: [sg-0123456789abcdef0]
    tags:
      Component: batch

- name: Ensure the environment is gone
  mlops.metaflow.batch_compute_environment:
    name: metaflow-spot
    state: absent
"""

RETURN = r"""
compute_environment:
  description: The environment, as AWS describes it; in check mode, as it would be. Empty when O(state=absent).
  returned: always
  type: dict
  contains:
    compute_environment_arn:
      description: ARN of the environment.
      type: str
      sample: arn:aws:batch:us-east-1:123456789012:compute-environment/metaflow-spot
    compute_environment_name: {type: str, sample: metaflow-spot, description: Name of the environment.}
    compute_resources:
      description: Where jobs run, with the keys of O(compute_resources).
      type: dict
      sample: {"type": "SPOT", "minv_cpus": 0, "maxv_cpus": 64, "instance_types": ["c6i", "m6i", "r6i"]}
    ecs_cluster_arn:
      description: ARN of the ECS cluster that AWS Batch made for it.
      type: str
      sample: arn:aws:ecs:us-east-1:123456789012:cluster/AWSBatch-metaflow-spot-5d2a3c0e
    service_role:
      description: ARN of the role by which AWS Batch works.
      type: str
      sample: arn:aws:iam::123456789012:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch
    state: {type: str, sample: ENABLED, description: Whether it takes jobs.}
    status: {type: str, sample: VALID, description: What AWS says of it.}
    status_reason: {type: str, sample: ComputeEnvironment Healthy, description: Why AWS says so.}
    tags: {type: dict, sample: {"Component": "batch"}, description: The environment's tags.}
    type: {type: str, sample: MANAGED, description: Always C(MANAGED).}
    update_policy:
      description: What becomes of running jobs when a change replaces the instances.
      type: dict
      sample: {"terminate_jobs_on_update": false, "job_execution_timeout_minutes": 30}
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import compute_environment as rules
from ansible_collections.mlops.metaflow.plugins.module_utils.batch import BatchResource
from ansible_collections.mlops.metaflow.plugins.module_utils.diff import api_form, named
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import TAG_OPTIONS, Failed, options

#: What holds where nobody has set a policy.
UPDATE_POLICY = {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 30}


class ComputeEnvironment(BatchResource):
    """A managed compute environment, keyed by its name."""

    kind = "Batch compute environment"
    result_key = "compute_environment"
    arn_key = "computeEnvironmentArn"

    @property
    def unordered(self):
        lists = {"subnets", "securityGroupIds", "instanceTypes", "tags"}
        if self.params["compute_resources"]["allocation_strategy"] in rules.ORDERED_STRATEGIES:
            lists.remove("instanceTypes")
        return ("tags", *(f"computeResources.{key}" for key in lists))

    def declare(self):
        declared = {
            "computeEnvironmentName": self.name,
            "type": "MANAGED",
            "state": self.params["compute_environment_state"],
            "serviceRole": self.params["service_role"],
            "computeResources": self.declared_resources(),
            "updatePolicy": api_form(self.params["update_policy"]),
            "tags": self.params["tags"],
        }
        return {key: value for key, value in declared.items() if value is not None}

    def declared_resources(self):
        """Return the compute resources in the API's terms, without what counts only at creation."""
        resources = api_form(self.params["compute_resources"])
        foreign = resources.keys() - rules.FARGATE_KEYS
        if rules.is_fargate(resources) and foreign:
            raise Failed(f"Fargate has no {rules.option_names(foreign)}. Remove that from compute_resources.")
        resources.pop("desiredvCpus", None)
        return resources if rules.is_fargate(resources) else {"minvCpus": 0, **resources}

    def refine(self, desired, live):
        resources = dict(desired["computeResources"])
        have = (live or {}).get("computeResources", {})
        if resources["type"] != have.get("type") and not rules.is_fargate(resources):
            resources.setdefault("allocationStrategy", rules.CHOSEN_STRATEGY[resources["type"]])
        if live is None and self.params["compute_resources"]["desiredv_cpus"] is not None:
            resources["desiredvCpus"] = self.params["compute_resources"]["desiredv_cpus"]
        if "instanceRole" in resources:
            resources["instanceRole"] = named(resources["instanceRole"], have.get("instanceRole"))
        refined = {**desired, "computeResources": resources}
        if live and "serviceRole" in desired:
            refined["serviceRole"] = named(desired["serviceRole"], live.get("serviceRole"))
        return refined

    def refuse(self, live, desired, changes):
        found = rules.obstacles(live, desired, changes) if desired else []
        if found:
            stuck = "; ".join(f"{rules.option_names(keys)} {reason}" for keys, reason in found)
            raise Failed(
                f"AWS can't change {stuck}. Make an environment of another name, put it into the job queues in place "
                "of this one, then delete this one."
            )

    def read(self):
        answer = self.client.describe_compute_environments(computeEnvironments=[self.name])
        live = self.described(answer["computeEnvironments"])
        return live and {"updatePolicy": UPDATE_POLICY, **live}

    def create(self, desired):
        self.client.create_compute_environment(**{key: desired[key] for key in desired if key != "updatePolicy"})
        policy = {**UPDATE_POLICY, **desired.get("updatePolicy", {})}
        if policy != UPDATE_POLICY:
            # The API takes a policy only in an update, and that only once the environment is VALID.
            self.wait_for("given its update policy", self.is_valid)
            self.client.update_compute_environment(computeEnvironment=self.name, updatePolicy=policy)

    def update(self, live, desired, changes):
        request = {key: changes[key] for key in ("state", "serviceRole") if key in changes}
        if "computeResources" in changes:
            request["computeResources"] = {key: desired["computeResources"][key] for key in changes["computeResources"]}
        if "updatePolicy" in changes:
            request["updatePolicy"] = {**live["updatePolicy"], **changes["updatePolicy"]}
        self.at_rest()
        self.client.update_compute_environment(computeEnvironment=self.name, **request)

    def set_state(self, state):
        self.client.update_compute_environment(computeEnvironment=self.name, state=state)

    def delete(self, live):
        queues = self.holding_queues(live)
        if queues:
            raise Failed(f"job queue {', '.join(queues)} still uses it. Take it out of that, or delete that, first.")
        self.disable(live)
        self.wait_for("let go by its job queues", self.deletion_taken)

    def holding_queues(self, live):
        """Return the names of the job queues that have the environment, but for those that are being deleted."""
        return [
            queue["jobQueueName"]
            for page in self.client.get_paginator("describe_job_queues").paginate()
            for queue in page["jobQueues"]
            if queue["status"] not in ("DELETING", "DELETED")
            and live[self.arn_key] in [item["computeEnvironment"] for item in queue["computeEnvironmentOrder"]]
        ]

    def deletion_taken(self):
        """Ask AWS to delete; tell whether it will. A queue that has let go holds on for some seconds more."""
        try:
            self.client.delete_compute_environment(computeEnvironment=self.name)
        except self.client.exceptions.ClientException as error:
            if "JobQueue relationship" not in str(error):
                raise
            return False
        return True

    def predict(self, desired):
        return {"computeEnvironmentArn": self.arn(f"compute-environment/{self.name}"), "status": "VALID"}


NUMBER = {"type": "int"}
STRINGS = {"type": "list", "elements": "str"}
INSTANCES_NEED = ["instance_types", "instance_role"]
TEMPLATE_KEYS = [("launch_template_id", "launch_template_name")]
COMPUTE_RESOURCES = {
    "type": "dict",
    "options": {
        "type": {"required": True, "choices": ["EC2", "SPOT", "FARGATE", "FARGATE_SPOT"]},
        "maxv_cpus": {"required": True, **NUMBER},
        "minv_cpus": NUMBER,
        "desiredv_cpus": NUMBER,
        "subnets": {"required": True, **STRINGS},
        "security_group_ids": STRINGS,
        "instance_types": STRINGS,
        "instance_role": {},
        "allocation_strategy": {"choices": rules.STRATEGIES},
        "launch_template": {
            "type": "dict",
            "options": {"launch_template_id": {}, "launch_template_name": {}, "version": {}},
            "mutually_exclusive": TEMPLATE_KEYS,
            "required_one_of": TEMPLATE_KEYS,
        },
        "ec2_configuration": {
            "type": "list",
            "elements": "dict",
            "options": {"image_type": {"required": True}, "image_id_override": {}},
        },
        "bid_percentage": NUMBER,
        "spot_iam_fleet_role": {},
        "ec2_key_pair": {"no_log": False},
        "placement_group": {},
        "tags": {"type": "dict"},
    },
    "required_if": [
        ("type", "EC2", INSTANCES_NEED),
        ("type", "SPOT", INSTANCES_NEED),
        ("type", "FARGATE", ["security_group_ids"]),
        ("type", "FARGATE_SPOT", ["security_group_ids"]),
    ],
}


def main():
    policy = {"terminate_jobs_on_update": {"type": "bool"}, "job_execution_timeout_minutes": NUMBER}
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            compute_environment_state={"choices": ["ENABLED", "DISABLED"], "default": "ENABLED"},
            service_role={},
            compute_resources=COMPUTE_RESOURCES,
            update_policy={"type": "dict", "options": policy},
            **TAG_OPTIONS,
        ),
        required_if=[("state", "present", ["compute_resources"])],
        supports_check_mode=True,
    )
    ComputeEnvironment(module).run()


if __name__ == "__main__":
    main()
