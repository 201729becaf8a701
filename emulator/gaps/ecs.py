"""Gaps of ECS's clusters. What runs in them, and their services, is the runtime's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.exceptions import ServiceException
from moto.ecs import models
from moto.ecs.exceptions import ClusterNotFoundException, EcsClientException
from moto.ecs.responses import EC2ContainerServiceResponse

from emulator.gaps import before, gap, wrap


@gap("ecs", "cluster-capacity-providers", "A cluster always has the lists of its capacity providers.")
def cluster_capacity_providers() -> None:
    @wrap(models.Cluster, "__init__")
    def init(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.capacity_providers = self.capacity_providers or []
        self.default_capacity_provider_strategy = self.default_capacity_provider_strategy or []


@gap("ecs", "cluster-created-twice", "Creating a cluster whose name exists returns the existing one.")
def cluster_created_twice() -> None:
    @wrap(models.EC2ContainerServiceBackend, "create_cluster")
    def create(original: Callable[..., Any], self: Any, cluster_name: str, *args: Any, **kwargs: Any) -> Any:
        existing = self.clusters.get(cluster_name)
        if existing and existing.status == "ACTIVE":
            return existing
        return original(self, cluster_name, *args, **kwargs)


@gap("ecs", "cluster-deletion", "A cluster with services or tasks cannot be deleted; a deleted one stays INACTIVE.")
def cluster_deletion() -> None:
    @before(EC2ContainerServiceResponse, "delete_cluster")
    def check(self: Any) -> None:
        backend = self.ecs_backend
        cluster = backend._get_cluster(self._get_param("cluster"))
        if any(s.cluster_arn == cluster.arn and s.status != "INACTIVE" for s in backend.services.values()):
            raise _refusal("ClusterContainsServicesException", "The Cluster still has Services.")
        if any(t.last_status != "STOPPED" for t in backend.tasks.get(cluster.name, {}).values()):
            raise _refusal("ClusterContainsTasksException", "The Cluster still has Tasks.")

    @wrap(models.EC2ContainerServiceBackend, "list_clusters")
    def list_clusters(original: Callable[..., Any], self: Any) -> list[str]:
        inactive = {c.arn for c in self.clusters.values() if c.status == "INACTIVE"}
        return [arn for arn in original(self) if arn not in inactive]

    for operation in ("create_service", "run_task"):

        @before(EC2ContainerServiceResponse, operation)
        def check_active(self: Any) -> None:
            if self.ecs_backend._get_cluster(self._get_param("cluster", "default")).status == "INACTIVE":
                raise ClusterNotFoundException()


@gap("ecs", "task-definition-revisions", "The numbers of deleted revisions of a task definition are not used again.")
def task_definition_revisions() -> None:
    @wrap(models.EC2ContainerServiceBackend, "register_task_definition")
    def register(original: Callable[..., Any], self: Any, family: str, *args: Any, **kwargs: Any) -> Any:
        definition = original(self, family, *args, **kwargs)
        highest = self.__dict__.setdefault("highest_revisions", {})
        number = max(definition.revision, highest.get(family, 0) + 1)
        if number != definition.revision:
            revisions = self.task_definitions[family]
            revisions[number] = revisions.pop(definition.revision)
            definition.revision = number
            definition.arn = f"{definition.arn.rpartition(':')[0]}:{number}"
        highest[family] = number
        return definition


def _refusal(code: str, message: str) -> ServiceException:
    error = EcsClientException(message)
    error.code = code
    return error
