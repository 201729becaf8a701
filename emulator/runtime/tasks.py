"""ECS tasks: from RunTask through their containers' lives to STOPPED.

A task is an actor: one thread takes its events (a container ended, somebody asks to stop) from a queue, so that no two
transitions meet. https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
"""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.core.utils import utcnow

from .clock import scaled
from .containers import Container, Host, Identity
from .errors import ResourceInitializationError, StartError
from .interfaces import TaskInterface
from .network import Peer
from .place import Place
from .policies import trusts
from .task_definitions import check_command, check_patience, definition, overridden

log = logging.getLogger(__name__)

SERVICE_PRINCIPAL = "ecs-tasks.amazonaws.com"
STOP_TIMEOUT = 30
"""Seconds between SIGTERM and SIGKILL where the definition does not say: the default of ECS."""


@dataclass(frozen=True)
class Exited:
    """A container of the task ended."""

    container: "TaskContainer"
    code: int


@dataclass(frozen=True)
class Stop:
    """The task is to end."""

    code: str
    reason: str


@dataclass(frozen=True)
class Request:
    """What RunTask or a service asks for."""

    definition: Any
    cluster: Any
    launch_type: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    started_by: str = ""
    tags: list[dict[str, str]] = field(default_factory=list)
    platform_version: str | None = None
    capacity_provider: str | None = None
    load_balancers: list[dict[str, Any]] = field(default_factory=list)


class TaskContainer:
    """A container as DescribeTasks shows it. The attributes are named as moto's serialiser looks for them."""

    def __init__(self, task: "Task", definition: Mapping[str, Any]) -> None:
        self.settings = definition
        self.task_arn = task.task_arn
        self.container_arn = task.place.arn("ecs", f"container/{task.cluster_name}/{task.id}/{uuid.uuid4()}")
        self.name = definition["name"]
        self.image = definition["image"]
        self.runtime_id = f"{task.id.replace('-', '')}-{abs(hash(self.container_arn)) % 10**10}"
        self.last_status = "PENDING"
        self.exit_code: int | None = None
        self.reason: str | None = None
        self.health_status = "UNKNOWN"
        self.cpu = str(definition.get("cpu", 0))
        self.memory = _text(definition.get("memory"))
        self.memory_reservation = _text(definition.get("memoryReservation"))
        self.network_interfaces = task.network_interfaces
        self.essential = definition.get("essential", True)
        self.failures = 0
        """Consecutive failed health checks."""
        self.checked_at = 0.0
        self.run: Container | None = None

    @property
    def stop_timeout(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return float(self.settings.get("stopTimeout", STOP_TIMEOUT))


class Task:
    """One task. The attributes are named as moto's serialiser looks for them."""

    def __init__(self, host: Host, place: Place, request: Request, on_change: Callable[[], None]) -> None:
        self.id = uuid.uuid4().hex
        self.place = place
        self.request = request
        self.cluster_name, self.cluster_arn = request.cluster.name, request.cluster.arn
        self.task_arn = place.arn("ecs", f"task/{self.cluster_name}/{self.id}")
        self.task_definition_arn, self.family = request.definition.arn, request.definition.family
        self.desired_status, self.last_status = "RUNNING", "PROVISIONING"
        self.launch_type = request.launch_type
        self.capacity_provider_name = request.capacity_provider
        self.platform_version = request.platform_version
        self.group, self.started_by, self.tags = request.group, request.started_by, request.tags
        self.overrides = request.overrides
        self.cpu, self.memory = request.definition.cpu, request.definition.memory
        self.created_at = utcnow()
        self.started_at: datetime | None = None
        self.pull_started_at: datetime | None = None
        self.pull_stopped_at: datetime | None = None
        self.stopping_at: datetime | None = None
        self.execution_stopped_at: datetime | None = None
        self.stopped_at: datetime | None = None
        self.stop_code: str | None = None
        self.stopped_reason: str | None = None
        self.connectivity = "CONNECTED"
        self.version = 1
        self.container_instance_arn: str | None = None
        self._interface = self._new_interface()
        self.attachments = [self._interface.attachment] if self._interface else []
        self.network_interfaces = [self._interface.shown_in_container] if self._interface else []
        self._host = host
        self._on_change = on_change
        self._events: queue.Queue[Exited | Stop] = queue.Queue()
        self.containers = [TaskContainer(self, settings) for settings in overridden(request.definition, self.overrides)]
        self._thread = threading.Thread(target=self._run, name=f"task-{self.id}", daemon=True)

    @property
    def health_status(self) -> str:
        """HEALTHY when every essential container with a check is."""
        checked = [container.health_status for container in self._checked_containers()]
        return "UNKNOWN" if not checked else min(checked, key=["UNHEALTHY", "UNKNOWN", "HEALTHY"].index)

    @property
    def is_healthy(self) -> bool:
        """Whether it runs and no health check of its own says otherwise."""
        return self.last_status == "RUNNING" and all(c.health_status == "HEALTHY" for c in self._checked_containers())

    def start(self) -> None:
        """Begin; the rest happens in the task's own thread."""
        self._thread.start()

    def stop(self, code: str, reason: str) -> None:
        """Ask the task to end."""
        if self.desired_status != "STOPPED":
            self.desired_status = "STOPPED"
            self._events.put(Stop(code, reason))
            self._changed()

    def join(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for the end."""
        self._thread.join(timeout)

    @property
    def address(self) -> str:
        """The private IPv4 address."""
        return self._interface.address if self._interface else ""

    def _checked_containers(self) -> list[TaskContainer]:
        """The containers whose health is the task's."""
        return [container for container in self.containers if container.essential and _check(container)]

    def _run(self) -> None:
        try:
            self._start()
            self._watch()
        except StartError as error:
            self._end(Stop("TaskFailedToStart", str(error)))
        except Exception as error:
            log.exception("task %s failed", self.task_arn)
            self._end(Stop("TaskFailedToStart", f"InternalError: {error}"))

    def _start(self) -> None:
        self._move("PENDING")
        self.pull_started_at = utcnow()
        self._check_role(getattr(self.request.definition, "execution_role_arn", None))
        self._check_role(getattr(self.request.definition, "task_role_arn", None))
        for container in self.containers:
            container.run = Container(self._host, definition(container.settings, self.id), self._identity())
            container.run.prepare()
        self.pull_stopped_at = utcnow()
        if self._interface:
            self._interface.open({port: local for c in self.containers for port, local in c.run.ports.items()})
        for container in self._in_start_order():
            self._start_container(container)
        self.started_at = utcnow()
        self._move("RUNNING")
        self._register_targets()

    def _watch(self) -> None:
        """Take events until one of them ends the task; check health in between."""
        while True:
            try:
                event = self._events.get(timeout=self._until_next_check())
            except queue.Empty:
                self._check_health()
                continue
            if isinstance(event, Stop):
                self._end(event)
                return
            self._container_ended(event)
            if event.container.essential or all(c.last_status == "STOPPED" for c in self.containers):
                self.desired_status = "STOPPED"
                self._end(Stop("EssentialContainerExited", "Essential container in task exited"))
                return

    def _end(self, stop: Stop) -> None:
        """Stop what runs and give back what the task had."""
        self.desired_status = "STOPPED"
        self.stop_code, self.stopped_reason = stop.code, stop.reason
        self.stopping_at = utcnow()
        self._move("DEACTIVATING")
        self._deregister_targets()
        self._move("STOPPING")
        running = [container for container in self.containers if container.last_status == "RUNNING"]
        for container in running:
            container.run.stop(container.stop_timeout)
        while any(container.last_status == "RUNNING" for container in running):
            event = self._events.get()
            if isinstance(event, Exited):
                self._container_ended(event)
        self.execution_stopped_at = utcnow()
        self._move("DEPROVISIONING")
        if self._interface:
            self._interface.detach()
        for container in self.containers:
            container.last_status = "STOPPED"
        self.stopped_at = utcnow()
        self._move("STOPPED")

    def _start_container(self, container: TaskContainer) -> None:
        if container.run is None:
            raise AssertionError("started before it was prepared")
        try:
            container.run.start(lambda code: self._events.put(Exited(container, code)))
        except StartError as error:
            container.reason = str(error)
            container.last_status = "STOPPED"
            raise
        container.last_status = "RUNNING"

    def _in_start_order(self) -> list[TaskContainer]:
        """The containers, each after those on which it depends. ECS refuses cycles when it registers the definition."""
        ordered: list[TaskContainer] = []
        waiting = list(self.containers)
        while waiting:
            names = {container.name for container in ordered}
            ready = [c for c in waiting if {d["containerName"] for d in c.settings.get("dependsOn", [])} <= names]
            if not ready:
                raise ResourceInitializationError("the containers depend on each other in a circle")
            ordered += ready
            waiting = [container for container in waiting if container not in ready]
        return ordered

    def _container_ended(self, event: Exited) -> None:
        event.container.exit_code = event.code
        event.container.last_status = "STOPPED"
        self._changed()

    def _until_next_check(self) -> float | None:
        """Seconds until a health check is due, or None where there are none."""
        due = [
            container.checked_at + scaled(_check(container).get("interval", 30)) - time.monotonic()
            for container in self.containers
            if container.last_status == "RUNNING" and _check(container)
        ]
        return max(0.0, min(due)) if due else None

    def _check_health(self) -> None:
        """Run the health checks. What follows from a failure is the business of the task's service."""
        for container in self.containers:
            check = _check(container)
            if not check or container.last_status != "RUNNING" or container.run is None:
                continue
            before = container.health_status
            passed = container.run.run_inside(check_command(check), check.get("timeout", 5))
            container.checked_at = time.monotonic()
            container.failures = 0 if passed else container.failures + 1
            started = (utcnow() - (self.started_at or utcnow())).total_seconds()
            if passed:
                container.health_status = "HEALTHY"
            elif container.failures >= check.get("retries", 3) and started >= check_patience(check):
                container.health_status = "UNHEALTHY"
            if container.health_status != before:
                self._changed()

    def _check_role(self, arn: str | None) -> None:
        if arn and not trusts(self.place, arn, SERVICE_PRINCIPAL):
            raise StartError(cannot_assume(arn))

    def _new_interface(self) -> TaskInterface | None:
        """The network interface of a task in awsvpc mode."""
        network = self.request.network.get("awsvpcConfiguration")
        if self.request.definition.network_mode != "awsvpc" or not network:
            return None
        return TaskInterface(self.place, self.task_arn, network)

    def _identity(self) -> Identity:
        asked = self.request.definition
        execution_role = getattr(asked, "execution_role_arn", None)
        task_role = self.overrides.get("taskRoleArn") or getattr(asked, "task_role_arn", None)
        peer = self._interface.peer if self._interface else Peer()
        return Identity(self.place, self.id, task_role, execution_role and execution_role.split("/")[-1], peer)

    def _register_targets(self) -> None:
        for balancer in self.request.load_balancers:
            group = self._target_group(balancer)
            if group:
                group.register([{"Id": self.address, "Port": balancer["containerPort"]}])

    def _deregister_targets(self) -> None:
        for balancer in self.request.load_balancers:
            group = self._target_group(balancer)
            if group and self.address in group.targets:
                group.deregister([{"Id": self.address}])

    def _target_group(self, balancer: Mapping[str, Any]) -> Any | None:
        return self.place.backend("elbv2").target_groups.get(balancer.get("targetGroupArn"))

    def _move(self, status: str) -> None:
        self.last_status = status
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self._on_change()


def cannot_assume(arn: str) -> str:
    """What ECS says of a role that is missing or does not trust it."""
    return (
        f"ECS was unable to assume the role '{arn}' that was provided for this task. Please verify that the role "
        "being passed has the proper trust relationship and permissions and that your IAM user has permissions to "
        "pass this role."
    )


def _check(container: TaskContainer) -> dict[str, Any]:
    return container.settings.get("healthCheck") or {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
