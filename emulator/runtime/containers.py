"""One container of a task or job: its definition becomes a local process."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import built_images, credentials, images, logs, metadata, registry, secrets
from .built_images import NOT_BUILT
from .database import Databases
from .engine import Engine, EngineProcess, find_engine
from .errors import CannotStartContainerError
from .images import Image
from .network import LOOPBACK, Peer
from .place import Place
from .processes import CannotStart, LocalProcess, container_path

NOT_PROXIED = "127.0.0.1,localhost"
SHORTEST_SECRET = 4
"""Characters; nobody masks a shorter value, which would be found in every line."""
LOCAL_ADDRESS = re.compile(r"\b(?:localhost|127\.0\.0\.1|0\.0\.0\.0):(\d+)")
TEMPORARY = re.compile(r"""(?<![\w./~-])/tmp/([^/\s"';|&<>()]+)""")
"""The first part of a path below /tmp, where it stands by itself. Metaflow's jobs all write /tmp/step_command.sh."""


@dataclass(frozen=True)
class Host:
    """What all containers of this emulator share: where state lives, where the account answers, its databases."""

    state_dir: Path
    endpoint: str
    databases: Databases


@dataclass(frozen=True)
class Identity:
    """Who a container is: its task or job, the roles that it acts as and is started by, its place in the network."""

    place: Place
    task_id: str
    task_role: str | None = None
    execution_role: str | None = None
    peer: Peer = field(default_factory=Peer)


@dataclass(frozen=True)
class Definition:
    """What a container definition asks for, whichever service it comes from."""

    name: str
    image: str
    command: Sequence[str] = ()
    entry_point: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    log_options: Mapping[str, str] | None = None
    log_stream: str = ""
    working_directory: str = ""
    ports: Sequence[int] = ()
    """The container ports that are mapped."""
    tmpfs: Mapping[str, int] = field(default_factory=dict)
    """Paths at which the platform mounts empty memory → its MiB."""


class Container:
    """A container on its way from definition to exit status."""

    def __init__(self, host: Host, definition: Definition, identity: Identity) -> None:
        self.definition = definition
        self.identity = identity
        self.ports: dict[int, int] = {}
        """Container port → local port."""
        self._host = host
        self._session: str | None = None
        self._process: LocalProcess | EngineProcess | None = None

    def prepare(self) -> None:
        """Find the image, read the secrets, open the log stream, choose the ports; StartError where one is missing."""
        self._engine = self._usable_engine()
        self._built = NOT_BUILT
        if self._engine is None:
            pulled = registry.find(self.identity.place, self.definition.image, self.identity.execution_role)
            self._built = built_images.unpack(self._host.state_dir, pulled) if pulled else NOT_BUILT
        self._image = (images.of_engine if self._engine else images.find)(self.definition.image)
        self._environment = self._build_environment(self._image)
        self._sink = logs.discard
        if self.definition.log_options is not None:
            self._sink = logs.open_stream(
                self.identity.place,
                self.definition.log_options,
                self.definition.log_stream,
                self.identity.execution_role,
            )

    def mask_secrets(self) -> None:
        """Write *** in place of the values of secrets: CodeBuild does, ECS and Batch do not."""
        values = [self._environment[name] for name in self.definition.secrets]
        write = self._sink

        def masked(line: str) -> None:
            for value in values:
                line = line.replace(value, "***") if len(value) >= SHORTEST_SECRET else line
            write(line)

        self._sink = masked

    def start(self, on_exit: Callable[[int], None]) -> None:
        """Start the process; CannotStartContainerError where the program is missing."""
        self._process = self._main_process(lambda code: self._ended(code, on_exit))
        try:
            self._process.start()
        except CannotStart as error:
            self._close_session()
            raise CannotStartContainerError(f"failed to create task for container: {error}: unknown") from error

    def stop(self, grace: float) -> None:
        """Ask the process to end, and kill it after ``grace`` seconds."""
        if self._process:
            self._process.stop(grace)

    def run_inside(self, command: Sequence[str], timeout: float) -> bool:
        """Run a command as if in the container (a health check); whether it ended with 0 in time.

        The container's own ports are local ones here, so that ``localhost:8080`` in the command is replaced.
        """
        command = [LOCAL_ADDRESS.sub(self._local_address, word) for word in command]
        if isinstance(self._process, EngineProcess):
            return self._process.run_inside(command)
        codes: list[int] = []
        process = self._local_process(
            command, self._directory.with_name(f"{self._directory.name}-check"), logs.discard, codes.append
        )
        try:
            process.start()
        except CannotStart:
            return False
        if not process.wait(timeout):
            process.kill()
            process.wait()
        return codes == [0]

    @property
    def _directory(self) -> Path:
        return self._host.state_dir / "containers" / self._name

    @property
    def _name(self) -> str:
        return f"{self.identity.task_id}-{self.definition.name}"

    def _usable_engine(self) -> Engine | None:
        """The container engine, where it has the image and nothing else is needed to run it."""
        engine = find_engine()
        if engine is None or images.needs_database(self.definition.image) or not engine.has(self.definition.image):
            return None
        return engine

    def _main_process(self, on_exit: Callable[[int], None]) -> LocalProcess | EngineProcess:
        asked = self.definition
        if self._engine:
            return EngineProcess(
                self._engine,
                asked.image,
                asked.entry_point,
                asked.command,
                self._environment,
                self._sink,
                on_exit,
                asked.working_directory,
                {path: f"size={size}m" for path, size in asked.tmpfs.items()},
            )
        for path in asked.tmpfs:
            self._own_folder(path).mkdir(parents=True, exist_ok=True)
        command = [*asked.entry_point, *asked.command] or self._image.command
        return self._local_process(command, self._directory, self._sink, on_exit)

    def _local_process(
        self, command: Sequence[str], directory: Path, on_line: logs.Sink, on_exit: Callable[[int], None]
    ) -> LocalProcess:
        programs = images.programs(self._host.state_dir, self._image)
        path = container_path(*self._built.programs, programs)
        home = {"HOME": str(directory), "TMPDIR": str(directory), "PATH": path}
        # Metaflow tells the step where its tmpfs is (METAFLOW_TEMPDIR).
        given = {
            name: str(self._own_folder(value)) if value in self.definition.tmpfs else value
            for name, value in self._environment.items()
        }
        return LocalProcess(
            [TEMPORARY.sub(self._own_temporary, word) for word in command],
            {**home, **given},
            directory,
            on_line,
            on_exit,
            self.definition.working_directory,
        )

    def _build_environment(self, image: Image) -> dict[str, str]:
        """The definition's variables and secrets, and what the platform adds."""
        place, role = self.identity.place, self.identity.execution_role or ""
        given = dict(self.definition.environment)
        given |= {name: secrets.resolve(place, source, role) for name, source in self.definition.secrets.items()}
        platform = {
            "AWS_ENDPOINT_URL": self._host.endpoint,
            "AWS_REGION": place.region,
            "AWS_DEFAULT_REGION": place.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "ECS_CONTAINER_METADATA_URI_V4": self._host.endpoint + metadata.publish(self._name, self._metadata()),
            # Names inside the account, such as a load balancer's, are resolved by the emulator.
            "http_proxy": self._host.endpoint,
            "no_proxy": NOT_PROXIED,
        }
        if self.identity.task_role:
            self._session = credentials.open_session(place, self.identity.task_role, self.identity.task_id)
            platform["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = self._host.endpoint + self._session
        environment = dict(self._built.environment) | platform | given
        if image.needs_database:
            environment |= self._host.databases.environment(place, given, self.identity.peer)
        return environment | self._map_ports(image, given) | image.environment

    def _metadata(self) -> dict[str, object]:
        """What the container can learn of itself."""
        options = {**(self.definition.log_options or {}), "awslogs-stream": self.definition.log_stream}
        options.setdefault("awslogs-region", self.identity.place.region)
        return {
            "DockerId": self._name,
            "Name": self.definition.name,
            "Image": self.definition.image,
            "KnownStatus": "RUNNING",
            "LogDriver": "awslogs",
            "LogOptions": options,
        }

    def _map_ports(self, image: Image, given: Mapping[str, str]) -> dict[str, str]:
        """Choose a free local port for each one that the program listens on."""
        listening = image.listening(given)
        local = dict(zip(listening, images.free_ports(len(listening)), strict=True))
        # A container on an engine shares the host's network: a port that no variable moves is the same port there.
        unmoved = {port: port for port in self.definition.ports if self._engine}
        self.ports = unmoved | {port: local[variable] for variable, port in listening.items()}
        return {variable: str(port) for variable, port in local.items()}

    def _own_folder(self, path: str) -> Path:
        """What stands for a folder of the container."""
        return self._directory / path.lstrip("/")

    def _own_temporary(self, match: re.Match[str]) -> str:
        """A path in the container's /tmp, as one in its own directory; a folder that this machine has there stays."""
        return match[0] if Path(match[0]).is_dir() else str(self._directory / match[1])

    def _local_address(self, match: re.Match[str]) -> str:
        port = int(match[1])
        return f"{LOOPBACK}:{self.ports.get(port, port)}"

    def _ended(self, code: int, on_exit: Callable[[int], None]) -> None:
        self._close_session()
        on_exit(code)

    def _close_session(self) -> None:
        metadata.withdraw(self._name)
        if self._session:
            credentials.close_session(self._session)
