#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# ansible.builtin.uri would have the password among its arguments, which the controller would have to know. Here the
# machine reads it from its own file.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: elasticsearch_request
version_added: 0.1.0
short_description: Call Elasticsearch once, or wait until it answers something
description:
  - For what happens once (a snapshot taken or restored) and for what is awaited (the cluster's health). What is to be
    kept is the matter of M(mlops.metaflow.elasticsearch_object) and M(mlops.metaflow.elasticsearch_security).
author:
  - The metaflow-ansible authors
options:
  path:
    description: What to call, such as V(_cluster/health).
    type: str
    required: true
  method:
    description: How. Whatever isn't V(GET) counts as a change.
    type: str
    choices: [GET, POST, PUT, DELETE]
    default: GET
  body:
    description: What to send.
    type: dict
  until:
    description:
      - What the answer must show, compared as in M(mlops.metaflow.elasticsearch_object); a list has the values of which
        it may be one. The call is repeated until it does, also where nothing answers yet.
      - Only with O(method=GET).
    type: dict
  wait_timeout:
    description: Longest wait in seconds for O(until).
    type: int
    default: 300
extends_documentation_fragment:
  - mlops.metaflow.elasticsearch
attributes:
  check_mode:
    description: Makes only calls with V(GET), and no other one.
    support: full
  diff_mode:
    description: A call has no before and after.
    support: none
  idempotent:
    description: Calls with V(GET) change nothing; others happen at each run.
    support: partial
"""

EXAMPLES = r"""
- name: Wait until all shards are there
  mlops.metaflow.elasticsearch_request:
    url: https://127.0.0.1:9200
    ca_path: /etc/elk/certificates/ca.crt
    password_file: /etc/elk/secrets/elastic
    path: _cluster/health
    until: {status: [green, yellow], number_of_nodes: 3}

- name: Restore a snapshot
  mlops.metaflow.elasticsearch_request:
    url: https://127.0.0.1:9200
    ca_path: /etc/elk/certificates/ca.crt
    password_file: /etc/elk/secrets/elastic
    method: POST
    path: _snapshot/s3/nightly-2026.11.30/_restore?wait_for_completion=true
    body: {indices: "nutrients*"}
    request_timeout: 3600
"""

RETURN = r"""
answer:
  description: What Elasticsearch answered; empty where check mode made no call.
  returned: success
  type: raw
  sample: {cluster_name: elk, status: green}
"""

import time

from ansible_collections.mlops.metaflow.plugins.module_utils.elasticsearch import Refused, flat, part, run, same

PAUSE = 1  # seconds between two calls that wait


def shows(answer, until):
    """Tell whether an answer shows what is awaited."""
    have = flat(answer)
    for path, wanted in flat(until).items():
        value = part(have, path)
        if not any(same(one, value) for one in (wanted if isinstance(wanted, list) else [wanted])):
            return False
    return True


def awaited(client, path, until, timeout):
    """Return the first answer that shows what is awaited."""
    limit = time.monotonic() + timeout
    while True:
        try:
            client.sign_in()
            answer = client.call("GET", path)
            if shows(answer, until):
                return answer
            last = f"it answered {answer}"
        except Refused as refusal:
            last = str(refusal)
        if time.monotonic() > limit:
            raise Refused(f"{path} did not show {until} within {timeout} seconds; {last}")
        time.sleep(PAUSE)


def converge(module, client):
    """Do what the module is for, and return its result."""
    params = module.params
    path, method = "/" + params["path"].lstrip("/"), params["method"]
    if params["until"] and method != "GET":
        raise Refused(f"until goes with GET, not with {method}")
    if params["until"]:
        return {"changed": False, "answer": awaited(client, path, params["until"], params["wait_timeout"])}
    client.sign_in()
    if method != "GET" and module.check_mode:
        return {"changed": True, "answer": {}}
    return {"changed": method != "GET", "answer": client.call(method, path, params["body"])}


def main():
    run(
        converge,
        argument_spec={
            "path": {"required": True},
            "method": {"choices": ["GET", "POST", "PUT", "DELETE"], "default": "GET"},
            "body": {"type": "dict"},
            "until": {"type": "dict"},
            "wait_timeout": {"type": "int", "default": 300},
        },
    )


if __name__ == "__main__":
    main()
