"""Gaps of SageMaker's notebook instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]
SCRIPT = [{"Content": "dHJ1ZQ=="}]
OTHER_SCRIPT = [{"Content": "ZmFsc2U="}]


@pytest.fixture
def sagemaker(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("sagemaker")


def notebook(sagemaker: Any, name: str, **more: Any) -> dict[str, Any]:
    sagemaker.create_notebook_instance(
        NotebookInstanceName=name, InstanceType="ml.t3.medium", RoleArn="arn:aws:iam::123456789012:role/x", **more
    )
    return sagemaker.describe_notebook_instance(NotebookInstanceName=name)


@pytest.mark.gap("sagemaker/notebook-update")
def test_a_stopped_notebook_is_updated(sagemaker: Any, name: str, refused: Refused) -> None:
    sagemaker.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, OnStart=SCRIPT)
    notebook(sagemaker, name, LifecycleConfigName=name)
    change = {"NotebookInstanceName": name, "InstanceType": "ml.t3.large", "DisassociateLifecycleConfig": True}
    with refused("ValidationException", "Unable to transition to \\(Updating\\)"):
        sagemaker.update_notebook_instance(**change)
    sagemaker.stop_notebook_instance(NotebookInstanceName=name)
    sagemaker.update_notebook_instance(**change)
    read = sagemaker.describe_notebook_instance(NotebookInstanceName=name)
    assert read["InstanceType"] == "ml.t3.large"
    assert "NotebookInstanceLifecycleConfigName" not in read


@pytest.mark.gap("sagemaker/lifecycle-configuration-update")
def test_the_scripts_of_a_lifecycle_configuration_are_replaced(sagemaker: Any, name: str, refused: Refused) -> None:
    sagemaker.create_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, OnStart=SCRIPT)
    sagemaker.update_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name, OnStart=OTHER_SCRIPT)
    read = sagemaker.describe_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=name)
    assert read["OnStart"] == OTHER_SCRIPT
    with refused("ValidationException", "does not exist"):
        sagemaker.update_notebook_instance_lifecycle_config(NotebookInstanceLifecycleConfigName=f"{name}b")


@pytest.mark.gap("sagemaker/presigned-notebook-url")
def test_a_running_notebook_has_a_url_to_open(sagemaker: Any, name: str, refused: Refused) -> None:
    host = notebook(sagemaker, name)["Url"]
    urls = [sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName=name)["AuthorizedUrl"] for _ in "ab"]
    assert all(url.startswith(f"https://{host}?authToken=") for url in urls)
    assert urls[0] != urls[1]
    sagemaker.stop_notebook_instance(NotebookInstanceName=name)
    with refused("ValidationException", "InService"):
        sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName=name)


@pytest.mark.gap("sagemaker/tags")
def test_tags_of_a_lifecycle_configuration(sagemaker: Any, name: str) -> None:
    arn = sagemaker.create_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName=name, OnStart=SCRIPT, Tags=[{"Key": "a", "Value": "1"}]
    )["NotebookInstanceLifecycleConfigArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}]
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "3"}]


@pytest.mark.gap("sagemaker/notebook-interface")
def test_a_notebook_holds_its_subnet_and_group(
    sagemaker: Any, emulator: Emulator, network: Any, name: str, refused: Refused
) -> None:
    ec2 = emulator.client("ec2")
    notebook(sagemaker, name, SubnetId=network.subnets[0], SecurityGroupIds=[network.group])
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=network.group)
    sagemaker.stop_notebook_instance(NotebookInstanceName=name)
    sagemaker.delete_notebook_instance(NotebookInstanceName=name)
    ec2.delete_security_group(GroupId=network.group)
    ec2.delete_subnet(SubnetId=network.subnets[0])
