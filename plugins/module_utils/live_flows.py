# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what is live: deployed flows with their schedules, and the machines that their jobs may run on."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from functools import partial

from ansible_collections.mlops.metaflow.plugins.module_utils import flow_deployment as deployment
from ansible_collections.mlops.metaflow.plugins.module_utils import job_fit
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import absent_when, tag_map
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import concurrently


@dataclass(frozen=True)
class Machine:
    """A live state machine with its tags and the EventBridge rule that starts it."""

    name: str
    arn: str
    definition: dict
    role: str
    logging: str
    tags: dict
    rule: dict | None

    def digest(self, queues):
        """Return the digest of all of it that a deployment makes; ``queues`` maps a queue to its platform.

        The platform counts because Metaflow registers another job definition for Fargate.
        """
        used = {job["JobQueue"] for _, job in deployment.jobs(self.definition)}
        platforms = {queue: queues.get(queue) for queue in sorted(used)}
        return deployment.digest([self.definition, self.role, self.logging, self.rule, platforms])


class Account:
    """Reading calls, concurrently where they don't depend on each other.

    :param client: function of a service's name that returns a boto3 client.
    """

    def __init__(self, client):
        self.client = client

    def machines(self, prefix):
        """Return ``{name: Machine}`` of the state machines whose names begin with ``prefix``."""
        pages = self.client("stepfunctions").get_paginator("list_state_machines").paginate()
        listed = [item for page in pages for item in page["stateMachines"] if item["name"].startswith(prefix)]
        self.client("events")  # made here once, and not by each thread
        found = concurrently({item["name"]: partial(self.machine, item["stateMachineArn"]) for item in listed})
        return {name: machine for name, machine in found.items() if machine}

    def machine(self, arn):
        """Return the :class:`Machine`, or None where there is none or it is being deleted."""
        states = self.client("stepfunctions")
        with absent_when("StateMachineDoesNotExist"):
            live = states.describe_state_machine(stateMachineArn=arn)
            if live.get("status") == "DELETING":
                return None
            return Machine(
                name=live["name"],
                arn=arn,
                definition=json.loads(live["definition"]),
                role=live["roleArn"],
                logging=live.get("loggingConfiguration", {}).get("level", "OFF"),
                tags=tag_map(states.list_tags_for_resource(resourceArn=arn)["tags"]),
                rule=self.rule(deployment.rule_name(live["name"])),
            )
        return None

    def rule(self, name):
        """Return an EventBridge rule as :func:`flow_deployment.rule_view` has it, or None."""
        events = self.client("events")
        with absent_when("ResourceNotFoundException"):
            rule = events.describe_rule(Name=name)
            return deployment.rule_view(rule, events.list_targets_by_rule(Rule=name)["Targets"])
        return None

    def commands(self, definition, known=None):
        """Return ``{(bucket, key): text}`` of the commands of a definition that lie in S3, or will: ``known``."""
        known = known or {}
        s3 = self.client("s3")

        def read(bucket, key):
            with absent_when("NoSuchKey"):
                return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
            return None

        places = deployment.commands_in_s3(definition)
        return known | concurrently({place: partial(read, *place) for place in places if place not in known})

    def code(self, definition):
        """Return ``{path: content}`` of the user's files in the code package of a definition."""
        location = deployment.code_location(definition)
        if location is None:
            return {}
        bucket, key = location
        with absent_when("NoSuchKey"):
            package = self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            with tarfile.open(fileobj=io.BytesIO(package)) as archive:
                return {
                    member.name: archive.extractfile(member).read()
                    for member in archive
                    # Metaflow itself and its notes lie below .mf_code and the like.
                    if member.isfile() and not member.name.startswith(".mf_")
                }
        return {}

    def job_definitions(self, definition):
        """Return ``{ARN: container's properties}`` of the job definitions that a state machine uses."""
        used = {job["JobDefinition"] for _, job in deployment.jobs(definition)}
        arns = sorted(name for name in used if name.startswith("arn:"))  # others are only going to be registered
        found = {}
        for start in range(0, len(arns), 100):  # as many as the call takes
            answer = self.client("batch").describe_job_definitions(jobDefinitions=arns[start : start + 100])
            found |= {item["jobDefinitionArn"]: item["containerProperties"] for item in answer["jobDefinitions"]}
        return found

    def queues(self, reserved_percent):
        """Return ``{queue's name or ARN: [job_fit.Environment]}`` of the account's job queues."""
        batch = self.client("batch")
        queues = [item for page in batch.get_paginator("describe_job_queues").paginate() for item in page["jobQueues"]]
        pages = batch.get_paginator("describe_compute_environments").paginate()
        described = {item["computeEnvironmentArn"]: item for page in pages for item in page["computeEnvironments"]}
        types = self.instance_types(described.values(), reserved_percent)
        disks = self._disks(described.values())
        environments = {
            arn: job_fit.Environment(
                name=item["computeEnvironmentName"],
                type=item["computeResources"]["type"],
                max_vcpus=item["computeResources"]["maxvCpus"],
                machines=tuple(matching(item["computeResources"].get("instanceTypes", []), types)),
                disk=disks.get(arn),
            )
            for arn, item in described.items()
            if "computeResources" in item  # an unmanaged one has none
        }
        found = {}
        for queue in queues:
            order = sorted(queue["computeEnvironmentOrder"], key=lambda entry: entry["order"])
            listed = [
                environments[entry["computeEnvironment"]]
                for entry in order
                if entry["computeEnvironment"] in environments
            ]
            found[queue["jobQueueName"]] = found[queue["jobQueueArn"]] = listed
        return found

    def instance_types(self, environments, reserved_percent):
        """Return the :class:`job_fit.Machine` of each instance type that an environment may start, in this region."""
        asked = {word for item in environments for word in item.get("computeResources", {}).get("instanceTypes", [])}
        families = {family for word in asked for family in job_fit.BUNDLES.get(word, (word,))}
        patterns = sorted(word if "." in word else f"{word}.*" for word in families)
        if not patterns:
            return []
        pages = (
            self.client("ec2")
            .get_paginator("describe_instance_types")
            .paginate(Filters=[{"Name": "instance-type", "Values": patterns}])
        )
        return [
            job_fit.Machine(
                name=item["InstanceType"],
                vcpus=item["VCpuInfo"]["DefaultVCpus"],
                memory=job_fit.memory_for_jobs(item["MemoryInfo"]["SizeInMiB"], reserved_percent),
                gpus=sum(gpu["Count"] for gpu in item.get("GpuInfo", {}).get("Gpus", [])),
            )
            for page in pages
            for item in page["InstanceTypes"]
        ]

    def _disks(self, environments):
        """Return ``{environment's ARN: GiB}`` of the root volumes that launch templates give to instances."""
        found = {}
        for item in environments:
            template = item.get("computeResources", {}).get("launchTemplate")
            if not template:
                continue
            keys = {"launchTemplateId": "LaunchTemplateId", "launchTemplateName": "LaunchTemplateName"}
            chosen = {name: template[key] for key, name in keys.items() if template.get(key)}
            version = template.get("version") or "$Default"
            answer = self.client("ec2").describe_launch_template_versions(**chosen, Versions=[version])
            (described,) = answer["LaunchTemplateVersions"]
            mappings = described["LaunchTemplateData"].get("BlockDeviceMappings", [])
            sizes = [mapping["Ebs"]["VolumeSize"] for mapping in mappings if "VolumeSize" in mapping.get("Ebs", {})]
            if sizes:
                found[item["computeEnvironmentArn"]] = max(sizes)
        return found


def matching(words, machines):
    """Return the machines that instance types, families and Batch's own words stand for."""
    names = {name for word in words for name in job_fit.BUNDLES.get(word, (word,))}
    return [machine for machine in machines if machine.name in names or machine.name.partition(".")[0] in names]
