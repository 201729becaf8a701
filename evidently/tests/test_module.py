"""The Ansible module evidently_model, on the service as a process of its own."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mlops.metaflow.plugins.modules import evidently_model
from conftest import ADMIN_TOKEN, free_port

NAME = "xgboost_model"


@pytest.fixture
def run(api, start_service, capsys):
    """Run the module on a service that has nothing deployed yet."""
    port = free_port()
    start_service(api.environment, port)

    def run(check: bool = False, **options) -> dict:
        options = {
            "url": f"https://127.0.0.1:{port}",
            "token_file": api.environment["ADMIN_TOKEN_FILE"],
            "ca_path": api.environment["AUTHORITY_FILE"],
            **options,
        }
        options = {name: value for name, value in options.items() if value is not None}
        capsys.readouterr()
        with (
            patch_module_args({**options, "_ansible_check_mode": check, "_ansible_diff": True}),
            pytest.raises(SystemExit),
        ):
            evidently_model.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_deploy_switch_and_roll_back_each_once(run, api):
    """Each is told before, happens, and a second time does not."""
    for step in (
        {"name": NAME, "version": "1", "state": "present"},
        {"name": NAME, "version": "1"},
        {"name": NAME, "version": "2"},
        {"name": NAME, "from_version": "2", "state": "rolled_back"},
    ):
        predicted, real = run(check=True, **step), run(**step)
        assert (predicted["changed"], real["changed"]) == (True, True), (predicted, real)
        assert predicted["diff"] == real["diff"]
        assert (run(check=True, **step)["changed"], run(**step)["changed"]) == (False, False)
        assert real["model"] == api.get(f"/models/{NAME}").json()
    listed = run(state="list")
    assert not listed["changed"]
    assert [(model["name"], model["active"]) for model in listed["models"]] == [
        (NAME, "1"),
        ("linear_regression_model", None),
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"version": "9"}, "404, version: "),
        ({"version": "1", "sha256": "0" * 64}, "409, sha256: the manifest of xgboost_model 1 has"),
        ({"version": "1", "name": "no_model"}, "404, model_name: there is no such model"),
        ({"from_version": "1", "state": "rolled_back", "name": "no_model"}, "404, model_name"),
        ({"version": "1", "url": "https://127.0.0.1:9"}, "got no answer"),
        ({"version": "1", "url": "http://127.0.0.1:9"}, "url is 'http://127.0.0.1:9', and must be https://"),
        ({"version": "1", "ca_path": None}, "certificate verify failed"),
        ({"version": "1", "ca_path": "/nowhere"}, "ca_path /nowhere is no file"),
        ({"version": "1", "token_file": "/nowhere"}, "token_file /nowhere can't be read: FileNotFoundError"),
        ({"version": "1", "token_file": None, "token": "wrong"}, "401, "),
        ({"version": None}, "state is active but all of the following are missing: version"),
    ],
)
def test_what_is_refused_says_why_and_changes_nothing(run, api, options, reason):
    result = run(**{"name": NAME, **options})
    assert result["failed"]
    assert reason in result["msg"]
    assert api.get(f"/models/{NAME}").json()["versions"] == []


def test_no_token_is_shown(run):
    for options in ({"token": ADMIN_TOKEN, "token_file": None}, {}):
        assert ADMIN_TOKEN not in json.dumps(run(state="list", **options))
        assert ADMIN_TOKEN not in json.dumps(run(name=NAME, version="9", **options))
