# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure part of elasticsearch_security: what is declared of roles and users, and what differs from what is there."""

from __future__ import annotations

import json
import re

from ansible_collections.mlops.metaflow.plugins.module_utils.diff import canonical
from ansible_collections.mlops.metaflow.plugins.module_utils.elasticsearch import Refused

GRANTS = ("cluster", "indices", "applications", "run_as", "global", "remote_indices", "remote_cluster")
NAME = re.compile(r"[A-Za-z0-9_@$.+-][ -~]{0,506}")  # what the native realm takes, and no comma: it separates names
#: What a diff says of a password that isn't the one in the file.
ANOTHER = "another"

_STATE = {"choices": ["present", "absent"], "default": "present"}
_TEXTS = {"type": "list", "elements": "str"}
_INDEX = {
    "names": {**_TEXTS, "required": True},
    "privileges": {**_TEXTS, "required": True},
    "field_security": {"type": "dict"},
    "query": {},
    "allow_restricted_indices": {"type": "bool", "default": False},
}
_APPLICATION = {
    "application": {"required": True},
    "privileges": {**_TEXTS, "required": True},
    "resources": {**_TEXTS, "required": True},
}
#: The options of a role.
ROLE = {
    "name": {"required": True},
    "cluster": {**_TEXTS, "default": []},
    "indices": {"type": "list", "elements": "dict", "default": [], "options": _INDEX},
    "applications": {"type": "list", "elements": "dict", "default": [], "options": _APPLICATION},
    "run_as": {**_TEXTS, "default": []},
    "state": _STATE,
}
#: The options of a user.
USER = {
    "name": {"required": True},
    "password_file": {"type": "path", "no_log": False},
    "roles": _TEXTS,
    "full_name": {},
    "enabled": {"type": "bool"},
    "state": _STATE,
}


def check(declared_roles, declared_users, own):
    """Refuse what can be told to be wrong without a call."""
    check_names("role", declared_roles)
    check_names("user", declared_users)
    for role in declared_roles:
        grants(role)
    for user in declared_users:
        if user["name"] == own and (user["state"] == "absent" or user["enabled"] is False):
            raise Refused(f"the user '{own}' signs in here, and can't be taken away or disabled")


def check_names(kind, declared):
    """Refuse names that Elasticsearch doesn't take, and those that stand there twice."""
    names = [one["name"] for one in declared]
    for name in names:
        if not NAME.fullmatch(name) or "," in name or "*" in name:
            raise Refused(f"'{name}' can't be the name of a {kind}")
        if names.count(name) > 1:
            raise Refused(f"the {kind} '{name}' is declared twice")


def grants(role):
    """Return what a role permits, in one form: without what is empty, lists in one order."""
    found = {kind: role[kind] for kind in GRANTS if role.get(kind)}
    found["indices"] = [index_grant(one) for one in found.get("indices", [])]
    return {kind: ordered(value) for kind, value in found.items() if value}


def index_grant(grant):
    """Return privileges on indices as Elasticsearch shows them; a query comes back as text, whatever it was."""
    shown = {key: value for key, value in grant.items() if value not in (None, False, {}, "")}
    if isinstance(shown.get("query"), str):
        try:
            shown["query"] = json.loads(shown["query"])
        except ValueError:
            raise Refused(f"the query on {grant['names']} is no JSON") from None
    return shown


def ordered(value):
    """Return a value whose lists, at any depth, have one order; none of them means anything by its order."""
    if isinstance(value, dict):
        return {key: ordered(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted((ordered(one) for one in value), key=canonical)
    return value


def plan_roles(declared, live):
    """Return the roles before and after, as a diff shows them: name -> grants, or nothing where there is none."""
    before = {one["name"]: grants(live[one["name"]]) for one in declared if one["name"] in live}
    after = {one["name"]: grants(one) for one in declared if one["state"] == "present"}
    for name in before.keys() | after.keys():
        changed = before.get(name) != after.get(name)
        if changed and is_reserved(live.get(name, {})):
            raise Refused(f"the role '{name}' is built in, and can't be changed")
    return before, after


def is_reserved(live):
    """Tell whether a user or role is built in."""
    return bool(live.get("metadata", {}).get("_reserved"))


def plan_user(declared, live, password_differs):
    """Return a user before and after, as a diff shows it, or None for one that doesn't exist.

    :param live: the user as read, or None.
    :param password_differs: whether the password in the file is to be set.
    """
    before = shown_user(live) if live else None
    if live and is_reserved(live):
        check_reserved(declared)
    if declared["state"] == "absent":
        return before, None
    if not live and not declared["password_file"]:
        raise Refused(f"the user '{declared['name']}' doesn't exist yet, and needs a password_file")
    asked = {key: declared[key] for key in ("roles", "full_name", "enabled") if declared[key] is not None}
    after = {**(before or {"roles": [], "full_name": None, "enabled": True, "reserved": False}), **asked}
    after["roles"] = sorted(after["roles"])
    if password_differs:
        after["password"] = f"as in {declared['password_file']}"
        if before:
            before["password"] = ANOTHER
    return before, after


def check_reserved(declared):
    """Refuse what a built-in user doesn't take."""
    given = [key for key in ("roles", "full_name", "enabled") if declared[key] is not None]
    if declared["state"] == "absent":
        given = ["state=absent"]
    if given:
        raise Refused(f"the user '{declared['name']}' is built in, and takes a password only, no {', '.join(given)}")


def shown_user(user):
    """Return what a result and a diff show of a user."""
    return {
        "roles": sorted(user["roles"]),
        "full_name": user["full_name"],
        "enabled": user["enabled"],
        "reserved": is_reserved(user),
    }


def role_body(granted):
    """Return what a role permits as the API takes it."""
    return {"cluster": [], "indices": [], "applications": [], "run_as": [], **granted}


def without_password(user):
    """Return a user as it is shown, without what is said of its password."""
    return {key: value for key, value in user.items() if key != "password"}
