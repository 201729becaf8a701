"""Gaps of S3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

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
