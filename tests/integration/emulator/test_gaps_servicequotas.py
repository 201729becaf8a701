"""Gaps of Service Quotas."""

from __future__ import annotations

from typing import Any

import pytest
from emulated_aws import Emulator


@pytest.mark.gap("servicequotas/vcpus")
def test_ec2_and_fargate_have_quotas_of_vcpus(emulator: Emulator, refused: Any) -> None:
    quotas = emulator.client("service-quotas")
    for service, code in (("ec2", "L-1216C47A"), ("ec2", "L-3819A6DF"), ("fargate", "L-3032A538")):
        quota = quotas.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]
        assert (quota["QuotaCode"], quota["Adjustable"]) == (code, True)
        assert quota["Value"] >= 64
    with refused("NoSuchResourceException"):
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-00000000")
