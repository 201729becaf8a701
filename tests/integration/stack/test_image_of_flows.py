"""The image of flows in the complete stack: what a change of the requirements leads to, and what is in its layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from emulated_aws import ROOT
from stack_runs import CANARY, Complete

pytestmark = pytest.mark.xdist_group("complete-stack")

REPOSITORY = "metaflow-local/flows"
PROJECT = "metaflow-local-flow-image"
BOTH = ("--tags", "flow_image,client_config")


def configured_image(complete: Complete) -> str:
    config = json.loads((complete.stack.home / ".metaflowconfig" / "config_local.json").read_text())
    assert config["METAFLOW_DEFAULT_CONTAINER_IMAGE"] == config["METAFLOW_BATCH_CONTAINER_IMAGE"]
    return config["METAFLOW_BATCH_CONTAINER_IMAGE"]


def images(complete: Complete) -> dict[str, str]:
    """The images in the registry: tag → digest."""
    details = complete.account.items("ecr", "describe_images", "imageDetails", repositoryName=REPOSITORY)
    return {tag: detail["imageDigest"] for detail in details for tag in detail["imageTags"]}


def builds(complete: Complete) -> int:
    client = complete.account.client("codebuild")
    return len(client.list_builds_for_project(projectName=PROJECT)["ids"])


def projects(complete: Complete) -> list[Any]:
    return complete.account.client("codebuild").batch_get_projects(names=[PROJECT])["projects"]


def test_the_configuration_names_the_image_by_its_content(complete: Complete) -> None:
    repository, tag = configured_image(complete).split(":")
    assert repository == f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{REPOSITORY}"
    there = images(complete)
    assert tag.startswith("content-") and there[tag] == there["current"]


def test_no_layer_and_no_log_has_the_build_secret(complete: Complete) -> None:
    data = complete.account.client("ecr").get_authorization_token()["authorizationData"][0]
    url = f"{data['proxyEndpoint']}/v2/{REPOSITORY}"
    headers = {"Authorization": f"Basic {data['authorizationToken']}"}
    manifest = requests.get(f"{url}/manifests/current", headers=headers, timeout=30).json()
    blobs = [
        requests.get(f"{url}/blobs/{blob['digest']}", headers=headers, timeout=30).content
        for blob in [manifest["config"], *manifest["layers"]]
    ]
    assert b"Of the complete stack's image" in b"".join(blobs)
    assert CANARY.encode() not in b"".join(blobs)
    group = f"/aws/codebuild/{PROJECT}"
    logs = complete.account.client("logs")
    streams = complete.account.items("logs", "describe_log_streams", "logStreams", logGroupName=group)
    lines = [
        event["message"]
        for stream in streams
        for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    ]
    assert any("pip install" in line for line in lines) and not any(CANARY in line for line in lines)


def test_other_requirements_are_another_image_in_another_configuration(complete: Complete, tmp_path: Path) -> None:
    first, before, built = configured_image(complete), images(complete), builds(complete)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# others\n")
    other: dict[str, Any] = {"flow_image_requirements": str(requirements)}

    checked = complete.stack.run("--check", *BOTH, **other).succeeded()
    assert "flow_image" in checked.changed
    assert "would be built by CodeBuild" in " ".join(checked.output.split())
    assert images(complete) == before and builds(complete) == built

    assert complete.stack.run(*BOTH, **other).succeeded().changed == {"flow_image", "client_config"}
    second, after = configured_image(complete), images(complete)
    assert second != first and builds(complete) == built + 1
    assert set(after) - set(before) == {second.split(":")[1]}

    # Back to the first, which is there: nothing is built and nothing is pushed.
    assert complete.stack.run(*BOTH).succeeded().changed == {"flow_image", "client_config"}
    assert configured_image(complete) == first and builds(complete) == built + 1
    assert images(complete) == after | {"current": before["current"]}


BAD = [
    ("pandas\nnumpy=2.1\n", False, "line 2 'numpy=2.1' is no requirement"),
    ("pandas\n", True, "give either flow_image_requirements or flow_image_dockerfile, not both"),
]


@pytest.mark.parametrize(("text", "with_dockerfile", "said"), BAD)
def test_bad_lists_are_refused_before_the_first_call(
    complete: Complete, tmp_path: Path, text: str, with_dockerfile: bool, said: str
) -> None:
    (tmp_path / "requirements.txt").write_text(text)
    given = {"flow_image_requirements": str(tmp_path / "requirements.txt")}
    if with_dockerfile:
        given["flow_image_dockerfile"] = str(ROOT / "Dockerfile")
    complete.stack.emulator.request("POST", "/_emulator/calls/reset")
    assert said in complete.stack.run("--tags", "flow_image", **given).refused()
    assert complete.stack.emulator.calls() == []


def test_docker_alone_leaves_nothing_of_codebuild(complete: Complete) -> None:
    before = images(complete)
    docker = {"flow_image_builder": "docker"}  # the image is there, so that no engine is needed
    assert complete.stack.run("--check", "--tags", "flow_image", **docker).succeeded().changed == {"flow_image"}
    assert builds(complete)
    assert complete.stack.run("--tags", "flow_image", **docker).succeeded().changed == {"flow_image"}
    assert projects(complete) == [] and images(complete) == before
    roles = complete.account.items("iam", "list_roles", "Roles")
    assert PROJECT not in {role["RoleName"] for role in roles}
    assert complete.stack.run("--tags", "flow_image", "-e", "full=true", **docker).succeeded().changed == set()
    assert complete.stack.run("--tags", "flow_image").succeeded().changed == {"flow_image"}
    assert projects(complete)


def test_without_requirements_the_client_has_what_it_had_before(complete: Complete) -> None:
    """The last of this file: it takes the image out of use, and puts it back."""
    off = complete.stack.run(*BOTH, flow_image_requirements="", flow_image_build_secrets=[]).succeeded()
    assert off.changed == {"flow_image", "client_config"}
    config = json.loads((complete.stack.home / ".metaflowconfig" / "config_local.json").read_text())
    assert "METAFLOW_BATCH_CONTAINER_IMAGE" not in config
    assert projects(complete) == []
    again = complete.stack.run(*BOTH, flow_image_requirements="", flow_image_build_secrets=[]).succeeded()
    assert again.changed == set()
    complete.stack.run().succeeded()
    assert configured_image(complete)
