#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# ansible.builtin.uri could call the routes, but not tell before what would change, and it would have the token among
# its arguments.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: evidently_model
version_added: 0.1.0
short_description: Deploy, switch and roll back versions of models
description:
  - Talks to the model service of this collection (its folder C(evidently/)). Versions lie in S3; the service checks and
    loads a version before it takes it, and switches without a failed request.
author:
  - The metaflow-ansible authors
options:
  url:
    description: The address of the service, with C(https).
    type: str
    required: true
  token:
    description: The token that may deploy, switch and roll back. Either this or O(token_file).
    type: str
  token_file:
    description: A file whose first line is this token, on the machine where the module runs.
    type: path
  name:
    description: The model. Required except with O(state=list).
    type: str
  version:
    description: The version, as it is called in S3. Required with O(state=present) and O(state=active).
    type: str
  sha256:
    description: The checksum that the version's file must have. Only with O(state=present) and O(state=active).
    type: str
  from_version:
    description:
      - With O(state=rolled_back), the version to leave. Where another one is active, nothing happens, so that a
        repeated run goes no further back.
      - Required with O(state=rolled_back).
    type: str
  state:
    description:
      - V(present) deploys the version. It can be switched to, and doesn't answer yet.
      - V(active) deploys it where that is needed, and has it answer.
      - V(rolled_back) has the version answer that did before O(from_version).
      - V(list) changes nothing, and returns all models.
    type: str
    choices: [present, active, rolled_back, list]
    default: active
  timeout:
    description: Longest time in seconds for one request. The service loads a model within it.
    type: int
    default: 120
  ca_path:
    description: The certificate of the authority that signed the service's. Without it, the machine's own count.
    type: path
attributes:
  check_mode:
    description:
      - Tells from what is deployed. Whether S3 has a new version, and whether it can be loaded, its deployment
        tells.
    support: full
  diff_mode:
    description: Shows the deployed versions, the active one, and the one that a rollback goes to.
    support: full
  idempotent:
    description: What is so already is not changed.
    support: full
"""

EXAMPLES = r"""
- name: Have version 2 answer
  mlops.metaflow.evidently_model:
    url: https://127.0.0.1:5000
    ca_path: /etc/evidently/certificates/ca.crt
    token_file: /etc/evidently/admin_token
    name: xgboost_model
    version: "2"

- name: Go back from it
  mlops.metaflow.evidently_model:
    url: https://127.0.0.1:5000
    ca_path: /etc/evidently/certificates/ca.crt
    token_file: /etc/evidently/admin_token
    name: xgboost_model
    from_version: "2"
    state: rolled_back

- name: List all models
  mlops.metaflow.evidently_model:
    url: https://127.0.0.1:5000
    ca_path: /etc/evidently/certificates/ca.crt
    token_file: /etc/evidently/admin_token
    state: list
  register: deployed
"""

RETURN = r"""
model:
  description: The model, as it is afterwards; in check mode, as it would be.
  returned: success, except with O(state=list)
  type: dict
  contains:
    name:
      description: The model's name.
      type: str
      sample: xgboost_model
    active:
      description: The version that answers; null before the first switch.
      type: str
      sample: "2"
    previous:
      description: The version that a rollback goes to. Null if there is none, and in check mode after a rollback.
      type: str
      sample: "1"
    versions:
      description: The deployed versions, each with its C(version), C(sha256) and C(deployed_at).
      type: list
      elements: dict
      sample: [{version: "1", sha256: 9f86d0…, deployed_at: "2026-11-30T12:00:00+00:00"}]
models:
  description: All models, each as RV(model).
  returned: with O(state=list)
  type: list
  elements: dict
  sample: []
"""

from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.metaflow.plugins.module_utils import json_service
from ansible_collections.mlops.metaflow.plugins.module_utils.json_service import Refused


class Service:
    """The model service, as its administrator calls it."""

    def __init__(self, module, token):
        params = module.params
        self._url = json_service.checked_url(module)
        self._options = {
            "service": "a model service",
            "hint": "Is the service running, reached from here, and its certificate of the authority in ca_path?",
            "reason_in": reason_in,
            "headers": {"Authorization": f"Bearer {token}"},
            "timeout": params["timeout"],
            "ca_path": params["ca_path"],
        }

    def call(self, method, *path, body=None):
        """Return a good answer's content."""
        url = "/".join([self._url, *(quote(part, safe="") for part in path)])
        return json_service.call(method, url, body, **self._options)


def reason_in(answer):
    """Return the reason that an answer gives."""
    return answer["detail"]


def read_token(params):
    """Return the token that is given, or the one in the file that is named."""
    if params["token"]:
        return params["token"]
    token = json_service.first_line(params["token_file"], "token_file").strip()
    if not token:
        raise Refused(f"the first line of token_file {params['token_file']} is empty")
    return token


def plan(model, params):
    """Return what must be called, and the model as it will be.

    :param model: the model as the service shows it.
    :returns: the set of ``deploy``, ``switch`` and ``roll_back``, and the predicted model.
    :raises Refused: for what the service would refuse because of what is deployed.
    """
    if params["state"] == "rolled_back":
        return plan_rollback(model, params["from_version"])
    steps, version, sha256 = set(), params["version"], params["sha256"]
    present = next((one for one in model["versions"] if one["version"] == version), None)
    if present is None:
        steps.add("deploy")
        model = {**model, "versions": [*model["versions"], {"version": version, "sha256": sha256}]}
    elif sha256 not in (None, present["sha256"]):
        raise Refused(
            f"version {version} of {model['name']} is deployed with the sha256 {present['sha256']}, not {sha256};"
            " a version never changes: publish the file as another one"
        )
    if params["state"] == "active" and model["active"] != version:
        steps.add("switch")
        model = {**model, "active": version, "previous": model["active"]}
    return steps, model


def plan_rollback(model, from_version):
    """The same for a rollback."""
    if model["active"] != from_version:
        return set(), model
    if model["previous"] is None:
        raise Refused(f"{model['name']} has no version before {from_version} to roll back to")
    # Which one is before that, only the service knows.
    return {"roll_back"}, {**model, "active": model["previous"], "previous": None}


def apply(service, steps, params):
    """Make the calls of a plan; return whether one changed anything."""
    name, version = params["name"], params["version"]
    changed = False
    if "deploy" in steps:
        expected = {"sha256": params["sha256"]} if params["sha256"] else {}
        changed |= service.call("PUT", "models", name, "versions", version, body=expected)["changed"]
    if "switch" in steps:
        changed |= service.call("PUT", "models", name, "active", body={"version": version})["changed"]
    if "roll_back" in steps:
        body = {"from_version": params["from_version"]}
        changed |= service.call("POST", "models", name, "rollback", body=body)["changed"]
    return changed


def shown(model):
    """Return what a diff shows of a model."""
    versions = [one["version"] for one in model["versions"]]
    return {"active": model["active"], "previous": model["previous"], "versions": versions}


def converge(module, service):
    """Do what the module is for, and return its result."""
    params = module.params
    if params["state"] == "list":
        return {"changed": False, "models": service.call("GET", "models")}
    before = service.call("GET", "models", params["name"])
    steps, after = plan(before, params)
    changed = bool(steps)
    if steps and not module.check_mode:
        changed = apply(service, steps, params)
        after = service.call("GET", "models", params["name"])
    return {"changed": changed, "model": after, "diff": {"before": shown(before), "after": shown(after)}}


def main():
    module = AnsibleModule(
        argument_spec={
            "url": {"required": True},
            "token": {"no_log": True},
            "token_file": {"type": "path", "no_log": False},
            "name": {},
            "version": {},
            "sha256": {},
            "from_version": {},
            "state": {"choices": ["present", "active", "rolled_back", "list"], "default": "active"},
            "timeout": {"type": "int", "default": 120},
            "ca_path": {"type": "path"},
        },
        mutually_exclusive=[("token", "token_file")],
        required_one_of=[("token", "token_file")],
        required_if=[
            ("state", "present", ("name", "version")),
            ("state", "active", ("name", "version")),
            ("state", "rolled_back", ("name", "from_version")),
        ],
        supports_check_mode=True,
    )
    try:
        token = read_token(module.params)
        module.no_log_values.add(token)
        result = converge(module, Service(module, token))
    except Refused as error:
        module.fail_json(msg=f"Failed to have the model service do it: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
