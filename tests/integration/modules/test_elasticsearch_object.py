# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""elasticsearch_object and elasticsearch_request, on a stand-in of Elasticsearch that is as strict as the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from elastic import ELASTIC, Steps
from elastic_node import Authority, Node

ROOT = Path(__file__).parents[3]
NUTRIENTS = {
    "index_patterns": "nutrients*",
    "priority": 200,
    "template": {
        "settings": {"number_of_shards": 1, "index.number_of_replicas": 0, "index": {"refresh_interval": "5s"}},
        "mappings": {"dynamic": False, "properties": {"embedding": {"type": "dense_vector", "dims": 3, "index": True}}},
    },
}
DAILY = {
    "schedule": "0 30 1 * * ?",
    "name": "<nightly-{now/d}>",
    "repository": "files",
    "config": {"indices": ["*"], "include_global_state": False},
    "retention": {"expire_after": "30d", "min_count": 5},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One node for all: each test takes away what it has made."""
    directory = tmp_path_factory.mktemp("elastic")
    snapshots = directory / "snapshots"
    node = Node(directory / "node", Authority(directory / "authority"), ELASTIC, path__repo=str(snapshots)).start()
    yield node
    node.stop()


@pytest.fixture
def keep(run_module, running, tmp_path):
    return Steps(run_module, running, tmp_path, "elasticsearch_object")


@pytest.fixture
def ask(run_module, running, tmp_path):
    return Steps(run_module, running, tmp_path, "elasticsearch_request")


def repository(keep):
    location = str(keep.node.directory.parent / "snapshots")
    return {"path": "_snapshot/files", "body": {"type": "fs", "settings": {"location": location, "compress": True}}}


def test_an_index_template(keep, running):
    template = {"path": "_index_template/nutrients", "body": NUTRIENTS}
    assert keep.change(**template)["object"]["index_patterns"] == ["nutrients*"]
    assert running.call("PUT", "/nutrients/_doc/1", {"embedding": [1, 2]})[0] == 400
    assert running.call("PUT", "/nutrients/_doc/1", {"embedding": [1, 2, 3]})[0] == 201
    assert running.get("/_cluster/health")["status"] == "green"
    other = json.loads(json.dumps(NUTRIENTS))
    other["template"]["mappings"]["properties"]["embedding"]["dims"] = 4
    diff = keep.change(path=template["path"], body=other)["diff"]
    assert diff == {
        "before": {"template.mappings.properties.embedding.dims": 3},
        "after": {"template.mappings.properties.embedding.dims": 4},
    }
    gone = keep.change(path=template["path"], state="absent")
    assert gone["diff"]["after"] == gone["object"] == {}
    running.call("DELETE", "/nutrients")


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        (
            "_component_template/base",
            {"template": {"settings": {"number_of_replicas": 0}}},
            {"template": {"settings": {"number_of_replicas": 1}}},
        ),
        (
            "_ilm/policy/short",
            {"policy": {"phases": {"delete": {"min_age": "7d", "actions": {"delete": {}}}}}},
            {"policy": {"phases": {"delete": {"min_age": "9d", "actions": {"delete": {}}}}}},
        ),
        ("_ingest/pipeline/stamp", {"processors": [{"set": {"field": "a", "value": 1}}]}, {"processors": []}),
    ],
)
def test_other_kinds(keep, path, body, other):
    keep.change(path=path, body=body)
    keep.change(path=path, body=other)
    keep.change(path=path, state="absent")


def test_snapshots_are_taken_and_restored(keep, ask, running):
    keep.change(**repository(keep))
    keep.change(path="_slm/policy/daily", body=DAILY)
    keep.change(path="_slm/policy/daily", body={**DAILY, "schedule": "0 0 2 * * ?"})
    running.call("PUT", "/labeled/_doc/1", {"label": "training"})
    execute = {"path": "_slm/policy/daily/_execute", "method": "POST"}
    assert ask.run(check=True, **execute)["answer"] == {}
    name = ask.run(**execute)["answer"]["snapshot_name"]
    running.call("DELETE", "/labeled")
    done = ask.run(
        path=f"/_snapshot/files/{name}/_restore?wait_for_completion=true", method="POST", body={"indices": "labeled"}
    )
    assert done["answer"]["snapshot"]["indices"] == ["labeled"]
    assert running.get("/labeled/_doc/1")["_source"] == {"label": "training"}
    running.call("DELETE", "/labeled")
    keep.change(path="_slm/policy/daily", state="absent")
    keep.change(path="_snapshot/files", state="absent")


def test_settings_of_the_cluster(keep, running):
    primaries = {"persistent": {"cluster.routing.allocation.enable": "primaries", "cluster.max_shards_per_node": 500}}
    keep.change(path="_cluster/settings", body=primaries)
    nested = {"persistent": {"cluster": {"routing": {"allocation": {"enable": "primaries"}}}}}
    keep.run(changes=False, path="_cluster/settings", body=nested)
    keep.change(path="_cluster/settings", body={"persistent": {"cluster.routing.allocation.enable": None}})
    keep.change(path="_cluster/settings", body=primaries, state="absent")
    assert running.get("/_cluster/settings") == {"persistent": {}, "transient": {}}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"path": "_security/user/x", "body": {}},
            "path is '_security/user/x', and must be one of _index_template/<name>",
        ),
        ({"path": "_index_template/a/b", "body": {}}, "must be one of"),
        ({"path": "_index_template/A", "body": {}}, "'A' in path can't be a name"),
        ({"path": "_index_template/a"}, "a body is missing for _index_template/a"),
        ({"path": "_cluster/settings", "state": "absent"}, "a body is missing for _cluster/settings"),
        ({"path": "_cluster/settings", "body": {"cluster.x": 1}}, "has the keys persistent and transient"),
        ({"path": "_index_template/a", "body": {}, "password_file": "/nowhere"}, "/nowhere can't be read"),
    ],
)
def test_what_cannot_be_says_why_and_changes_nothing(keep, options, reason):
    assert reason in keep.refused(**options)


def test_what_elasticsearch_refuses_is_told_in_its_words(keep, run_module):
    for path, body, reason in (
        ("_index_template/a", {"index_patterns": ["a"], "tempalte": {}}, "unexpected field [tempalte]"),
        ("_snapshot/none", {"type": "fs", "settings": {"location": "/nowhere"}}, "doesn't match any of the locations"),
        ("_slm/policy/daily", {**DAILY, "repository": "none"}, "404, [none] missing"),
    ):
        said = run_module("mlops.metaflow.elasticsearch_object", keep.options(path=path, body=body), fails=True)["msg"]
        assert reason in said


def test_waiting(ask, run_module):
    health = ask.run(changes=False, path="_cluster/health", until={"status": ["green", "yellow"], "number_of_nodes": 1})
    assert health["answer"]["status"] == "green"
    options = ask.options(path="_cluster/health", until={"number_of_nodes": 2}, wait_timeout=0)
    said = run_module("mlops.metaflow.elasticsearch_request", options, fails=True)["msg"]
    assert "_cluster/health did not show {'number_of_nodes': 2} within 0 seconds; it answered {" in said
    options = ask.options(path="_cluster/health", url="https://127.0.0.1:9", until={"status": "green"}, wait_timeout=0)
    assert "got no answer" in run_module("mlops.metaflow.elasticsearch_request", options, fails=True)["msg"]
    assert "until goes with GET, not with POST" in ask.refused(path="_x", method="POST", until={"a": 1})


def test_in_a_play_no_password_is_anywhere(running, tmp_path):
    """AnsiballZ, doc fragments and the shared files, as a machine gets them; at the highest verbosity."""
    password = tmp_path / "elastic"
    password.write_text(ELASTIC)
    flows = tmp_path / "flows"
    flows.write_text("canary-flows-1")
    defaults = {"url": running.url, "ca_path": str(running.authority.path), "password_file": str(password)}
    user = {"name": "play", "roles": ["viewer"], "password_file": str(flows)}
    security = {"mlops.metaflow.elasticsearch_security": {**defaults, "users": [user]}}
    template = {**defaults, "path": "_index_template/play", "body": {"index_patterns": ["play"]}}
    tasks = [
        {**security, "check_mode": True},
        security,
        {"mlops.metaflow.elasticsearch_object": template},
        {"mlops.metaflow.elasticsearch_request": {**defaults, "path": "_cluster/health", "until": {"status": "green"}}},
        security,
    ]
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {"localhost": host}}}))
    command = [Path(sys.executable).with_name("ansible-playbook"), playbook, "-i", inventory, "--diff", "-vvvv"]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert "ok=5    changed=3 " in output, output
    assert "canary" not in output
