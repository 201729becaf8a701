"""The repository as a collection: the archive holds no rubbish, and a play that has nothing else can use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from emulated_aws import ROOT, Emulator

PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/mlops.metaflow.aws: {region: us-east-1}
  tasks:
    - ansible.builtin.import_role: {name: mlops.metaflow.registry}
    - mlops.metaflow.ecr_repository:
        name: by-hand/flows
        image_tag_mutability: IMMUTABLE
    - mlops.metaflow.stack_info:
        stack: metaflow
        environment: archive
        gather: {vpc: []}
      register: found
    - ansible.builtin.assert: {that: "found.resources.vpc == {}"}
"""

VARIABLES = {"stack_environment": "archive", "stack_region": "us-east-1", "stack_account_id": "123456789012"}

#: What a person who installs the collection has no use for.
RUBBISH = ("tests/", "molecule/", "benchmarks/", "collections/", "Makefile", "pyproject.toml")


def galaxy(directory: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "ansible", "galaxy", "collection", *arguments]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("archive")
    galaxy(ROOT, "build", "--output-path", str(directory))
    (built,) = directory.iterdir()
    return built


def test_the_archive_holds_the_collection_and_no_rubbish(archive: Path) -> None:
    with tarfile.open(archive) as content:
        names = {member.name for member in content if member.isfile()}
    assert {"MANIFEST.json", "README.md", "LICENSE", "meta/runtime.yml", "plugins/modules/stack_info.py"} <= names
    assert {f"roles/{role.name}/tasks/main.yml" for role in (ROOT / "roles").iterdir() if role.name != "stack"} <= names
    hidden = [name for name in names if any(part.startswith(".") for part in name.split("/"))]
    generated = [name for name in names if name.endswith((".pyc", ".tar.gz", ".retry")) or "/.state/" in name]
    assert hidden + generated + [name for name in names if name.startswith(RUBBISH)] == []


def test_a_play_that_has_only_the_archive_uses_a_role_and_modules(
    archive: Path, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.reset()
    # Away from the repository, whose ansible.cfg says that the collection is there already.
    galaxy(tmp_path, "install", "--offline", "--no-deps", "--collections-path", "collections", str(archive))
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "variables.json").write_text(json.dumps(VARIABLES))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        "AWS_ENDPOINT_URL": emulator.endpoint,
        "AWS_ACCESS_KEY_ID": "emulated-account",
        "AWS_SECRET_ACCESS_KEY": "emulated-account-has-no-secrets",
    }
    command = [sys.executable, "-m", "ansible", "playbook", "play.yml", "-e", "@variables.json"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    repositories = emulator.client("ecr").describe_repositories()["repositories"]
    assert {found["repositoryName"] for found in repositories} == {"metaflow-archive/flows", "by-hand/flows"}
