#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# ansible.builtin.uri would write at every run, not tell before what would change, and have the password among its
# arguments.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: elasticsearch_object
version_added: 0.1.0
short_description: Keep index templates, snapshot policies and settings of Elasticsearch
description:
  - Reads what is there, compares what is asked for, and writes only where that differs.
author:
  - The metaflow-ansible authors
options:
  path:
    description:
      - What to keep, as the API calls it. One of C(_index_template/<name>), C(_component_template/<name>),
        C(_snapshot/<repository>), C(_slm/policy/<id>), C(_ilm/policy/<name>), C(_ingest/pipeline/<id>) and
        C(_cluster/settings).
    type: str
    required: true
  body:
    description:
      - What it is to be, as the API takes it.
      - Only what stands there is compared, so what Elasticsearch adds is no difference; nor is a key that the body no
        longer has, until something else is changed. Numbers and truths equal their texts, C(a.b) equals a map in
        a map.
      - Of C(_cluster/settings), only what stands there is changed. V(null) takes a setting back.
      - Required with O(state=present), and with C(_cluster/settings).
    type: dict
  state:
    description: Whether it is to exist. Of C(_cluster/settings), V(absent) takes back the settings in O(body).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - mlops.metaflow.elasticsearch
attributes:
  check_mode:
    description: Compares without writing. Whether Elasticsearch takes the body, and can write into a repository, its
      answer tells.
    support: full
  diff_mode:
    description: Shows what is asked for, before and after.
    support: full
  idempotent:
    description: What is so already is not written.
    support: full
notes:
  - A body is shown in results and logs, and is no place for secrets.
"""

EXAMPLES = r"""
- name: Have the index of the nutrients made with a vector field
  mlops.metaflow.elasticsearch_object:
    url: https://127.0.0.1:9200
    ca_path: /etc/elk/certificates/ca.crt
    password_file: /etc/elk/secrets/elastic
    path: _index_template/nutrients
    body:
      index_patterns: [nutrients*]
      template:
        settings: {number_of_shards: 1}
        mappings:
          properties:
            embedding: {type: dense_vector, dims: 384, index: true, similarity: cosine}

- name: Have snapshots go to S3
  mlops.metaflow.elasticsearch_object:
    url: https://127.0.0.1:9200
    ca_path: /etc/elk/certificates/ca.crt
    password_file: /etc/elk/secrets/elastic
    path: _snapshot/s3
    body:
      type: s3
      settings: {bucket: metaflow-prod-data, base_path: elk}

- name: Let shards stay where they are while a node is restarted
  mlops.metaflow.elasticsearch_object:
    url: https://127.0.0.1:9200
    ca_path: /etc/elk/certificates/ca.crt
    password_file: /etc/elk/secrets/elastic
    path: _cluster/settings
    body: {persistent: {cluster.routing.allocation.enable: primaries}}
"""

RETURN = r"""
object:
  description: What is there afterwards, as Elasticsearch shows it; in check mode, as asked for. Empty if nothing is.
  returned: success
  type: dict
  sample: {type: s3, settings: {bucket: metaflow-prod-data, base_path: elk}}
"""

import re

from ansible_collections.mlops.metaflow.plugins.module_utils.elasticsearch import Refused, flat, missing, part, run

SETTINGS = "_cluster/settings"
#: Where in the answer to a GET the object is; {name} is its name.
KINDS = {
    "_index_template": ("index_templates", 0, "index_template"),
    "_component_template": ("component_templates", 0, "component_template"),
    "_snapshot": ("{name}",),
    "_slm/policy": ("{name}", "policy"),
    "_ilm/policy": ("{name}",),
    "_ingest/pipeline": ("{name}",),
}
#: Their settings come back below "index", also where that was left out.
TEMPLATES = ("_index_template", "_component_template")
NAME = re.compile(r"[a-z0-9@.][a-z0-9@._-]*")


def split(path):
    """Return the kind and the name of a path."""
    if path == SETTINGS:
        return SETTINGS, None
    kind, _, name = path.strip("/").rpartition("/")
    if kind not in KINDS:
        known = ", ".join(f"{one}/<name>" for one in KINDS)
        raise Refused(f"path is '{path}', and must be one of {known}, {SETTINGS}")
    if not NAME.fullmatch(name):
        raise Refused(f"'{name}' in path can't be a name: use lower case letters, digits, '.', '_' and '-'")
    return kind, name


def read(client, kind, name):
    """Return what is there, or None."""
    if kind == SETTINGS:
        return client.call("GET", f"/{SETTINGS}?flat_settings=true")
    found = client.get(f"/{kind}/{name}")
    for step in KINDS[kind] if found else ():
        found = found[step.format(name=name) if isinstance(step, str) else step]
    return found


def comparable(kind, value):
    """Return a map of dotted paths and values, with a template's settings below "index"."""
    paths = flat(value or {})
    if kind not in TEMPLATES:
        return paths
    return {re.sub(r"^template\.settings\.(?!index\.)", "template.settings.index.", key): paths[key] for key in paths}


def taken_back(settings):
    """Return settings each of which is None."""
    return {scope: dict.fromkeys(flat(inner)) for scope, inner in settings.items()}


def converge(module, client):
    """Do what the module is for, and return its result."""
    params = module.params
    kind, name = split(params["path"])
    body, state = params["body"], params["state"]
    if body is None and (state == "present" or kind == SETTINGS):
        raise Refused(f"a body is missing for {params['path']}")
    if kind == SETTINGS and (set(body) - {"persistent", "transient"} or not all(map(is_map, body.values()))):
        raise Refused(f"the body of {SETTINGS} has the keys persistent and transient, each with settings")
    client.sign_in()
    if kind == SETTINGS and state == "absent":
        body, state = taken_back(body), "present"
    live = read(client, kind, name)
    if state == "absent":
        return remove(module, client, f"/{kind}/{name}", live)
    return write(module, client, kind, name, body, live)


def is_map(value):
    """Tell whether a value is a map."""
    return isinstance(value, dict)


def remove(module, client, path, live):
    """Take away what is there, and return the result."""
    if live is not None and not module.check_mode:
        client.call("DELETE", path)
    return {"changed": live is not None, "object": {}, "diff": {"before": live or {}, "after": {}}}


def write(module, client, kind, name, body, live):
    """Write what differs, and return the result."""
    wanted, have = comparable(kind, body), comparable(kind, live)
    differing = missing(wanted, have)
    if not differing:
        return {"changed": False, "object": live, "diff": {"before": {}, "after": {}}}
    before = {path: part(have, path) for path in differing}
    if module.check_mode:
        return {"changed": True, "object": body, "diff": {"before": before, "after": differing}}
    client.call("PUT", f"/{SETTINGS}" if kind == SETTINGS else f"/{kind}/{name}", body)
    return {
        "changed": True,
        "object": read(client, kind, name),
        "diff": {"before": before, "after": differing},
    }


def main():
    run(
        converge,
        argument_spec={
            "path": {"required": True},
            "body": {"type": "dict"},
            "state": {"choices": ["present", "absent"], "default": "present"},
        },
    )


if __name__ == "__main__":
    main()
