# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Repositories, snapshots, their policies, and restoring them.

A snapshot is one object with the indices as they were, beside a list of all snapshots. The form is this stand-in's own.
A policy takes a snapshot when it is executed; its schedule is checked, but nothing happens at its time.
"""

from __future__ import annotations

import datetime
import json
import re
import uuid
from pathlib import Path
from typing import Any

from documents import Documents
from errors import ApiError, illegal, invalid, only
from s3 import Bucket
from settings import Settings
from store import Operation, Store

REPOSITORY = {
    "s3": {
        "bucket",
        "client",
        "base_path",
        "compress",
        "server_side_encryption",
        "storage_class",
        "chunk_size",
        "buffer_size",
        "canned_acl",
        "readonly",
        "max_restore_bytes_per_sec",
        "max_snapshot_bytes_per_sec",
    },
    "fs": {"location", "compress", "chunk_size", "readonly", "max_restore_bytes_per_sec", "max_snapshot_bytes_per_sec"},
}
CONFIG = {
    "indices",
    "ignore_unavailable",
    "include_global_state",
    "feature_states",
    "metadata",
    "partial",
    "expand_wildcards",
}
RESTORE = CONFIG | {
    "rename_pattern",
    "rename_replacement",
    "include_aliases",
    "index_settings",
    "ignore_index_settings",
}
Change = tuple[dict[str, Any], list[Operation]]


class Folder:
    """A directory below path.repo."""

    def __init__(self, settings: Settings, repository: dict[str, Any]) -> None:
        allowed = [Path(one).resolve() for one in settings.items("path.repo")]
        self._path = Path(repository["location"]).resolve()
        if not any(one == self._path or one in self._path.parents for one in allowed):
            raise ApiError(
                500,
                "repository_exception",
                f"location [{self._path}] doesn't match any of the locations specified by"
                " path.repo because this setting is empty",
            )

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None."""
        file = self._path / name
        return file.read_bytes() if file.exists() else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def delete(self, name: str) -> None:
        """Take a file away."""
        (self._path / name).unlink(missing_ok=True)


class Snapshots:
    """All repositories."""

    def __init__(self, settings: Settings, store: Store, documents: Documents) -> None:
        self._settings, self._store, self._documents = settings, store, documents

    def put_repository(self, name: str, body: Any, verify: bool) -> Change:
        """Register a repository, and try to write into it."""
        only(body, {"type", "settings"}, "repository")
        kind, settings = body.get("type"), body.get("settings", {})
        if kind not in REPOSITORY:
            raise ApiError(500, "repository_exception", f"[{name}] repository type [{kind}] does not exist")
        for setting in settings:
            if setting in ("access_key", "secret_key"):
                raise ApiError(500, "repository_exception", f"[{name}] credentials belong into the keystore")
            if setting not in REPOSITORY[kind]:
                raise illegal(f"[{name}] unknown setting [{setting}] of a repository of type [{kind}]")
        required = "bucket" if kind == "s3" else "location"
        if not settings.get(required):
            raise ApiError(500, "repository_exception", f"[{name}] failed to create repository: missing [{required}]")
        texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in settings.items()}
        repository = {"type": kind, "settings": texts}
        if verify:
            self._verify(name, repository)
        return {"acknowledged": True}, [(["repositories", name], repository)]

    def _verify(self, name: str, repository: dict[str, Any]) -> None:
        place, trial = self._open(repository), f"tests-{uuid.uuid4().hex}/master.dat"
        try:
            place.write(trial, b"a trial")
            readable = place.read(trial) == b"a trial"
            place.delete(trial)
        except (ApiError, OSError) as error:
            cause = {"type": "exception", "reason": str(error)}
            raise ApiError(
                500,
                "repository_verification_exception",
                f"[{name}] path is not accessible on master node",
                caused_by=cause,
            ) from error
        if not readable:
            raise ApiError(500, "repository_verification_exception", f"[{name}] what was written can't be read")

    def verify(self, name: str) -> dict[str, Any]:
        """Try to write into a repository."""
        self._verify(name, self.repository(name))
        return {"nodes": {self._settings["node.name"]: {"name": self._settings["node.name"]}}}

    def _open(self, repository: dict[str, Any]) -> Any:
        kind = {"s3": Bucket, "fs": Folder}[repository["type"]]
        return kind(self._settings, repository["settings"])

    def repository(self, name: str) -> dict[str, Any]:
        """Return a repository as the API shows it."""
        found = self._store.get("repositories", name)
        if not found:
            raise ApiError(404, "repository_missing_exception", f"[{name}] missing")
        return found

    def delete_repository(self, name: str) -> Change:
        """Forget a repository; what is in it stays."""
        self.repository(name)
        return {"acknowledged": True}, [(["repositories", name], None)]

    # Snapshots

    def _list(self, place: Any) -> list[dict[str, Any]]:
        content = place.read("index.json")
        return json.loads(content) if content else []

    def snapshots(self, repository: str, name: str) -> dict[str, Any]:
        """Return snapshots, all or one."""
        found = self._list(self._open(self.repository(repository)))
        if name not in ("_all", "*"):
            found = [one for one in found if one["snapshot"] == name]
            if not found:
                raise ApiError(404, "snapshot_missing_exception", f"[{repository}:{name}] is missing")
        return {"snapshots": found, "total": len(found), "remaining": 0}

    def create(self, repository: str, name: str, body: Any) -> dict[str, Any]:
        """Take a snapshot, which is complete when this returns."""
        body = only(body or {}, CONFIG, "create snapshot request")
        if name != name.lower() or not re.fullmatch(r"[^\\/*?\"<>| ,#]+", name):
            raise ApiError(
                400, "invalid_snapshot_name_exception", f"[{repository}:{name}] Invalid snapshot name [{name}]"
            )
        place = self._open(self.repository(repository))
        taken = self._list(place)
        if any(one["snapshot"] == name for one in taken):
            raise ApiError(
                400,
                "invalid_snapshot_name_exception",
                f"[{repository}:{name}] Invalid snapshot name [{name}], snapshot with the same name already exists",
            )
        expression = body.get("indices") or "_all"
        names = self._documents.names(",".join(expression) if isinstance(expression, list) else expression)
        content = {"indices": {one: self._documents.index(one) for one in names}, "global": None}
        if body.get("include_global_state", True):
            kinds = ("index_templates", "component_templates", "policies", "pipelines")
            content["global"] = {kind: self._store.get(kind, default={}) for kind in kinds}
        now = datetime.datetime.now(datetime.UTC).isoformat()
        snapshot = {
            "snapshot": name,
            "uuid": uuid.uuid4().hex[:22],
            "repository": repository,
            "indices": names,
            "state": "SUCCESS",
            "version": self._settings.version,
            "include_global_state": content["global"] is not None,
            "start_time": now,
            "end_time": now,
            "failures": [],
            "metadata": body.get("metadata") or {},
            "shards": {"total": len(names), "failed": 0, "successful": len(names)},
        }
        place.write(f"snapshots/{name}.json", json.dumps(content).encode())
        place.write("index.json", json.dumps([*taken, snapshot]).encode())
        return {"snapshot": snapshot}

    def delete(self, repository: str, name: str) -> dict[str, Any]:
        """Take a snapshot away."""
        self.snapshots(repository, name)
        place = self._open(self.repository(repository))
        place.write("index.json", json.dumps([one for one in self._list(place) if one["snapshot"] != name]).encode())
        place.delete(f"snapshots/{name}.json")
        return {"acknowledged": True}

    def restore(self, repository: str, name: str, body: Any) -> Change:
        """Bring indices back, as they are called or as the body renames them."""
        body = only(body or {}, RESTORE, "restore snapshot request")
        (snapshot,) = self.snapshots(repository, name)["snapshots"]
        content = json.loads(self._open(self.repository(repository)).read(f"snapshots/{name}.json"))
        expression = body.get("indices") or "*"
        parts = expression if isinstance(expression, list) else expression.split(",")
        operations: list[Operation] = []
        restored = []
        for old, index in content["indices"].items():
            if (
                not any(re.fullmatch(re.escape(part).replace(r"\*", ".*"), old) for part in parts if part != "_all")
                and "_all" not in parts
            ):
                continue
            replacement = re.sub(r"\$(\d)", r"\\\1", body.get("rename_replacement", ""))
            new = re.sub(body["rename_pattern"], replacement, old) if "rename_pattern" in body else old
            existing = self._store.get("indices", new)
            if existing and existing["open"]:
                raise ApiError(
                    500,
                    "snapshot_restore_exception",
                    f"[{repository}:{name}/{snapshot['uuid']}] cannot restore index [{new}] because an open index with"
                    " same name already exists in the cluster. Either close or delete the existing index or restore the"
                    " index under a different name by providing a rename pattern and replacement name",
                )
            operations.append((["indices", new], {**index, "uuid": uuid.uuid4().hex[:22], "open": True}))
            restored.append(new)
        if not restored and not body.get("ignore_unavailable"):
            raise ApiError(404, "index_not_found_exception", f"no such index [{expression}]")
        if body.get("include_global_state"):
            operations += [([kind], kept) for kind, kept in (content["global"] or {}).items()]
        answer = {
            "snapshot": name,
            "indices": restored,
            "shards": {"total": len(restored), "failed": 0, "successful": len(restored)},
        }
        return {"snapshot": answer}, operations

    # Policies

    def put_policy(self, name: str, body: Any) -> Change:
        """Make or change a policy."""
        only(body, {"schedule", "name", "repository", "config", "retention"}, "snapshot lifecycle")
        for field in ("schedule", "name", "repository"):
            if not body.get(field):
                raise illegal(f"Required [{field}]")
        only(body.get("config") or {}, CONFIG, "config")
        only(body.get("retention") or {}, {"expire_after", "min_count", "max_count"}, "retention")
        if not re.fullmatch(r"\S+( \S+){5,6}", body["schedule"]) and not re.fullmatch(r"\d+[dhm]", body["schedule"]):
            raise invalid(f"invalid schedule: invalid cron expression [{body['schedule']}]")
        self.repository(body["repository"])
        before = self._store.get("policies", name, default={"version": 0})
        now = datetime.datetime.now(datetime.UTC)
        kept = {"version": before["version"] + 1, "modified_date_millis": int(now.timestamp() * 1000), "policy": body}
        return {"acknowledged": True}, [(["policies", name], kept)]

    def execute(self, name: str) -> Change:
        """Take a snapshot as a policy says."""
        policy = self._store.get("policies", name)
        if not policy:
            raise ApiError(404, "illegal_argument_exception", f"no such snapshot lifecycle policy [{name}]")
        today = datetime.datetime.now(datetime.UTC).strftime("%Y.%m.%d")
        base = re.sub(r"<(.*)\{now/?[a-z]?\}(.*)>", rf"\g<1>{today}\g<2>", policy["policy"]["name"])
        snapshot = f"{base}-{uuid.uuid4().hex[:22]}"
        config = {**(policy["policy"].get("config") or {}), "metadata": {"policy": name}}
        self.create(policy["policy"]["repository"], snapshot, config)
        last = {"snapshot_name": snapshot, "time": int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)}
        return {"snapshot_name": snapshot}, [(["policies", name], {**policy, "last_success": last})]
