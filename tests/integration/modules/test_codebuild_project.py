# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module codebuild_project against the emulator."""

from __future__ import annotations

import pytest
from steps import Module, answering

NAME = "metaflow-test-image"
ROLE = "arn:aws:iam::123456789012:role/builds"
MINIMAL = {
    "name": NAME,
    "source_location": "bucket/source.zip",
    "buildspec": "version: 0.2\n",
    "environment": {"image": "aws/codebuild/amazonlinux-x86_64-standard:5.0"},
    "service_role": ROLE,
    "log_group": "builds",
}
FULL = MINIMAL | {
    "description": "Builds",
    "buildspec": "version: 0.2\nphases: {}\n",
    "environment": {
        "type": "ARM_CONTAINER",
        "image": "aws/codebuild/amazonlinux-aarch64-standard:3.0",
        "compute_type": "BUILD_GENERAL1_LARGE",
        "privileged_mode": True,
    },
    "timeout_in_minutes": 30,
    "tags": {"a_B": "c"},
}


@pytest.fixture
def codebuild(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("codebuild")


@pytest.fixture
def project(codebuild, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "codebuild_project")


def state(codebuild):
    """Return what CodeBuild shows of the project."""
    (live,) = codebuild.batch_get_projects(names=[NAME])["projects"]
    return {key: value for key, value in live.items() if key not in ("created", "lastModified")}


def test_twelve_steps(project, codebuild):
    assert project.change(MINIMAL)["project"]["arn"].endswith(f":project/{NAME}")
    assert state(codebuild)["environment"]["privilegedMode"] is False

    assert project.change(FULL)["project"]["tags"] == {"a_B": "c"}
    live = state(codebuild)
    assert live["environment"]["computeType"] == "BUILD_GENERAL1_LARGE"
    assert live["source"]["buildspec"] == FULL["buildspec"]
    assert live["timeoutInMinutes"] == 30
    assert live["tags"] == [{"key": "a_B", "value": "c"}]

    assert project.change({"name": NAME, "state": "absent"})["project"] == {}
    assert codebuild.batch_get_projects(names=[NAME])["projectsNotFound"] == [NAME]


def test_tags_alone_are_changed(project, codebuild):
    project.run(FULL)
    project.change(FULL | {"tags": {"d": "e"}, "purge_tags": False})
    assert {tag["key"] for tag in state(codebuild)["tags"]} == {"a_B", "d"}
    project.change(FULL | {"tags": {"d": "f"}})
    assert state(codebuild)["tags"] == [{"key": "d", "value": "f"}]


def test_it_survives_kills(project, codebuild):
    project.survives_kills(lambda: FULL, lambda: state(codebuild))


def test_what_aws_refuses_is_passed_on(project):
    with answering("CreateProject", "AccountLimitExceededException", "Too many projects."):
        message = project.run_module(project.name, MINIMAL, fails=True)["msg"]
    assert message.startswith(f"Failed to create CodeBuild project '{NAME}': ") and "Too many projects." in message
