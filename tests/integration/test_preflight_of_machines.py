# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Variables of ELK and of Evidently that can't be are told in one sentence each, before anything is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STACK = {"stack_environment": "test", "stack_region": "us-east-1", "stack_account_id": "123456789012"}
DIGEST = "@sha256:" + "0" * 64
HOSTS = {
    f"elk_{name}_image": f"registry.example/{name}:8.19.2{DIGEST}" for name in ("elasticsearch", "kibana", "logstash")
}
EVIDENTLY = {f"evidently_{name}_image": f"registry.example/{name}{DIGEST}" for name in ("postgres", "base")}
CLOUD = {
    "elk_provider": "elastic_cloud",
    "elk_cloud_id": "flows:ZXUtd2VzdC0x",
    "elk_cloud_username": "flows",
    "elk_cloud_password": "canary-secret",
    "elk_cloud_endpoint": "https://flows.es.example",
}


@pytest.fixture
def problems(tmp_path):
    """Return ``problems(variables, host, machines, role)``: the sentences by which the role refuses variables."""

    def problems(variables, host="elk-1", machines=1, role="elk"):
        elk = {f"elk-{number}": {"ansible_host": f"198.51.100.{number}"} for number in range(1, machines + 1)}
        groups = {"elk": {"hosts": elk}, "evidently": {"hosts": {"ev-1": {}}}, "others": {"hosts": {"secrets": {}}}}
        (tmp_path / "inventory.yml").write_text(json.dumps({"all": {"children": groups, "vars": STACK | variables}}))
        task = {"mlops.metaflow.preflight": {"components": [role]}}
        play = {"hosts": host, "gather_facts": False, "connection": "local", "tasks": [task]}
        (tmp_path / "play.yml").write_text(json.dumps([play]))
        command = Path(sys.executable).parent / "ansible-playbook"
        ran = subprocess.run(
            [command, tmp_path / "play.yml", f"--inventory={tmp_path / 'inventory.yml'}"],
            env=os.environ
            | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "canary" not in ran.stdout + ran.stderr
        return json.loads(ran.stdout)["plays"][0]["tasks"][0]["hosts"][host].get("problems", [])

    return problems


@pytest.mark.parametrize("machines", [1, 3])
def test_machines_that_are_a_cluster_are_taken(problems, machines):
    assert problems(HOSTS, machines=machines) == []


def test_elastic_cloud_is_taken_where_no_machine_is(problems):
    assert problems(CLOUD, host="secrets", machines=0) == []


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"elk_elasticsearch_image": ""}, "8.12 or later, and below 9"),
        ({"elk_elasticsearch_image": "elasticsearch:latest"}, "8.12 or later, and below 9"),
        ({"elk_elasticsearch_image": f"elasticsearch:9.0.0{DIGEST}"}, "8.12 or later, and below 9"),
        ({"elk_elasticsearch_image": f"elasticsearch:8.11.4{DIGEST}"}, "8.12 or later, and below 9"),
        ({"elk_elasticsearch_image": "elasticsearch:8.19.2@sha256:abc"}, "8.12 or later, and below 9"),
        ({"elk_kibana_image": f"kibana:8.18.0{DIGEST}"}, "elk_kibana_image"),
        ({"elk_logstash_image": "logstash"}, "of the same version as elk_elasticsearch_image"),
        ({"elk_provider": "somewhere"}, "elk_provider"),
        ({"elk_provider": "elastic_cloud"}, "with elastic_cloud there is none"),
        ({"elk_address": "https://elk"}, "without a port"),
        ({"elk_names": ["elk.example", "a b"]}, "a list of addresses and names"),
        ({"elk_endpoint": "http://elk.example:9200"}, "a URL with https"),
        ({"elk_heap_megabytes": 40000}, "256 to 31744"),
        ({"elk_heap_megabytes": "much"}, "elk_heap_megabytes"),
        ({"elk_elasticsearch_settings": {"cluster": {"routing": 1}}}, "by their full names"),
        ({"elk_data_path": "srv"}, "an absolute path"),
        ({"elk_certificate_renewal_days": 365}, "less than elk_certificate_days"),
        ({"elk_authority_days": 100}, "more than elk_certificate_days"),
        ({"elk_flow_user": "elastic"}, "that Elasticsearch or this role has already"),
        ({"elk_flow_privileges": ["all"]}, 'without "all"'),
        ({"elk_vector_dimensions": 5000}, "1 to 4096"),
        ({"elk_snapshot_schedule": "daily"}, "six fields"),
        ({"elk_snapshot_days": 0}, "at least 1"),
        ({"elk_heap_megabyte": 1}, "did you mean 'elk_"),
    ],
)
def test_a_variable_that_cannot_be_is_refused(problems, variables, reason):
    assert any(reason in problem for problem in problems(HOSTS | variables))


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"elk_cloud_password": ""}, "the password of elk_cloud_username"),
        ({"elk_cloud_username": "elastic"}, "not its superuser"),
        ({"elk_cloud_endpoint": "flows.es.example"}, "a URL with https"),
        ({"elk_cloud_id": ""}, "the Cloud ID"),
    ],
)
def test_what_elastic_cloud_needs_is_asked_for(problems, variables, reason):
    (problem,) = problems(CLOUD | variables, host="secrets", machines=0)
    assert reason in problem


def test_two_machines_are_no_cluster(problems):
    (problem,) = problems(HOSTS, machines=2)
    assert "of two, none may be lost" in problem


def test_the_defaults_of_evidently_are_taken(problems):
    assert problems(EVIDENTLY, host="ev-1", role="evidently") == []


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"evidently_base_image": ""}, "unless evidently_image is set"),
        ({"evidently_page_port": 5000}, "another one than evidently_page_port"),
        ({"evidently_address": "https://models"}, "without a port"),
        ({"evidently_names": ["models.example", "a b"]}, "a list of addresses and names"),
        ({"evidently_certificate_renewal_days": 365}, "less than evidently_certificate_days"),
        ({"evidently_authority_days": 100}, "more than evidently_certificate_days"),
        ({"evidently_certificates_days": 1}, "did you mean 'evidently_"),
    ],
)
def test_a_variable_of_evidently_that_cannot_be_is_refused(problems, variables, reason):
    (problem,) = problems(EVIDENTLY | variables, host="ev-1", role="evidently")
    assert reason in problem
