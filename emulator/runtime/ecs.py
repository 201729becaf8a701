"""ECS in moto's model: its tasks and services, run by ours."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from botocore import xform_name
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ecs.exceptions import (
    ClusterNotFoundException,
    EcsClientException,
    ECSException,
    InvalidParameterException,
)
from moto.ecs.models import Cluster, EC2ContainerServiceBackend
from moto.ecs.responses import EC2ContainerServiceResponse

from emulator.gaps import replace, wrap

from .containers import Host
from .place import Place
from .policies import trusts
from .services import Scheduler
from .targets import balancers_of
from .tasks import SERVICE_PRINCIPAL, Request, Task, cannot_assume

STOPPED_TASKS_KEPT = timedelta(hours=1)
"""How long DescribeTasks knows a stopped task, as on AWS."""

LATER_PARAMETERS = {
    "deploymentConfiguration": "deployment_configuration",
    "healthCheckGracePeriodSeconds": "health_check_grace_period_seconds",
    "enableExecuteCommand": "enable_execute_command",
    "enableECSManagedTags": "enable_ecs_managed_tags",
    "capacityProviderStrategy": "capacity_provider_strategy",
    "availabilityZoneRebalancing": "availability_zone_rebalancing",
    "placementConstraints": "placement_constraints",
    "placementStrategy": "placement_strategy",
}
"""Parameters of CreateService that moto does not keep → attribute of the service."""

ROLLING_UPDATE = {
    "strategy": "ROLLING",
    "maximumPercent": 200,
    "minimumHealthyPercent": 100,
    "bakeTimeInMinutes": 0,
    "deploymentCircuitBreaker": {"enable": False, "rollback": False},
}
"""The deployment configuration that ECS fills in."""

DEPLOYING_PARAMETERS = {
    "taskDefinition",
    "networkConfiguration",
    "platformVersion",
    "loadBalancers",
    "capacityProviderStrategy",
    "serviceRegistries",
    "enableExecuteCommand",
    "propagateTags",
    "enableECSManagedTags",
}
"""Parameters of UpdateService that begin a new deployment.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html
"""


def install(host: Host) -> Scheduler:
    """Let moto's ECS run tasks and services."""
    scheduler = Scheduler(host)
    _count_tasks_live()
    _run_tasks(host, scheduler)
    _read_tasks()
    _run_services(scheduler)
    return scheduler


def place_of(backend: EC2ContainerServiceBackend) -> Place:
    """Where a backend is."""
    return Place(backend.account_id, backend.region_name)


def _count_tasks_live() -> None:
    """Clusters count what really runs."""

    @replace(EC2ContainerServiceBackend, "update_cluster_resources")
    def update_cluster_resources(
        self: EC2ContainerServiceBackend, cluster: Cluster, task_num: int, task_state: str | None = "RUNNING"
    ) -> None:
        """The counts are taken from the tasks when somebody asks."""

    @wrap(EC2ContainerServiceBackend, "describe_clusters")
    def describe_clusters(
        original: Callable[..., Any], self: EC2ContainerServiceBackend, cluster_names: list[str]
    ) -> Any:
        clusters, failures = original(self, cluster_names)
        for cluster in clusters:
            tasks = list(self.tasks.get(cluster.name, {}).values())
            cluster.running_tasks_count = sum(task.last_status == "RUNNING" for task in tasks)
            cluster.pending_tasks_count = sum(task.last_status in ("PROVISIONING", "PENDING") for task in tasks)
            cluster.active_services_count = sum(
                service.cluster_name == cluster.name and service.status == "ACTIVE"
                for service in self.services.values()
            )
        return clusters, failures


def _run_tasks(host: Host, scheduler: Scheduler) -> None:
    @replace(EC2ContainerServiceResponse, "run_task")
    def run_task(self: EC2ContainerServiceResponse) -> ActionResult:
        backend, parameters = self.ecs_backend, self._get_params()
        request = _request(backend, parameters)
        for arn in (getattr(request.definition, name, None) for name in ("execution_role_arn", "task_role_arn")):
            if arn and not trusts(place_of(backend), arn, SERVICE_PRINCIPAL):
                raise EcsClientException(cannot_assume(arn))
        tasks = [Task(host, place_of(backend), request, scheduler.wake) for _ in range(parameters.get("count", 1))]
        for task in tasks:
            backend.tasks.setdefault(task.cluster_name, {})[task.task_arn] = task
            task.start()
        return ActionResult({"tasks": tasks, "failures": []})

    @replace(EC2ContainerServiceBackend, "stop_task")
    def stop_task(self: EC2ContainerServiceBackend, cluster_str: str, task_str: str, reason: str) -> Task:
        found, _ = _find_tasks(self, cluster_str, [task_str])
        if not found:
            raise InvalidParameterException("The referenced task was not found.")
        found[0].stop("UserInitiated", reason or "Task stopped by user")
        return found[0]


def _request(backend: EC2ContainerServiceBackend, parameters: dict[str, Any]) -> Request:
    definition = backend.describe_task_definition(parameters["taskDefinition"])
    network = parameters.get("networkConfiguration") or {}
    strategy = parameters.get("capacityProviderStrategy") or []
    if definition.network_mode == "awsvpc" and not network:
        raise InvalidParameterException(
            "Network Configuration must be provided when networkMode 'awsvpc' is specified."
        )
    cluster = backend._get_cluster(parameters.get("cluster", "default"))
    if cluster.status == "INACTIVE":
        raise ClusterNotFoundException
    return Request(
        definition,
        cluster,
        parameters.get("launchType") or (None if strategy else "EC2"),
        network,
        parameters.get("overrides") or {},
        parameters.get("group") or f"family:{definition.family}",
        parameters.get("startedBy") or "",
        parameters.get("tags") or [],
        parameters.get("platformVersion"),
        strategy[0]["capacityProvider"] if strategy else None,
    )


def _read_tasks() -> None:
    @replace(EC2ContainerServiceResponse, "describe_tasks")
    def describe_tasks(self: EC2ContainerServiceResponse) -> ActionResult:
        names = self._get_param("tasks", [])
        if not names:
            raise InvalidParameterException("Tasks cannot be empty.")
        include_tags = "TAGS" in self._get_param("include", [])
        tags = "DescribeTasksResponse.tasks.Task.tags"
        (self._include_in_response if include_tags else self._exclude_from_response)(tags)
        tasks, missing = _find_tasks(self.ecs_backend, self._get_param("cluster", "default"), names)
        failures = [{"arn": name, "reason": "MISSING"} for name in missing]
        return ActionResult({"tasks": tasks, "failures": failures})

    @replace(EC2ContainerServiceResponse, "list_tasks")
    def list_tasks(self: EC2ContainerServiceResponse) -> ActionResult:
        cluster = self.ecs_backend._get_cluster(self._get_param("cluster", "default"))
        wanted = {
            "desired_status": self._get_param("desiredStatus") or "RUNNING",
            "started_by": self._get_param("startedBy"),
            "launch_type": self._get_param("launchType"),
            "group": self._get_param("serviceName") and "service:" + self._get_param("serviceName").split("/")[-1],
            "family": self._get_param("family"),
        }
        tasks = [
            task
            for task in _known_tasks(self.ecs_backend, cluster.name)
            if all(value is None or getattr(task, name) == value for name, value in wanted.items())
        ]
        return ActionResult({"taskArns": [task.task_arn for task in tasks]})


def _find_tasks(backend: EC2ContainerServiceBackend, cluster: str, names: list[str]) -> tuple[list[Task], list[str]]:
    """The tasks with these ids or ARNs, and the names that no task has."""
    tasks = {task.id: task for task in _known_tasks(backend, backend._get_cluster(cluster).name)}
    found = [tasks[name.split("/")[-1]] for name in names if name.split("/")[-1] in tasks]
    return found, [name for name in names if name.split("/")[-1] not in tasks]


def _known_tasks(backend: EC2ContainerServiceBackend, cluster: str) -> list[Task]:
    """The cluster's tasks; those that stopped long ago are forgotten."""
    tasks = backend.tasks.setdefault(cluster, {})
    oldest = utcnow() - STOPPED_TASKS_KEPT
    for arn, task in list(tasks.items()):
        if task.stopped_at and task.stopped_at < oldest:
            del tasks[arn]
    return list(tasks.values())


def _run_services(scheduler: Scheduler) -> None:
    create_lock = threading.Lock()

    @wrap(EC2ContainerServiceResponse, "create_service")
    def create_service(original: Callable[..., Any], self: EC2ContainerServiceResponse) -> ActionResult:
        backend, parameters = self.ecs_backend, self._get_params()
        with create_lock:
            _check_new_service(backend, parameters)
            (parameters.get("networkConfiguration") or {}).get("awsvpcConfiguration", {}).setdefault(
                "securityGroups", []
            )
            result = original(self)
            service = result.result["service"]
            _keep_parameters(service, parameters)
            scheduler.add(place_of(backend), service)
        return ActionResult({"service": service})

    @replace(EC2ContainerServiceResponse, "update_service")
    def update_service(self: EC2ContainerServiceResponse) -> ActionResult:
        parameters = self._get_params()
        service = _active_service(self.ecs_backend, parameters)
        runner = scheduler.runner(service)
        with runner.lock:
            _change(self.ecs_backend, service, parameters)
            if parameters.get("forceNewDeployment") or DEPLOYING_PARAMETERS & parameters.keys():
                runner.deploy()
            else:
                runner.scale()
        return ActionResult({"service": service})

    @replace(EC2ContainerServiceBackend, "delete_service")
    def delete_service(self: EC2ContainerServiceBackend, cluster_name: str, service_name: str, force: bool) -> Any:
        service = self._get_service(cluster_name, service_name.split("/")[-1])
        if service.desired_count > 0 and not force:
            raise InvalidParameterException("The service cannot be stopped while it is scaled above 0.")
        if service.status == "ACTIVE":
            service.status = "DRAINING"
            service.desired_count = 0
            scheduler.wake()
        return service

    @replace(EC2ContainerServiceBackend, "list_services")
    def list_services(
        self: EC2ContainerServiceBackend,
        cluster_str: str,
        scheduling_strategy: str | None = None,
        launch_type: str | None = None,
    ) -> list[str]:
        """Only active services: one that is being deleted drains out of sight (API reference of DeleteService)."""
        cluster = self._get_cluster(cluster_str)
        return sorted(
            service.arn
            for service in self.services.values()
            if service.cluster_name == cluster.name
            and service.status == "ACTIVE"
            and scheduling_strategy in (None, service.scheduling_strategy)
            and launch_type in (None, service.launch_type)
        )


def _active_service(backend: EC2ContainerServiceBackend, parameters: dict[str, Any]) -> Any:
    service = backend._get_service(parameters.get("cluster", "default"), parameters["service"].split("/")[-1])
    if service.status != "ACTIVE":
        raise ECSException("ServiceNotActiveException", "Service was not ACTIVE.")
    return service


def _change(backend: EC2ContainerServiceBackend, service: Any, parameters: dict[str, Any]) -> None:
    """Take the parameters of UpdateService over into moto's service."""
    changes = {name: value for name, value in parameters.items() if name not in ("cluster", "service")}
    changes.pop("forceNewDeployment", None)
    if "taskDefinition" in changes:
        changes["taskDefinition"] = backend.describe_task_definition(changes["taskDefinition"]).arn
    if "networkConfiguration" in changes:
        changes["networkConfiguration"].get("awsvpcConfiguration", {}).setdefault("securityGroups", [])
    if "deploymentConfiguration" in changes:
        changes["deploymentConfiguration"] = _merged(service.deployment_configuration, parameters)
    for name, value in changes.items():
        setattr(service, xform_name(name), value)


def _check_new_service(backend: EC2ContainerServiceBackend, parameters: dict[str, Any]) -> None:
    """Refuse what ECS refuses: a second service of the name, target groups that no load balancer uses."""
    cluster = backend._get_cluster(parameters.get("cluster", "default"))
    existing = backend.services.get(f"{cluster.name}:{parameters['serviceName']}")
    if existing is not None and existing.status != "INACTIVE":
        raise InvalidParameterException(
            "Creation of service was not idempotent."
            if existing.status == "ACTIVE"
            else "Unable to Start a service that is still Draining."
        )
    definition = backend.describe_task_definition(parameters["taskDefinition"])
    for balancer in parameters.get("loadBalancers") or []:
        _check_load_balancer(place_of(backend), definition, balancer)


def _check_load_balancer(place: Place, definition: Any, balancer: dict[str, Any]) -> None:
    arn = balancer.get("targetGroupArn")
    group = place.backend("elbv2").target_groups.get(arn)
    if group is None:
        raise InvalidParameterException(f"Unable to assume role and validate the specified targetGroupArn {arn}.")
    if not balancers_of(group):
        raise InvalidParameterException(
            f"The target group with targetGroupArn {arn} does not have an associated load balancer."
        )
    name, port = balancer["containerName"], balancer["containerPort"]
    containers = {entry["name"]: entry for entry in definition.container_definitions}
    if name not in containers:
        raise InvalidParameterException(f"The container {name} does not exist in the task definition.")
    if port not in {mapping["containerPort"] for mapping in containers[name]["portMappings"]}:
        raise InvalidParameterException(f"The container {name} did not have a container port {port} defined.")


def _keep_parameters(service: Any, parameters: dict[str, Any]) -> None:
    for parameter, attribute in LATER_PARAMETERS.items():
        setattr(service, attribute, parameters.get(parameter))
    service.deployment_configuration = _merged(ROLLING_UPDATE, parameters)
    service.health_check_grace_period_seconds = parameters.get("healthCheckGracePeriodSeconds") or 0
    service.enable_execute_command = bool(parameters.get("enableExecuteCommand"))
    service.enable_ecs_managed_tags = bool(parameters.get("enableECSManagedTags"))
    service.placement_constraints = parameters.get("placementConstraints") or []
    service.placement_strategy = parameters.get("placementStrategy") or []
    service.availability_zone_rebalancing = parameters.get("availabilityZoneRebalancing") or "ENABLED"
    service.created_at = utcnow()
    if service.launch_type == "FARGATE":
        service.platform_version = service.platform_version or "LATEST"
        service.platform_family = "Linux"


def _merged(configuration: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    return {**configuration, **(parameters.get("deploymentConfiguration") or {})}
