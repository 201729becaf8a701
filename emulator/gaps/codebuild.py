"""Gaps of CodeBuild."""

from __future__ import annotations

from typing import Any

from moto.codebuild.exceptions import ResourceNotFoundException
from moto.codebuild.responses import CodeBuildResponse
from moto.core.responses import ActionResult
from moto.core.utils import unix_time

from emulator.gaps import add, gap, replace

#: What UpdateProject can change, as CreateProject names it.
CHANGEABLE = (
    "description", "source", "sourceVersion", "artifacts", "cache", "environment", "serviceRole", "timeoutInMinutes",
    "queuedTimeoutInMinutes", "encryptionKey", "tags", "vpcConfig", "logsConfig",
)  # fmt: skip


@gap("codebuild", "update-project", "UpdateProject changes what it is given, and leaves the rest.")
def update_project() -> None:
    @add(CodeBuildResponse, "update_project")
    def update(self: Any) -> ActionResult:
        name = self._get_param("name")
        project = self.codebuild_backend.codebuild_projects.get(name)
        if project is None:
            raise ResourceNotFoundException(f"Project cannot be found: {name}")
        given = {key: self._get_param(key) for key in CHANGEABLE}
        project.project_metadata |= {key: value for key, value in given.items() if value is not None}
        project.project_metadata["lastModified"] = unix_time()
        project.service_role = project.project_metadata["serviceRole"]
        project.tags = project.project_metadata["tags"]
        return ActionResult({"project": project.project_metadata})


@gap("codebuild", "projects-not-found", "BatchGetProjects names the projects that aren't there.")
def projects_not_found() -> None:
    @replace(CodeBuildResponse, "batch_get_projects")
    def get(self: Any) -> ActionResult:
        names = self._get_param("names")
        found = self.codebuild_backend.batch_get_projects(names)
        there = {project["name"] for project in found}
        missing = [name for name in names if name.rpartition("/")[2] not in there]
        return ActionResult({"projects": found, "projectsNotFound": missing})
