"""Every module that the roles run gives the same through the warm connection as through `local`, field by field."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from emulated_aws import Emulator
from warm_plays import ROOT, WARM, Plays

TABLE = yaml.safe_load(Path(__file__).with_name("warm_modules.yml").read_text())
#: Not Ansible modules: they act in the controller itself.
IN_CONTROLLER = {
    "assert",
    "debug",
    "fail",
    "import_playbook",
    "import_role",
    "import_tasks",
    "include_role",
    "include_tasks",
}
IN_CONTROLLER |= {"preflight", "meta", "set_fact", "include_vars", "group_by", "add_host", "pause"}
#: Roles and playbooks of machines. Their modules run there; what they delegate to this machine, other roles run too.
OVER_SSH = {"host", "elk", "evidently", "flow_client", "restore_elk.yml"}
#: What a run makes anew: moments, durations, request and process numbers, names of temporary files.
VARYING_KEYS = {
    "start",
    "end",
    "delta",
    "elapsed",
    "atime",
    "ctime",
    "mtime",
    "inode",
    "version",
    "creation_time",
    "expires",
    "collected_at",
}
VARYING_TEXT = [
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:?\d\d)?", "MOMENT"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"(Signature|Expires)=[^&]+", "SIGNATURE"),
    (r"ecs-svc/\d+|db-[0-9A-F]{26}", "ID"),  # those that moto does not make from its seed
    (r"/[^\s\"]*?/ansible_[\w.]+_payload_\w+/ansible_[\w.]+_payload\.zip|/[^\s\"]*?/warm-\w+/\d+\.zip", "PAYLOAD"),
    (r"/[^\s\"]*?/ansible-tmp-[\d.-]+|/[^\s\"]*?/ansible-local-\w+/\w+", "TEMPORARY"),
    (r"http://127\.0\.0\.1:\d{5}\b", "ACCOUNT"),
]


def module_of(task: dict[str, Any]) -> str:
    """The module of a task in the table, by its full name."""
    (name,) = [key for key in task if "." in key]
    return name


def constant(value: Any) -> Any:
    """A result without what a run makes anew."""
    if isinstance(value, dict):
        return {constant(key): constant(item) for key, item in value.items() if key not in VARYING_KEYS}
    if isinstance(value, list):
        return [constant(item) for item in value]
    if isinstance(value, str):
        for pattern, name in VARYING_TEXT:
            value = re.sub(pattern, name, value)
    return value


def seed_ids(endpoint: str) -> None:
    """Let moto give the same ids in the same order."""
    request = urllib.request.Request(f"{endpoint}/moto-api/seed?a=42", method="POST")
    urllib.request.urlopen(request, timeout=30).close()


@pytest.fixture
def results(tmp_path):
    """Return ``results(connection)``: those of the table on a new account of its own, with the same random ids."""
    plays = Plays(tmp_path)
    home = tmp_path / "home"

    def run(connection):
        emulator = Emulator(tmp_path / f"account-of-{connection}")
        seed_ids(emulator.endpoint)
        aws = {
            "AWS_ENDPOINT_URL": emulator.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIDEMULATED",
            "AWS_SECRET_ACCESS_KEY": "emulated-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        home.mkdir()
        try:
            done = plays.run(TABLE, ansible_connection=connection, environment=aws, home=str(home))
        finally:
            emulator.stop()
        home.rename(tmp_path / f"home-of-{connection}")
        assert done.results, done.stdout + done.stderr
        return done

    return run


def test_same_results(results):
    warm, local = results(WARM), results("local")
    differing = {
        f"{number}: {module_of(task)}": (in_fork, directly)
        for number, (task, in_fork, directly) in enumerate(zip(TABLE, warm.results, local.results, strict=True))
        if constant(in_fork) != constant(directly)
    }
    assert not differing, json.dumps(differing, indent=1)
    for task, result in zip(TABLE, warm.results, strict=True):
        assert bool(result.get("failed")) == (task.get("tags") == "fails"), (task, result)
    assert warm.fallbacks == 0
    # The modules of shell and template are command and copy.
    in_forks = {name.rpartition(".")[2] for name in warm.warm_modules} | {"shell", "template"}
    assert {module_of(task).rpartition(".")[2] for task in TABLE} - in_forks <= IN_CONTROLLER


def modules_of_roles() -> set[str]:
    """The modules that stand in the roles' and playbooks' tasks."""
    found: set[str] = set()

    def collect(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                collect(item)
        elif isinstance(node, dict):
            found.update(key for key in node if isinstance(key, str) and re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+){2}", key))
            for item in node.values():
                collect(item)

    for path in [ROOT / "site.yml", *ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/**/*.yml")]:
        if {path.parent.parent.name, path.name} & OVER_SSH:
            continue
        collect(yaml.safe_load(path.read_text()))
    return found


def test_table_is_complete():
    missing = modules_of_roles() - {module_of(task) for task in TABLE}
    assert not {name for name in missing if name.rpartition(".")[2] not in IN_CONTROLLER}
