# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why jobs of AWS Batch stay RUNNABLE: rules over what was read of queues, environments, network, roles and quotas.

Pure. :mod:`diagnosis_evidence` reads what the rules judge. AWS's own list of causes:
https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf

from ansible_collections.mlops.metaflow.plugins.module_utils import job_fit

#: Seconds within which an instance is usually there: it is launched, boots, and its ECS agent registers.
START_TIME = 900

#: What an instance's ECS agent calls, and what jobs of any kind call, as names of VPC endpoints
#: (https://docs.aws.amazon.com/batch/latest/userguide/vpc-interface-endpoints.html).
ENDPOINTS_OF_AGENT = frozenset({"ecs", "ecs-agent", "ecs-telemetry"})
ENDPOINTS_OF_JOBS = frozenset({"ecr.api", "ecr.dkr", "logs", "s3"})

#: Cause -> the mend; {name} stands for the name of what it is found on.
MENDS = {
    "queue_disabled": (
        "Enable it: --tags batch does, or `aws batch update-job-queue --job-queue {name} --state ENABLED`."
    ),
    "queue_invalid": "Mend what AWS names, mostly one of its compute environments; then --tags batch.",
    "queue_empty": "Give it compute environments in batch_job_queues, then --tags batch.",
    "environment_disabled": (
        "Enable it: --tags batch does, or "
        "`aws batch update-compute-environment --compute-environment {name} --state ENABLED`."
    ),
    "environment_invalid": (
        "Mend what AWS names: --tags identity,network,batch puts the stack's own parts right. AWS checks "
        "an INVALID environment again when it is updated."
    ),
    "instance_profile": (
        "--tags identity makes the profile and its role, with what the ECS agent calls; then --tags batch."
    ),
    "no_route": (
        "--tags network puts the stack's routes and NAT gateways right. In a network of your own give the "
        "subnets a default route to a NAT gateway, or the VPC endpoints that are missing."
    ),
    "no_egress": "--tags batch puts the stack's group right; else add a rule for outgoing TCP 443.",
    "agent_disconnected": (
        "Look at /var/log/ecs/ecs-agent.log on an instance. Terminate instances that hang: Batch starts others."
    ),
    "no_spot_capacity": (
        "Give the environment more instance types in batch_compute_environments (capacity is by type and "
        "zone), or put an EC2 environment behind it in batch_job_queues, or wait."
    ),
    "no_capacity": "Give the environment more instance types or another zone, or wait.",
    "quota": ("Ask for a higher quota in Service Quotas (they count vCPUs), or take instance types of another class."),
    "launch_failed": "Mend what EC2 names: --tags batch puts the stack's launch template and environments right.",
    "misconfiguration": "Mend what Batch names: --tags identity,network,batch puts the stack's own parts right.",
    "image_not_pullable": (
        "Push the image, or name one that is there (@batch(image=…)). The role that pulls needs "
        "ecr:GetAuthorizationToken, ecr:BatchGetImage and ecr:GetDownloadUrlForLayer: --tags identity "
        "gives the stack's roles these for the stack's repository."
    ),
    "no_fitting_instance_type": (
        "Ask for less (@resources, @batch), or give an environment of the queue larger instance types in "
        "batch_compute_environments, then --tags batch."
    ),
    "max_vcpus_too_low": "Raise maxv_cpus in batch_compute_environments, then --tags batch; or ask for less.",
    "max_vcpus_reached": "Wait, or raise maxv_cpus in batch_compute_environments, then --tags batch.",
    "behind_a_stuck_job": "Mend what holds that job, or end it.",
    "machine_starting": "Wait: an instance takes some minutes until its agent is connected.",
    "undetermined": (
        "Look at the logs named below, at network ACLs and DNS of the VPC, at the launch template's user "
        "data, and at CloudTrail (RunInstances, CreateFleet)."
    ),
}

#: Causes that keep an environment from starting jobs now, though they may pass by themselves.
PASSING = ("no_capacity", "no_spot_capacity")

#: Words of failed launches -> cause. EC2's error codes stand in the activities' messages.
LAUNCH_FAILURES = (
    (r"VcpuLimitExceeded|MaxSpotInstanceCountExceeded|InstanceLimitExceeded|exceeds your vCPU limit", "quota"),
    (r"InsufficientInstanceCapacity|UnfulfillableCapacity|capacity-not-available", "no_capacity"),
    (r"instance ?profile", "instance_profile"),
)


#: What is broken with a subnet that doesn't exist.
GONE = "gone"


@dataclass(frozen=True)
class Subnet:
    """Where instances stand: what its default route leads to ("" for none), and the VPC endpoints that serve it."""

    id: str
    target: str = ""
    broken: str = ""
    public_addresses: bool = False
    endpoints: frozenset = frozenset()


@dataclass(frozen=True)
class Group:
    """A security group and its rules for outgoing traffic: (protocol, first port, last port, destination)."""

    id: str
    egress: tuple = ()


@dataclass(frozen=True)
class Quota:
    """A quota of running vCPUs: its code and name, its value, and how many run."""

    code: str
    name: str
    limit: float
    used: float = 0


@dataclass(frozen=True)
class Environment:
    """A compute environment with all that it depends on."""

    name: str
    fit: job_fit.Environment
    state: str = "ENABLED"
    status: str = "VALID"
    status_reason: str = ""
    subnets: tuple = ()
    groups: tuple = ()
    profile_problem: str = ""
    launch_failures: tuple = ()
    """Messages of the launches that failed, the latest first."""
    agents: tuple = (0, 0)
    """Instances that are registered in the cluster, and those of them whose agent is connected."""
    quotas: dict = field(default_factory=dict)
    """Instance type ("" on Fargate) -> :class:`Quota`."""
    busy: float = 0
    """vCPUs of the jobs that run in the queues of the environment."""

    @property
    def on_fargate(self):
        return self.fit.type in job_fit.FARGATE

    @property
    def on_spot(self):
        return self.fit.type in ("SPOT", "FARGATE_SPOT")


@dataclass(frozen=True)
class Queue:
    """A job queue and the names of its environments in their order."""

    name: str
    environments: tuple
    state: str = "ENABLED"
    status: str = "VALID"
    status_reason: str = ""


@dataclass(frozen=True)
class Job:
    """A job that has not started, or that could not be started."""

    id: str
    name: str
    queue: str
    request: job_fit.Request
    status: str = "RUNNABLE"
    status_reason: str = ""
    waited: float = 0
    """Seconds since it was submitted."""
    on_fargate: bool = False
    image: str = ""
    image_problem: str = ""
    """Why its image can't be pulled, as far as the registry and IAM tell."""
    reasons: tuple = ()
    """What ECS said of its attempts."""
    log_group: str = ""
    log_stream: str = ""


@dataclass(frozen=True)
class Finding:
    """A cause, what it is found on, what is wrong, the mend, and the jobs that it holds."""

    cause: str
    resource: str
    problem: str
    lasting: bool = True
    """Whether jobs wait for ever unless somebody acts."""
    jobs: tuple = ()

    @property
    def mend(self):
        """What to do."""
        return MENDS[self.cause].replace("{name}", self.resource.split()[-1])


def diagnose(queues, environments, jobs):
    """Return the :class:`Finding` of everything that is wrong, those that hold jobs first.

    :param jobs: in the order of their submission, which is the order in which a queue starts them.
    """
    by_name = {queue.name: queue for queue in queues}
    known = {environment.name: environment for environment in environments}
    problems = {environment.name: environment_problems(environment) for environment in environments}
    found = _Findings()
    of_queues = (finding for queue in queues for finding in queue_problems(queue))
    for finding in (*of_queues, *chain.from_iterable(problems.values())):
        found.add(finding)
    heads = {}
    for job in jobs:
        for finding in image_problems(job):
            found.add(finding, job)
        if job.status != "RUNNABLE":
            continue
        queue = by_name[job.queue]
        of_queue = [known[name] for name in queue.environments if name in known]
        causes = _job_problems(job, queue, of_queue, problems, heads.get(job.queue))
        for finding in causes:
            found.add(finding, job)
        if any(finding.cause not in ("machine_starting", "undetermined") for finding in causes):
            heads.setdefault(job.queue, job)
    return found.sorted()


class _Findings:
    """Findings by cause and resource, each with all jobs that it holds."""

    def __init__(self):
        self.found = {}

    def add(self, finding, job=None):
        key = (finding.cause, finding.resource, finding.problem)
        kept = self.found.setdefault(key, finding)
        if job and job.id not in kept.jobs:
            self.found[key] = replace(kept, jobs=(*kept.jobs, job.id))

    def sorted(self):
        return sorted(self.found.values(), key=lambda finding: (not finding.jobs, not finding.lasting))


# Queues


def queue_problems(queue):
    """Yield what is wrong with a queue itself."""
    of = f"job queue {queue.name}"
    if queue.state == "DISABLED":
        yield Finding("queue_disabled", of, "It is DISABLED, and takes no jobs.")
    if queue.status == "INVALID":
        yield Finding("queue_invalid", of, f"Its status is INVALID: {queue.status_reason or 'AWS gives no reason'}")
    if not queue.environments:
        yield Finding("queue_empty", of, "It has no compute environment.")


# Compute environments


def environment_problems(environment):
    """Return what keeps an environment from starting jobs."""
    of = f"compute environment {environment.name}"
    found = []
    if environment.state == "DISABLED":
        found.append(Finding("environment_disabled", of, "It is DISABLED, and starts no jobs."))
    if environment.status == "INVALID":
        reason = environment.status_reason or "AWS gives no reason"
        found.append(Finding("environment_invalid", of, f"Its status is INVALID: {reason}"))
    if environment.profile_problem:
        found.append(Finding("instance_profile", of, environment.profile_problem))
    return [*found, *_network_problems(environment, of), *_launch_problems(environment, of)]


def _network_problems(environment, of):
    """Yield why instances (or Fargate tasks) can't reach ECS, the registry and the logs."""
    wanted = ENDPOINTS_OF_JOBS | (frozenset() if environment.on_fargate else ENDPOINTS_OF_AGENT)
    reasons = {subnet.id: _no_way_out(subnet, wanted) for subnet in environment.subnets}
    stranded = [f"{subnet} {reason}" for subnet, reason in reasons.items() if reason]
    if stranded:
        who = "Fargate tasks reach" if environment.on_fargate else "the ECS agent of an instance reaches"
        yield Finding(
            "no_route",
            of,
            f"{'; '.join(stranded)}. From there {who} no endpoint of AWS.",
            lasting=len(stranded) == len(environment.subnets),
        )
    if environment.groups and not _admits_https(environment):
        groups = ", ".join(group.id for group in environment.groups)
        yield Finding("no_egress", of, f"Its security groups ({groups}) let no HTTPS out, which the ECS agent needs.")
    registered, connected = environment.agents
    if registered and not connected:
        yield Finding("agent_disconnected", of, f"The ECS agents of all its {registered} instances are disconnected.")


def _no_way_out(subnet, wanted):
    """Say why nothing in a subnet reaches the endpoints wanted; "" where it does."""
    missing = wanted - subnet.endpoints
    if not missing:
        return ""
    if subnet.broken == GONE:
        return "does not exist"
    names = f"lacks the VPC endpoints {', '.join(sorted(missing))}"
    if not subnet.target:
        return f"has no default route, and {names}"
    if subnet.broken:
        return f"has a default route to {subnet.target}, which is {subnet.broken}, and {names}"
    if subnet.target.startswith("igw-") and not subnet.public_addresses:
        return f"has a default route to an internet gateway, but gives instances no public address, and {names}"
    return ""


def _admits_https(environment):
    """Tell whether the groups together let HTTPS out to where AWS is reached from the subnets."""
    to_anywhere = ("0.0.0.0/0", "::/0")
    private = all(subnet.endpoints >= ENDPOINTS_OF_JOBS | ENDPOINTS_OF_AGENT for subnet in environment.subnets)
    return any(
        protocol in ("-1", "tcp") and first <= 443 <= last and (private or destination in to_anywhere)
        for group in environment.groups
        for protocol, first, last, destination in group.egress
    )


def _launch_problems(environment, of):
    """Yield why EC2 refused to start instances, one finding a cause, with the latest message of each."""
    seen = set()
    for message in environment.launch_failures:
        cause = next((cause for words, cause in LAUNCH_FAILURES if re.search(words, message, re.I)), "launch_failed")
        if cause == "no_capacity" and environment.on_spot:
            cause = "no_spot_capacity"
        if cause not in seen:
            seen.add(cause)
            yield Finding(cause, of, f"EC2 could not start an instance: {message}", lasting=cause not in PASSING)


# Jobs


def image_problems(job):
    """Yield why the image of a job can't be pulled: what registry and IAM say, else what ECS said."""
    said = next((reason for reason in reversed(job.reasons) if "CannotPull" in reason), "")
    problem = job.image_problem or (f"ECS said: {said}" if said else "")
    if problem:
        yield Finding("image_not_pullable", f"image {job.image}", problem)


def _job_problems(job, queue, environments, problems, head):
    """Return why a RUNNABLE job has not started; there is always a reason."""
    of = f"job {job.name} ({job.id})"
    of_queue = list(queue_problems(queue))
    if not environments:
        return of_queue
    misfits = {environment.name: _misfit(job, environment) for environment in environments}
    fitting = [environment for environment in environments if not misfits[environment.name]]
    if not fitting:
        why = "; ".join(f"{name}: {reason}" for name, reason in misfits.items())
        return [Finding("no_fitting_instance_type", of, f"It asks for {job.request}, and fits nowhere. {why}.")]
    candidates = [environment for environment in fitting if job.request.vcpus <= environment.fit.max_vcpus]
    if not candidates:
        allowed = ", ".join(f"{environment.fit.max_vcpus} in {environment.name}" for environment in fitting)
        problem = f"It asks for {job.request.vcpus:g} vCPUs, and there may be {allowed}."
        return [Finding("max_vcpus_too_low", of, problem)]
    blockers = {environment.name: _blockers(job, environment, problems) for environment in candidates}
    free = [environment for environment in candidates if not blockers[environment.name]]
    if not free:
        return [*of_queue, *chain.from_iterable(blockers.values())]
    return [*of_queue, *(_said_by_batch(job, free) or [_waiting(job, of, free, head)])]


def _misfit(job, environment):
    """Return why a job fits on no machine of an environment, or None."""
    if job.on_fargate != environment.on_fargate:
        return f"the job is for {'Fargate' if job.on_fargate else 'EC2'}, the environment is {environment.fit.type}"
    return job_fit.misfit_in(job.request, replace(environment.fit, max_vcpus=inf))


def _blockers(job, environment, problems):
    """Return why an environment in which a job fits doesn't start it."""
    found = [finding for finding in problems[environment.name] if finding.lasting or finding.cause in PASSING]
    return [*found, *_quota_problem(job, environment)]


def _quota_problem(job, environment):
    """Yield the quota of which each machine that would do needs more vCPUs than are left."""
    needs = {m.name: m.vcpus for m in job_fit.fitting(job.request, environment.fit)} or {"": job.request.vcpus}
    over = [
        (quota, needs[name])
        for name, quota in environment.quotas.items()
        if name in needs and quota.used + needs[name] > quota.limit
    ]
    if len(over) == len(needs):
        quota, vcpus = min(over, key=lambda one: one[1])
        yield Finding(
            "quota",
            f"compute environment {environment.name}",
            f"The account's quota {quota.code} ({quota.name}) is {quota.limit:g} vCPUs, of which {quota.used:g} run; "
            f"the smallest machine for the job has {vcpus:g}.",
            lasting=vcpus > quota.limit,
        )


def _said_by_batch(job, free):
    """Return what Batch itself says of a job at the head of its queue, where no rule has found it."""
    reason = job.status_reason
    if reason.startswith("CAPACITY:"):
        cause = "no_spot_capacity" if all(environment.on_spot for environment in free) else "no_capacity"
        names = ", ".join(environment.name for environment in free)
        return [Finding(cause, f"compute environment {names}", f"Batch says: {reason}", lasting=False)]
    if reason.startswith("MISCONFIGURATION:"):
        return [Finding("misconfiguration", f"job queue {job.queue}", f"Batch says: {reason}")]
    return []


def _waiting(job, of, free, head):
    """Return the finding of a job that could run: it waits for its turn, or nobody knows."""
    of_queue = f"job queue {job.queue}"
    if all(environment.busy + job.request.vcpus > environment.fit.max_vcpus for environment in free):
        busy = ", ".join(f"{one.busy:g} of {one.fit.max_vcpus} in {one.name}" for one in free)
        return Finding(
            "max_vcpus_reached", of_queue, f"Running jobs take the vCPUs there may be: {busy}.", lasting=False
        )
    if head:
        problem = f"A queue starts its jobs in their order, and {head.name} ({head.id}) before it waits."
        return Finding("behind_a_stuck_job", of_queue, problem, lasting=False)
    minutes = f"{job.waited / 60:.0f} minutes"
    if job.waited < START_TIME:
        return Finding("machine_starting", of, f"No cause is found, and it waits for {minutes} only.", lasting=False)
    said = f" Batch says: {job.status_reason}" if job.status_reason else ""
    return Finding("undetermined", of, f"It waits for {minutes}, and no cause is found.{said}", lasting=False)
