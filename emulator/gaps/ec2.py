"""Gaps of EC2: tags, VPC endpoints, launch templates, instances."""

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import elastic_block_store, instances, launch_templates, security_groups, tags, vpcs
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.ec2.responses.security_groups import SecurityGroups
from moto.ec2.responses.vpcs import VPCs
from moto.ec2.utils import Base64EncodedString
from moto.ssm.models import ssm_backends

from emulator.gaps import ShapeError, add, gap, replace, wrap


@gap("ec2", "elastic-ip-and-natgateway-tags", "The resource types of these tags are elastic-ip and natgateway.")
def elastic_ip_and_natgateway_tags() -> None:
    for prefix, name in (("eipalloc", "elastic-ip"), ("nat", "natgateway")):
        if prefix not in tags.EC2_PREFIX_TO_RESOURCE:
            raise ShapeError(f"no resource type for ids that begin with {prefix}")
        tags.EC2_PREFIX_TO_RESOURCE[prefix] = name


@gap("ec2", "rule-description-answer", "UpdateSecurityGroupRuleDescriptions* answer Return=true.")
def rule_description_answer() -> None:
    for direction in ("ingress", "egress"):

        @wrap(SecurityGroups, f"update_security_group_rule_descriptions_{direction}")
        def update(original: Callable[..., Any], self: Any) -> ActionResult:
            original(self)
            return ActionResult({"Return": True})


@gap("ec2", "rule-of-a-group", "Rules for one security group are the same rule, whatever their description.")
def rule_of_a_group() -> None:
    @wrap(security_groups.SecurityGroupRule, "__eq__")
    def equal(original: Callable[..., bool], self: Any, other: Any) -> bool:
        return original(_undescribed(self), _undescribed(other))


def _undescribed(rule: Any) -> Any:
    bare = copy.copy(rule)
    bare.source_group = {key: value for key, value in rule.source_group.items() if key != "Description"}
    return bare


@gap("ec2", "vpc-endpoint-route-tables", "A gateway endpoint adds and removes the routes of its route tables.")
def vpc_endpoint_route_tables() -> None:
    @wrap(vpcs.VPCBackend, "create_vpc_endpoint")
    def create(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs["endpoint_type"] = kwargs.get("endpoint_type") or "Gateway"
        return original(self, *args, **kwargs)

    @wrap(vpcs.VPCEndPoint, "modify")
    def modify(
        original: Callable[..., Any],
        self: Any,
        policy_doc: Any,
        add_subnets: Any,
        remove_subnets: Any,
        add_route_tables: list[str],
        remove_route_tables: list[str],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        prefix_list = self.destination_prefix_list_id
        if prefix_list:
            for table in set(add_route_tables) - set(self.route_table_ids):
                self.ec2_backend.create_route(table, None, gateway_id=self.id, destination_prefix_list_id=prefix_list)
            for table in set(remove_route_tables) & set(self.route_table_ids):
                self.ec2_backend.delete_route(table, prefix_list)
        original(self, policy_doc, add_subnets, remove_subnets, add_route_tables, remove_route_tables, *args, **kwargs)


@gap("ec2", "vpc-endpoint-id-filter", "Endpoints are found by the filter vpc-endpoint-id.")
def vpc_endpoint_id_filter() -> None:
    add(vpcs.VPCEndPoint, "vpc_endpoint_id")(property(lambda endpoint: endpoint.id))


@gap("ec2", "vpc-endpoint-deletion", "A deleted endpoint is gone; deleting a missing one is reported as unsuccessful.")
def vpc_endpoint_deletion() -> None:
    @replace(VPCs, "delete_vpc_endpoints")
    def delete(self: Any) -> ActionResult:
        backend, missing = self.ec2_backend, []
        for endpoint_id in self._get_param("VpcEndpointIds", []):
            if endpoint_id not in backend.vpc_end_points:
                missing.append(endpoint_id)
                continue
            backend.delete_vpc_endpoints(vpce_ids=[endpoint_id])
            del backend.vpc_end_points[endpoint_id]
        code = "InvalidVpcEndpoint.NotFound"
        unsuccessful = [
            {"ResourceId": one, "Error": {"Code": code, "Message": f"The Vpc Endpoint Id '{one}' does not exist"}}
            for one in missing
        ]
        return ActionResult({"Unsuccessful": unsuccessful})


@gap("ec2", "launch-template-own-tags", "Tags of a launch template itself are not part of its data.")
def launch_template_own_tags() -> None:
    @wrap(launch_templates.LaunchTemplateBackend, "create_launch_template")
    def create(
        original: Callable[..., Any], self: Any, name: str, description: str, template_data: Any, tag_spec: Any
    ) -> Any:
        specs = [s for s in template_data.pop("TagSpecifications", []) if s["ResourceType"] != "launch-template"]
        if specs:
            template_data["TagSpecifications"] = specs
        return original(self, name, description, template_data, tag_spec)


@gap("ec2", "launch-template-source-version", "A new version inherits what it does not give from SourceVersion.")
def launch_template_source_version() -> None:
    @wrap(LaunchTemplates, "create_launch_template_version")
    def create(original: Callable[..., Any], self: Any) -> ActionResult:
        source = self._get_param("SourceVersion")
        if source:
            inherited = _template(self).get_version(source).data
            self.params["LaunchTemplateData"] = {**inherited, **self._get_param("LaunchTemplateData", {})}
        return original(self)


@gap("ec2", "launch-template-version-deletion", "Versions but the default can be deleted; numbers are not used again.")
def launch_template_version_deletion() -> None:
    @replace(launch_templates.LaunchTemplate, "create_version")
    def create_version(self: Any, data: dict[str, Any], description: str) -> Any:
        self.last_number = getattr(self, "last_number", 0) + 1
        version = launch_templates.LaunchTemplateVersion(self, self.last_number, data, description)
        self.versions.append(version)
        return version

    @replace(launch_templates.LaunchTemplate, "get_version")
    def get_version(self: Any, num: Any) -> Any:
        wanted = {"$latest": self.versions[-1].number, "$default": self.default_version_number}.get(
            str(num).lower(), num
        )
        for version in self.versions:
            if str(version.number) == str(wanted):
                return version
        raise launch_templates.InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=num)

    @replace(launch_templates.LaunchTemplate, "default_version")
    def default_version(self: Any) -> Any:
        return self.get_version(self.default_version_number)

    @add(LaunchTemplates, "delete_launch_template_versions")
    def delete(self: Any) -> ActionResult:
        template = _template(self)
        deleted, kept = [], []
        for number in self._get_param("Versions", []):
            entry = {
                "LaunchTemplateId": template.id,
                "LaunchTemplateName": template.name,
                "VersionNumber": int(number),
            }
            problem = _delete_version(template, int(number))
            if problem:
                kept.append(entry | {"ResponseError": {"Code": problem, "Message": f"version {number}: {problem}"}})
            else:
                deleted.append(entry)
        return ActionResult(
            {"SuccessfullyDeletedLaunchTemplateVersions": deleted, "UnsuccessfullyDeletedLaunchTemplateVersions": kept}
        )


def _template(response: Any) -> Any:
    name, template_id = response._get_param("LaunchTemplateName"), response._get_param("LaunchTemplateId")
    backend = response.ec2_backend
    return backend.get_launch_template_by_name(name) if name else backend.get_launch_template(template_id)


def _delete_version(template: Any, number: int) -> str | None:
    """Delete a version; returns AWS's error code when it cannot be."""
    if number == template.default_version_number:
        return "unexpectedError"
    found = [v for v in template.versions if v.number == number]
    if not found:
        return "launchTemplateVersionDoesNotExist"
    template.versions.remove(found[0])
    return None


@gap("ec2", "terminated-instance-interface", "An interface made with an instance is deleted when that terminates.")
def terminated_instance_interface() -> None:
    @wrap(instances.Instance, "prep_nics")
    def prep_nics(
        original: Callable[..., Any], self: Any, nic_spec: list[dict[str, Any]], *args: Any, **kwargs: Any
    ) -> None:
        # An interface that was there before, or that is to be kept, survives the instance.
        kept = {
            int(nic["DeviceIndex"])
            for nic in nic_spec
            if nic.get("NetworkInterfaceId") or nic.get("DeleteOnTermination") is False
        }
        original(self, nic_spec, *args, **kwargs)
        for index, nic in self.nics.items():
            nic.delete_on_termination = index not in kept


#: What RunInstances takes from a launch template where the call itself doesn't say it.
FROM_TEMPLATE = (
    "BlockDeviceMappings", "EbsOptimized", "IamInstanceProfile", "ImageId", "InstanceType", "KeyName",
    "MetadataOptions", "NetworkInterfaces", "SecurityGroupIds",
)  # fmt: skip


@gap("ec2", "launch-from-template", "An instance is what its launch template says; resolve:ssm: names its image.")
def launch_from_template() -> None:
    @wrap(InstanceResponse, "run_instances")
    def run(original: Callable[..., Any], self: Any) -> ActionResult:
        wanted = self._get_param("LaunchTemplate")
        if wanted:
            data = self.ec2_backend._get_template_from_args(wanted).data
            self.params.update({key: data[key] for key in FROM_TEMPLATE if key in data and key not in self.params})
        self.params["ImageId"] = _image(self, self.params.get("ImageId", ""))
        answer = original(self)
        for instance in answer.result.instances:
            # The groups of its interface are the instance's.
            instance.security_groups = instance.security_groups or list(instance.nics[0].group_set)
        return answer


def _image(response: Any, image: str) -> str:
    """Return the id of an image; ``resolve:ssm:`` is followed by the parameter that holds it."""
    _, is_reference, name = image.rpartition("resolve:ssm:")
    if not is_reference:
        return image
    parameters = ssm_backends[response.current_account][response.region].get_parameters([name])
    if name not in parameters:
        raise EC2ClientError("InvalidAMIID.Malformed", f"Invalid id: {image!r}: there is no such parameter")
    return parameters[name].value


@gap("ec2", "volume-outlives-instance", "A volume's attachment says whether the volume ends with its instance.")
def volume_outlives_instance() -> None:
    @add(elastic_block_store.VolumeAttachment, "delete_on_termination")
    @property
    def delete_on_termination(self: Any) -> bool:
        return self.instance.block_device_mapping[self.device].delete_on_termination


@gap("ec2", "console-host-keys", "The console of a new instance shows the host keys that cloud-init has made.")
def console_host_keys() -> None:
    @wrap(General, "get_console_output")
    def output(original: Callable[..., Any], self: Any) -> ActionResult:
        answer = original(self)
        text = f"""[   10.2] cloud-init[640]: Cloud-init v. 22.4.2 finished
-----BEGIN SSH HOST KEY KEYS-----\r
ssh-ed25519 {_public_key(answer.result["InstanceId"])} root@host\r
-----END SSH HOST KEY KEYS-----\r
"""
        answer.result["Output"] = Base64EncodedString.from_raw_string(text)
        return answer


def _public_key(instance: str) -> str:
    """Return a key in the form of ssh-ed25519, another one for each instance."""
    parts = (b"ssh-ed25519", hashlib.sha256(instance.encode()).digest())
    return base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()
