"""ECS services: keep the desired number of tasks running, and roll a new deployment over an old one.

The rules are those of the rolling update, with its minimum and maximum percentages, and of the circuit breaker:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.core.utils import utcnow

from .clock import SHORTEST
from .containers import Host
from .place import Place
from .targets import HealthChecker
from .tasks import Request, Task

log = logging.getLogger(__name__)

MOST_EVENTS = 100
"""Events that DescribeServices shows."""
LONGEST_PAUSE = 15
"""Seconds between two attempts to start a task that keeps failing."""
SETTLED = 0.8
"""Seconds for which a task must have run to count as healthy."""
CONSISTENTLY = 3
"""Failures in a row after which the service says that it cannot start tasks."""


@dataclass
class Deployment:
    """One deployment of a service. The attributes are named as moto's serialiser looks for them."""

    task_definition: str
    desired_count: int
    launch_type: str | None
    platform_version: str | None
    network_configuration: dict[str, Any]
    id: str = field(default_factory=lambda: f"ecs-svc/{uuid.uuid4().int % 10**19:019d}")
    status: str = "PRIMARY"
    rollout_state: str = "IN_PROGRESS"
    rollout_state_reason: str = ""
    failed_tasks: int = 0
    created_at: datetime = field(default_factory=utcnow)
    updated_at: datetime = field(default_factory=utcnow)
    tasks: list[Task] = field(default_factory=list)
    failures_in_a_row: int = 0
    is_rollback: bool = False
    pause_until: float = 0

    def __post_init__(self) -> None:
        self.rollout_state_reason = f"ECS deployment {self.id} in progress."

    @property
    def live(self) -> list[Task]:
        """The tasks that are to run."""
        return [task for task in self.tasks if task.desired_status == "RUNNING"]

    @property
    def running_count(self) -> int:
        """How many of them run."""
        return sum(task.last_status == "RUNNING" for task in self.live)

    @property
    def pending_count(self) -> int:
        """How many of them are on their way."""
        return len(self.live) - self.running_count

    @property
    def platform_family(self) -> str | None:
        """The operating system on Fargate."""
        return "Linux" if self.launch_type == "FARGATE" else None


class ServiceRunner:
    """Runs one service of moto's model."""

    def __init__(
        self, host: Host, place: Place, service: Any, checker: HealthChecker, wake: Callable[[], None]
    ) -> None:
        self.service = service
        self.place = place
        self.deployments: list[Deployment] = []
        self.lock = threading.RLock()
        self._host = host
        self._checker = checker
        self._wake = wake
        self._steady = False
        self._last_completed: str | None = None
        self.deploy()

    def deploy(self) -> None:
        """Begin a deployment of the service as it is configured now; the earlier ones give way to it."""
        with self.lock:
            for deployment in self.deployments:
                deployment.status = "ACTIVE"
                if deployment.rollout_state == "IN_PROGRESS":
                    deployment.rollout_state_reason = f"ECS deployment {deployment.id} was superseded."
            service = self.service
            new = Deployment(
                service.task_definition,
                service.desired_count,
                service.launch_type,
                service.platform_version,
                service.network_configuration,
            )
            self.deployments.insert(0, new)
            self._steady = False
            self._publish()
        self._wake()

    def scale(self) -> None:
        """Take over a new desired count."""
        with self.lock:
            self.primary.desired_count = self.service.desired_count
            self._steady = False
            self._publish()
        self._wake()

    @property
    def primary(self) -> Deployment:
        """The deployment that is to stay."""
        return self.deployments[0]

    @property
    def tasks(self) -> list[Task]:
        """All tasks of the service that have not stopped."""
        return [task for deployment in self.deployments for task in deployment.tasks]

    @property
    def is_drained(self) -> bool:
        """Whether nothing runs any more."""
        return not self.tasks

    def reconcile(self) -> None:
        """One step towards what is asked for."""
        with self.lock:
            for deployment in self.deployments:
                self._collect(deployment)
            if self.service.status == "ACTIVE":
                self._replace_unhealthy()
                self._start_missing()
                self._stop_surplus()
                self._judge()
            else:
                self._stop(self.tasks, "Service deleted")
            self._publish()

    def _collect(self, deployment: Deployment) -> None:
        """Let go of the tasks that have stopped, and count those that failed."""
        for task in [task for task in deployment.tasks if task.last_status == "STOPPED"]:
            deployment.tasks.remove(task)
            if task.stop_code == "TaskFailedToStart":
                self._task_failed_to_start(deployment, task)
            elif task.stop_code == "EssentialContainerExited":
                self._count_failure(deployment)

    def _task_failed_to_start(self, deployment: Deployment, task: Task) -> None:
        if task.stopped_reason.startswith("ECS was unable to assume"):
            self._event(f"failed to launch a task with (error {task.stopped_reason}).")
        self._count_failure(deployment)

    def _count_failure(self, deployment: Deployment) -> None:
        deployment.failed_tasks += 1
        deployment.failures_in_a_row += 1
        deployment.pause_until = time.monotonic() + min(SHORTEST * 2**deployment.failures_in_a_row, LONGEST_PAUSE)
        self._steady = False
        if deployment.failures_in_a_row == CONSISTENTLY:
            self._event(
                "is unable to consistently start tasks successfully. For more information, see the Troubleshooting "
                "section of the Amazon ECS Developer Guide."
            )

    def _replace_unhealthy(self) -> None:
        for deployment in self.deployments:
            for task in deployment.live:
                reason = self._unhealthy_reason(task)
                if reason:
                    self._event(f"(task {task.id}) {reason}.", joint=" ")
                    self._count_failure(deployment)
                    task.stop("ServiceSchedulerInitiated", f"Task {reason}")

    def _unhealthy_reason(self, task: Task) -> str | None:
        if task.health_status == "UNHEALTHY":
            return "failed container health checks"
        started = task.started_at
        if task.last_status != "RUNNING" or started is None:
            return None
        grace = getattr(self.service, "health_check_grace_period_seconds", None) or 0
        if (utcnow() - started).total_seconds() < grace:
            return None
        for group, health in self._target_health(task):
            if health.state == "unhealthy":
                return f"failed ELB health checks in (target-group {group.arn})"
        return None

    def _start_missing(self) -> None:
        primary = self.primary
        if primary.rollout_state == "FAILED" or time.monotonic() < primary.pause_until:
            return
        room = self._most() - sum(len(deployment.live) for deployment in self.deployments)
        count = min(primary.desired_count - len(primary.live), room)
        started = [self._start_task(primary) for _ in range(count)]
        if started:
            self._event(f"has started {len(started)} tasks: {_names(started)}.")

    def _start_task(self, deployment: Deployment) -> Task:
        ecs = self.place.backend("ecs")
        service = self.service
        definition = ecs.describe_task_definition(deployment.task_definition)
        request = Request(
            definition,
            ecs.clusters[service.cluster_name],
            deployment.launch_type,
            deployment.network_configuration or {},
            group=f"service:{service.name}",
            started_by=deployment.id,
            tags={"TASK_DEFINITION": definition.tags, "SERVICE": service.tags}.get(service.propagate_tags, []),
            platform_version=deployment.platform_version,
            load_balancers=service.load_balancers,
        )
        task = Task(self._host, self.place, request, self._wake)
        deployment.tasks.append(task)
        ecs.tasks.setdefault(service.cluster_name, {})[task.task_arn] = task
        task.start()
        return task

    def _stop_surplus(self) -> None:
        """Stop what is more than desired: tasks of old deployments as soon as enough others are healthy."""
        primary = self.primary
        self._stop(primary.live[primary.desired_count :], "Scaling activity initiated by deployment " + primary.id)
        least = math.ceil(primary.desired_count * self._percent("minimumHealthyPercent", 100) / 100)
        for deployment in self.deployments[1:]:
            for task in deployment.live:
                healthy = sum(self._healthy(other) for each in self.deployments for other in each.live)
                if not self._healthy(task) or healthy > least:
                    self._stop([task], "Scaling activity initiated by deployment " + primary.id)

    def _stop(self, tasks: list[Task], reason: str) -> None:
        tasks = [task for task in tasks if task.desired_status == "RUNNING"]
        for task in tasks:
            task.stop("ServiceSchedulerInitiated", reason)
        if tasks:
            self._event(f"has stopped {len(tasks)} running tasks: {_names(tasks)}.")

    def _judge(self) -> None:
        """Say whether the rollout is completed or failed, and whether the service is steady."""
        primary = self.primary
        healthy = sum(self._healthy(task) for task in primary.live)
        others = [task for deployment in self.deployments[1:] for task in deployment.tasks]
        if healthy == primary.desired_count == len(primary.tasks) and not others:
            self._complete(primary)
        elif primary.rollout_state == "IN_PROGRESS" and self._circuit_is_broken(primary):
            self._fail(primary)

    def _complete(self, primary: Deployment) -> None:
        primary.failures_in_a_row = 0
        if primary.rollout_state == "IN_PROGRESS":
            primary.rollout_state = "COMPLETED"
            primary.rollout_state_reason = f"ECS deployment {primary.id} completed."
            primary.updated_at = utcnow()
            self._last_completed = primary.task_definition
            del self.deployments[1:]
            self._event(f"(deployment {primary.id}) deployment completed.")
        if not self._steady and primary.rollout_state == "COMPLETED":
            self._steady = True
            self._event("has reached a steady state.")

    def _circuit_is_broken(self, primary: Deployment) -> bool:
        """Half of the desired count, at least 3 and at most 200 failures open the breaker."""
        threshold = min(max(math.ceil(primary.desired_count / 2), 3), 200)
        return bool(self._circuit_breaker().get("enable")) and primary.failed_tasks >= threshold

    def _fail(self, primary: Deployment) -> None:
        primary.rollout_state = "FAILED"
        primary.rollout_state_reason = "ECS deployment circuit breaker: tasks failed to start."
        primary.updated_at = utcnow()
        self._event(f"(deployment {primary.id}) deployment failed: tasks failed to start.")
        # A rollback that fails too is the end: there is nothing else to go back to.
        if self._circuit_breaker().get("rollback") and self._last_completed and not primary.is_rollback:
            self._stop(primary.live, "Rolling back")
            self.service.task_definition = self._last_completed
            self.deploy()
            self.primary.is_rollback = True
            self._event(f"rolling back to deployment {self.primary.id}.")
            self.primary.rollout_state_reason = "ECS deployment circuit breaker: rolling back."

    def _healthy(self, task: Task) -> bool:
        """Whether a task counts: its checks pass, and it has run for a moment: one that ends at once does not."""
        settled = task.started_at is not None and (utcnow() - task.started_at).total_seconds() >= SETTLED
        return settled and task.is_healthy and all(h.state == "healthy" for _, h in self._target_health(task))

    def _target_health(self, task: Task) -> list[tuple[Any, Any]]:
        known = self.place.backend("elbv2").target_groups
        wanted = [(known.get(entry.get("targetGroupArn")), entry) for entry in self.service.load_balancers]
        return [
            (group, self._checker.status(group, task.address, entry["containerPort"]))
            for group, entry in wanted
            if group
        ]

    def _percent(self, name: str, default: int) -> int:
        return int((getattr(self.service, "deployment_configuration", None) or {}).get(name, default))

    def _most(self) -> int:
        """How many tasks may be live during a rollout; at least one, as ECS has it."""
        return max(1, self.primary.desired_count * self._percent("maximumPercent", 200) // 100)

    def _circuit_breaker(self) -> dict[str, bool]:
        return (getattr(self.service, "deployment_configuration", None) or {}).get("deploymentCircuitBreaker", {})

    def _event(self, message: str, joint: str = " ") -> None:
        text = f"(service {self.service.name}){joint}{message}"
        self.service.events.insert(0, {"id": str(uuid.uuid4()), "createdAt": utcnow(), "message": text})
        del self.service.events[MOST_EVENTS:]

    def _publish(self) -> None:
        """Show the state in moto's model."""
        self.service.deployments = list(self.deployments)
        self.service.running_count = sum(deployment.running_count for deployment in self.deployments)
        self.service.pending_count = sum(deployment.pending_count for deployment in self.deployments)


class Scheduler:
    """Reconciles all services whenever something has changed."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.checker = HealthChecker(self.wake)
        self._runners: dict[int, ServiceRunner] = {}
        self._changed = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="ecs-scheduler", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something has changed."""
        self._changed.set()

    def add(self, place: Place, service: Any) -> None:
        """Run a new service."""
        self._runners[id(service)] = ServiceRunner(self.host, place, service, self.checker, self.wake)

    def runner(self, service: Any) -> ServiceRunner:
        """The runner of a service."""
        return self._runners[id(service)]

    def reset(self) -> None:
        """Forget all services."""
        self._runners.clear()
        self.checker.reset()

    def stop(self) -> None:
        """End the scheduler."""
        self._stopped = True
        self.wake()
        self._thread.join()
        self.checker.stop()

    def _loop(self) -> None:
        while not self._stopped:
            self._changed.wait(SHORTEST)
            self._changed.clear()
            for runner in list(self._runners.values()):
                self._step(runner)

    def _step(self, runner: ServiceRunner) -> None:
        try:
            runner.reconcile()
        except Exception:
            log.exception("service %s could not be reconciled", runner.service.name)
        if runner.service.status != "ACTIVE" and runner.is_drained:
            runner.service.status = "INACTIVE"
            self._runners.pop(id(runner.service), None)


def _names(tasks: list[Task]) -> str:
    return " ".join(f"(task {task.id})" for task in tasks)
