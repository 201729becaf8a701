"""Gaps of the resource tagging API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.apigateway.models import apigateway_backends
from moto.batch.models import batch_backends
from moto.codebuild.models import codebuild_backends
from moto.core.resource_tagging import TaggedResource
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.responses.tags import TagResponse
from moto.ecr.models import ecr_backends
from moto.elbv2.models import elbv2_backends
from moto.events.models import events_backends
from moto.rds.models import rds_backends
from moto.resourcegroupstaggingapi import models

from emulator.gaps import gap, wrap
from emulator.gaps.dlm import dlm_backends

# (resource type, ARN, tags) of what moto's own part of each service leaves out
Found = Iterable[tuple[str, str, dict[str, str]]]

# The prefixes of ids whose resources are looked up when tags are described; others are shown as moto does.
LOOKED_UP = {"eipalloc", "eni", "igw", "lt", "nat", "rtb", "sg", "subnet", "vpc", "vpce"}


class Unlisted:
    """Stands beside moto's backends in the tagging API and lists what they leave out."""

    def __init__(self, account: str, region: str) -> None:
        self.account = account
        self.region = region

    def iter_tagged_resources(self) -> Iterator[TaggedResource]:
        """Yield the resources in the form that the tagging API filters."""
        for found_in in (_apigateway, _batch, _codebuild, _dlm, _ec2, _ecr, _elbv2, _events, _rds):
            for resource_type, arn, tags in found_in(self.account, self.region):
                yield TaggedResource(arn, tags, resource_type)

    def owns_arn(self, arn: str) -> bool:
        """Leave tagging through this API to moto's backends."""
        return False


@gap("tagging", "all-services", "GetResources lists the tagged resources of every service of the stack.")
def all_services() -> None:
    @wrap(models, "iter_taggable_backends")
    def backends(original: Callable[..., Any], account_id: str, region_name: str) -> Iterator[Any]:
        yield from original(account_id, region_name)
        yield Unlisted(account_id, region_name)


def _apigateway(account: str, region: str) -> Found:
    backend = apigateway_backends[account][region]
    prefix = f"arn:{backend.partition}:apigateway:{region}::/"
    for api in backend.apis.values():
        yield "apigateway:restapis", f"{prefix}restapis/{api.id}", api.tags or {}
        for stage in api.stages.values():
            yield "apigateway:stages", f"{prefix}restapis/{api.id}/stages/{stage.name}", stage.tags or {}
    for kind, found in (
        ("apikeys", backend.keys),
        ("usageplans", backend.usage_plans),
        ("vpclinks", backend.vpc_links),
    ):
        for one in found.values():
            yield f"apigateway:{kind}", f"{prefix}{kind}/{one.id}", one.tags or {}


def _batch(account: str, region: str) -> Found:
    backend = batch_backends[account][region]
    kinds = {
        "batch:compute-environment": backend._compute_environments.values(),
        "batch:job-queue": backend._job_queues.values(),
        "batch:job-definition": (d for d in backend._job_definitions.values() if d.status == "ACTIVE"),
    }
    for kind, found in kinds.items():
        for one in found:
            yield kind, one.arn, backend.tagger.get_tag_dict_for_resource(one.arn)


def _codebuild(account: str, region: str) -> Found:
    for project in codebuild_backends[account][region].codebuild_projects.values():
        yield "codebuild:project", project.arn, {tag["key"]: tag["value"] for tag in project.tags or []}


def _dlm(account: str, region: str) -> Found:
    for policy in dlm_backends[account][region].policies.values():
        yield "dlm:policy", policy.arn, policy.tags


def _ec2(account: str, region: str) -> Found:
    backend = ec2_backends[account][region]
    kinds = {
        "elastic-ip": (address.allocation_id for address in backend.addresses),
        "launch-template": backend.launch_templates,
        "vpc-endpoint": backend.vpc_end_points,
    }
    for kind, ids in kinds.items():
        for one in ids:
            arn = f"arn:{backend.partition}:ec2:{region}:{account}:{kind}/{one}"
            yield f"ec2:{kind}", arn, dict(backend.tags.get(one, {}))


def _ecr(account: str, region: str) -> Found:
    backend = ecr_backends[account][region]
    for repository in backend.repositories.values():
        yield "ecr:repository", repository.arn, backend.tagger.get_tag_dict_for_resource(repository.arn)


def _elbv2(account: str, region: str) -> Found:
    backend = elbv2_backends[account][region]
    for balancer in backend.load_balancers.values():
        for arn in balancer.listeners:
            yield "elasticloadbalancing:listener", arn, backend.tagging_service.get_tag_dict_for_resource(arn)


def _events(account: str, region: str) -> Found:
    backend = events_backends[account][region]
    for bus in backend.event_buses.values():
        for rule in bus.rules.values():
            yield "events:rule", rule.arn, backend.tagger.get_tag_dict_for_resource(rule.arn)


def _rds(account: str, region: str) -> Found:
    backend = rds_backends[account][region]
    for kind, found in (("subgrp", backend.subnet_groups), ("pg", backend.db_parameter_groups)):
        for one in found.values():
            yield f"rds:{kind}", one.arn, {tag["Key"]: tag["Value"] for tag in one.tags}


@gap("tagging", "tags-of-deleted-resources", "DescribeTags forgets a resource with its deletion.")
def tags_of_deleted_resources() -> None:
    @wrap(TagResponse, "describe_tags")
    def describe(original: Callable[..., Any], self: Any) -> ActionResult:
        living = {resource.arn.rsplit("/", 1)[1] for resource in self.ec2_backend.iter_tagged_resources()}
        living |= {arn.rsplit("/", 1)[1] for _, arn, _ in _ec2(self.current_account, self.region)}
        result = original(self)
        result.result["Tags"] = [
            tag
            for tag in result.result["Tags"]
            if tag["resource_id"] in living or tag["resource_id"].split("-")[0] not in LOOKED_UP
        ]
        return result
