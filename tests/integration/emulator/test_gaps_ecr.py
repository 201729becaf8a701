"""Gaps of ECR."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from emulated_aws import Emulator

Refused = Callable[..., Any]

MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPE, "layers": []})


@pytest.mark.gap("ecr/authorization-token")
def test_the_token_is_for_the_endpoint_that_it_names(emulator: Emulator, name: str) -> None:
    (data,) = emulator.client("ecr").get_authorization_token()["authorizationData"]
    assert data["expiresAt"] > datetime.now(UTC)
    assert data["proxyEndpoint"] == emulator.endpoint
    user, password = base64.b64decode(data["authorizationToken"]).decode().split(":", 1)
    assert user == "AWS"
    assert requests.get(f"{data['proxyEndpoint']}/v2/", auth=(user, password), timeout=30).status_code == 200
    assert requests.get(f"{data['proxyEndpoint']}/v2/", auth=(user, "wrong"), timeout=30).status_code == 401


@pytest.mark.gap("ecr/scan-on-push")
@pytest.mark.gap("ecr/findings-of-scans")
def test_what_is_pushed_is_scanned_and_nothing_is_invented(emulator: Emulator, name: str, refused: Refused) -> None:
    ecr = emulator.client("ecr")
    for repository, scans in ((f"{name}-scanned", True), (f"{name}-plain", False)):
        ecr.create_repository(repositoryName=repository, imageScanningConfiguration={"scanOnPush": scans})
        ecr.put_image(
            repositoryName=repository, imageManifest=MANIFEST, imageManifestMediaType=MEDIA_TYPE, imageTag="1"
        )
    answer = ecr.describe_image_scan_findings(repositoryName=f"{name}-scanned", imageId={"imageTag": "1"})
    assert answer["imageScanStatus"]["status"] == "COMPLETE"
    assert answer["imageScanFindings"]["findings"] == []
    assert answer["imageScanFindings"]["findingSeverityCounts"] == {}
    with refused("ScanNotFoundException"):
        ecr.describe_image_scan_findings(repositoryName=f"{name}-plain", imageId={"imageTag": "1"})
