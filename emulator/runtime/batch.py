"""Batch in moto's model: its queues, environments and definitions; our jobs."""

import json
import re
from typing import Any

from moto.batch.exceptions import ClientException
from moto.batch.responses import BatchResponse

from emulator.gaps import replace

from .batch_scheduler import BatchScheduler
from .containers import Host
from .jobs import Job
from .machines import fits_fargate
from .place import Place

JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
LARGEST_ARRAY = 10_000


def install(host: Host) -> BatchScheduler:
    """Let moto's Batch run jobs."""
    scheduler = BatchScheduler(host)

    @replace(BatchResponse, "submitjob")
    def submitjob(self: BatchResponse) -> str:
        job = _new_job(self.batch_backend.backend, json.loads(self.body), scheduler)
        scheduler.submit(job)
        return json.dumps({"jobArn": job.arn, "jobId": job.id, "jobName": job.name})

    @replace(BatchResponse, "describejobs")
    def describejobs(self: BatchResponse) -> str:
        names = self._get_param("jobs") or []
        with scheduler.lock:
            found = [scheduler.jobs.get(name.split(":job/")[-1]) for name in names]
            return json.dumps({"jobs": [job.describe() for job in found if job]})

    @replace(BatchResponse, "listjobs")
    def listjobs(self: BatchResponse) -> str:
        with scheduler.lock:
            found = _listed(self.batch_backend.backend, json.loads(self.body), scheduler)
            return json.dumps({"jobSummaryList": [job.summary() for job in found]})

    @replace(BatchResponse, "terminatejob")
    def terminatejob(self: BatchResponse) -> str:
        scheduler.end(_job(self, scheduler), self._get_param("reason"))
        return "{}"

    @replace(BatchResponse, "canceljob")
    def canceljob(self: BatchResponse) -> str:
        scheduler.end(_job(self, scheduler), self._get_param("reason"), only_waiting=True)
        return "{}"

    return scheduler


def _job(response: BatchResponse, scheduler: BatchScheduler) -> Job:
    job_id = response._get_param("jobId")
    if not job_id or not response._get_param("reason"):
        raise ClientException("Job id and reason are required")
    if job_id not in scheduler.jobs:
        raise ClientException(f"Job not found: {job_id}")
    return scheduler.jobs[job_id]


def _new_job(backend: Any, submitted: dict[str, Any], scheduler: BatchScheduler) -> Job:
    """Make a job of a submission, or refuse it as Batch does."""
    if not JOB_NAME.fullmatch(submitted["jobName"]):
        raise ClientException("Job name should match valid pattern")
    definition = backend.get_job_definition(submitted["jobDefinition"])
    if definition is None or definition.status != "ACTIVE":
        raise ClientException(f"JobDefinition {submitted['jobDefinition']} does not exist.")
    if definition.container_properties is None:
        raise ClientException("Only jobs of one container are run by the emulator.")
    queue = backend.get_job_queue(submitted["jobQueue"])
    if queue is None:
        raise ClientException(f"Job Queue {submitted['jobQueue']} does not exist")
    if queue.state != "ENABLED":
        raise ClientException(f"Job queue {queue.name} is not enabled.")
    job = Job(Place(backend.account_id, backend.region_name), queue, definition, submitted)
    _check(job, scheduler)
    backend.tag_resource(job.arn, submitted.get("tags") or {})
    return job


def _check(job: Job, scheduler: BatchScheduler) -> None:
    size = (job.submitted.get("arrayProperties") or {}).get("size")
    if size is not None and not 2 <= size <= LARGEST_ARRAY:
        raise ClientException(f"Array size must be between 2 and {LARGEST_ARRAY}")
    for dependency in job.submitted.get("dependsOn") or []:
        if dependency.get("jobId") and dependency["jobId"] not in scheduler.jobs:
            raise ClientException(f"Job dependency {dependency['jobId']} does not exist")
    wrong = [name for name, value in job.variables.items() if not isinstance(value, str)]
    if wrong:
        raise ClientException(f"The value of the environment variable {wrong[0]} is not a string")
    asked = job.resources
    if job.on_fargate and not fits_fargate(asked):
        raise ClientException(f"Fargate resource requirements ({asked.vcpus:.2f} vCPU, {asked.memory} MiB) not valid.")


def _listed(backend: Any, asked: dict[str, Any], scheduler: BatchScheduler) -> list[Job]:
    """The jobs that ListJobs is asked for; without a status, the running ones."""
    jobs = list(scheduler.jobs.values())
    if asked.get("arrayJobId"):
        parent = scheduler.jobs.get(asked["arrayJobId"])
        jobs = parent.children if parent else []
    elif asked.get("jobQueue"):
        queue = backend.get_job_queue(asked["jobQueue"])
        if queue is None:
            raise ClientException(f"Job queue {asked['jobQueue']} does not exist")
        jobs = [job for job in jobs if job.queue is queue and job.parent is None]
    else:
        raise ClientException("Exactly one of jobQueue, arrayJobId or multiNodeJobId is required")
    filters = {entry["name"]: entry["values"] for entry in asked.get("filters") or []}
    if filters:
        return [job for job in jobs if all(_passes(job, name, values) for name, values in filters.items())]
    return [job for job in jobs if job.status == (asked.get("jobStatus") or "RUNNING")]


def _passes(job: Job, name: str, values: list[str]) -> bool:
    """Whether a job passes a filter of ListJobs: any of its values, * at the end of one stands for anything."""
    if name in ("BEFORE_CREATED_AT", "AFTER_CREATED_AT"):
        return any((job.created_at < int(v)) == (name == "BEFORE_CREATED_AT") for v in values)
    actual = job.name if name == "JOB_NAME" else job.definition.arn if "/" in values[0] else job.definition.name
    return any(actual.startswith(v[:-1]) if v.endswith("*") else actual.lower() == v.lower() for v in values)
