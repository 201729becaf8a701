# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Users, roles and what they permit: the native realm, and the built-in users and roles that deployments use.

What it knows of privileges is a part of Elasticsearch's: enough to tell who may do what this stand-in serves.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import json
import os
import re
from typing import Any

from errors import ApiError, illegal, invalid, only, unparsed
from known import known
from store import Operation, Store

CLUSTER = known("cluster_privileges")
INDEX = known("index_privileges")
#: What a privilege has in it.
WITHIN_CLUSTER = {
    "all": CLUSTER - {"none"},
    "manage": {
        "monitor",
        "manage_index_templates",
        "manage_ingest_pipelines",
        "manage_pipeline",
        "read_pipeline",
        "manage_ilm",
        "read_ilm",
        "manage_slm",
        "read_slm",
        "create_snapshot",
        "monitor_snapshot",
    },
    "manage_security": {"read_security"},
    "manage_ilm": {"read_ilm"},
    "manage_slm": {"read_slm"},
    "manage_ingest_pipelines": {"read_pipeline"},
    "manage_pipeline": {"manage_ingest_pipelines", "read_pipeline"},
    "create_snapshot": {"monitor_snapshot"},
}
WITHIN_INDEX = {
    "all": INDEX - {"none"},
    "manage": {"auto_configure", "create_index", "delete_index", "maintenance", "monitor", "view_index_metadata"},
    "write": {"index", "create", "create_doc", "delete"},
    "index": {"create", "create_doc"},
    "create": {"create_doc"},
    "create_index": {"auto_configure"},
}
#: The built-in users and their roles.
RESERVED_USERS = {
    "elastic": "superuser",
    "kibana": "kibana_system",
    "kibana_system": "kibana_system",
    "logstash_system": "logstash_system",
    "beats_system": "beats_system",
    "apm_system": "apm_system",
    "remote_monitoring_user": "remote_monitoring_collector",
}
RESERVED_ROLES: dict[str, dict[str, Any]] = {
    "superuser": {"cluster": ["all"], "indices": [{"names": ["*"], "privileges": ["all"]}], "run_as": ["*"]},
    "kibana_system": {
        "cluster": ["monitor", "manage_index_templates", "manage_pipeline", "manage_ilm", "manage_own_api_key"],
        "indices": [{"names": [".kibana*", ".reporting-*"], "privileges": ["all"]}],
    },
    "kibana_admin": {"applications": [{"application": "kibana-.kibana", "privileges": ["all"], "resources": ["*"]}]},
    "logstash_system": {"cluster": ["monitor"]},
    "beats_system": {"cluster": ["monitor"]},
    "apm_system": {"cluster": ["monitor"]},
    "remote_monitoring_collector": {"cluster": ["monitor"], "indices": [{"names": ["*"], "privileges": ["monitor"]}]},
    "remote_monitoring_agent": {"cluster": ["monitor", "manage_index_templates", "manage_ilm"]},
    "ingest_admin": {"cluster": ["manage_index_templates", "manage_pipeline"]},
    "monitoring_user": {"cluster": ["monitor"], "indices": [{"names": [".monitoring-*"], "privileges": ["read"]}]},
    "viewer": {"indices": [{"names": ["*"], "privileges": ["read", "view_index_metadata"]}]},
    "editor": {"indices": [{"names": ["*"], "privileges": ["read", "view_index_metadata", "write"]}]},
}
NAME = re.compile(r"[A-Za-z0-9_@$.+-][ -~]{0,506}")
ROUNDS = 10000


def digest(password: str, salt: bytes | None = None) -> str:
    """Return what is kept of a password."""
    salt = salt or os.urandom(16)
    return f"{salt.hex()}:{hashlib.pbkdf2_hmac('sha256', password.encode(), salt, ROUNDS).hex()}"


def within(privileges: list[str], table: dict[str, set[str]]) -> set[str]:
    """Return privileges and all that is in them."""
    return {inner for privilege in privileges for inner in {privilege, *table.get(privilege, ())}}


class Security:
    """Who may do what. ``bootstrap`` is elastic's password until one is set."""

    def __init__(self, store: Store, bootstrap: str) -> None:
        self._store, self._bootstrap = store, bootstrap
        self._proved: dict[str, str] = {}

    # Users

    def user(self, name: str) -> dict[str, Any] | None:
        """Return a user, as the API shows it."""
        if name in RESERVED_USERS:
            enabled = not self._store.get("reserved", name, "disabled", default=False)
            return {
                "username": name,
                "roles": [RESERVED_USERS[name]],
                "full_name": None,
                "email": None,
                "metadata": {"_reserved": True},
                "enabled": enabled,
            }
        found = self._store.get("users", name)
        return found and {"username": name, **{key: found[key] for key in found if key != "hash"}}

    def authenticate(self, header: str | None, target: str) -> dict[str, Any]:
        """Return the user whose name and password a request has."""
        if not header:
            raise unauthorized(f"missing authentication credentials for REST request [{target}]")
        try:
            scheme, _, encoded = header.partition(" ")
            name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (ValueError, binascii.Error, UnicodeDecodeError):
            scheme, name, colon, password = "", "", "", ""
        if scheme.lower() != "basic" or not colon:
            raise unauthorized(f"unable to authenticate with provided credentials for REST request [{target}]")
        user = self.user(name)
        if not user or not user["enabled"] or not self._proves(name, password):
            raise unauthorized(f"unable to authenticate user [{name}] for REST request [{target}]")
        return user

    def _proves(self, name: str, password: str) -> bool:
        place = ("reserved", name, "hash") if name in RESERVED_USERS else ("users", name, "hash")
        kept = self._store.get(*place)
        if kept is None:
            return name == "elastic" and bool(self._bootstrap) and hmac.compare_digest(password, self._bootstrap)
        proof = hashlib.sha256(f"{kept}{password}".encode()).hexdigest()
        if self._proved.get(name) == proof:
            return True
        if not hmac.compare_digest(digest(password, bytes.fromhex(kept.partition(":")[0])), kept):
            return False
        self._proved[name] = proof
        return True

    def users(self, names: list[str] | None) -> dict[str, Any]:
        """Return users by name, all or some."""
        every = [*RESERVED_USERS, *self._store.get("users", default={})]
        found = {name: self.user(name) for name in (names or every)}
        return {name: user for name, user in found.items() if user}

    def put_user(self, name: str, body: Any) -> tuple[dict[str, Any], list[Operation]]:
        """Make or change a user."""
        fields = {"password", "password_hash", "roles", "full_name", "email", "metadata", "enabled", "username"}
        only(body, fields, "add user request")
        kinds = {"password": str, "full_name": str, "email": str, "metadata": dict, "enabled": bool}
        for field, kind in kinds.items():
            if body.get(field) is not None and not isinstance(body[field], kind):
                raise unparsed(f"expected field [{field}] to be of type {kind.__name__}, but found another one instead")
        if "password_hash" in body:
            raise illegal("this stand-in takes no password_hash")
        if "password" in body:
            check_password(body["password"])
        roles, metadata = body.get("roles"), body.get("metadata") or {}
        if roles is None:
            raise invalid("roles are missing")
        if any(key.startswith("_") for key in metadata):
            raise invalid("metadata keys may not start with [_]")
        if name in RESERVED_USERS:
            raise invalid(f"user [{name}] is reserved and only the password can be changed")
        if not NAME.fullmatch(name):
            raise invalid(
                "User names must be at least 1 and no more than 507 characters of ASCII, without blanks at an end."
            )
        before = self._store.get("users", name)
        if not before and "password" not in body:
            raise invalid("password must be specified unless you are updating an existing user")
        kept = digest(body["password"]) if "password" in body else before["hash"]
        user = {
            "roles": roles,
            "full_name": body.get("full_name"),
            "email": body.get("email"),
            "metadata": metadata,
            "enabled": body.get("enabled", True),
            "hash": kept,
        }
        return {"created": before is None}, [(["users", name], user)]

    def set_password(self, name: str, body: Any) -> tuple[dict[str, Any], list[Operation]]:
        """Change a password."""
        only(body, {"password", "password_hash"}, "change password request")
        if not isinstance(body.get("password"), str):
            raise invalid("password must be specified" if "password" not in body else "password must be a text")
        check_password(body["password"])
        if name in RESERVED_USERS:
            return {}, [(["reserved", name, "hash"], digest(body["password"]))]
        if not self._store.get("users", name):
            raise invalid("user must exist in order to change password")
        return {}, [(["users", name, "hash"], digest(body["password"]))]

    def enable(self, name: str, enabled: bool) -> tuple[dict[str, Any], list[Operation]]:
        """Let a user sign in, or not."""
        if name in RESERVED_USERS:
            return {}, [(["reserved", name, "disabled"], not enabled)]
        if not self._store.get("users", name):
            raise invalid("only existing users can be " + ("enabled" if enabled else "disabled"))
        return {}, [(["users", name, "enabled"], enabled)]

    def delete_user(self, name: str) -> tuple[dict[str, Any], list[Operation]]:
        """Take a user away."""
        if name in RESERVED_USERS:
            raise illegal(f"user [{name}] is reserved and cannot be deleted")
        if not self._store.get("users", name):
            return {"found": False}, []
        return {"found": True}, [(["users", name], None)]

    # Roles

    def roles(self, names: list[str] | None) -> dict[str, Any]:
        """Return roles by name, all or some, as the API shows them."""
        built_in = {name: {**EMPTY, **role, "metadata": {"_reserved": True}} for name, role in RESERVED_ROLES.items()}
        every = {**built_in, **self._store.get("roles", default={})}
        return {
            name: {**every[name], "transient_metadata": {"enabled": True}} for name in (names or every) if name in every
        }

    def put_role(self, name: str, body: Any) -> tuple[dict[str, Any], list[Operation]]:
        """Make or change a role."""
        fields = {
            "cluster",
            "indices",
            "applications",
            "run_as",
            "metadata",
            "global",
            "description",
            "transient_metadata",
            "remote_indices",
            "remote_cluster",
        }
        only(body, fields, f"role [{name}]")
        if name in RESERVED_ROLES:
            raise illegal(f"Role [{name}] is reserved and may not be used.")
        if not NAME.fullmatch(name):
            raise invalid(
                "Role names must be at least 1 and no more than 507 characters of ASCII, without blanks at an end."
            )
        role = {**EMPTY, **{key: body[key] for key in body if key != "transient_metadata"}}
        for privilege in texts(name, "cluster", role["cluster"]):
            if privilege not in CLUSTER and not privilege.startswith("cluster:"):
                raise illegal(
                    f"unknown cluster privilege [{privilege}]. a privilege must be either one of the predefined cluster"
                    f" privilege names [{','.join(sorted(CLUSTER))}] or a pattern over one of the available cluster"
                    " actions"
                )
        texts(name, "run_as", role["run_as"])
        role["indices"] = [index_privileges(name, one) for one in role["indices"]]
        for one in role["applications"]:
            only(one, {"application", "privileges", "resources"}, f"application privileges for role [{name}]")
            for field in ("application", "privileges", "resources"):
                if not one.get(field):
                    raise unparsed(
                        f"failed to parse application privileges for role [{name}]. missing required [{field}] field"
                    )
        created = name not in self._store.get("roles", default={})
        return {"role": {"created": created}}, [(["roles", name], role)]

    def delete_role(self, name: str) -> tuple[dict[str, Any], list[Operation]]:
        """Take a role away."""
        if name in RESERVED_ROLES:
            raise illegal(f"role [{name}] is reserved and cannot be deleted")
        if name not in self._store.get("roles", default={}):
            return {"found": False}, []
        return {"found": True}, [(["roles", name], None)]

    # What a user may do

    def _roles_of(self, user: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self.roles(user["roles"]).values()) if user["roles"] else []

    def may(self, user: dict[str, Any], privilege: str) -> bool:
        """Tell whether a user has a privilege on the cluster."""
        return any(privilege in within(role["cluster"], WITHIN_CLUSTER) for role in self._roles_of(user))

    def may_on(self, user: dict[str, Any], privilege: str, index: str) -> bool:
        """Tell whether a user has a privilege on an index."""
        return any(
            privilege in within(grant["privileges"], WITHIN_INDEX)
            for role in self._roles_of(user)
            for grant in role["indices"]
            if any(fnmatch.fnmatchcase(index, name) for name in grant["names"])
        )

    def require(self, user: dict[str, Any], privilege: str, action: str) -> None:
        """Refuse what a user may not do with the cluster."""
        if not self.may(user, privilege):
            by = ",".join(sorted(name for name in CLUSTER if privilege in within([name], WITHIN_CLUSTER)))
            raise forbidden(user, action, "", f"cluster privileges [{by}]")

    def require_on(self, user: dict[str, Any], privilege: str, index: str, action: str) -> None:
        """Refuse what a user may not do with an index."""
        if not self.may_on(user, privilege, index):
            by = ",".join(sorted(name for name in INDEX if privilege in within([name], WITHIN_INDEX)))
            raise forbidden(user, action, f" on indices [{index}]", f"index privileges [{by}]")


EMPTY: dict[str, Any] = {"cluster": [], "indices": [], "applications": [], "run_as": [], "metadata": {}}


def unauthorized(reason: str) -> ApiError:
    """Return the answer to a request without a user."""
    header = {"WWW-Authenticate": ['Basic realm="security" charset="UTF-8"', "ApiKey"]}
    return ApiError(401, "security_exception", reason, header=header)


def forbidden(user: dict[str, Any], action: str, where: str, by: str) -> ApiError:
    """Return the answer to a request that a user may not make."""
    roles = ",".join(user["roles"])
    return ApiError(
        403,
        "security_exception",
        f"action [{action}] is unauthorized for user [{user['username']}] with effective"
        f" roles [{roles}]{where}, this action is granted by the {by}",
    )


def check_password(password: Any) -> None:
    """Refuse a password that is too short."""
    if not isinstance(password, str) or len(password) < 6:
        raise ApiError(
            400, "validation_exception", "Validation Failed: 1: passwords must be at least [6] characters long;"
        )


def texts(role: str, field: str, value: Any) -> list[str]:
    """Return a list of texts."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise unparsed(f"failed to parse role [{role}]. expected field [{field}] to be an array of strings")
    return value


def index_privileges(role: str, grant: Any) -> dict[str, Any]:
    """Return privileges on indices as they are kept."""
    what = f"indices privileges for role [{role}]"
    only(
        grant,
        {"names", "privileges", "field_security", "query", "allow_restricted_indices", "transient_metadata"},
        what,
    )
    kept = {"names": [], "privileges": [], "allow_restricted_indices": False, **grant}
    for field in ("names", "privileges"):
        kept[field] = [kept[field]] if isinstance(kept[field], str) else texts(role, field, kept[field])
        if not kept[field]:
            raise unparsed(f"failed to parse {what}. missing required [{field}] field")
    for privilege in kept["privileges"]:
        if privilege not in INDEX and not privilege.startswith("indices:"):
            raise illegal(
                f"unknown index privilege [{privilege}]. a privilege must be either one of the predefined fixed indices"
                f" privileges [{','.join(sorted(INDEX))}] or a pattern over one of the available index actions"
            )
    if isinstance(kept.get("field_security"), dict):
        only(kept["field_security"], {"grant", "except"}, what)
    if isinstance(kept.get("query"), dict):
        kept["query"] = json.dumps(kept["query"], separators=(",", ":"))
    return {key: value for key, value in kept.items() if value is not None}
