# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module flow_image with the emulator's CodeBuild, whose Docker is a stand-in; pip and the registry are real."""

from __future__ import annotations

import json

import pytest
import requests
from batch_account import Account
from image_parts import ROLE, dockerfile, everything_in, write_package
from steps import Module, answering

NAME = "metaflow-test/flows"
PROJECT = "metaflow-test-image"
GROUP = f"/aws/codebuild/{PROJECT}"
CANARY = "canary-3d1f9a77b2"
TRUST = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"Service": "codebuild.amazonaws.com"},
        "Action": "sts:AssumeRole",
    },
}
ALLOWED = ["logs:*", "s3:GetObject", "ecr:*", "secretsmanager:GetSecretValue"]


@pytest.fixture
def account(emulator):
    """An account with a repository, a bucket, secrets and a project."""
    emulator.reset()
    emulator.client("ecr").create_repository(
        repositoryName=NAME, imageTagMutability="IMMUTABLE", imageScanningConfiguration={"scanOnPush": True}
    )
    emulator.client("s3").create_bucket(Bucket="bucket")
    emulator.client("logs").create_log_group(logGroupName=GROUP)
    iam = emulator.client("iam")
    role = iam.create_role(RoleName="builds", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    allow(emulator, *ALLOWED)
    emulator.client("codebuild").create_project(
        name=PROJECT,
        source={"type": "S3", "location": "bucket/x.zip", "buildspec": (ROLE / "files" / "buildspec.yml").read_text()},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/amazonlinux-x86_64-standard:5.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "privilegedMode": True,
        },
        serviceRole=role,
        logsConfig={"cloudWatchLogs": {"status": "ENABLED", "groupName": GROUP}},
    )
    return emulator


def allow(emulator, *actions):
    """Let the project's role do that, and nothing else."""
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}
    emulator.client("iam").put_role_policy(RoleName="builds", PolicyName="builds", PolicyDocument=json.dumps(document))


@pytest.fixture
def flow_image(account, run_module):
    return Module(run_module, account, "flow_image")


@pytest.fixture
def asked(account, tmp_path):
    """The arguments for an image with one package, which lies in a folder whose name is a secret."""
    index = tmp_path / CANARY
    write_package(index)
    for name, value in {"PIP_FIND_LINKS": str(index), "PIP_NO_INDEX": "1"}.items():
        account.client("secretsmanager").create_secret(Name=f"{NAME}/{name}", SecretString=json.dumps({name: value}))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("tinyflow\n")
    return {
        "name": NAME,
        "requirements": str(requirements),
        "dockerfile_content": dockerfile("python:3.12", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
        "build_secrets": {name: f"{NAME}/{name}" for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX")},
        "builder": "codebuild",
        "project": PROJECT,
        "bucket": "bucket",
    }


def tags(emulator):
    """The tags of each image in the repository."""
    return sorted(
        sorted(item["imageTags"])
        for item in emulator.client("ecr").describe_images(repositoryName=NAME)["imageDetails"]
    )


def log_of_builds(emulator):
    logs = emulator.client("logs")
    streams = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    return "\n".join(
        event["message"]
        for stream in streams
        for event in logs.get_log_events(logGroupName=GROUP, logStreamName=stream["logStreamName"])["events"]
    )


def test_an_image_is_built_once(flow_image, account, asked):
    predicted = flow_image.run(asked, check=True)
    assert predicted["image"]["build"] == "codebuild" and tags(account) == []
    made = flow_image.run(asked)
    assert made["diff"] == predicted["diff"]
    image = made["image"]
    assert image["image_uri"] == f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{NAME}:{image['image_tag']}"
    assert tags(account) == [sorted([image["image_tag"], "current"])]
    assert flow_image.run(asked, changes=False)["image"] == image | {"build": ""}
    assert flow_image.run(asked, check=True, changes=False)["image"]["build"] == ""

    builds = account.client("codebuild").list_builds_for_project(projectName=PROJECT)["ids"]
    assert len(builds) == 1
    assert account.client("s3").list_objects_v2(Bucket="bucket")["KeyCount"] == 0

    assert flow_image.change({"name": NAME, "state": "absent"})["image"] == {}
    assert tags(account) == [[image["image_tag"]]]


def test_other_requirements_are_another_image_and_the_old_one_is_kept(flow_image, account, asked, tmp_path):
    first = flow_image.run(asked)["image"]
    write_package(tmp_path / CANARY, "other")
    (tmp_path / "requirements.txt").write_text("tinyflow\nother\n")
    second = flow_image.run(asked)["image"]
    assert tags(account) == sorted([[first["image_tag"]], sorted([second["image_tag"], "current"])])

    (tmp_path / "requirements.txt").write_text("tinyflow\n")
    back = flow_image.run(asked)["image"]
    assert back == first | {"build": ""}
    assert tags(account) == sorted([sorted([first["image_tag"], "current"]), [second["image_tag"]]])


def test_a_job_has_the_packages_and_nothing_has_the_secrets(flow_image, account, asked):
    image = flow_image.run(asked)["image"]
    batch = Account(account)
    code = "import tinyflow; assert tinyflow.VERSION == '1.0'"
    with_package = batch.submit("python", "-c", code, image=image["image_uri"])
    without = batch.submit("python", "-c", code)
    assert batch.reached(with_package, "SUCCEEDED", "FAILED")["status"] == "SUCCEEDED"
    assert batch.reached(without, "SUCCEEDED", "FAILED")["status"] == "FAILED"

    content = everything_in(account, NAME, image["image_tag"])
    assert b"tinyflow" in content and b'"User": "1000"' in content and CANARY.encode() not in content
    log = log_of_builds(account)
    assert "Successfully installed tinyflow" in log and CANARY not in log
    assert "not run without a container engine: useradd" in log


def test_a_build_that_fails_says_why(flow_image, account, asked, tmp_path):
    (tmp_path / "requirements.txt").write_text("no-such-package\n")
    message = flow_image.run_module(flow_image.name, asked, fails=True)["msg"]
    assert message.startswith(f"Failed to create flow image '{NAME}': CodeBuild's build {PROJECT}:")
    assert "No matching distribution found for no-such-package" in message
    assert tags(account) == [] and account.client("s3").list_objects_v2(Bucket="bucket")["KeyCount"] == 0


@pytest.mark.parametrize("missing", ALLOWED[1:])
def test_what_the_role_may_not_do_fails(flow_image, account, asked, missing):
    allow(account, *(action for action in ALLOWED if action != missing))
    message = flow_image.run_module(flow_image.name, asked, fails=True)["msg"]
    action = {"ecr:*": "ecr:PutImage"}.get(missing, missing)
    assert f"not authorized to perform: {action}" in message


def give_findings(emulator, **counts):
    """Let the next scan find that."""
    result = {
        "imageScanFindings": {"findings": [], "findingSeverityCounts": counts},
        "registryId": "123456789012",
        "repositoryName": NAME,
        "imageId": {},
        "imageScanStatus": {"status": "COMPLETE"},
    }
    url = f"{emulator.endpoint}/moto-api/static/ecr/scan-finding-results"
    requests.post(url, json={"results": [result], "region": "us-east-1"}, timeout=30).raise_for_status()


def test_findings_are_said_and_refused_if_asked(flow_image, account, asked):
    give_findings(account, HIGH=2, LOW=7)
    message = flow_image.run_module(flow_image.name, asked | {"scan_refused": True}, fails=True)["msg"]
    assert "ECR's scan of" in message and "has findings: 2 HIGH." in message
    assert not any("current" in names for names in tags(account))

    result = flow_image.run_module(flow_image.name, asked | {"scan_severity": "LOW"})
    assert result["image"]["findings"] == {"HIGH": 2, "LOW": 7} and result["image"]["build"] == ""
    assert any("has findings: 2 HIGH, 7 LOW." in str(warning) for warning in result["warnings"]), result["warnings"]


def test_it_survives_kills(flow_image, account, asked):
    """A run that is killed between taking the tag from one image and giving it to the next."""
    flow_image.run(asked)
    other = asked | {"revision": "2"}
    with answering("PutImage", "ServerException", times=100):
        flow_image.run_module(flow_image.name, other, fails=True)
    assert flow_image.run(other)["image"]["build"] == ""
    flow_image.run(other, changes=False)


def test_without_an_engine_docker_is_refused_in_check_mode_too(flow_image, asked, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    message = flow_image.refused(asked | {"builder": "docker"})
    assert message.startswith(f"Failed to build flow image '{NAME}': no container engine answers on this machine")
