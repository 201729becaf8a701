"""Gaps of ECR."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ecr.models import ECRBackend
from moto.ecr.responses import ECRResponse

from emulator.gaps import gap, replace, wrap

TOKEN_LIFETIME = timedelta(hours=12)


@gap("ecr", "authorization-token", "The token of GetAuthorizationToken says for whom it is, and the endpoint takes it.")
def authorization_token() -> None:
    @replace(ECRResponse, "get_authorization_token")
    def get(self: Any) -> ActionResult:
        password = f"{self.current_account}/{self.region}/{self.get_access_key()}/authorization-token"
        data = {
            "authorizationToken": base64.b64encode(f"AWS:{password}".encode()).decode(),
            "expiresAt": utcnow() + TOKEN_LIFETIME,
            "proxyEndpoint": f"http://{self.headers['Host']}",
        }
        return ActionResult({"authorizationData": [data]})


@gap("ecr", "scan-on-push", "An image that is pushed to a repository with scanOnPush is scanned.")
def scan_on_push() -> None:
    @wrap(ECRBackend, "put_image")
    def put(original: Callable[..., Any], self: Any, repository_name: str, *args: Any, **kwargs: Any) -> Any:
        image = original(self, repository_name, *args, **kwargs)
        if self.repositories[repository_name].image_scanning_configuration.get("scanOnPush"):
            image.last_scan = image.last_scan or datetime.today()
        return image


@gap("ecr", "findings-of-scans", "A scan finds what is in the image, and not one invented vulnerability.")
def findings_of_scans() -> None:
    @wrap(ECRBackend, "describe_image_scan_findings")
    def describe(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, *args, **kwargs)
        findings = answer["imageScanFindings"]
        # What a test has given moto to answer stays.
        if [finding["name"] for finding in findings.get("findings", [])] == ["CVE-9999-9999"]:
            answer["imageScanFindings"] = {**findings, "findings": [], "findingSeverityCounts": {}}
        return answer
