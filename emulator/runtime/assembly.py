"""The runtime of one emulator: puts the parts together and ends them together."""

import shutil
from pathlib import Path
from typing import Any

from moto.core.utils import utcnow
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from . import apigateway, batch, codebuild, database, ecs, images, stepfunctions, targets
from .containers import Host
from .database import Databases
from .eventbridge import EventBridge
from .forward import Forwarder
from .loadbalancing import LoadBalancing
from .network import addresses
from .place import backends
from .processes import kill_all
from .registry_api import Registry
from .routes import Routes
from .supply import supply

END_TIMEOUT = 5
"""Seconds within which a task whose processes were killed ends."""


class Runtime:
    """All that runs for the account."""

    def __init__(self, state_dir: Path, endpoint: str) -> None:
        self.databases = Databases(state_dir / "databases")
        self.registry = Registry(state_dir)
        self.host = Host(state_dir, endpoint, self.databases)
        self._remove_leftovers()
        images.install_programs(state_dir)
        self.scheduler = ecs.install(self.host)
        self.batch = batch.install(self.host)
        self.builds = codebuild.install(self.host)
        self.events = EventBridge()
        stepfunctions.install(endpoint, self.batch)
        targets.install(self.scheduler.checker)
        apigateway.install()
        database.install(self.databases)

    def middleware(self, app: Any) -> Any:
        """The application in front of moto's."""
        forwarder = Forwarder(app, LoadBalancing(self.scheduler.checker))
        return Routes(self.registry.middleware(forwarder), self.databases, self.events)

    def reset(self) -> None:
        """End everything that runs and forget it."""
        self.scheduler.reset()
        self._stop_executions()
        self.batch.reset()
        self.builds.reset()
        self.events.reset()
        self._end_tasks()
        self.databases.reset()
        self.registry.reset()
        addresses.clear()
        supply.reset()

    def _remove_leftovers(self) -> None:
        """Remove the files of an emulator that was killed."""
        self.databases.reset()
        self.registry.reset()
        leftovers = self.host.state_dir / "containers"
        if leftovers.exists():
            shutil.rmtree(leftovers)

    def _stop_executions(self) -> None:
        for regions in list(stepfunctions_parser_backends.values()):
            for backend in list(regions.values()):
                for execution in backend._get_executions():
                    if execution.status == "RUNNING":
                        execution.stop(utcnow(), None, "The account was reset")

    def _end_tasks(self) -> None:
        """Kill the processes of all tasks, also of those that start just now."""
        tasks = [task for _, backend in backends("ecs") for known in backend.tasks.values() for task in known.values()]
        for task in tasks:
            task.stop("UserInitiated", "The account was reset")
        kill_all()
        for task in tasks:
            task.join(END_TIMEOUT)
        kill_all()

    def shutdown(self) -> None:
        """End everything that runs, for good."""
        self.reset()
        self.scheduler.stop()
        self.batch.stop()
        self.events.stop()
