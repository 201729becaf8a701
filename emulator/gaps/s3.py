"""Gaps of S3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import xmltodict
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response

from emulator.gaps import gap, wrap
from emulator.runtime.policies import allows, denies


@gap("s3", "bucket-policy-conditions", "A statement of a bucket policy counts only where its conditions hold.")
def bucket_policy_conditions() -> None:
    # Loopback stands in for TLS: the emulated endpoint has no certificate.
    context = {"aws:SecureTransport": "true"}

    @wrap(FakeBucket, "get_permission")
    def permission(original: Callable[..., Any], self: Any, action: str, resource: str) -> PermissionResult:
        if self.policy is None:
            return PermissionResult.NEUTRAL
        documents = [json.loads(self.policy)]
        if denies(documents, action, resource, context):
            return PermissionResult.DENIED
        if allows(documents, action, resource, context):
            return PermissionResult.PERMITTED
        return PermissionResult.NEUTRAL


@gap("s3", "create-bucket-tags", "CreateBucket gives the bucket the tags of its configuration.")
def create_bucket_tags() -> None:
    @wrap(S3Response, "_bucket_response_put")
    def put(
        original: Callable[..., Any], self: Any, request: Any, bucket_name: str, querystring: dict[str, Any]
    ) -> Any:
        answer = original(self, request, bucket_name, querystring)
        if self.data.get("Action") == "CreateBucket" and self.body:
            configuration = xmltodict.parse(self.body, force_list={"Tag"}).get("CreateBucketConfiguration") or {}
            tags = (configuration.get("Tags") or {}).get("Tag", [])
            if tags:
                self.backend.put_bucket_tagging(bucket_name, {tag["Key"]: tag["Value"] or "" for tag in tags})
        return answer
