"""Batch jobs: what was submitted, what became of it, and how DescribeJobs shows it."""

import fnmatch
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .containers import Container, Definition, Identity
from .machines import Resources
from .place import Place

LOG_GROUP = "/aws/batch/job"
CONTAINER = "default"
"""The name that Batch gives the container of a job."""

PLACEHOLDER = re.compile(r"Ref::([\w.-]+)")

DONE = ("SUCCEEDED", "FAILED")
WAITING = ("SUBMITTED", "PENDING", "RUNNABLE")
STATES = (*WAITING, "STARTING", "RUNNING", *DONE)

SHOWN = (
    "image", "jobRoleArn", "executionRoleArn", "volumes", "mountPoints", "ulimits", "secrets", "logConfiguration",
    "linuxParameters", "networkConfiguration", "fargatePlatformConfiguration", "ephemeralStorage", "privileged",
    "readonlyRootFilesystem", "user",
)  # fmt: skip
"""Container properties that DescribeJobs shows as the definition has them."""


@dataclass
class Attempt:
    """One try at a job."""

    task_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: int | None = None
    stopped_at: int | None = None
    exit_code: int | None = None
    reason: str | None = None
    """Why the container could not run or was stopped."""
    status_reason: str | None = None
    log_stream: str | None = None
    stopping: str | None = None
    """Why the attempt is being ended from outside, if it is."""
    container: Container | None = None


class Job:
    """A job, an array of jobs, or a job of an array."""

    def __init__(
        self,
        place: Place,
        queue: Any,
        definition: Any,
        submitted: Mapping[str, Any],
        parent: "Job | None" = None,
        index: int = 0,
    ) -> None:
        self.place = place
        self.queue = queue
        self.definition = definition
        self.submitted = submitted
        self.parent = parent
        self.index = index
        self.id = f"{parent.id}:{index}" if parent else str(uuid.uuid4())
        self.arn = place.arn("batch", f"job/{self.id}")
        self.name = submitted["jobName"]
        self.status = "SUBMITTED"
        self.status_reason: str | None = None
        self.created_at = now()
        self.started_at: int | None = None
        self.stopped_at: int | None = None
        self.ended = threading.Event()
        self.attempts: list[Attempt] = []
        self.environment_arn: str | None = None
        """The compute environment on which it runs."""
        size = submitted.get("arrayProperties", {}).get("size", 0) if parent is None else 0
        self.children = [Job(place, queue, definition, submitted, self, number) for number in range(size)]

    @property
    def properties(self) -> Mapping[str, Any]:
        """The container properties of the definition."""
        return self.definition.container_properties

    @property
    def overrides(self) -> Mapping[str, Any]:
        """The container overrides of the submission."""
        return self.submitted.get("containerOverrides") or {}

    @property
    def parameters(self) -> dict[str, str]:
        """The definition's parameters with those of the submission."""
        return {**self.definition.parameters, **(self.submitted.get("parameters") or {})}

    @property
    def requirements(self) -> dict[str, str]:
        """Resource requirements by type: VCPU, MEMORY, GPU."""
        found = {"VCPU": str(self.properties.get("vcpus", "")), "MEMORY": str(self.properties.get("memory", ""))}
        for source in (self.properties, self.overrides):
            found |= {entry["type"].upper(): str(entry["value"]) for entry in source.get("resourceRequirements") or []}
            found |= {
                name: str(source[key]) for name, key in (("VCPU", "vcpus"), ("MEMORY", "memory")) if source.get(key)
            }
        return {name: value for name, value in found.items() if value}

    @property
    def resources(self) -> Resources:
        """What the job asks for."""
        asked = self.requirements
        return Resources(float(asked["VCPU"]), int(asked["MEMORY"]), int(asked.get("GPU", 0)))

    @property
    def on_fargate(self) -> bool:
        """Whether the definition is for Fargate."""
        return "FARGATE" in (self.definition.platform_capabilities or [])

    @property
    def command(self) -> list[str]:
        """The command with its ``Ref::name`` placeholders replaced."""
        command = self.overrides.get("command") or self.properties.get("command") or []
        return [self._with_parameters(word) for word in command]

    @property
    def timeout(self) -> int | None:
        """Seconds that an attempt may take."""
        settings = self.submitted.get("timeout") or self.definition.timeout or {}
        return settings.get("attemptDurationSeconds")

    @property
    def retry(self) -> Mapping[str, Any]:
        """The retry strategy."""
        return self.submitted.get("retryStrategy") or self.definition.retry_strategy or {}

    @property
    def attempt(self) -> Attempt:
        """The latest attempt."""
        return self.attempts[-1]

    @property
    def variables(self) -> dict[str, str]:
        """The variables of definition and submission."""
        entries = [*(self.properties.get("environment") or []), *(self.overrides.get("environment") or [])]
        return {entry["name"]: entry["value"] for entry in entries if "value" in entry}

    def may_retry(self, attempt: Attempt) -> bool:
        """Whether a failed attempt is followed by another."""
        if attempt.stopping or len(self.attempts) >= int(self.retry.get("attempts") or 1):
            return False
        for rule in self.retry.get("evaluateOnExit") or []:
            if _rule_matches(rule, attempt):
                return rule["action"].upper() == "RETRY"
        return True

    def container(self, host: Any, queue_name: str, environment: Any) -> Container:
        """The container of the latest attempt."""
        options = self._log_options()
        prefix = options.get("awslogs-stream-prefix", self.definition.name)
        self.attempt.log_stream = f"{prefix}/{CONTAINER}/{self.attempt.task_id}"
        definition = Definition(
            name=CONTAINER,
            image=self.properties["image"],
            command=self.command,
            environment=self.variables | self._platform_variables(queue_name, environment.name),
            secrets={entry["name"]: entry["valueFrom"] for entry in self.properties.get("secrets") or []},
            log_options=options,
            log_stream=self.attempt.log_stream,
            tmpfs={
                mount["containerPath"]: int(mount["size"])
                for mount in (self.properties.get("linuxParameters") or {}).get("tmpfs") or []
            },
        )
        execution_role = self.properties.get("executionRoleArn")
        role = execution_role.split("/")[-1] if execution_role else None
        return Container(
            host, definition, Identity(self.place, self.attempt.task_id, self.properties.get("jobRoleArn"), role)
        )

    def summary(self) -> dict[str, Any]:
        """The job as ListJobs shows it."""
        shown: dict[str, Any] = {
            "jobArn": self.arn,
            "jobId": self.id,
            "jobName": self.name,
            "createdAt": self.created_at,
            "status": self.status,
            "statusReason": self.status_reason,
            "startedAt": self.started_at,
            "stoppedAt": self.stopped_at,
            "jobDefinition": self.definition.arn,
            "arrayProperties": self._array_properties(),
        }
        if self.attempts and self.attempt.exit_code is not None:
            shown["container"] = {"exitCode": self.attempt.exit_code}
        return {name: value for name, value in shown.items() if value is not None}

    def describe(self) -> dict[str, Any]:
        """The job as DescribeJobs shows it."""
        shown = self.summary() | {
            "jobQueue": self.queue.arn,
            "dependsOn": self.submitted.get("dependsOn") or [],
            "parameters": self.parameters,
            "retryStrategy": {"attempts": 1, "evaluateOnExit": []} | dict(self.retry),
            "attempts": [self._describe_attempt(attempt) for attempt in self.attempts if attempt.stopped_at],
            "container": self._describe_container(),
            "platformCapabilities": self.definition.platform_capabilities or ["EC2"],
            "propagateTags": bool(self.definition.propagate_tags),
            "tags": self.place.backend("batch").list_tags_for_resource(self.arn),
        }
        if self.timeout:
            shown["timeout"] = {"attemptDurationSeconds": self.timeout}
        return shown

    def _describe_container(self) -> dict[str, Any]:
        asked = self.requirements
        shown = {name: self.properties[name] for name in SHOWN if self.properties.get(name)}
        shown |= {
            "command": self.command,
            "environment": [{"name": name, "value": value} for name, value in self.variables.items()],
            "resourceRequirements": [{"type": name, "value": value} for name, value in asked.items()],
            "vcpus": int(float(asked["VCPU"])),
            "memory": int(asked["MEMORY"]),
        }
        return shown | (self._describe_attempt(self.attempt)["container"] if self.attempts else {})

    def _describe_attempt(self, attempt: Attempt) -> dict[str, Any]:
        container = {
            "taskArn": self.place.arn("ecs", f"task/batch/{attempt.task_id}"),
            "exitCode": attempt.exit_code,
            "reason": attempt.reason,
            "logStreamName": attempt.log_stream,
            "networkInterfaces": [],
        }
        shown = {
            "container": {name: value for name, value in container.items() if value is not None},
            "startedAt": attempt.started_at,
            "stoppedAt": attempt.stopped_at,
            "statusReason": attempt.status_reason,
        }
        return {name: value for name, value in shown.items() if value is not None}

    def _array_properties(self) -> dict[str, Any] | None:
        if self.children:
            counts = Counter(child.status for child in self.children)
            return {"size": len(self.children), "statusSummary": {state: counts[state] for state in STATES}}
        return {"index": self.index} if self.parent else None

    def _platform_variables(self, queue_name: str, environment_name: str) -> dict[str, str]:
        """What Batch adds: https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html"""
        variables = {
            "AWS_BATCH_JOB_ID": self.id,
            "AWS_BATCH_JOB_ATTEMPT": str(len(self.attempts)),
            "AWS_BATCH_CE_NAME": environment_name,
            "AWS_BATCH_JQ_NAME": queue_name,
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE" if self.on_fargate else "AWS_ECS_EC2",
        }
        if self.parent:
            variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(self.index)
            variables["AWS_BATCH_JOB_ARRAY_SIZE"] = str(len(self.parent.children))
        return variables

    def _log_options(self) -> dict[str, str]:
        """The awslogs options; without any, Batch makes and uses its own group."""
        settings = self.properties.get("logConfiguration") or {}
        given = settings.get("options") or {} if settings.get("logDriver", "awslogs") == "awslogs" else {}
        return (
            {"awslogs-group": LOG_GROUP}
            | given
            | ({} if "awslogs-group" in given else {"awslogs-create-group": "true"})
        )

    def _with_parameters(self, word: str) -> str:
        return PLACEHOLDER.sub(lambda found: self.parameters.get(found[1], found[0]), word)


def _rule_matches(rule: Mapping[str, str], attempt: Attempt) -> bool:
    """Whether a rule of evaluateOnExit matches: all of its conditions must."""
    found = {
        "onStatusReason": attempt.status_reason or "",
        "onReason": attempt.reason or "",
        "onExitCode": "" if attempt.exit_code is None else str(attempt.exit_code),
    }
    return all(fnmatch.fnmatchcase(value, rule[name]) for name, value in found.items() if name in rule)


def now() -> int:
    """Milliseconds since the epoch, as Batch tells times."""
    return int(time.time() * 1000)
