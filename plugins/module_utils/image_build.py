# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two ways to build an image and to push it to ECR: Docker on this machine, and a CodeBuild project.

Both read the context as an archive, use no cache (what is in an image must not depend on who builds it), and get
secrets as BuildKit's build secrets, which are in no layer. Here their values go through the environment of the build
alone; to CodeBuild they go by reference.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
import time
import uuid
import zipfile
from contextlib import suppress

with suppress(ImportError):  # the module reports a missing library
    import docker
    import docker.errors

from ansible_collections.mlops.metaflow.plugins.module_utils.resource import Failed

#: The context's name in what CodeBuild downloads, as the project's buildspec has it.
CONTEXT = "context.tar.gz"

#: How many of the last lines of a build are shown when it fails.
LINES = 30

SHORTEST_SECRET = 4

#: Seconds between two looks at a build of CodeBuild.
PAUSE = 5


class DockerBuild:
    """Builds on this machine."""

    name = "docker"

    def __init__(self, client, params, image, timeout):
        self._client = client
        self._params = params
        self._image = image
        self._timeout = timeout

    def run(self, source, archive):
        self._build(source, archive)
        self._push()

    def _build(self, source, archive):
        secrets = self._secrets()
        command = [
            "docker", "build", "--no-cache", *(["--pull"] if self._params["pull"] else []), "--provenance=false",
            "--progress=plain", "--platform", self._params["platform"], "--file", source.dockerfile,
            "--tag", self._image,
            *(word for name in sorted(secrets) for word in ("--secret", f"id={name},env={name}")),
            "-",
        ]  # fmt: skip
        environment = {**os.environ, "DOCKER_BUILDKIT": "1", **secrets}
        # The other process knows nothing of what this one has in its buffer.
        os.lseek(archive.fileno(), 0, os.SEEK_SET)
        try:
            done = subprocess.run(  # noqa: S603 - a list of words, no shell
                command, stdin=archive, capture_output=True, text=True, env=environment, timeout=self._timeout
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"Docker has not built it in {self._timeout} s; raise wait_timeout") from error
        if done.returncode:
            raise Failed("Docker can't build it:\n" + without(secrets, last_lines(done.stdout + done.stderr)))

    def _secrets(self):
        manager = self._client("secretsmanager")
        values = {}
        for name, identifier in self._params["build_secrets"].items():
            text = manager.get_secret_value(SecretId=identifier)["SecretString"]
            try:
                values[name] = json.loads(text)[name]
            except (ValueError, KeyError, TypeError):
                raise Failed(f"the secret '{identifier}' has no key '{name}'") from None
        return values

    def _push(self):
        """Push it to where ECR says that it takes images; the password is in no file and on no command line."""
        (token,) = self._client("ecr").get_authorization_token()["authorizationData"]
        user, password = base64.b64decode(token["authorizationToken"]).decode().split(":", 1)
        path, tag = self._image.partition("/")[2].rsplit(":", 1)
        repository = f"{token['proxyEndpoint'].split('://')[1]}/{path}"
        engine = docker.from_env(timeout=self._timeout)
        try:
            engine.images.get(self._image).tag(repository, tag)
            pushed = engine.images.push(
                repository, tag, stream=True, decode=True, auth_config={"username": user, "password": password}
            )
            for line in pushed:
                if "error" in line:
                    raise Failed(f"Docker can't push it: {line['error']}")
        except docker.errors.DockerException as error:
            raise Failed(f"Docker can't push it: {error}") from error


class CodeBuild:
    """Lets a project of CodeBuild build, which has a buildspec for it; awaits the end."""

    name = "codebuild"

    def __init__(self, client, params, image, timeout):
        self._client = client
        self._params = params
        self._image = image
        self._timeout = timeout
        self._key = f"{params['bucket_prefix']}{image.rsplit(':', 1)[1]}.zip"

    def run(self, source, archive):
        s3, place = self._client("s3"), {"Bucket": self._params["bucket"], "Key": self._key}
        with tempfile.TemporaryFile() as packed:
            with zipfile.ZipFile(packed, "w") as zipped:
                zipped.writestr(CONTEXT, archive.read())
            packed.seek(0)
            s3.put_object(Body=packed, **place)
        try:
            self._await(self._start(source))
        finally:
            s3.delete_object(**place)

    def _start(self, source):
        values = {"IMAGE": self._image, "DOCKERFILE": source.dockerfile, "PLATFORM": self._params["platform"]}
        secrets = self._params["build_secrets"]
        values["SECRETS"] = " ".join(f"--secret id={name},env={name}" for name in sorted(secrets))
        variables = [{"name": name, "value": value, "type": "PLAINTEXT"} for name, value in values.items()]
        variables += [
            {"name": name, "value": f"{identifier}:{name}", "type": "SECRETS_MANAGER"}
            for name, identifier in sorted(secrets.items())
        ]
        return self._client("codebuild").start_build(
            projectName=self._params["project"],
            sourceTypeOverride="S3",
            sourceLocationOverride=f"{self._params['bucket']}/{self._key}",
            environmentVariablesOverride=variables,
            # The SDK repeats a request whose answer is lost, with the same token.
            idempotencyToken=uuid.uuid4().hex,
        )["build"]["id"]

    def _await(self, build_id):
        started = time.monotonic()
        while True:
            (build,) = self._client("codebuild").batch_get_builds(ids=[build_id])["builds"]
            if build["buildStatus"] == "SUCCEEDED":
                return
            if build["buildStatus"] != "IN_PROGRESS":
                raise Failed(f"CodeBuild's build {build_id} ended as {build['buildStatus']}: {self._why(build)}")
            if time.monotonic() - started > self._timeout:
                raise Failed(
                    f"CodeBuild's build {build_id} is in its phase {build.get('currentPhase')} after {self._timeout} "
                    "s; raise wait_timeout, or look at its log"
                )
            time.sleep(min(PAUSE, 0.2 + (time.monotonic() - started) / 10))

    def _why(self, build):
        said = [
            f"{phase['phaseType']}: {context['message']}"
            for phase in build.get("phases", [])
            for context in phase.get("contexts", [])
            if context.get("message")
        ]
        return "\n".join(said + self._log(build.get("logs", {})))

    def _log(self, place):
        """Return the last lines of a build's log; a build that ended early has none."""
        client = self._client("logs")
        try:
            events = client.get_log_events(
                logGroupName=place["groupName"], logStreamName=place["streamName"], limit=LINES
            )["events"]
        except (KeyError, client.exceptions.ResourceNotFoundException):
            return []
        return [event["message"].rstrip() for event in events]


def last_lines(text):
    return "\n".join(text.splitlines()[-LINES:])


def without(secrets, text):
    """Return a text in which the values of secrets are masked, but for those that would be found in every line."""
    for value in secrets.values():
        text = text.replace(value, "********") if len(value) >= SHORTEST_SECRET else text
    return text


BUILDERS = {builder.name: builder for builder in (DockerBuild, CodeBuild)}
