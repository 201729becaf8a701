# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One task checks all components, each with its own host's variables in Ansible's order of precedence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

INVENTORY = {
    "stack": {
        "vars": {"stack_environment": "test", "stack_region": "us-east-1", "stack_account_id": "123456789012"},
        "hosts": {
            "network": {"network_vpc_cidr": "8.8.0.0/16"},
            # Another component's variable on this one's host says nothing about that one.
            "registry": {"registry_untagged_images_kept": 5, "network_subnet_prefix": 99},
        },
    }
}
PLAY = [
    {
        "hosts": "stack",
        "gather_facts": False,
        "vars": {"registry_untagged_images_kept": 0},
        "tasks": [
            {
                "mlops.metaflow.preflight": {"components": ["stack", "network", "registry"], "by_host": True},
                "run_once": True,
            }
        ],
    }
]


@pytest.fixture
def problems(tmp_path):
    """Return ``problems(**extra_variables)``: the sentences by which the play above is refused."""
    (tmp_path / "inventory.yml").write_text(json.dumps(INVENTORY))
    (tmp_path / "play.yml").write_text(json.dumps(PLAY))

    def problems(**extra):
        ran = subprocess.run(
            [
                Path(sys.executable).parent / "ansible-playbook",
                tmp_path / "play.yml",
                f"--inventory={tmp_path / 'inventory.yml'}",
                f"--extra-vars={json.dumps(extra)}",
            ],
            env=os.environ
            | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
            capture_output=True,
            text=True,
            check=False,
        )
        result = json.loads(ran.stdout)["plays"][0]["tasks"][0]["hosts"]["network"]
        return result.get("problems", [])

    return problems


def test_each_component_has_its_own_hosts_variables_and_the_plays(problems):
    network, registry = problems()
    assert network.startswith("network_vpc_cidr '8.8.0.0/16' is not allowed: ")
    assert registry == "registry_untagged_images_kept '0' is not allowed: it must be at least 1"


def test_extra_variables_are_strongest(problems):
    assert problems(network_vpc_cidr="10.0.0.0/16", registry_untagged_images_kept="3") == []


def test_where_the_stacks_variables_are_wrong_nothing_made_of_them_is_checked(problems):
    (problem,) = problems(stack_environment="Test")
    assert problem.startswith("stack_environment 'Test' is not allowed: ")
