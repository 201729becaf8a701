# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The REST API: which request does what, and which privilege it needs."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cluster import Cluster
from documents import Documents, flat, index_settings, nested
from errors import ApiError, illegal, only, unparsed
from known import known
from security import Security
from settings import Settings
from snapshots import CONFIG, Snapshots
from store import Operation, Store

PARAMETERS = known("parameters")
CLUSTER_SETTINGS = re.compile(
    r"(cluster\.(routing|max_shards_per_node|metadata|blocks|info|auto)|indices\.|action\.|logger\.|slm\.|xpack\.|search\.|ingest\."
    r"|persistent_tasks\.).*|cluster\.max_shards_per_node|cluster\.blocks\.read_only"
)


@dataclass
class Request:
    """A request, with the user that makes it."""

    method: str
    path: str
    parameters: dict[str, str]
    content: bytes
    user: dict[str, Any] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the body, or None."""
        if not self.content.strip():
            return None
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise ApiError(400, "x_content_parse_exception", f"[1:1] Failed to parse object: {error}") from error


class First(Exception):
    """What must be written before a request can be served; it is then served anew."""

    def __init__(self, operations: list[Operation]) -> None:
        super().__init__()
        self.operations = operations


Outcome = tuple[dict[str, Any], list[Operation]]
Route = tuple[str, "re.Pattern[str]", Callable[..., Any], tuple[str, str] | None]


class Api:
    """What this node answers."""

    def __init__(self, settings: Settings, store: Store, cluster: Cluster) -> None:
        self._settings, self._store, self._cluster = settings, store, cluster
        self._security = Security(store, settings.password)
        self._documents = Documents(store)
        self._snapshots = Snapshots(settings, store, self._documents)
        self._changing = threading.Lock()
        self._routes = self._table()

    def serve(self, method: str, target: str, content: bytes, authorization: str | None) -> tuple[int, Any]:
        """Answer a request: the status, and the content."""
        try:
            return self._serve(method, target, content, authorization)
        except ApiError as error:
            return error.status, error.body()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            # A body whose parts have other forms than expected. The real one tells more.
            return ApiError(400, "parse_exception", f"failed to parse the request: {error!r}").status, unparsed(
                repr(error)
            ).body()

    def _serve(self, method: str, target: str, content: bytes, authorization: str | None) -> tuple[int, Any]:
        self._cluster.require_master()
        if not self._cluster.is_master:
            request = {"method": method, "target": target, "content": content.decode(), "authorization": authorization}
            answer = self._cluster.forward("/forward", request)
            return answer["status"], answer["content"]
        parts = urlsplit(target)
        parameters = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self._store.lock:
            user = self._security.authenticate(authorization, parts.path)
        unknown = set(parameters) - PARAMETERS
        if unknown:
            raise illegal(f"request [{parts.path}] contains unrecognized parameter: [{sorted(unknown)[0]}]")
        request = Request(method, parts.path, parameters, content, user)
        found = self._find(request)
        handler, arguments, privilege = found
        if privilege:
            self._security.require(user, *privilege)
        if handler == self._health:
            return answered(handler(request))
        if method in ("GET", "HEAD") or handler in (self._search, self._count):
            with self._store.lock:
                return answered(handler(request, *arguments))
        with self._changing:
            return self._change(handler, request, arguments)

    def _change(self, handler: Callable[..., Any], request: Request, arguments: list[str]) -> tuple[int, Any]:
        try:
            with self._store.lock:
                outcome = handler(request, *arguments)
        except First as first:
            self._cluster.write(first.operations)
            return self._change(handler, request, arguments)
        if not isinstance(outcome, tuple):
            return 200, outcome
        answer, operations = outcome
        self._cluster.write(operations)
        if answer.get("found") is False or answer.get("result") == "not_found":
            return 404, answer
        return 201 if answer.get("result") == "created" else 200, answer

    def _find(self, request: Request) -> tuple[Callable[..., Any], list[str], tuple[str, str] | None]:
        allowed = []
        method = "GET" if request.method == "HEAD" else request.method
        for methods, pattern, handler, privilege in self._routes:
            match = pattern.fullmatch(request.path.rstrip("/") or "/")
            if match and method in methods.split():
                return handler, [unquote(part) if part else "" for part in match.groups()], privilege
            if match:
                allowed += methods.split()
        if allowed:
            raise ApiError(
                405,
                "method_not_allowed",
                f"Incorrect HTTP method for uri [{request.path}] and method [{request.method}],"
                f" allowed: {sorted(set(allowed))}",
            )
        raise illegal(f"no handler found for uri [{request.path}] and method [{request.method}]")

    def _table(self) -> list[Route]:
        security, documents, snapshots = self._security, self._documents, self._snapshots
        monitor, users = ("monitor", "cluster:monitor/main"), "cluster:admin/xpack/security"
        templates = ("manage_index_templates", "indices:admin/index_template/put")
        repository = ("manage", "cluster:admin/repository/put")
        name = "([^/_][^/]*)"
        rows: list[tuple[str, str, Callable[..., Any], tuple[str, str] | None]] = [
            ("GET", "/", self._root, monitor),
            ("GET", "/_cluster/health", self._health, ("monitor", "cluster:monitor/health")),
            ("GET", "/_cluster/settings", self._settings_get, ("monitor", "cluster:monitor/settings")),
            ("PUT", "/_cluster/settings", self._settings_put, ("manage", "cluster:admin/settings/update")),
            ("GET", "/_nodes(?:/[^/]*)*", self._nodes, ("monitor", "cluster:monitor/nodes/info")),
            ("GET", "/_cat/(nodes|indices|health|master)", self._cat, ("monitor", "cluster:monitor/state")),
            ("GET", "/_license", self._license, ("monitor", "cluster:monitor/xpack/license/get")),
            ("GET", "/_security/_authenticate", self._authenticate, None),
            ("GET POST", "/_security/user/_has_privileges", self._has_privileges, None),
            ("GET", "/_security/user", self._users, ("read_security", f"{users}/user/get")),
            ("GET", f"/_security/user/{name}", self._users, ("read_security", f"{users}/user/get")),
            (
                "PUT POST",
                f"/_security/user/{name}",
                lambda request, one: security.put_user(one, request.json()),
                ("manage_security", f"{users}/user/put"),
            ),
            (
                "DELETE",
                f"/_security/user/{name}",
                lambda _request, one: security.delete_user(one),
                ("manage_security", f"{users}/user/delete"),
            ),
            ("PUT POST", f"/_security/user/{name}/_password", self._password, None),
            (
                "PUT POST",
                "/_security/user/_password",
                lambda request: self._password(request, request.user["username"]),
                None,
            ),
            (
                "PUT POST",
                f"/_security/user/{name}/_(enable|disable)",
                lambda _request, one, how: security.enable(one, how == "enable"),
                ("manage_security", f"{users}/user/set_enabled"),
            ),
            ("GET", "/_security/role", self._roles, ("read_security", f"{users}/role/get")),
            ("GET", f"/_security/role/{name}", self._roles, ("read_security", f"{users}/role/get")),
            (
                "PUT POST",
                f"/_security/role/{name}",
                lambda request, one: security.put_role(one, request.json()),
                ("manage_security", f"{users}/role/put"),
            ),
            (
                "DELETE",
                f"/_security/role/{name}",
                lambda _request, one: security.delete_role(one),
                ("manage_security", f"{users}/role/delete"),
            ),
            (
                "PUT POST",
                f"/_index_template/{name}",
                lambda request, one: documents.put_template(one, request.json()),
                templates,
            ),
            (
                "PUT POST",
                f"/_component_template/{name}",
                lambda request, one: documents.put_component(one, request.json()),
                templates,
            ),
            (
                "PUT POST",
                f"/_snapshot/{name}",
                lambda request, one: snapshots.put_repository(
                    one, request.json(), request.parameters.get("verify") != "false"
                ),
                repository,
            ),
            ("POST", f"/_snapshot/{name}/_verify", lambda _request, one: snapshots.verify(one), repository),
            ("GET", "/_snapshot", self._repositories, ("monitor_snapshot", "cluster:admin/repository/get")),
            ("GET", f"/_snapshot/{name}", self._repositories, ("monitor_snapshot", "cluster:admin/repository/get")),
            ("DELETE", f"/_snapshot/{name}", lambda _request, one: snapshots.delete_repository(one), repository),
            (
                "GET",
                f"/_snapshot/{name}/([^/]+)",
                lambda _request, one, snapshot: snapshots.snapshots(one, snapshot),
                ("monitor_snapshot", "cluster:admin/snapshot/get"),
            ),
            (
                "PUT POST",
                f"/_snapshot/{name}/{name}",
                self._snapshot,
                ("create_snapshot", "cluster:admin/snapshot/create"),
            ),
            (
                "DELETE",
                f"/_snapshot/{name}/{name}",
                lambda _request, one, snapshot: snapshots.delete(one, snapshot),
                ("manage", "cluster:admin/snapshot/delete"),
            ),
            (
                "POST",
                f"/_snapshot/{name}/{name}/_restore",
                lambda request, one, snapshot: snapshots.restore(one, snapshot, request.json()),
                ("manage", "cluster:admin/snapshot/restore"),
            ),
            (
                "PUT",
                f"/_slm/policy/{name}",
                lambda request, one: snapshots.put_policy(one, request.json()),
                ("manage_slm", "cluster:admin/slm/put"),
            ),
            (
                "PUT POST",
                f"/_slm/policy/{name}/_execute",
                lambda _request, one: snapshots.execute(one),
                ("manage_slm", "cluster:admin/slm/execute"),
            ),
            (
                "GET",
                "/_slm/status",
                lambda _request: {"operation_mode": "RUNNING"},
                ("read_slm", "cluster:admin/slm/status"),
            ),
            ("PUT", f"/_ilm/policy/{name}", self._put_ilm, ("manage_ilm", "cluster:admin/ilm/put")),
            (
                "PUT",
                f"/_ingest/pipeline/{name}",
                self._put_pipeline,
                ("manage_ingest_pipelines", "cluster:admin/ingest/pipeline/put"),
            ),
            ("PUT POST", "/_bulk", lambda request: self._bulk(request, ""), None),
            ("PUT POST", f"/{name}/_bulk", self._bulk, None),
            ("GET POST", "/_search", lambda request: self._search(request, "_all"), None),
            ("GET POST", f"/{name}/_search", self._search, None),
            ("GET POST", f"/{name}/_count", self._count, None),
            ("GET POST", f"/{name}/_refresh", self._refresh, None),
            ("GET", f"/{name}/_doc/([^/]+)", self._document, None),
            ("POST", f"/{name}/_doc", lambda request, index: self._index(request, index, ""), None),
            ("PUT POST", f"/{name}/_doc/([^/]+)", self._index, None),
            (
                "PUT POST",
                f"/{name}/_create/([^/]+)",
                lambda request, index, key: self._index(request, index, key, "create"),
                None,
            ),
            ("DELETE", f"/{name}/_doc/([^/]+)", self._delete_document, None),
            ("GET", f"/{name}", self._index_get, None),
            ("GET", f"/{name}/_(mapping|settings)", self._index_part, None),
            ("PUT", f"/{name}/_settings", self._index_settings, None),
            ("POST", f"/{name}/_(close|open)", self._open, None),
            ("PUT", f"/{name}", self._create, None),
            ("DELETE", f"/{name}", self._delete_index, None),
        ]
        kinds = {
            "_index_template": ("index_templates", "manage_index_templates", "manage_index_templates"),
            "_component_template": ("component_templates", "manage_index_templates", "manage_index_templates"),
            "_slm/policy": ("policies", "read_slm", "manage_slm"),
            "_ilm/policy": ("ilm", "read_ilm", "manage_ilm"),
            "_ingest/pipeline": ("pipelines", "read_pipeline", "manage_ingest_pipelines"),
        }
        for path, (kind, reads, manages) in kinds.items():
            shown = lambda _request, one="", path=path, kind=kind: self._kept(path, kind, one)  # noqa: E731
            gone = lambda _request, one, path=path, kind=kind: self._take_away(path, kind, one)  # noqa: E731
            rows += [
                ("GET", f"/{path}", shown, (reads, f"get {path}")),
                ("GET", f"/{path}/{name}", shown, (reads, f"get {path}")),
                ("DELETE", f"/{path}/{name}", gone, (manages, f"delete {path}")),
            ]
        return [(methods, re.compile(pattern), handler, privilege) for methods, pattern, handler, privilege in rows]

    # The cluster

    def _root(self, _request: Request) -> dict[str, Any]:
        return {
            "name": self._settings["node.name"],
            "cluster_name": self._settings["cluster.name"],
            "cluster_uuid": self._store.get("uuid"),
            "version": {
                "number": self._settings.version,
                "build_flavor": "default",
                "build_type": "docker",
                "build_hash": "stand-in",
                "build_snapshot": False,
                "minimum_wire_compatibility_version": "7.17.0",
                "minimum_index_compatibility_version": "7.0.0",
                "lucene_version": "none: a stand-in",
            },
            "tagline": "You Know, for Search",
        }

    def _health(self, request: Request) -> Any:
        order, parameters = ("red", "yellow", "green"), request.parameters
        wanted = parameters.get("wait_for_status", "red")
        nodes = int(re.sub(r"\D", "", parameters.get("wait_for_nodes", "1")))
        if wanted not in order:
            raise illegal(f"unknown cluster health status [{wanted}]")
        limit = time.monotonic() + float(parameters.get("timeout", "30s").rstrip("ms"))
        while True:
            health = self._cluster.health()
            if order.index(health["status"]) >= order.index(wanted) and health["number_of_nodes"] >= nodes:
                return health
            if time.monotonic() > limit:
                return 408, {**health, "timed_out": True}
            time.sleep(0.1)

    def _settings_get(self, request: Request) -> dict[str, Any]:
        kept = {scope: self._store.get("settings", scope, default={}) for scope in ("persistent", "transient")}
        if request.parameters.get("flat_settings", "false") == "false":
            kept = {scope: nested(found) for scope, found in kept.items()}
        return kept

    def _settings_put(self, request: Request) -> Outcome:
        body = only(request.json(), {"persistent", "transient"}, "cluster settings update request")
        operations: list[Operation] = []
        for scope, wanted in body.items():
            for name, value in flat(wanted).items():
                if not CLUSTER_SETTINGS.fullmatch(name):
                    raise illegal(f"{scope} setting [{name}], not recognized")
                if name == "cluster.routing.allocation.enable" and value not in (
                    None,
                    "all",
                    "primaries",
                    "new_primaries",
                    "none",
                ):
                    raise illegal(f"Illegal allocation.enable value [{str(value).upper()}]")
                text = value if value is None or isinstance(value, str | list) else str(value).lower()
                operations.append((["settings", scope, name], text))
        answer = {"acknowledged": True, **{scope: body.get(scope, {}) for scope in ("persistent", "transient")}}
        return answer, operations

    def _nodes(self, _request: Request) -> dict[str, Any]:
        peers = self._cluster.peers
        versions = {
            name: peers[name]["version"] if name in peers else self._settings.version for name in self._cluster.nodes()
        }
        heap = {"heap_max_in_bytes": self._settings.heap.get("-Xmx", 2**30)}
        nodes = {
            name: {"name": name, "version": version, "roles": ["data", "ingest", "master"], "jvm": {"mem": heap}}
            for name, version in versions.items()
        }
        return {
            "_nodes": {"total": len(nodes), "successful": len(nodes), "failed": 0},
            "cluster_name": self._settings["cluster.name"],
            "nodes": nodes,
        }

    def _cat(self, _request: Request, what: str) -> Any:
        if what == "indices":
            return [
                {
                    "index": name,
                    "status": "open" if index["open"] else "close",
                    "docs.count": str(len(index["documents"])),
                }
                for name, index in sorted(self._store.get("indices", default={}).items())
            ]
        if what == "health":
            return [{"cluster": self._settings["cluster.name"], "status": self._cluster.health()["status"]}]
        names = [self._cluster.name] if what == "master" else self._cluster.nodes()
        return [{"name": name, "node": name, "master": "*" if name == self._cluster.name else "-"} for name in names]

    def _license(self, _request: Request) -> dict[str, Any]:
        return {
            "license": {"status": "active", "type": self._settings.get("xpack.license.self_generated.type", "basic")}
        }

    # Security

    def _authenticate(self, request: Request) -> dict[str, Any]:
        realm = (
            {"name": "reserved", "type": "reserved"}
            if request.user["metadata"].get("_reserved")
            else {"name": "default_native", "type": "native"}
        )
        return {**request.user, "authentication_realm": realm, "lookup_realm": realm, "authentication_type": "realm"}

    def _has_privileges(self, request: Request) -> dict[str, Any]:
        body = only(request.json(), {"cluster", "index", "application"}, "has privileges request")
        cluster = {one: self._security.may(request.user, one) for one in body.get("cluster", [])}
        index = {
            name: {one: self._security.may_on(request.user, one, name) for one in asked["privileges"]}
            for asked in body.get("index", [])
            for name in asked["names"]
        }
        every = [*cluster.values(), *(one for found in index.values() for one in found.values())]
        return {
            "username": request.user["username"],
            "has_all_requested": all(every),
            "cluster": cluster,
            "index": index,
            "application": {},
        }

    def _users(self, _request: Request, names: str = "") -> Any:
        found = self._security.users(names.split(",") if names else None)
        return found if found or not names else (404, {})

    def _roles(self, _request: Request, names: str = "") -> Any:
        found = self._security.roles(names.split(",") if names else None)
        return found if found or not names else (404, {})

    def _password(self, request: Request, name: str) -> Outcome:
        if name != request.user["username"]:
            self._security.require(request.user, "manage_security", "cluster:admin/xpack/security/user/change_password")
        return self._security.set_password(name, request.json())

    # What is kept by name

    def _kept(self, path: str, kind: str, name: str) -> Any:
        every = self._store.get(kind, default={})
        if name and name not in every:
            return 404, ApiError(404, "resource_not_found_exception", f"{path} [{name}] not found").body()
        found = {one: every[one] for one in ([name] if name else every)}
        if path == "_index_template":
            return {"index_templates": [{"name": one, "index_template": kept} for one, kept in found.items()]}
        if path == "_component_template":
            return {"component_templates": [{"name": one, "component_template": kept} for one, kept in found.items()]}
        return found

    def _take_away(self, path: str, kind: str, name: str) -> Outcome:
        if name not in self._store.get(kind, default={}):
            raise ApiError(404, "resource_not_found_exception", f"{path} [{name}] not found")
        return {"acknowledged": True}, [([kind, name], None)]

    def _put_ilm(self, request: Request, name: str) -> Outcome:
        policy = only(request.json(), {"policy"}, "lifecycle policy")["policy"]
        phases = only(policy, {"phases", "_meta", "deprecated"}, "lifecycle policy")["phases"]
        only(phases, {"hot", "warm", "cold", "frozen", "delete"}, "phases")
        kept = {**policy, "phases": {phase: {"min_age": "0ms", **found} for phase, found in phases.items()}}
        version = self._store.get("ilm", name, "version", default=0) + 1
        return {"acknowledged": True}, [(["ilm", name], {"version": version, "policy": kept})]

    def _put_pipeline(self, request: Request, name: str) -> Outcome:
        body = only(request.json(), {"description", "processors", "on_failure", "version", "_meta"}, "pipeline")
        if "processors" not in body:
            raise unparsed("[processors] required property is missing")
        return {"acknowledged": True}, [(["pipelines", name], body)]

    def _repositories(self, _request: Request, name: str = "") -> dict[str, Any]:
        if name:
            return {name: self._snapshots.repository(name)}
        return self._store.get("repositories", default={})

    def _snapshot(self, request: Request, repository: str, name: str) -> dict[str, Any]:
        only(request.json() or {}, CONFIG, "create snapshot request")
        answer = self._snapshots.create(repository, name, request.json())
        return answer if request.parameters.get("wait_for_completion") == "true" else {"accepted": True}

    # Indices and documents

    def _allowed(self, request: Request, privilege: str, expression: str, action: str) -> list[str]:
        """Return the indices that an expression means, if the user may do it with all of them."""
        if "*" in expression or expression == "_all":
            # Of a pattern, only those count that the user may see.
            return [
                one for one in self._documents.names(expression) if self._security.may_on(request.user, privilege, one)
            ]
        for one in expression.split(","):
            self._security.require_on(request.user, privilege, one, action)
        return self._documents.names(expression)

    def _search(self, request: Request, expression: str) -> dict[str, Any]:
        names = self._allowed(request, "read", expression, "indices:data/read/search")
        body = {
            **({"size": int(request.parameters["size"])} if "size" in request.parameters else {}),
            **(request.json() or {}),
        }
        return self._documents.search(names, body)

    def _count(self, request: Request, expression: str) -> dict[str, Any]:
        return self._documents.count(
            self._allowed(request, "read", expression, "indices:data/read/search"), request.json()
        )

    def _refresh(self, request: Request, expression: str) -> dict[str, Any]:
        names = self._allowed(request, "maintenance", expression, "indices:admin/refresh")
        return {"_shards": {"total": len(names), "successful": len(names), "failed": 0}}

    def _document(self, request: Request, name: str, key: str) -> Any:
        self._security.require_on(request.user, "read", name, "indices:data/read/get")
        found = self._documents.index(name)["documents"].get(key)
        if not found:
            return 404, {"_index": name, "_id": key, "found": False}
        return {"_index": name, "_id": key, "_version": found["version"], "found": True, "_source": found["source"]}

    def _ensure(self, request: Request, name: str) -> None:
        """Make an index where there is none yet, as writing a document does."""
        if self._store.get("indices", name):
            return
        allowed = self._store.get("settings", "persistent", "action.auto_create_index") or self._settings.get(
            "action.auto_create_index", "true"
        )
        if allowed == "false":
            reason = f"no such index [{name}] and [action.auto_create_index] is [false]"
            raise ApiError(404, "index_not_found_exception", reason)
        self._security.require_on(request.user, "auto_configure", name, "indices:admin/auto_create")
        raise First(self._documents.create(name, None)[1])

    def _index(self, request: Request, name: str, key: str, how: str = "index") -> Outcome:
        how = request.parameters.get("op_type", how)
        privilege = "create_doc" if how == "create" or not key else "index"
        self._security.require_on(request.user, privilege, name, "indices:data/write/index")
        self._ensure(request, name)
        return self._documents.write(name, key, request.json(), how)

    def _delete_document(self, request: Request, name: str, key: str) -> Outcome:
        self._security.require_on(request.user, "delete", name, "indices:data/write/delete")
        return self._documents.delete(name, key)

    def _bulk(self, request: Request, default: str) -> Outcome:
        if not request.content.endswith(b"\n"):
            raise illegal("The bulk request must be terminated by a newline [\\n]")
        lines = iter([line for line in request.content.split(b"\n") if line.strip()])
        items, operations, errors = [], [], False
        pending: dict[str, dict[str, Any]] = {}
        for line in lines:
            ((how, meta),) = json.loads(line).items()
            if how not in ("index", "create", "delete"):
                raise illegal(
                    f"Malformed action/metadata line, expected one of [create, delete, index] but found [{how}]"
                )
            only(
                meta,
                {"_index", "_id", "routing", "require_alias", "pipeline", "version", "version_type"},
                "action/metadata line",
            )
            name, key = meta.get("_index", default), meta.get("_id", "")
            source = None if how == "delete" else json.loads(next(lines))
            privilege = "delete" if how == "delete" else "index" if how == "index" and key else "create_doc"
            try:
                self._security.require_on(request.user, privilege, name, "indices:data/write/bulk[s]")
                if how == "delete":
                    answer, more = self._documents.delete(name, key)
                else:
                    self._ensure(request, name)
                    answer, more = self._documents.write(name, key, source, how, pending.setdefault(name, {}))
                operations += more
                items.append({how: {**answer, "status": 201 if answer["result"] == "created" else 200}})
            except ApiError as error:
                errors = True
                items.append({how: {"_index": name, "_id": key, "status": error.status, "error": error.error}})
        return {"took": 1, "errors": errors, "items": items}, operations

    def _create(self, request: Request, name: str) -> Outcome:
        self._security.require_on(request.user, "create_index", name, "indices:admin/create")
        return self._documents.create(name, request.json())

    def _delete_index(self, request: Request, expression: str) -> Outcome:
        if "*" in expression or expression == "_all":
            raise illegal("Wildcard expressions or all indices are not allowed")
        names = self._allowed(request, "delete_index", expression, "indices:admin/delete")
        return {"acknowledged": True}, [(["indices", name], None) for name in names]

    def _index_get(self, request: Request, expression: str) -> dict[str, Any]:
        names = self._allowed(request, "view_index_metadata", expression, "indices:admin/get")
        return {
            name: {
                "aliases": index["aliases"],
                "mappings": index["mappings"],
                "settings": self._shown_settings(name, index),
            }
            for name, index in ((one, self._store.get("indices", one)) for one in names)
        }

    def _index_part(self, request: Request, expression: str, part: str) -> dict[str, Any]:
        key = "mappings" if part == "mapping" else "settings"
        return {name: {key: found[key]} for name, found in self._index_get(request, expression).items()}

    def _shown_settings(self, name: str, index: dict[str, Any]) -> dict[str, Any]:
        return nested({**index["settings"], "index.uuid": index["uuid"], "index.provided_name": name})

    def _index_settings(self, request: Request, expression: str) -> Outcome:
        names = self._allowed(request, "manage", expression, "indices:admin/settings/update")
        wanted = index_settings(request.json())
        if "index.number_of_shards" in wanted:
            raise illegal(f"Can't update non dynamic settings [[index.number_of_shards]] for open indices {names}")
        operations = [(["indices", name, "settings", key], value) for name in names for key, value in wanted.items()]
        return {"acknowledged": True}, operations

    def _open(self, request: Request, expression: str, how: str) -> Outcome:
        names = self._allowed(request, "manage", expression, f"indices:admin/{how}")
        return {"acknowledged": True, "shards_acknowledged": True}, [
            (["indices", name, "open"], how == "open") for name in names
        ]


def answered(outcome: Any) -> tuple[int, Any]:
    """Return status and content of what a reading handler gave."""
    if isinstance(outcome, tuple):
        return outcome
    return 200, outcome
