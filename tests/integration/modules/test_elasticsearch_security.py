# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""elasticsearch_security, on a stand-in of Elasticsearch that is as strict as the real one."""

from __future__ import annotations

import pytest
from elastic import ELASTIC, Steps
from elastic_node import Authority, Node

FLOWS = {
    "name": "flows",
    "cluster": ["monitor"],
    "indices": [{"names": ["nutrients*", "labeled*"], "privileges": ["read", "write", "create_index"]}],
}


@pytest.fixture
def node(tmp_path):
    """A node to which nobody but elastic can sign in."""
    running = Node(tmp_path / "node", Authority(tmp_path / "authority"), ELASTIC).start()
    yield running
    running.stop()


@pytest.fixture
def security(run_module, node, tmp_path):
    return Steps(run_module, node, tmp_path, "elasticsearch_security")


def signs_in(node, user, password):
    return node.call("GET", "/_security/_authenticate", user=user, password=password)[0] == 200


def test_roles_and_users_each_once(security, node):
    flows = {"name": "flows", "roles": ["flows"], "password_file": security.secret("flows", "canary-flows-1")}
    made = security.change(role_definitions=[FLOWS], users=[flows])
    assert made["passwords"] == ["flows"]
    assert made["users"] == {"flows": {"roles": ["flows"], "full_name": None, "enabled": True, "reserved": False}}
    assert made["diff"]["before"] == {"roles": {}, "users": {}}
    document = node.call("PUT", "/nutrients/_doc/1", {"name": "milk"}, "flows", "canary-flows-1")
    assert document[0] == 201, document
    assert node.call("PUT", "/other/_doc/1", {"name": "milk"}, "flows", "canary-flows-1")[0] == 403
    assert node.call("GET", "/_security/user", None, "flows", "canary-flows-1")[0] == 403

    # Another order is no change, and neither is what is left out.
    turned = {
        **FLOWS,
        "indices": [{"names": ["labeled*", "nutrients*"], "privileges": ["write", "create_index", "read"]}],
    }
    security.run(changes=False, role_definitions=[turned], users=[{"name": "flows"}])

    changed = security.change(
        role_definitions=[{**FLOWS, "cluster": []}],
        users=[{"name": "flows", "roles": ["flows", "viewer"], "full_name": "Flows", "enabled": False}],
    )
    assert changed["passwords"] == []
    assert node.get("/_security/role/flows")["flows"]["cluster"] == []
    assert not signs_in(node, "flows", "canary-flows-1")
    security.change(users=[{"name": "flows", "enabled": True}])
    assert signs_in(node, "flows", "canary-flows-1")

    gone = security.change(
        role_definitions=[{**FLOWS, "state": "absent"}], users=[{"name": "flows", "state": "absent"}]
    )
    assert gone["users"] == gone["roles"] == {}
    assert node.call("GET", "/_security/user/flows") == (404, {})


def test_every_kind_of_privilege_is_compared(security, node):
    role = {
        "name": "readers",
        "indices": [
            {
                "names": ["a*"],
                "privileges": ["read"],
                "field_security": {"grant": ["*"], "except": ["secret"]},
                "query": '{"term": {"public": true}}',
            },
            {"names": ["b"], "privileges": ["read"], "allow_restricted_indices": True},
        ],
        "applications": [{"application": "kibana-.kibana", "privileges": ["read"], "resources": ["*"]}],
        "run_as": ["other"],
    }
    security.change(role_definitions=[role])
    kept = node.get("/_security/role/readers")["readers"]
    assert [one["query"] for one in kept["indices"] if "query" in one] == ['{"term":{"public":true}}']
    # What somebody has added by hand is taken away.
    wider = {**{key: kept[key] for key in ("indices", "applications", "run_as")}, "global": {"application": {}}}
    assert node.call("PUT", "/_security/role/readers", wider)[0] == 200
    diff = security.change(role_definitions=[role])["diff"]
    assert "global" in diff["before"]["roles"]["readers"]
    assert "global" not in diff["after"]["roles"]["readers"]


def test_passwords_of_built_in_users(security, node):
    for password in ("canary-kibana-1", "canary-kibana-2"):
        kibana = {"name": "kibana_system", "password_file": security.secret("kibana", password)}
        set_ = security.change(users=[kibana])
        assert set_["passwords"] == ["kibana_system"]
        assert set_["diff"]["after"]["users"]["kibana_system"]["password"] == f"as in {kibana['password_file']}"
        assert signs_in(node, "kibana_system", password)
    assert not signs_in(node, "kibana_system", "canary-kibana-1")


def test_a_password_that_somebody_has_changed_is_set_again(security, node):
    flows = {"name": "flows", "roles": ["viewer"], "password_file": security.secret("flows", "canary-flows-1")}
    security.run(users=[flows])
    node.call("PUT", "/_security/user/flows", {"roles": ["viewer"], "email": "a@b.c", "metadata": {"team": "x"}})
    assert node.call("PUT", "/_security/user/flows/_password", {"password": "by-hand"})[0] == 200
    assert security.change(users=[flows])["passwords"] == ["flows"]
    assert signs_in(node, "flows", "canary-flows-1")
    # With something else it is one call, which keeps what isn't declared.
    node.call("PUT", "/_security/user/flows/_password", {"password": "by-hand"})
    security.change(users=[{**flows, "full_name": "Flows"}])
    assert signs_in(node, "flows", "canary-flows-1")
    kept = node.get("/_security/user/flows")["flows"]
    assert (kept["email"], kept["metadata"], kept["full_name"]) == ("a@b.c", {"team": "x"}, "Flows")


def test_a_disabled_user_gets_its_password_when_it_is_enabled(security, node):
    flows = {"name": "flows", "enabled": False, "password_file": security.secret("flows", "canary-flows-1")}
    security.change(users=[flows])
    flows["password_file"] = security.secret("flows", "canary-flows-2")
    security.run(changes=False, users=[flows])
    security.change(users=[{**flows, "enabled": True}])
    assert signs_in(node, "flows", "canary-flows-2")


def test_the_password_of_the_user_that_signs_in(security, node):
    new, old = security.secret("new", "canary-elastic-2"), security.secret("old", ELASTIC)
    users = [{"name": "elastic", "password_file": new}, {"name": "kibana_system", "password_file": new}]
    options = {"password_file": new, "previous_password_file": old, "users": users}
    assert security.change(**options)["passwords"] == ["elastic", "kibana_system"]
    assert signs_in(node, "elastic", "canary-elastic-2")
    assert not signs_in(node, "elastic", ELASTIC)
    # The file with the one before needs not be there once the new one counts.
    node.password = "canary-elastic-2"
    security.run(changes=False, **{**options, "previous_password_file": "/nowhere"})


def test_a_restart_keeps_what_was_set(security, node):
    flows = {"name": "flows", "roles": ["viewer"], "password_file": security.secret("flows", "canary-flows-1")}
    security.run(users=[flows])
    node.stop()
    node.start()
    security.run(changes=False, users=[flows])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"users": [{"name": "elastic", "roles": ["superuser"]}]},
            "'elastic' is built in, and takes a password only, no roles",
        ),
        ({"users": [{"name": "kibana_system", "state": "absent"}]}, "a password only, no state=absent"),
        ({"users": [{"name": "elastic", "state": "absent"}]}, "'elastic' signs in here, and can't be taken away"),
        ({"users": [{"name": "new"}]}, "the user 'new' doesn't exist yet, and needs a password_file"),
        ({"users": [{"name": "a"}, {"name": "a"}]}, "the user 'a' is declared twice"),
        ({"users": [{"name": "a,b"}]}, "'a,b' can't be the name of a user"),
        (
            {"users": [{"name": "a", "password_file": "/nowhere"}]},
            "of the user 'a', /nowhere can't be read: FileNotFoundError",
        ),
        ({"role_definitions": [{"name": "superuser"}]}, "the role 'superuser' is built in, and can't be changed"),
        (
            {"role_definitions": [{"name": "a", "indices": [{"names": ["x"], "privileges": ["read"], "query": "{"}]}]},
            "no JSON",
        ),
        ({"password_file": "/dev/null"}, "/dev/null is no password: it has less than 6 characters"),
        ({"url": "http://127.0.0.1:9200"}, "url is 'http://127.0.0.1:9200', and must be https://"),
        ({"url": "https://elastic:canary@127.0.0.1"}, "without a user"),
        ({"ca_path": "/nowhere"}, "ca_path /nowhere is no file"),
        ({"ca_path": None}, "got no answer ([SSL: CERTIFICATE_VERIFY_FAILED]"),
        ({"url": "https://127.0.0.1:9"}, "got no answer ([Errno 111] Connection refused)"),
        ({"username": "nobody"}, "does not take the password of 'nobody' in"),
    ],
)
def test_what_cannot_be_says_why_and_changes_nothing(security, options, reason):
    said = security.refused(**options)
    assert said.startswith("Failed to have Elasticsearch do it: ")
    assert reason in said


def test_what_elasticsearch_refuses_is_told_in_its_words(security, run_module):
    """Only the real run asks it: check mode can't know all privileges of a version."""
    options = security.options(role_definitions=[{"name": "a", "cluster": ["rule"]}])
    said = run_module("mlops.metaflow.elasticsearch_security", options, fails=True)["msg"]
    assert "PUT" in said
    assert "400, unknown cluster privilege [rule]" in said


def test_another_authority_and_another_address_are_not_trusted(security, tmp_path, node):
    stranger = Authority(tmp_path / "stranger")
    assert "CERTIFICATE_VERIFY_FAILED" in security.refused(ca_path=str(stranger.path))
    assert "CERTIFICATE_VERIFY_FAILED" in security.refused(url=node.url.replace("127.0.0.1", "localhost"))


def test_too_few_privileges_are_told(security, node):
    reader = {"name": "reader", "roles": ["viewer"], "password_file": security.secret("reader", "canary-reader")}
    security.run(users=[reader])
    said = security.refused(username="reader", password_file=reader["password_file"], users=[{"name": "elastic"}])
    assert "403, action [cluster:admin/xpack/security/user/get] is unauthorized for user [reader]" in said
