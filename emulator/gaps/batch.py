"""Gaps of AWS Batch's compute environments and job queues."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from moto.batch import models
from moto.batch.exceptions import ClientException, InvalidParameterValueException
from moto.batch.responses import BatchResponse
from moto.iam.exceptions import NotFoundException

from emulator.gaps import before, gap, wrap
from emulator.runtime.supply import invalid_reason

SERVICE_LINKED_ROLE = "AWSServiceRoleForBatch"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")


@gap("batch", "service-linked-role", "An environment made without a role uses the account's service-linked role.")
def service_linked_role() -> None:
    @wrap(models.BatchBackend, "create_compute_environment")
    def create(
        original: Callable[..., Any],
        self: Any,
        compute_environment_name: str,
        _type: str,
        state: str,
        compute_resources: Any,
        service_role: str | None,
        tags: Any = None,
    ) -> Any:
        role = service_role or _service_linked_role(self.iam_backend)
        return original(self, compute_environment_name, _type, state, compute_resources, role, tags)


def _service_linked_role(iam: Any) -> str:
    try:
        return iam.get_role(SERVICE_LINKED_ROLE).arn
    except NotFoundException:
        return iam.create_service_linked_role("batch.amazonaws.com", "", "").arn


@gap("batch", "compute-environment-update", "An update changes the compute resources that it names.")
def compute_environment_update() -> None:
    @wrap(models.BatchBackend, "update_compute_environment")
    def update(
        original: Callable[..., Any],
        self: Any,
        compute_environment_name: str,
        state: str | None,
        compute_resources: dict[str, Any] | None,
        service_role: str | None,
    ) -> tuple[str, str]:
        environment = self.get_compute_environment(compute_environment_name)
        if environment is None:
            raise ClientException(f"Compute environment {compute_environment_name} does not exist")
        if compute_resources:
            wanted = environment.compute_resources | compute_resources
            self._validate_compute_resources(wanted)
            environment.compute_resources = wanted
        return original(self, compute_environment_name, state, None, service_role)


@gap("batch", "compute-resources-required", "What is missing or wrong in the compute resources is a client's error.")
def compute_resources_required() -> None:
    @wrap(models.BatchBackend, "_validate_compute_resources")
    def validate(original: Callable[..., Any], self: Any, cr: dict[str, Any]) -> None:
        required = ["type", "maxvCpus", "subnets", *([] if "FARGATE" in cr.get("type", "") else ["instanceTypes"])]
        for name in required:
            if name not in cr:
                raise ClientException(f"Error executing request, Exception : Resource {name} is required.")
        if "FARGATE" not in cr["type"]:
            cr.setdefault("minvCpus", 0)
        try:
            original(self, cr)
        except InvalidParameterValueException as error:
            # moto's code InvalidParameterValue is none of Batch's.
            raise ClientException(str(error)) from error


@gap("batch", "instance-profile-gone", "An environment whose instance profile is gone is INVALID, and says so.")
def instance_profile_gone() -> None:
    @wrap(models.BatchBackend, "describe_compute_environments")
    def describe(original: Callable[..., Any], self: Any, environments: list[str] | None = None) -> list[Any]:
        found = original(self, environments)
        for one in found:
            reason = invalid_reason(self._compute_environments[one["computeEnvironmentArn"]])
            if reason:
                one |= {"status": "INVALID", "statusReason": reason}
        return found


@gap("batch", "dependencies", "Only what is DISABLED and not used can be deleted.")
def dependencies() -> None:
    @before(BatchResponse, "deletecomputeenvironment")
    def check_environment(self: Any) -> None:
        backend = self.batch_backend
        environment = backend.get_compute_environment(self._get_param("computeEnvironment"))
        if environment:
            _check_disabled(environment)
            if any(environment in queue.environments for queue in backend._job_queues.values()):
                raise ClientException("Cannot delete, found existing JobQueue relationship")

    @before(BatchResponse, "deletejobqueue")
    def check_queue(self: Any) -> None:
        queue = self.batch_backend.get_job_queue(self._get_param("jobQueue"))
        if queue:
            _check_disabled(queue)


def _check_disabled(resource: Any) -> None:
    if resource.state != "DISABLED":
        raise ClientException(f"Cannot delete, resource {resource.name} must be DISABLED first")


@gap("batch", "job-queue-update-by-name", "A job queue's environments are named by name or ARN, and kept as ARNs.")
def job_queue_update_by_name() -> None:
    @wrap(models.BatchBackend, "update_job_queue")
    def update(
        original: Callable[..., Any],
        self: Any,
        queue_name: str,
        priority: Any,
        state: Any,
        compute_env_order: list[dict[str, Any]] | None,
        schedule_policy: Any,
    ) -> tuple[str, str]:
        order = compute_env_order and _by_arn(self, compute_env_order)
        return original(self, queue_name, priority, state, order, schedule_policy)

    @wrap(models.BatchBackend, "create_job_queue")
    def create(
        original: Callable[..., Any],
        self: Any,
        queue_name: str,
        priority: Any,
        schedule_policy: Any,
        state: Any,
        compute_env_order: list[dict[str, Any]] | None,
        tags: Any = None,
    ) -> Any:
        order = compute_env_order and _by_arn(self, compute_env_order)
        return original(self, queue_name, priority, schedule_policy, state, order, tags)


def _by_arn(backend: Any, order: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the order with each compute environment as its ARN."""
    result = []
    for entry in order:
        environment = backend.get_compute_environment(entry["computeEnvironment"])
        if environment is None:
            raise ClientException(f"Compute environment {entry['computeEnvironment']} does not exist")
        result.append({**entry, "computeEnvironment": environment.arn})
    return result


@gap("batch", "names-of-one-letter", "A name has 1 to 128 letters, digits, hyphens and underscores.")
def names_of_one_letter() -> None:
    models.COMPUTE_ENVIRONMENT_NAME_REGEX = NAME
    models.JOB_NAME_REGEX = NAME


@gap("batch", "enabled-by-default", "An environment or queue that is made without a state is ENABLED.")
def enabled_by_default() -> None:
    for operation in ("create_compute_environment", "create_job_queue"):

        @wrap(models.BatchBackend, operation)
        def create(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
            kwargs["state"] = kwargs.get("state") or "ENABLED"
            return original(self, *args, **kwargs)


@gap("batch", "tags-of-the-deleted", "Tags go with their resource, and do not come back with another of its name.")
def tags_of_the_deleted() -> None:
    _forget_tags("delete_compute_environment", "get_compute_environment")
    _forget_tags("delete_job_queue", "get_job_queue")


def _forget_tags(operation: str, getter: str) -> None:
    @wrap(models.BatchBackend, operation)
    def delete(original: Callable[..., Any], self: Any, *args: Any) -> None:
        resource = getattr(self, getter)(*args)
        original(self, *args)
        if resource:
            self.tagger.delete_all_tags_for_resource(resource.arn)
