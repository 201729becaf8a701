# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module flow_image with a real container engine: one that answers, or a dockerd that the test starts."""

from __future__ import annotations

import json
import subprocess

import pytest
from container_engine import base_image, running_engine
from image_parts import dockerfile, everything_in, write_package
from steps import Module

NAME = "metaflow-test/flows"
CANARY = "canary-3d1f9a77b2"
BASE = "mlops-metaflow-test/base:1"

SECRETS = {"CANARY": CANARY, "PIP_FIND_LINKS": "/packages", "PIP_NO_INDEX": "1"}

#: What is the same for all: no registry has the base image.
COMMON = {"name": NAME, "build_secrets": {name: f"{NAME}/{name}" for name in SECRETS}, "pull": False}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A client of an engine that has a base image, and in it a package to install."""
    packages = tmp_path_factory.mktemp("packages")
    write_package(packages)
    with running_engine(tmp_path_factory.mktemp("engine")) as client:
        subprocess.run(["docker", "import", "-", BASE], input=base_image(packages), check=True, capture_output=True)
        yield client
        client.images.remove(BASE, force=True)


@pytest.fixture
def flow_image(engine, emulator, run_module):
    """The module, on an account with an empty repository and a secret."""
    emulator.reset()
    emulator.client("ecr").create_repository(
        repositoryName=NAME, imageTagMutability="IMMUTABLE", imageScanningConfiguration={"scanOnPush": True}
    )
    for name, value in SECRETS.items():
        emulator.client("secretsmanager").create_secret(Name=f"{NAME}/{name}", SecretString=json.dumps({name: value}))
    yield Module(run_module, emulator, "flow_image")
    for image in engine.images.list():
        if any(NAME in tag for tag in image.tags):
            engine.images.remove(image.id, force=True)


def test_from_requirements(flow_image, engine, emulator, tmp_path):
    (tmp_path / "requirements.txt").write_text("tinyflow\n")
    asked = {
        "requirements": str(tmp_path / "requirements.txt"),
        "dockerfile_content": dockerfile(BASE, *SECRETS),
        **COMMON,
    }
    assert flow_image.run(asked, check=True)["image"]["build"] == "docker"
    first = flow_image.run(asked)["image"]
    pushed = emulator.client("ecr").describe_images(repositoryName=NAME)["imageDetails"]
    second = flow_image.run(asked, changes=False)["image"]
    assert second == first | {"build": ""}
    assert emulator.client("ecr").describe_images(repositoryName=NAME)["imageDetails"] == pushed

    content = everything_in(emulator, NAME, first["image_tag"])
    assert b"tinyflow-1.0.dist-info" in content and CANARY.encode() not in content
    command = "cat > file </dev/null; python -c 'import os, tinyflow; print(os.getuid(), os.getcwd())'"
    said = engine.containers.run(first["image_uri"], ["sh", "-c", command], network_mode="host", remove=True)
    assert said == b"1000 /home/metaflow\n"


def test_from_a_dockerfile_that_uses_a_secret(flow_image, emulator, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "data.txt").write_text("in the image")
    (context / "left.txt").write_text("not in the image")
    (context / ".dockerignore").write_text("left.txt\n")
    (context / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY . /data/\n"
        "RUN --mount=type=secret,id=CANARY python -c "
        "\"print(len(open('/run/secrets/CANARY').read()))\" > /data/length\n"
        "USER 1000\n"
    )
    asked = {
        "dockerfile": str(context / "Dockerfile"),
        "context": str(context),
        **COMMON,
    }
    content = everything_in(emulator, NAME, flow_image.run(asked)["image"]["image_tag"])
    assert b"in the image" in content and f"{len(CANARY)}\n".encode() in content
    assert b"not in the image" not in content and CANARY.encode() not in content


def test_what_docker_says_is_shown_without_secrets(flow_image, emulator, tmp_path):
    (tmp_path / "Dockerfile").write_text(
        f"FROM {BASE}\nRUN --mount=type=secret,id=CANARY cat /run/secrets/CANARY; exit 3\nUSER 1000\n"
    )
    asked = {
        "dockerfile": str(tmp_path / "Dockerfile"),
        "context": str(tmp_path),
        **COMMON,
    }
    message = flow_image.run(asked, fails=True)["msg"]
    assert message.startswith(f"Failed to create flow image '{NAME}': Docker can't build it:")
    assert "exit code: 3" in message and "********" in message and CANARY not in message
    assert emulator.client("ecr").describe_images(repositoryName=NAME)["imageDetails"] == []
