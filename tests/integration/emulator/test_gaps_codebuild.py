"""Gaps of CodeBuild."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]

PROJECT = {
    "source": {"type": "S3", "location": "bucket/source.zip", "buildspec": "version: 0.2"},
    "artifacts": {"type": "NO_ARTIFACTS"},
    "environment": {"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
    "serviceRole": "arn:aws:iam::123456789012:role/builds",
    "timeoutInMinutes": 30,
}


@pytest.mark.gap("codebuild/update-project")
def test_a_project_is_updated(emulator: Emulator, name: str, refused: Refused) -> None:
    codebuild = emulator.client("codebuild")
    codebuild.create_project(name=name, **PROJECT)
    codebuild.update_project(name=name, timeoutInMinutes=5, tags=[{"key": "a", "value": "b"}])
    (project,) = codebuild.batch_get_projects(names=[name])["projects"]
    assert project["timeoutInMinutes"] == 5 and project["tags"] == [{"key": "a", "value": "b"}]
    assert project["source"] == PROJECT["source"]
    with refused("ResourceNotFoundException"):
        codebuild.update_project(name=f"{name}-none", timeoutInMinutes=5)


@pytest.mark.gap("codebuild/projects-not-found")
def test_projects_that_are_not_there_are_named(emulator: Emulator, name: str) -> None:
    codebuild = emulator.client("codebuild")
    codebuild.create_project(name=name, **PROJECT)
    answer = codebuild.batch_get_projects(names=[name, f"{name}-none"])
    assert [project["name"] for project in answer["projects"]] == [name]
    assert answer["projectsNotFound"] == [f"{name}-none"]
