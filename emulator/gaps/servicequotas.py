"""Gaps of Service Quotas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.servicequotas.models import ServiceQuotasBackend

from emulator.gaps import gap, wrap
from emulator.runtime.supply import supply


@gap("servicequotas", "vcpus", "EC2 and Fargate have quotas of the vCPUs that run.")
def vcpus() -> None:
    @wrap(ServiceQuotasBackend, "get_service_quota")
    def get(original: Callable[..., Any], self: Any, service_code: str, quota_code: str) -> dict[str, Any]:
        value = supply.quota(quota_code) if service_code in ("ec2", "fargate") else None
        if value is None:
            return original(self, service_code, quota_code)
        return {
            "ServiceCode": service_code,
            "QuotaArn": f"arn:aws:servicequotas:{self.region_name}:{self.account_id}:{service_code}/{quota_code}",
            "QuotaCode": quota_code,
            "QuotaName": "Running vCPUs",
            "Value": value,
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }
