"""Containers on a container engine, where one answers and has the image; the same interface as a local process.

They run on the host's network, so that the account's endpoint and the ports that the table names are the same as for
a process. The engine outlives the emulator, so a reaper (``engine_reaper.py``) waits beside it and removes what it
leaves.
"""

import functools
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from .processes import RUNNING, CannotStart

log = logging.getLogger(__name__)

LABEL = "mlops.metaflow.emulator"
REAPER = Path(__file__).with_name("engine_reaper.py")
PING_TIMEOUT = 3
TIMEOUT = 60
"""Seconds within which an engine answers a call."""


class Engine:
    """A container engine, as DOCKER_HOST or the default socket gives it."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client
        self.owner = str(uuid.uuid4())
        """The label of this emulator's containers."""

    def has(self, image: str) -> bool:
        """Whether the image is there, without a pull."""
        try:
            self.client.images.get(image)
        except ImageNotFound:
            return False
        return True

    @functools.cached_property
    def reaper(self) -> subprocess.Popen[bytes]:
        """The process that removes the containers when this one is gone: it reads its input until it closes."""
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(REAPER), f"{LABEL}={self.owner}"], stdin=subprocess.PIPE, start_new_session=True
        )


@functools.cache
def find_engine() -> Engine | None:
    """The engine that answers, if one does."""
    try:
        client = docker.from_env(timeout=PING_TIMEOUT)
        client.ping()
        client.api.timeout = TIMEOUT
    except DockerException as error:
        log.info("no container engine answers (%s): images run as local processes", error)
        return None
    return Engine(client)


class EngineProcess:
    """A container from start to exit; see LocalProcess for the interface."""

    def __init__(
        self,
        engine: Engine,
        image: str,
        entry_point: Sequence[str],
        command: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
        working_directory: str = "",
        tmpfs: Mapping[str, str] | None = None,
    ) -> None:
        self._engine = engine
        self._settings: dict[str, Any] = {
            "image": image,
            "entrypoint": list(entry_point) or None,
            "command": list(command) or None,
            "environment": dict(environment),
            "working_dir": working_directory or None,
            "tmpfs": dict(tmpfs or {}) or None,
        }
        self._on_line = on_line
        self._on_exit = on_exit
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the container, or raise CannotStart."""
        engine = self._engine
        if engine.reaper.poll() is not None:
            raise CannotStart("the reaper of the emulator's containers has ended")
        labels = {LABEL: engine.owner}
        try:
            self._container = engine.client.containers.create(network_mode="host", labels=labels, **self._settings)
        except APIError as error:
            raise CannotStart(str(error.explanation)) from error
        output = self._container.attach(stream=True, logs=True, stdout=True, stderr=True)
        try:
            self._container.start()
        except APIError as error:
            self._container.remove(force=True)
            raise CannotStart(str(error.explanation)) from error
        RUNNING.add(self)
        threading.Thread(target=self._follow, args=(output,), name=f"follow-{self._container.id}", daemon=True).start()

    def stop(self, grace: float) -> None:
        """Send SIGTERM now, and SIGKILL after ``grace`` seconds. Returns at once."""
        threading.Thread(target=self._unless_gone, args=(self._container.stop,), kwargs={"timeout": int(grace)}).start()

    def kill(self) -> None:
        """Kill the container."""
        self._unless_gone(self._container.kill)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for the end; whether it has ended."""
        return self._ended.wait(timeout)

    def run_inside(self, command: Sequence[str]) -> bool:
        """Run a command in the container; whether it ended with 0."""
        try:
            return self._container.exec_run(list(command)).exit_code == 0
        except APIError:
            return False

    def _follow(self, output: Any) -> None:
        rest = b""
        for piece in output:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._on_line(line.decode(errors="replace").rstrip("\r"))
        if rest:
            self._on_line(rest.decode(errors="replace"))
        code = self._container.wait()["StatusCode"]
        self._container.remove(force=True)
        RUNNING.discard(self)
        self._ended.set()
        self._on_exit(code)

    def _unless_gone(self, action: Callable[..., None], **options: Any) -> None:
        """Do something to the container, which may have ended by itself meanwhile (404, or 409: it is not running)."""
        try:
            action(**options)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:
                raise
