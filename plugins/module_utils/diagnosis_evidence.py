# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what :mod:`diagnosis` judges: queues, environments, jobs, network, roles, registry, quotas, launches.

Where the caller may not read something, the rest is read all the same, and ``unchecked`` says what was not.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from functools import cached_property

from ansible_collections.mlops.metaflow.plugins.module_utils import diagnosis, job_fit
from ansible_collections.mlops.metaflow.plugins.module_utils.diagnosis_network import Network
from ansible_collections.mlops.metaflow.plugins.module_utils.live_flows import Account, matching
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import error_code

#: Jobs of a queue that are described, the oldest first; a queue of thousands waits for the same reasons.
MOST_JOBS = 200

#: Seconds for which a failed start of a job or an instance counts.
RECENT = 86400

#: Where Batch writes the output of jobs whose definition names no other group.
LOG_GROUP = "/aws/batch/job"

#: An image of Amazon ECR: account, region, repository, tag, digest.
ECR_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[\w-]+)\.amazonaws\.com(?:\.cn)?"
    r"/(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:\w+))?"
)

#: Letters of an instance type -> codes of the quotas of running vCPUs, on demand and as SPOT, and their name.
#: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
QUOTAS = {
    "f": ("L-74FC7D96", "L-88CF9481", "F"),
    "g": ("L-DB2E81BA", "L-3819A6DF", "G and VT"),
    "vt": ("L-DB2E81BA", "L-3819A6DF", "G and VT"),
    "p": ("L-417A185B", "L-7212CCBC", "P"),
    "x": ("L-7295265B", "L-E3A00192", "X"),
    "inf": ("L-1945791B", "L-B5D1601B", "Inf"),
    "trn": ("L-2C3B7624", "L-5480EFD2", "Trn"),
    "dl": ("L-6E869C2A", "L-85EED4F7", "DL"),
}
STANDARD = ("L-1216C47A", "L-34B43A08", "Standard (A, C, D, H, I, M, R, T, Z)")
FARGATE_QUOTAS = {"FARGATE": ("L-3032A538", "Fargate On-Demand"), "FARGATE_SPOT": ("L-36FBB829", "Fargate Spot")}

#: Error codes of a caller who lacks a permission.
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")


class Evidence:
    """What was read of some job queues.

    :param client: function of a service's name that returns a boto3 client.
    :param wanted: function of a described queue that tells whether it is looked at.
    :param reserved_percent: percent of an instance's memory that jobs can't use.
    """

    def __init__(self, client, wanted, reserved_percent):
        self.client = client
        self.batch = client("batch")
        self.region = self.batch.meta.region_name
        self.reserved_percent = reserved_percent
        self.unchecked = []
        pages = self.batch.get_paginator("describe_job_queues").paginate()
        self.all_queues = [queue for page in pages for queue in page["jobQueues"] if queue["status"] != "DELETED"]
        self.described_queues = [queue for queue in self.all_queues if wanted(queue)]

    def read(self):
        """Return ``(queues, environments, jobs)`` for :func:`diagnosis.diagnose`."""
        environments = [self._environment(described) for described in self._described_environments]
        return self.queues, environments, self.jobs

    def attempt(self, what, call, default):
        """Return what ``call`` returns; where the caller may not, note it and return the default."""
        from botocore.exceptions import ClientError

        try:
            return call()
        except ClientError as error:
            if error_code(error) not in DENIED:
                raise
            self.unchecked.append(f"{what}: {error.response['Error'].get('Message', error_code(error))}")
            return default

    # Queues and jobs

    @property
    def queues(self):
        """The :class:`diagnosis.Queue` of each queue looked at."""
        return [
            diagnosis.Queue(
                name=queue["jobQueueName"],
                environments=tuple(_name(arn) for arn in _order(queue)),
                state=queue["state"],
                status=queue["status"],
                status_reason=queue.get("statusReason", ""),
            )
            for queue in self.described_queues
        ]

    @cached_property
    def jobs(self):
        """The :class:`diagnosis.Job` of each job that waits, starts, or failed to start lately; the oldest first."""
        found = [job for queue in self.described_queues for job in self._jobs_of(queue)]
        return sorted(found, key=lambda job: -job.waited)

    def _jobs_of(self, queue):
        name = queue["jobQueueName"]
        waiting = [*self._listed(name, "RUNNABLE"), *self._listed(name, "STARTING")]
        for array in self._listed(name, "PENDING"):
            if array.get("arrayProperties", {}).get("size"):
                waiting += self._pages("RUNNABLE", arrayJobId=array["jobId"])
        since = (time.time() - RECENT) * 1000
        failed = [job for job in self._listed(name, "FAILED") if job["createdAt"] > since]
        oldest = sorted(waiting, key=lambda job: job["createdAt"])
        if len(oldest) > MOST_JOBS:
            self.unchecked.append(f"{len(oldest) - MOST_JOBS} of the jobs that wait in {name}: the oldest are shown")
        latest = sorted(failed, key=lambda job: -job["createdAt"])[:MOST_JOBS]
        described = self._describe([job["jobId"] for job in [*oldest[:MOST_JOBS], *latest]])
        return [self._job(job, name) for job in described if job["status"] != "FAILED" or _never_started(job)]

    def _listed(self, queue, status):
        return self._pages(status, jobQueue=queue)

    def _pages(self, status, **of):
        pages = self.batch.get_paginator("list_jobs").paginate(jobStatus=status, **of)
        return [job for page in pages for job in page["jobSummaryList"]]

    def _describe(self, ids):
        chunks = [ids[start : start + 100] for start in range(0, len(ids), 100)]  # as many as the call takes
        return [job for chunk in chunks for job in self.batch.describe_jobs(jobs=chunk)["jobs"]]

    def _job(self, described, queue):
        container = described.get("container", {})
        on_fargate = "FARGATE" in described.get("platformCapabilities", [])
        image = container.get("image", "")
        log = container.get("logConfiguration", {}).get("options", {})
        return diagnosis.Job(
            id=described["jobId"],
            name=described["jobName"],
            queue=queue,
            request=request(described, queue),
            status=described["status"],
            status_reason=described.get("statusReason", ""),
            waited=time.time() - described["createdAt"] / 1000,
            on_fargate=on_fargate,
            image=image,
            image_problem=self._image_problem(image, self._pulling_role(container, on_fargate, queue)),
            reasons=tuple(
                filter(None, (attempt.get("container", {}).get("reason") for attempt in described.get("attempts", [])))
            ),
            log_group=log.get("awslogs-group", LOG_GROUP),
            log_stream=container.get("logStreamName", ""),
        )

    # Images

    def _pulling_role(self, container, on_fargate, queue):
        """Return the ARN of the role by which a job's image is pulled: the execution role, else the instance's."""
        if container.get("executionRoleArn") or on_fargate:
            return container.get("executionRoleArn", "")
        arns = next(_order(described) for described in self.described_queues if described["jobQueueName"] == queue)
        profiles = [self._profiles.get(arn, {}).get("Roles", []) for arn in arns]
        return next((roles[0]["Arn"] for roles in profiles if roles), "")

    def _image_problem(self, image, role):
        key = (image, role)
        if key not in self._images:
            self._images[key] = self._check_image(image, role)
        return self._images[key]

    @cached_property
    def _images(self):
        return {}

    def _check_image(self, image, role):
        match = ECR_IMAGE.fullmatch(image)
        if not match:
            return ""
        if match["region"] != self.region:
            self.unchecked.append(f"image {image}: it is in another region's registry")
            return ""
        return self.attempt(f"image {image}", lambda: self._missing_image(match), "") or self.attempt(
            f"who may pull {image}", lambda: self._may_not_pull(match, role), ""
        )

    def _missing_image(self, match):
        """Say that the registry lacks the image; "" where it has it."""
        ecr, repository = self.client("ecr"), match["repository"]
        of = {"registryId": match["account"], "repositoryName": repository}
        wanted = {"imageDigest": match["digest"]} if match["digest"] else {"imageTag": match["tag"] or "latest"}
        try:
            ecr.describe_images(**of, imageIds=[wanted])
        except ecr.exceptions.RepositoryNotFoundException:
            return f"There is no repository {repository} in the registry of account {match['account']}."
        except ecr.exceptions.ImageNotFoundException:
            images = ecr.describe_images(**of)["imageDetails"]
            latest = sorted(images, key=lambda one: one["imagePushedAt"], reverse=True)
            tags = [tag for one in latest for tag in one.get("imageTags", [])][:3]
            there = f"its latest tags are {', '.join(tags)}" if tags else "it has no tagged image"
            return f"The repository {repository} has no {next(iter(wanted.values()))}; {there}."
        return ""

    def _may_not_pull(self, match, role):
        """Say what the pulling role may not do; "" where it may do all."""
        if not role:
            return "The job has no execution role, by which Fargate pulls an image of ECR."
        partition = "aws-cn" if self.region.startswith("cn-") else "aws-us-gov" if "-gov-" in self.region else "aws"
        repository = f"arn:{partition}:ecr:{match['region']}:{match['account']}:repository/{match['repository']}"
        denied = self._denied(role, ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], repository)
        denied = denied and [*denied, *self._denied(role, ["ecr:GetAuthorizationToken"], "*")]
        if denied is None:
            return f"The role {role}, by which it is pulled, does not exist."
        return f"The role {role}, by which it is pulled, lacks {', '.join(denied)}." if denied else ""

    def _denied(self, role, actions, resource):
        """Return those of the actions that a role may not do; None where there is no such role."""
        iam = self.client("iam")
        try:
            answer = iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=actions, ResourceArns=[resource])
        except iam.exceptions.NoSuchEntityException:
            return None
        return [one["EvalActionName"] for one in answer["EvaluationResults"] if one["EvalDecision"] != "allowed"]

    # Compute environments

    @cached_property
    def _described_environments(self):
        wanted = sorted({arn for queue in self.described_queues for arn in _order(queue)})
        if not wanted:
            return []
        pages = self.batch.get_paginator("describe_compute_environments").paginate(computeEnvironments=wanted)
        found = [item for page in pages for item in page["computeEnvironments"]]
        return [item for item in found if "computeResources" in item]  # what runs unmanaged ones is the owner's affair

    def _environment(self, described):
        resources, arn = described["computeResources"], described["computeEnvironmentArn"]
        fit = self._fits[arn]
        return diagnosis.Environment(
            name=described["computeEnvironmentName"],
            fit=fit,
            state=described["state"],
            status=described["status"],
            status_reason=described.get("statusReason", ""),
            subnets=self._network.subnets(resources["subnets"], fit.type in job_fit.FARGATE),
            groups=self._network.groups(resources.get("securityGroupIds", [])),
            profile_problem=self._profile_problem(described),
            launch_failures=self._launch_failures(described["computeEnvironmentName"]),
            agents=self._agents(described.get("ecsClusterArn", "")),
            quotas=self._quotas(fit),
            busy=self._busy[arn],
        )

    @cached_property
    def _fits(self):
        """``{environment's ARN: job_fit.Environment}``."""
        types = Account(self.client).instance_types(self._described_environments, self.reserved_percent)
        return {
            item["computeEnvironmentArn"]: job_fit.Environment(
                name=item["computeEnvironmentName"],
                type=item["computeResources"]["type"],
                max_vcpus=item["computeResources"]["maxvCpus"],
                machines=tuple(matching(item["computeResources"].get("instanceTypes", []), types)),
            )
            for item in self._described_environments
        }

    @cached_property
    def _network(self):
        return Network(self)

    @cached_property
    def _busy(self):
        """``{environment's ARN: vCPUs of running jobs}``: a queue fills its environments in their order."""
        busy = Counter()
        ours = set(self._fits)
        for queue in self.all_queues:
            arns = [arn for arn in _order(queue) if arn in ours]
            if not arns:
                continue
            name = queue["jobQueueName"]
            running = [*self._listed(name, "STARTING"), *self._listed(name, "RUNNING")]
            for job in self._describe([job["jobId"] for job in running]):
                vcpus = request(job, name).vcpus
                free = (arn for arn in arns if busy[arn] + vcpus <= self._fits[arn].max_vcpus)
                busy[next(free, arns[-1])] += vcpus
        return busy

    @cached_property
    def _profiles(self):
        """``{environment's ARN: instance profile}``; an empty map where the profile named doesn't exist."""
        iam, found = self.client("iam"), {}
        for item in self._described_environments:
            profile = item["computeResources"].get("instanceRole", "").split("/")[-1]
            if profile:
                found[item["computeEnvironmentArn"]] = self.attempt(
                    f"instance profile {profile}", lambda profile=profile: _instance_profile(iam, profile), None
                )
        return {arn: profile for arn, profile in found.items() if profile is not None}

    def _profile_problem(self, described):
        profile = self._profiles.get(described["computeEnvironmentArn"])
        name = described["computeResources"].get("instanceRole", "")
        if profile is None:
            return ""
        if not profile:
            return f"Its instance profile {name} does not exist."
        if not profile["Roles"]:
            return f"Its instance profile {name} has no role."
        role = profile["Roles"][0]
        if not _trusts_ec2(role["AssumeRolePolicyDocument"]):
            return f"The role {role['RoleName']} of its instance profile does not let ec2.amazonaws.com assume it."
        denied = self.attempt(
            f"what {role['RoleName']} may do",
            lambda: [
                *self._denied(role["Arn"], ["ecs:RegisterContainerInstance"], described.get("ecsClusterArn") or "*"),
                *self._denied(role["Arn"], ["ecs:DiscoverPollEndpoint"], "*"),
            ],
            [],
        )
        needs = f"The role {role['RoleName']} of its instance profile lacks {', '.join(denied)}"
        return f"{needs}: the ECS agent can't register." if denied else ""

    def _launch_failures(self, name):
        """Return the messages of the launches that failed since the last that went well, the latest first."""
        group = re.compile(rf"(AWSBatch-)?{re.escape(name)}-asg-")
        failed = []
        for activity in self._activities:
            if not group.match(activity["AutoScalingGroupName"]):
                continue
            if activity["StatusCode"] == "Successful":
                break
            if activity["StatusCode"] in ("Failed", "Cancelled") and activity.get("StatusMessage"):
                failed.append(activity["StatusMessage"])
        return tuple(failed)

    @cached_property
    def _activities(self):
        """What Auto Scaling did lately, the latest first."""

        def read():
            pages = self.client("autoscaling").get_paginator("describe_scaling_activities").paginate()
            return [activity for page in pages for activity in page["Activities"]]

        since = time.time() - RECENT
        activities = self.attempt("launches of instances", read, [])
        recent = [activity for activity in activities if activity["StartTime"].timestamp() > since]
        return sorted(recent, key=lambda activity: activity["StartTime"], reverse=True)

    def _agents(self, cluster):
        if not cluster:
            return 0, 0
        ecs = self.client("ecs")

        def read():
            try:
                pages = ecs.get_paginator("list_container_instances").paginate(cluster=cluster)
                arns = [arn for page in pages for arn in page["containerInstanceArns"]][:100]
            except ecs.exceptions.ClusterNotFoundException:
                return 0, 0
            if not arns:
                return 0, 0
            known = ecs.describe_container_instances(cluster=cluster, containerInstances=arns)["containerInstances"]
            return len(known), sum(instance["agentConnected"] for instance in known)

        return self.attempt(f"instances of {cluster}", read, (0, 0))

    # Quotas

    def _quotas(self, fit):
        """Return ``{instance type, or "" on Fargate: diagnosis.Quota}``, as far as AWS tells."""
        if fit.type in job_fit.FARGATE:
            code, name = FARGATE_QUOTAS[fit.type]
            quota = self._quota("fargate", code, f"{name} vCPU resource count", 0)
            return {"": quota} if quota else {}
        spot = fit.type == "SPOT"
        found = {}
        for machine in fit.machines:
            codes = quota_of(machine.name)
            code = codes[1 if spot else 0]
            name = f"All {codes[2]} Spot Instance Requests" if spot else f"Running On-Demand {codes[2]} instances"
            quota = self._quota("ec2", code, name, self._running[code])
            if quota:
                found[machine.name] = quota
        return found

    def _quota(self, service, code, name, used):
        if code not in self._limits:
            self._limits[code] = self.attempt(f"quota {code}", lambda: self._limit(service, code), None)
        limit = self._limits[code]
        return None if limit is None else diagnosis.Quota(code, name, limit, used)

    @cached_property
    def _limits(self):
        return {}

    def _limit(self, service, code):
        """Return the value of a quota; None where AWS keeps no value for this account."""
        client = self.client("service-quotas")
        try:
            return client.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
        except client.exceptions.NoSuchResourceException:
            return None

    @cached_property
    def _running(self):
        """``{quota's code: vCPUs of running instances}``."""
        filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        ec2 = self.client("ec2")

        def read():
            pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
            return [one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]

        used = Counter()
        for instance in self.attempt("running instances", read, []):
            options = instance.get("CpuOptions") or {}
            spot = instance.get("InstanceLifecycle") == "spot"
            code = quota_of(instance["InstanceType"])[1 if spot else 0]
            used[code] += options.get("CoreCount", 0) * options.get("ThreadsPerCore", 0)
        return used


def request(job, queue):
    """Return the :class:`job_fit.Request` of a described job."""
    container = job.get("container", {})
    asked = {one["type"].upper(): one["value"] for one in container.get("resourceRequirements", [])}
    return job_fit.Request(
        flow=job["jobName"],
        step=job["jobName"],
        queue=queue,
        vcpus=float(asked.get("VCPU", container.get("vcpus", 1))),
        memory=int(asked.get("MEMORY", container.get("memory", 0))),
        gpus=int(asked.get("GPU", 0)),
    )


def quota_of(instance_type):
    """Return the codes (on demand, SPOT) and the name of the quota that instances of a type count against."""
    return QUOTAS.get(re.match("[a-z]+", instance_type)[0], STANDARD)


def _order(queue):
    """Return the ARNs of a queue's environments in the order in which they are tried."""
    order = sorted(queue.get("computeEnvironmentOrder", []), key=lambda entry: entry["order"])
    return [entry["computeEnvironment"] for entry in order]


def _name(arn):
    return arn.split("/")[-1]


def _never_started(job):
    """Tell whether a failed job failed because its container couldn't be started."""
    attempts = job.get("attempts", [])
    return bool(attempts) and "exitCode" not in attempts[-1].get("container", {})


def _instance_profile(iam, name):
    try:
        return iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    except iam.exceptions.NoSuchEntityException:
        return {}


def _trusts_ec2(document):
    """Tell whether a trust policy names EC2 (``ec2.amazonaws.com``, in China with ``.cn``)."""
    return "ec2.amazonaws.com" in json.dumps(document)
