"""CodeBuild in moto's model: its projects; our builds, whose commands run as a local process.

The process is the project's image as ``images.toml`` has it: bash, with stand-ins for the programs that builds of
images call (``build_tools.py``). The phases are those of a buildspec of version 0.2; caches, artifacts, reports,
batches and sources other than S3 are not run.
"""

import shlex
import threading
import uuid
from typing import Any

import yaml
from moto.codebuild.exceptions import ResourceNotFoundException
from moto.codebuild.models import codebuild_backends
from moto.codebuild.responses import CodeBuildResponse
from moto.core.responses import ActionResult
from moto.core.utils import unix_time

from emulator.gaps import replace

from .containers import Container, Definition, Host, Identity
from .errors import StartError
from .place import Place
from .policies import allows, role_documents, trusts

SERVICE_PRINCIPAL = "codebuild.amazonaws.com"
PHASES = ("install", "pre_build", "build", "post_build")
NO_SOURCE = 10
"""Exit status of the commands when the source isn't to be had; a phase that fails has its number more."""

OVERRIDES = {"sourceTypeOverride": "type", "sourceLocationOverride": "location", "buildspecOverride": "buildspec"}


class Denied(StartError):
    """The service may not act as the project's role, or the role may not read the source."""


class Build:
    """A build from start to end."""

    def __init__(self, host: Host, place: Place, project: dict[str, Any], asked: dict[str, Any]) -> None:
        self.project = project
        self.id = f"{project['name']}:{uuid.uuid4()}"
        self.status = "IN_PROGRESS"
        self.phase = "QUEUED"
        self.phases: list[dict[str, Any]] = []
        self._host = host
        self._place = place
        self._source = project["source"] | {ours: asked[name] for name, ours in OVERRIDES.items() if asked.get(name)}
        given = {entry["name"]: entry for entry in project["environment"].get("environmentVariables") or []}
        given |= {entry["name"]: entry for entry in asked.get("environmentVariablesOverride") or []}
        self._variables = list(given.values())
        self._started = unix_time()
        self._ended: float | None = None
        self._container: Container | None = None
        threading.Thread(target=self._run, name=self.id, daemon=True).start()

    def describe(self) -> dict[str, Any]:
        """The build as BatchGetBuilds shows it."""
        settings = self.project["logsConfig"]["cloudWatchLogs"]
        shown = {
            "id": self.id,
            "arn": self._place.arn("codebuild", f"build/{self.id}"),
            "projectName": self.project["name"],
            "startTime": self._started,
            "endTime": self._ended,
            "buildStatus": self.status,
            "buildComplete": self.status != "IN_PROGRESS",
            "currentPhase": self.phase,
            "phases": self.phases,
            "source": self._source,
            "environment": self.project["environment"] | {"environmentVariables": self._variables},
            "serviceRole": self.project["serviceRole"],
            "logs": {"groupName": settings["groupName"], "streamName": self._stream, "cloudWatchLogs": settings},
        }
        return {name: value for name, value in shown.items() if value is not None}

    def stop(self) -> None:
        """End the build."""
        if self.status == "IN_PROGRESS":
            self._end("STOPPED", self.phase, "Build was stopped")
            if self._container:
                self._container.stop(0)

    @property
    def _stream(self) -> str:
        return self.id.partition(":")[2]

    @property
    def _role(self) -> str:
        return self.project["serviceRole"].split("/")[-1]

    def _run(self) -> None:
        self.phase = "PROVISIONING"
        try:
            self._check_role()
            container = Container(
                self._host,
                self._definition(),
                Identity(self._place, self._stream, self.project["serviceRole"], self._role),
            )
            container.prepare()
            container.mask_secrets()
            self.phase = "BUILD"
            container.start(self._ended_with)
        except StartError as error:
            self._end("FAILED", "PROVISIONING", str(error))
            return
        self._container = container

    def _check_role(self) -> None:
        role = self.project["serviceRole"]
        if not trusts(self._place, role, SERVICE_PRINCIPAL):
            raise Denied(f"CodeBuild is not authorized to perform: sts:AssumeRole on {role}")
        source = f"arn:{self._place.partition}:s3:::{self._source['location']}"
        if not allows(role_documents(self._place, self._role), "s3:GetObject", source):
            raise Denied(f"{role} is not authorized to perform: s3:GetObject on {source}")

    def _definition(self) -> Definition:
        plain, secret = {}, {}
        for entry in self._variables:
            if entry.get("type") == "SECRETS_MANAGER":
                secret[entry["name"]] = self._secret(entry["value"])
            else:
                plain[entry["name"]] = entry["value"]
        settings = self.project["logsConfig"]["cloudWatchLogs"]
        return Definition(
            name="build",
            image=self.project["environment"]["image"],
            command=["bash", "-c", script(self._source)],
            environment=plain | {"CODEBUILD_BUILD_ID": self.id, "CODEBUILD_BUILD_SUCCEEDING": "1"},
            secrets=secret,
            log_options={"awslogs-group": settings["groupName"]},
            log_stream=self._stream,
        )

    def _secret(self, value: str) -> str:
        """``name:key`` as a reference with the secret's ARN."""
        name, _, key = value.partition(":")
        secret = self._place.backend("secretsmanager").secrets.get(name)
        arn = secret.arn if secret else self._place.arn("secretsmanager", f"secret:{name}-000000")
        return f"{arn}:{key}::"

    def _ended_with(self, code: int) -> None:
        if code == 0:
            self._end("SUCCEEDED", "BUILD", "")
        elif code == NO_SOURCE:
            self._end("FAILED", "DOWNLOAD_SOURCE", "the source can't be read")
        else:
            number = code - NO_SOURCE - 1
            phase = PHASES[number].upper() if 0 <= number < len(PHASES) else "BUILD"
            self._end("FAILED", phase, "Error while executing command; its log says why")

    def _end(self, status: str, phase: str, message: str) -> None:
        if self.status != "IN_PROGRESS":
            return
        contexts = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": message}] if message else []
        self.phases = [{"phaseType": phase, "phaseStatus": status, "contexts": contexts}]
        self._ended = unix_time()
        self.phase = "COMPLETED"
        self.status = status


def script(source: dict[str, Any]) -> str:
    """A buildspec's commands as one script of bash; its exit status says which phase has failed."""
    spec = yaml.safe_load(source["buildspec"])
    lines = [f"download-source {shlex.quote(source['location'])} || exit {NO_SOURCE}", "failed=0"]
    for number, phase in enumerate(PHASES, start=NO_SOURCE + 1):
        commands = spec["phases"].get(phase, {}).get("commands", [])
        if not commands:
            continue
        chain = " && ".join(f"{{ {command}\n}}" for command in commands)
        lines.append(f"echo '[Container] Entering phase {phase.upper()}'")
        lines.append(f"{chain} || {{ [ $failed != 0 ] || failed={number}; export CODEBUILD_BUILD_SUCCEEDING=0; }}")
        if phase != "build":  # what follows a build that has failed is post_build alone
            lines.append("[ $failed = 0 ] || exit $failed")
    return "\n".join([*lines, "exit $failed"])


class Builds:
    """All builds of the emulator."""

    def __init__(self) -> None:
        self.known: dict[str, Build] = {}

    def reset(self) -> None:
        """End all, and forget them."""
        for build in self.known.values():
            build.stop()
        self.known = {}


def install(host: Host) -> Builds:
    """Let moto's CodeBuild run builds."""
    builds = Builds()

    @replace(CodeBuildResponse, "start_build")
    def start_build(self: Any) -> ActionResult:
        name = self._get_param("projectName")
        backend = codebuild_backends[self.current_account][self.region]
        if name not in backend.codebuild_projects:
            raise ResourceNotFoundException(f"Project cannot be found: {name}")
        asked = {key: self._get_param(key) for key in (*OVERRIDES, "environmentVariablesOverride")}
        project = backend.codebuild_projects[name].project_metadata
        build = Build(host, Place(self.current_account, self.region), project, asked)
        builds.known[build.id] = build
        backend.build_history[name].append(build.id)
        return ActionResult({"build": build.describe()})

    @replace(CodeBuildResponse, "batch_get_builds")
    def batch_get_builds(self: Any) -> ActionResult:
        found = [builds.known[name] for name in self._get_param("ids") if name in builds.known]
        return ActionResult({"builds": [build.describe() for build in found]})

    @replace(CodeBuildResponse, "stop_build")
    def stop_build(self: Any) -> ActionResult:
        build = builds.known.get(self._get_param("id"))
        if build is None:
            raise ResourceNotFoundException(f"Build {self._get_param('id')} does not exist")
        build.stop()
        return ActionResult({"build": build.describe()})

    return builds
