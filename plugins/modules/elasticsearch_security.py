#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# ansible.builtin.uri would have the passwords among its arguments, write them again at every run, and not tell before
# what would change. community.general has no module for it.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: elasticsearch_security
version_added: 0.1.0
short_description: Keep roles, users and passwords of Elasticsearch
description:
  - Keeps roles and users of the native realm, and the passwords of built-in users, by the security API of one node.
  - Passwords come from files of the machine where the module runs. One is compared by signing in with it, so that only
    one that is another is set.
  - Roles come before users, and a role is taken away after its users. The password of the user that signs in is changed
    last.
author:
  - The metaflow-ansible authors
options:
  role_definitions:
    description: The roles. Those that aren't named stay as they are.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The role.
        type: str
        required: true
      cluster:
        description: Its privileges on the cluster.
        type: list
        elements: str
        default: []
      indices:
        description: Its privileges on indices.
        type: list
        elements: dict
        default: []
        suboptions:
          names:
            description: Indices, also with C(*).
            type: list
            elements: str
            required: true
          privileges:
            description: The privileges on them.
            type: list
            elements: str
            required: true
          field_security:
            description: The fields that it reads, as C(grant) and C(except).
            type: dict
          query:
            description: The documents that it reads, as a query in JSON.
            type: str
          allow_restricted_indices:
            description: Whether the names also mean the indices that Elasticsearch keeps for itself.
            type: bool
            default: false
      applications:
        description: Its privileges in applications, such as Kibana's.
        type: list
        elements: dict
        default: []
        suboptions:
          application:
            description: The application, such as V(kibana-.kibana).
            type: str
            required: true
          privileges:
            description: The privileges there.
            type: list
            elements: str
            required: true
          resources:
            description: On what.
            type: list
            elements: str
            required: true
      run_as:
        description: The users that it may act as.
        type: list
        elements: str
        default: []
      state:
        description: Whether the role is to exist.
        type: str
        choices: [present, absent]
        default: present
  users:
    description: The users. Those that aren't named stay as they are.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The user. A built-in one takes nothing but a password.
        type: str
        required: true
      password_file:
        description:
          - A file whose first line is the password, 6 characters or more. A new user needs one.
          - The password of a user that is disabled, and stays so, can't be compared, and is left alone.
        type: path
      roles:
        description: All roles of the user. Without it they stay as they are; a new user then has none.
        type: list
        elements: str
      full_name:
        description: A name for people. Without it, it stays as it is.
        type: str
      enabled:
        description: Whether the user can sign in. Without it, that stays as it is; a new user can.
        type: bool
      state:
        description: Whether the user is to exist.
        type: str
        choices: [present, absent]
        default: present
extends_documentation_fragment:
  - mlops.metaflow.elasticsearch
attributes:
  check_mode:
    description: Reads, signs in with the passwords to compare them, and changes nothing.
    support: full
  diff_mode:
    description: Shows what is declared before and after, of a password only that it is another.
    support: full
  idempotent:
    description: What is so already is not written.
    support: full
notes:
  - The user that signs in needs the privilege C(manage_security).
  - Signing in with a password that isn't set shows as a refused one in Elasticsearch's audit log, where that is kept.
  - A user's other fields (e-mail, metadata) stay when it is changed. A role is written as a whole; it counts as another
    one if it has privileges of kinds that can't be declared here (C(global), C(remote_indices), C(remote_cluster)).
"""

EXAMPLES = r"""
- name: Have flows write their indices, and nothing else
  mlops.metaflow.elasticsearch_security:
    url: https://127.0.0.1:9200
    ca_path: /etc/elk/certificates/ca.crt
    password_file: /etc/elk/secrets/elastic
    role_definitions:
      - name: flows
        cluster: [monitor]
        indices:
          - names: [nutrients*, labeled*]
            privileges: [read, write, create_index, view_index_metadata]
    users:
      - name: flows
        password_file: /etc/elk/secrets/flows
        roles: [flows]
        full_name: Flows of Metaflow
      - name: kibana_system
        password_file: /etc/elk/secrets/kibana_system

- name: Renew the password of the user that signs in
  mlops.metaflow.elasticsearch_security:
    url: https://127.0.0.1:9200
    ca_path: /etc/elk/certificates/ca.crt
    password_file: /etc/elk/secrets/elastic
    previous_password_file: /etc/elk/secrets/elastic.previous
    users:
      - name: elastic
        password_file: /etc/elk/secrets/elastic
"""

RETURN = r"""
roles:
  description: The declared roles that exist, as Elasticsearch has them; in check mode, as it would.
  returned: success
  type: dict
  sample: {flows: {cluster: [monitor], indices: [], applications: [], run_as: []}}
users:
  description: The declared users that exist, each with its C(roles), C(full_name), C(enabled) and C(reserved).
  returned: success
  type: dict
  sample: {flows: {roles: [flows], full_name: Flows of Metaflow, enabled: true, reserved: false}}
passwords:
  description: The users whose password was set; in check mode, would be.
  returned: success
  type: list
  elements: str
  sample: [kibana_system]
"""

from urllib.parse import quote

from ansible_collections.mlops.metaflow.plugins.module_utils.elasticsearch import run
from ansible_collections.mlops.metaflow.plugins.module_utils.elasticsearch_accounts import (
    ROLE,
    USER,
    check,
    plan_roles,
    plan_user,
    role_body,
    shown_user,
    without_password,
)


def read(client, kind, declared):
    """Return the declared roles or users that exist, by name."""
    if not declared:
        return {}
    names = ",".join(quote(one["name"], safe="") for one in declared)
    return client.get(f"/_security/{kind}/{names}") or {}


def password_differs(client, declared, live, passwords):
    """Tell whether a user's password is to be set."""
    name = declared["name"]
    if declared["state"] == "absent" or not declared["password_file"]:
        return False
    if name not in live:
        return True
    if not live[name]["enabled"]:
        # Nobody signs in as a disabled user, so nothing can be compared.
        return declared["enabled"] is True
    return not client.signs_in(name, passwords[name])


def write(client, before, after, live, passwords):
    """Make the calls that lead from before to after. The user that signs in is last: its password counts until then."""
    own = {client.username}
    for name, wanted in after["roles"].items():
        if wanted != before["roles"].get(name):
            client.call("PUT", f"/_security/role/{quote(name, safe='')}", role_body(wanted))
    differing = {name for name, user in after["users"].items() if user != before["users"].get(name)}
    for name in sorted(differing - own):
        write_user(client, name, after["users"][name], live.get(name), passwords)
    for kind in ("user", "role"):
        for name in sorted(before[f"{kind}s"].keys() - after[f"{kind}s"].keys()):
            client.call("DELETE", f"/_security/{kind}/{quote(name, safe='')}")
    for name in differing & own:
        write_user(client, name, after["users"][name], live.get(name), passwords)


def write_user(client, name, after, live, passwords):
    """Write a user that differs, or only its password."""
    path = f"/_security/user/{quote(name, safe='')}"
    password = {"password": passwords[name]} if "password" in after else {}
    if live and shown_user(live) == without_password(after):
        client.call("PUT", f"{path}/_password", password)
        return
    kept = {key: live[key] for key in ("email", "metadata") if live and live.get(key)}
    fields = {key: after[key] for key in ("roles", "full_name", "enabled")}
    client.call("PUT", path, {**kept, **fields, **password})


def converge(module, client):
    """Do what the module is for, and return its result."""
    roles, users = module.params["role_definitions"], module.params["users"]
    check(roles, users, client.username)
    passwords = {
        one["name"]: client.password_in(one["password_file"], f"the password_file of the user '{one['name']}',")
        for one in users
        if one["password_file"]
    }
    client.sign_in()
    roles_before, roles_after = plan_roles(roles, read(client, "role", roles))
    live = read(client, "user", users)
    planned = {
        one["name"]: plan_user(one, live.get(one["name"]), password_differs(client, one, live, passwords))
        for one in users
    }
    before = {"roles": roles_before, "users": {name: user for name, (user, _after) in planned.items() if user}}
    after = {"roles": roles_after, "users": {name: user for name, (_before, user) in planned.items() if user}}
    if before != after and not module.check_mode:
        write(client, before, after, live, passwords)
    return {
        "changed": before != after,
        "roles": {name: role_body(granted) for name, granted in roles_after.items()},
        "users": {name: without_password(user) for name, user in after["users"].items()},
        "passwords": sorted(name for name, user in after["users"].items() if "password" in user),
        "diff": {"before": before, "after": after},
    }


def main():
    lists = {"type": "list", "elements": "dict", "default": []}
    run(converge, argument_spec={"role_definitions": {**lists, "options": ROLE}, "users": {**lists, "options": USER}})


if __name__ == "__main__":
    main()
