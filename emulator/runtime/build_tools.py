"""The programs that a build of an image calls, where no container engine runs.

download-source LOCATION                gets the source from S3, as CodeBuild does before the first phase
aws ecr get-login-password              the token of ECR
docker login | build | push             of Docker that much

``docker build`` makes a real image of OCI, but for the layers of its base, which must be one of the Python images in
``images.toml``. Of a Dockerfile's last stage it does FROM, COPY and ADD of files in the context, ENV, LABEL, USER,
WORKDIR, CMD and ENTRYPOINT, and of its RUN the commands ``pip install``, which really run: the packages are in the
layer. No other command runs, because it would run on this machine; the log names each. Jobs of such an image see its
packages, its programs and its variables (``built_images.py``), not its other files.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin

import requests

from . import images
from .built_images import LABEL
from .errors import CannotPullContainerError

STORE = Path("images")
"""What is built, below the home directory, which goes with the build."""

SIGNED_IN = "signed-in"
"""The file in the store that has the password for the registry."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
FLAGS = re.compile(r"^(--[a-z-]+(=\S+)?\s+)+")
"""Options of an instruction, which stand in front of what it does."""

TIMEOUT = 60


def main(arguments: Sequence[str]) -> None:
    """Run a program given on the command line."""
    match list(arguments):
        case ["download-source", location]:
            download_source(location)
        case ["aws", "ecr", "get-login-password"]:
            print(login_password())
        case ["docker", "login", *_]:
            sign_in(sys.stdin.read().strip())
        case ["docker", "build", *options]:
            build(options)
        case ["docker", "push", reference]:
            push(reference)
        case [program, *rest]:
            sys.exit(f"{program}: the emulator has no '{' '.join(rest)}'")


def download_source(location: str) -> None:
    """Unpack an archive of S3 (bucket/key) here."""
    bucket, key = location.split("/", 1)
    body = _client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with zipfile.ZipFile(io.BytesIO(body)) as source:
        for name in source.namelist():
            source.extract(name)


def login_password() -> str:
    """The password for the registry."""
    (data,) = _client("ecr").get_authorization_token()["authorizationData"]
    return base64.b64decode(data["authorizationToken"]).decode().partition(":")[2]


def _client(service: str) -> Any:
    import boto3  # here: it takes a second, and `docker build` needs none

    return boto3.client(service)


def sign_in(password: str) -> None:
    """Check a password with the registry, and keep it for the push."""
    answer = requests.get(f"{_endpoint()}/v2/", auth=("AWS", password), timeout=TIMEOUT)
    if not answer.ok:
        sys.exit("Error response from daemon: login attempt failed with status: 401 Unauthorized")
    _store().mkdir(exist_ok=True)
    (_store() / SIGNED_IN).write_text(password, encoding="utf-8")
    print("Login Succeeded")


def _endpoint() -> str:
    """Where the registry is, whatever the image's name says: as GetAuthorizationToken tells Docker."""
    return os.environ["AWS_ENDPOINT_URL"]


def push(reference: str) -> None:
    """Push an image that was built here."""
    path, tag = reference.partition("/")[2].rsplit(":", 1)
    endpoint, auth = _endpoint(), ("AWS", (_store() / SIGNED_IN).read_text(encoding="utf-8"))
    manifest = (_store() / _name(reference)).read_bytes()
    document = json.loads(manifest)
    for blob in [document["config"], *document["layers"]]:
        begun = requests.post(f"{endpoint}/v2/{path}/blobs/uploads/", auth=auth, timeout=TIMEOUT)
        _check(begun)
        with (_store() / _name(blob["digest"])).open("rb") as file:
            place = urljoin(endpoint, begun.headers["Location"])
            _check(requests.put(place, params={"digest": blob["digest"]}, data=file, auth=auth, timeout=TIMEOUT))
    headers = {"Content-Type": MANIFEST}
    put = requests.put(
        f"{endpoint}/v2/{path}/manifests/{tag}", data=manifest, headers=headers, auth=auth, timeout=TIMEOUT
    )
    _check(put)
    print(f"{tag}: digest: {put.headers['Docker-Content-Digest']}")


def _check(answer: requests.Response) -> None:
    if not answer.ok:
        sys.exit(f"denied: {answer.text}")


def build(options: Sequence[str]) -> None:
    """``docker build … -``: the context is the archive on the standard input."""
    parser = argparse.ArgumentParser(prog="docker build")
    for flag in ("--no-cache", "--pull"):
        parser.add_argument(flag, action="store_true")
    for option in ("--provenance", "--progress", "--platform"):
        parser.add_argument(option)
    parser.add_argument("--file", default="Dockerfile")
    parser.add_argument("--tag", required=True)
    parser.add_argument("--secret", action="append", default=[])
    parser.add_argument("context", choices=["-"])
    asked = parser.parse_args(options)
    secrets = [dict(pair.split("=", 1) for pair in secret.split(",")) for secret in asked.secret]
    with tempfile.TemporaryDirectory() as directory:
        context = Path(directory, "context")
        with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as archive:
            archive.extractall(context, filter="data")
        image = Image(context, Path(directory), {entry["id"]: os.environ[entry["env"]] for entry in secrets})
        for instruction, text in instructions((context / asked.file).read_text(encoding="utf-8")):
            print(f"{instruction} {text}", flush=True)
            image.take(instruction, text)
        image.write(asked.tag, asked.platform or "linux/amd64")


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile's last stage."""
    joined = re.sub(r"\\\s*\n(\s*#.*\n)*", " ", re.sub(r"(?m)^\s*#.*\n?", "", dockerfile))
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    stages = [number for number, (name, _, _) in enumerate(found) if name.upper() == "FROM"]
    for name, _, text in found[stages[-1] :]:
        yield name.upper(), text.strip()


class Image:
    """An image in the making."""

    def __init__(self, context: Path, directory: Path, secrets: dict[str, str]) -> None:
        self._context = context
        self._directory = directory
        self._secrets = secrets
        self._layers: list[Path] = []
        self._workdir = "/"
        self._config: dict[str, Any] = {"Env": [], "Labels": {LABEL: "true"}}
        self._history: list[dict[str, Any]] = []

    def take(self, instruction: str, text: str) -> None:
        """Do one instruction."""
        layers = len(self._layers)
        match instruction:
            case "FROM":
                self._check_base(FLAGS.sub("", text).split()[0])
            case "COPY" | "ADD":
                self._copy(text)
            case "RUN":
                self._run(FLAGS.sub("", text))
            case "ENV":
                pairs = shlex.split(text) if "=" in text else ["=".join(text.split(maxsplit=1))]
                self._config["Env"] += pairs
            case "LABEL":
                self._config["Labels"] |= dict(pair.split("=", 1) for pair in shlex.split(text))
            case "USER":
                self._config["User"] = text
            case "WORKDIR":
                self._workdir = self._config["WorkingDir"] = self._absolute(text)
            case "CMD" | "ENTRYPOINT":
                words = json.loads(text) if text.startswith("[") else ["/bin/sh", "-c", text]
                self._config["Cmd" if instruction == "CMD" else "Entrypoint"] = words
            case _:
                print(f"not done without a container engine: {instruction} {text}", flush=True)
        self._history.append({"created_by": f"{instruction} {text}", "empty_layer": len(self._layers) == layers})

    def _check_base(self, base: str) -> None:
        try:
            found = images.find(base)
        except CannotPullContainerError as error:
            sys.exit(f"ERROR: {error}")
        if found.name != "python":
            sys.exit(f"ERROR: without a container engine only images of Python can be built on, not {base}")

    def _copy(self, text: str) -> None:
        if "--from=" in text or text.startswith("[") or "<<" in text:
            print(f"not done without a container engine: COPY {text}", flush=True)
            return
        *sources, target = FLAGS.sub("", text).split()
        place = self._new_layer() / self._absolute(target).lstrip("/")
        found = [path for source in sources for path in sorted(self._context.glob(source.strip("/") or "."))]
        if not found:
            sys.exit(f"ERROR: {' '.join(sources)}: not found in the context")
        for path in found:
            into_folder = target.endswith(("/", ".")) or len(found) > 1
            if path.is_dir():
                shutil.copytree(path, place, symlinks=True, dirs_exist_ok=True)
            else:
                final = place / path.name if into_folder else place
                final.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, final)

    def _run(self, text: str) -> None:
        for part in re.split(r"&&|;", text):
            try:
                words = shlex.split(part)
            except ValueError:
                words = []
            install = pip_install(words)
            if install is None:
                print(f"not run without a container engine: {part.strip()}", flush=True)
                continue
            command = [
                sys.executable, "-m", "pip", "install", "--root", str(self._new_layer()), "--prefix", "/usr/local",
                "--ignore-installed", "--no-warn-script-location", *(self._local(word) for word in install),
            ]  # fmt: skip
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            done = subprocess.run(command, env=environment | self._secrets, cwd=self._context)  # noqa: S603
            if done.returncode:
                sys.exit(f'ERROR: process "{part.strip()}" did not complete successfully: exit code: {done.returncode}')

    def _absolute(self, path: str) -> str:
        """A path in the image, which may be relative to the working directory."""
        return str(PurePosixPath(self._workdir, path))

    def _local(self, word: str) -> str:
        """A path in the image as the path of the file here."""
        for layer in reversed(self._layers):
            path = layer / self._absolute(word).lstrip("/")
            if not word.startswith("-") and path.exists():
                return str(path)
        return word

    def _new_layer(self) -> Path:
        layer = self._directory / f"layer-{len(self._layers)}"
        layer.mkdir()
        self._layers.append(layer)
        return layer

    def write(self, tag: str, platform: str) -> None:
        """Write the image's blobs and its manifest into the store."""
        _store().mkdir(exist_ok=True)
        layers = [self._write_layer(layer) for layer in self._layers]
        system, architecture = platform.split("/")[:2]
        config = {
            "created": datetime.now(UTC).isoformat(),
            "os": system,
            "architecture": architecture,
            "config": self._config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "history": self._history,
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _write_blob(json.dumps(config).encode(), CONFIG),
            "layers": layers,
        }
        (_store() / _name(tag)).write_text(json.dumps(manifest), encoding="utf-8")

    def _write_layer(self, layer: Path) -> dict[str, Any]:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(layer, arcname=".", filter=_as_root)
        return _write_blob(archive.getvalue(), LAYER)


def pip_install(words: Sequence[str]) -> list[str] | None:
    """The arguments of a command that is ``pip install``; None for any other one."""
    for begin in (["pip", "install"], ["pip3", "install"], ["python", "-m", "pip", "install"]):
        if list(words[: len(begin)]) == begin:
            return list(words[len(begin) :])
    return None


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _write_blob(content: bytes, media_type: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    (_store() / _name(digest)).write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _store() -> Path:
    return Path.home() / STORE


def _name(text: str) -> str:
    return re.sub(r"\W", "-", text)


if __name__ == "__main__":
    main(sys.argv[1:])
