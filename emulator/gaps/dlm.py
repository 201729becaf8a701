"""Data Lifecycle Manager, which moto lacks: its policies are kept and shown. No snapshot is ever taken."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from moto import backend_index
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.common_models import BaseModel
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random

from emulator.gaps import ShapeError, gap

#: What UpdateLifecyclePolicy can change.
CHANGEABLE = ("ExecutionRoleArn", "Description", "State", "PolicyDetails")


class NotFound(JsonRESTError):
    """There is no such policy."""

    code = 404

    def __init__(self, what: str) -> None:
        super().__init__("ResourceNotFoundException", f"The resource {what} does not exist.")


class Policy(BaseModel):
    """A lifecycle policy, as it was declared."""

    def __init__(self, arn_prefix: str, declared: dict[str, Any]) -> None:
        self.id = f"policy-{mock_random.get_random_hex(17)}"
        self.arn = f"{arn_prefix}:policy/{self.id}"
        self.tags: dict[str, str] = declared.get("Tags") or {}
        self.declared = {key: declared[key] for key in CHANGEABLE}
        self.made = self.modified = utcnow()

    def summary(self) -> dict[str, Any]:
        """Return what the listing shows."""
        shown = {key: self.declared[key] for key in ("Description", "State")}
        return {"PolicyId": self.id, "Tags": self.tags, "PolicyType": "EBS_SNAPSHOT_MANAGEMENT", **shown}

    def shown(self) -> dict[str, Any]:
        """Return all of it."""
        own = {"PolicyId": self.id, "PolicyArn": self.arn, "Tags": self.tags}
        return {**own, **self.declared, "DateCreated": self.made, "DateModified": self.modified}


class DlmBackend(BaseBackend):
    """The policies of an account in a region."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.policies: dict[str, Policy] = {}

    @property
    def _url_module(self) -> Any:
        return SimpleNamespace(url_bases=[URL_BASE], url_paths=URL_PATHS)

    def policy(self, identifier: str) -> Policy:
        """Return a policy by its id or ARN."""
        found = self.policies.get(identifier.rpartition("/")[2])
        if found is None:
            raise NotFound(identifier)
        return found


class DlmResponse(BaseResponse):
    """The operations, by their names in snake_case."""

    def __init__(self) -> None:
        super().__init__(service_name="dlm")

    @property
    def backend(self) -> DlmBackend:
        return dlm_backends[self.current_account][self.region]

    def _named(self) -> Policy:
        return self.backend.policy(unquote(self.path).partition("/policies/")[2])

    def _tagged(self) -> Policy:
        return self.backend.policy(unquote(self.path).partition("/tags/")[2])

    def create_lifecycle_policy(self) -> ActionResult:
        declared = {key: self._get_param(key) for key in (*CHANGEABLE, "Tags")}
        policy = Policy(f"arn:aws:dlm:{self.region}:{self.current_account}", declared)
        self.backend.policies[policy.id] = policy
        return ActionResult({"PolicyId": policy.id})

    def get_lifecycle_policies(self) -> ActionResult:
        return ActionResult({"Policies": [policy.summary() for policy in self.backend.policies.values()]})

    def get_lifecycle_policy(self) -> ActionResult:
        return ActionResult({"Policy": self._named().shown()})

    def update_lifecycle_policy(self) -> ActionResult:
        policy = self._named()
        given = {key: self._get_param(key) for key in CHANGEABLE}
        policy.declared |= {key: value for key, value in given.items() if value is not None}
        policy.modified = utcnow()
        return EmptyResult()

    def delete_lifecycle_policy(self) -> ActionResult:
        del self.backend.policies[self._named().id]
        return EmptyResult()

    def list_tags_for_resource(self) -> ActionResult:
        return ActionResult({"Tags": self._tagged().tags})

    def tag_resource(self) -> ActionResult:
        self._tagged().tags |= self._get_param("Tags")
        return EmptyResult()

    def untag_resource(self) -> ActionResult:
        policy = self._tagged()
        keys = self.querystring.get("tagKeys", [])
        policy.tags = {key: value for key, value in policy.tags.items() if key not in keys}
        return EmptyResult()


URL_BASE = r"https?://dlm\.(.+)\.amazonaws\.com"
URL_PATHS = {
    "{0}/policies$": DlmResponse.dispatch,
    "{0}/policies/(?P<policy_id>[^/]+)$": DlmResponse.dispatch,
    "{0}/tags/(?P<resource_arn>.+)$": DlmResponse.dispatch,
}

dlm_backends = BackendDict(DlmBackend, "dlm")


@gap("dlm", "lifecycle-policies", "Data Lifecycle Manager keeps policies, and shows and changes them.")
def lifecycle_policies() -> None:
    if importlib.util.find_spec("moto.dlm"):
        raise ShapeError("moto.dlm exists now")
    sys.modules["moto.dlm"] = sys.modules[__name__]  # where moto looks for the service `dlm`
    backend_index.backend_url_patterns.append(("dlm", re.compile(URL_BASE)))
