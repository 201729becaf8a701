"""Gaps of SageMaker's notebook instances."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.sagemaker import models
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.responses import SageMakerResponse

from emulator.gaps import add, gap, replace, wrap
from emulator.gaps.ec2_dependencies import hold, release

UPDATABLE = {
    "InstanceType": "instance_type",
    "RoleArn": "role_arn",
    "LifecycleConfigName": "lifecycle_config_name",
    "VolumeSizeInGB": "volume_size_in_gb",
    "DefaultCodeRepository": "default_code_repository",
    "AdditionalCodeRepositories": "additional_code_repositories",
    "RootAccess": "root_access",
}
REMOVABLE = {
    "DisassociateLifecycleConfig": "lifecycle_config_name",
    "DisassociateDefaultCodeRepository": "default_code_repository",
    "DisassociateAdditionalCodeRepositories": "additional_code_repositories",
}


@gap("sagemaker", "notebook-update", "A stopped notebook instance can be updated, a running one not.")
def notebook_update() -> None:
    @add(SageMakerResponse, "update_notebook_instance")
    def update(self: Any) -> ActionResult:
        notebook = self.sagemaker_backend.get_notebook_instance(self._get_param("NotebookInstanceName"))
        if not notebook.is_deletable:
            raise ValidationError(
                f"Status ({notebook.status}) not in ([Stopped, Failed]). "
                f"Unable to transition to (Updating) for Notebook Instance ({notebook.arn})"
            )
        instance_type = self._get_param("InstanceType")
        if instance_type:
            notebook.validate_instance_type(instance_type)
        for parameter, attribute in UPDATABLE.items():
            if self._get_param(parameter) is not None:
                setattr(notebook, attribute, self._get_param(parameter))
        for parameter, attribute in REMOVABLE.items():
            if self._get_param(parameter):
                setattr(notebook, attribute, None)
        notebook.last_modified_time = utcnow()
        return EmptyResult()


@gap("sagemaker", "lifecycle-configuration-update", "The scripts of a lifecycle configuration can be replaced.")
def lifecycle_configuration_update() -> None:
    @add(SageMakerResponse, "update_notebook_instance_lifecycle_config")
    def update(self: Any) -> ActionResult:
        configuration = _configuration(self)
        for parameter, attribute in (("OnCreate", "on_create"), ("OnStart", "on_start")):
            if self._get_param(parameter) is not None:
                setattr(configuration, attribute, self._get_param(parameter))
        configuration.last_modified_time = utcnow()
        return EmptyResult()


def _configuration(response: Any) -> Any:
    name = response._get_param("NotebookInstanceLifecycleConfigName")
    response.sagemaker_backend.describe_notebook_instance_lifecycle_config(name)  # raises when there is none
    return response.sagemaker_backend.notebook_instance_lifecycle_configurations[name]


@gap("sagemaker", "presigned-notebook-url", "A running notebook instance is opened through a URL with a token.")
def presigned_notebook_url() -> None:
    @add(SageMakerResponse, "create_presigned_notebook_instance_url")
    def create(self: Any) -> ActionResult:
        notebook = self.sagemaker_backend.get_notebook_instance(self._get_param("NotebookInstanceName"))
        if notebook.status != "InService":
            raise ValidationError(f"Notebook Instance ({notebook.arn}) must be InService, it is {notebook.status}")
        return ActionResult({"AuthorizedUrl": f"https://{notebook.url}?authToken={uuid.uuid4().hex}"})


@gap("sagemaker", "tags", "Lifecycle configurations have tags; tagging again replaces the value of a key.")
def resource_tags() -> None:
    @wrap(SageMakerResponse, "create_notebook_instance_lifecycle_config")
    def create(original: Callable[..., Any], self: Any) -> ActionResult:
        result = original(self)
        _configuration(self).tags = list(self._get_param("Tags") or [])
        return result

    @wrap(models.SageMakerModelBackend, "_get_resource_from_arn")
    def get(original: Callable[..., Any], self: Any, arn: str) -> Any:
        kind, _, name = arn.split(":")[-1].partition("/")
        if kind != "notebook-instance-lifecycle-config":
            return original(self, arn)
        if name not in self.notebook_instance_lifecycle_configurations:
            raise ValidationError(f"Could not find {kind} with name {name}")
        return self.notebook_instance_lifecycle_configurations[name]

    @replace(models.SageMakerModelBackend, "add_tags")
    def add_tags(self: Any, arn: str, tags: list[dict[str, str]]) -> list[dict[str, str]]:
        resource = self._get_resource_from_arn(arn)
        new = {tag["Key"] for tag in tags}
        resource.tags = [tag for tag in resource.tags if tag["Key"] not in new] + list(tags)
        return resource.tags


@gap("sagemaker", "notebook-interface", "A notebook instance in a subnet holds a network interface there.")
def notebook_interface() -> None:
    @wrap(models.SageMakerModelBackend, "create_notebook_instance")
    def create(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        notebook = original(self, *args, **kwargs)
        backend = ec2_backends[self.account_id][self.region_name]
        description = f"[Do not delete] Network interface of SageMaker {notebook.arn}"
        groups = notebook.security_group_ids or []
        notebook.held = [hold(backend, notebook.subnet_id, groups, description)] if notebook.subnet_id else []
        return notebook

    @wrap(models.SageMakerModelBackend, "delete_notebook_instance")
    def delete(original: Callable[..., Any], self: Any, notebook_instance_name: str) -> None:
        notebook = self.get_notebook_instance(notebook_instance_name)
        original(self, notebook_instance_name)
        release(notebook.held)
