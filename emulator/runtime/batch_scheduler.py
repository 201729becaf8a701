"""The life of Batch jobs: when one becomes runnable, where it runs, how its attempts end.

Whenever something has changed (a job was submitted, a container ended), one thread lets every job go as far as it can.
Queues are strictly first in, first out, as on AWS without a scheduling policy: a job that fits no machine holds back
those behind it, and its statusReason says why:
https://docs.aws.amazon.com/batch/latest/userguide/job-queue-blocked.html
"""

import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

from .containers import Host
from .errors import StartError
from .jobs import DONE, WAITING, Attempt, Job, now
from .machines import fits_fargate, fits_instances
from .place import Place
from .policies import trusts
from .supply import agent_connects, invalid_reason, supply
from .tasks import SERVICE_PRINCIPAL, STOP_TIMEOUT, cannot_assume

log = logging.getLogger(__name__)

LOCAL_JOBS = int(os.environ.get("EMULATOR_BATCH_JOBS", 2 * (os.cpu_count() or 1)))
"""Jobs that this machine runs at once, whatever maxvCpus allows; the others stay RUNNABLE."""

MISFIT = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than that "
    "can be met by the CE(s) attached to the job queue."
)
TOO_MANY_VCPUS = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the job "
    "requirement due to the CE's maxvCpus."
)
ESSENTIAL_EXITED = "Essential container in task exited"
TIMED_OUT = "Job attempt duration exceeded timeout"
FAILED_TO_START = "Task failed to start"


class BatchScheduler:
    """Runs the jobs of all queues."""

    def __init__(self, host: Host) -> None:
        self.jobs: dict[str, Job] = {}
        """All jobs by id, in the order of submission."""
        self.lock = threading.RLock()
        self._host = host
        self._changed = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="batch-scheduler", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Take a job, with its children if it is an array."""
        with self.lock:
            for each in (job, *job.children):
                self.jobs[each.id] = each
        self.wake()

    def wake(self) -> None:
        """Something has changed: a job, a queue, a compute environment."""
        self._changed.set()

    def end(self, job: Job, reason: str, only_waiting: bool = False) -> None:
        """Terminate a job, or cancel it (``only_waiting``): one that has not started fails at once."""
        with self.lock:
            for each in job.children or [job]:
                if each.status in WAITING:
                    self._finish(each, "FAILED", reason)
                elif each.status not in DONE and not only_waiting:
                    self._stop_attempt(each, reason)
        self.wake()

    def reset(self) -> None:
        """Forget all jobs; what they run is killed by whoever resets."""
        with self.lock:
            for job in self.jobs.values():
                if job.status not in DONE:
                    self._finish(job, "FAILED", "The account was reset")
            self.jobs.clear()

    def stop(self) -> None:
        """End the scheduler."""
        self._stopped = True
        self.wake()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stopped:
            # Queues and compute environments change without telling, and time passes: one look a second notices.
            self._changed.wait(1)
            self._changed.clear()
            try:
                with self.lock:
                    self._step()
            except Exception:
                log.exception("the scheduler of Batch failed")

    def _step(self) -> None:
        """Let every job go as far as it can."""
        active = [job for job in self.jobs.values() if job.status not in DONE]
        for job in active:
            self._await_dependencies(job)
            self._check_time(job)
        for parent in (job for job in active if job.children):
            self._judge_array(parent)
        runnable: dict[str, list[Job]] = {}
        for job in active:
            if job.status == "RUNNABLE":
                runnable.setdefault(job.queue.arn, []).append(job)
        for jobs in sorted(runnable.values(), key=lambda waiting: -int(waiting[0].queue.priority)):
            self._place(jobs)

    def _await_dependencies(self, job: Job) -> None:
        """SUBMITTED → PENDING → RUNNABLE, or FAILED with a job on which it depends."""
        if job.status == "SUBMITTED":
            job.status = "PENDING"
        if job.status != "PENDING" or job.children:
            return
        found = [self.jobs[name] for name in self._dependencies(job) if name in self.jobs]
        if any(dependency.status == "FAILED" for dependency in found):
            self._finish(job, "FAILED", "Dependent Job failed")
        elif all(dependency.status == "SUCCEEDED" for dependency in found):
            job.status = "RUNNABLE"

    def _dependencies(self, job: Job) -> Iterable[str]:
        """The ids of the jobs that must succeed before."""
        for dependency in job.submitted.get("dependsOn") or []:
            kind, job_id = dependency.get("type"), dependency.get("jobId")
            if kind == "SEQUENTIAL" and not job_id:
                if job.parent and job.index:
                    yield f"{job.parent.id}:{job.index - 1}"
            elif kind == "N_TO_N" and job.parent:
                yield f"{job_id}:{job.index}"
            else:
                yield job_id

    def _judge_array(self, parent: Job) -> None:
        """An array ends with its last child, and fails with any of them."""
        states = {child.status for child in parent.children}
        if states <= set(DONE):
            failed = "FAILED" in states
            self._finish(parent, "FAILED" if failed else "SUCCEEDED", "Array Child Job failed" if failed else None)

    def _place(self, waiting: list[Job]) -> None:
        """Start the jobs of one queue in their order, until one has to wait."""
        if waiting[0].queue.state != "ENABLED":
            return
        for job in waiting:
            environment = self._environment_for(job)
            if environment is None or self._running() >= LOCAL_JOBS:
                return
            self._start(job, environment)

    def _environment_for(self, job: Job) -> Any | None:
        """The first compute environment of the queue that can take the job now; why not is left in statusReason."""
        usable = [environment for environment in job.queue.environments if _is_usable(environment)]
        fitting = [environment for environment in usable if _has_machine(environment, job)]
        large_enough = [environment for environment in fitting if job.resources.vcpus <= _max_vcpus(environment)]
        job.status_reason = None
        if usable and not fitting:
            job.status_reason = MISFIT
        elif fitting and not large_enough:
            job.status_reason = TOO_MANY_VCPUS
        supplied = [environment for environment in large_enough if self._gets_machines(environment, job)]
        return next((e for e in supplied if self._used_vcpus(e) + job.resources.vcpus <= _max_vcpus(e)), None)

    def _gets_machines(self, environment: Any, job: Job) -> bool:
        """Whether instances for the job can be had and join; what Batch says if not is left in statusReason."""
        refused = supply.refuses(environment, job.resources)
        job.status_reason = refused or job.status_reason
        return refused is None and agent_connects(environment)

    def _used_vcpus(self, environment: Any) -> float:
        return sum(
            job.resources.vcpus
            for job in self.jobs.values()
            if job.status in ("STARTING", "RUNNING") and job.environment_arn == environment.arn
        )

    def _running(self) -> int:
        return sum(job.status in ("STARTING", "RUNNING") for job in self.jobs.values())

    def _start(self, job: Job, environment: Any) -> None:
        """Begin an attempt."""
        attempt = Attempt()
        job.attempts.append(attempt)
        job.status, job.status_reason = "STARTING", None
        job.environment_arn = environment.arn
        try:
            self._check_roles(job.place, job.properties)
            attempt.container = job.container(self._host, job.queue.name, environment)
            attempt.container.prepare()
            attempt.started_at = now()
            job.started_at = attempt.started_at
            job.status = "RUNNING"
            attempt.container.start(lambda code: self._exited(job, attempt, code))
        except StartError as error:
            attempt.reason = str(error)
            self._end_attempt(job, attempt, FAILED_TO_START)
        except Exception as error:
            log.exception("job %s could not be started", job.id)
            attempt.reason = f"InternalError: {error}"
            self._end_attempt(job, attempt, FAILED_TO_START)

    def _check_roles(self, place: Place, properties: Any) -> None:
        for arn in (properties.get("executionRoleArn"), properties.get("jobRoleArn")):
            if arn and not trusts(place, arn, SERVICE_PRINCIPAL):
                raise StartError(cannot_assume(arn))

    def _check_time(self, job: Job) -> None:
        """End an attempt that takes longer than it may."""
        if job.status == "RUNNING" and job.timeout and now() - job.started_at >= job.timeout * 1000:
            self._stop_attempt(job, TIMED_OUT)

    def _stop_attempt(self, job: Job, reason: str) -> None:
        """Ask the container to end; the first reason stays."""
        attempt = job.attempt
        if attempt.stopping is None and attempt.container:
            attempt.stopping = reason
            attempt.container.stop(STOP_TIMEOUT)

    def _exited(self, job: Job, attempt: Attempt, code: int) -> None:
        """The container ended. Called from a thread of the process."""
        with self.lock:
            if job.status in DONE:
                return
            attempt.exit_code = code
            self._end_attempt(job, attempt, attempt.stopping or ESSENTIAL_EXITED)
        self.wake()

    def _end_attempt(self, job: Job, attempt: Attempt, status_reason: str) -> None:
        attempt.stopped_at = now()
        attempt.status_reason = status_reason
        if attempt.exit_code == 0 and not attempt.stopping:
            self._finish(job, "SUCCEEDED", status_reason)
        elif job.may_retry(attempt):
            job.status, job.status_reason = "RUNNABLE", status_reason
            self.wake()
        else:
            self._finish(job, "FAILED", status_reason)

    def _finish(self, job: Job, status: str, reason: str | None) -> None:
        job.status, job.status_reason = status, reason
        job.stopped_at = now()
        job.ended.set()


def _is_usable(environment: Any) -> bool:
    """Whether Batch starts jobs in the environment at all."""
    status = getattr(environment, "status", "VALID")
    return environment.state == "ENABLED" and status == "VALID" and not invalid_reason(environment)


def _has_machine(environment: Any, job: Job) -> bool:
    """Whether the environment has a machine on which the job fits."""
    resources = environment.compute_resources
    if "FARGATE" in resources["type"]:
        return job.on_fargate and fits_fargate(job.resources)
    return not job.on_fargate and fits_instances(job.resources, resources["instanceTypes"])


def _max_vcpus(environment: Any) -> int:
    return int(environment.compute_resources["maxvCpus"])
