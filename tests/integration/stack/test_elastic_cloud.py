# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""With Elastic Cloud there is no machine: flows get its address and password under the same names."""

from __future__ import annotations

import json

import pytest
from emulated_aws import Emulator
from stack_runs import Stack, changes_outside_the_lock

pytestmark = pytest.mark.xdist_group("bad-input")

CANARY = "canary-of-elastic-cloud"
CLOUD = {
    "elk_provider": "elastic_cloud",
    "elk_cloud_id": "metaflow:ZXUtd2VzdC0xLmF3cy5mb3VuZC5pbyRhYmM=",
    "elk_cloud_endpoint": "https://metaflow.es.eu-west-1.aws.found.io",
    "elk_cloud_username": "flows",
    "elk_cloud_password": CANARY,
}


def test_its_failure_is_told_at_the_end_with_the_lock_given_back(stack: Stack, account: Emulator) -> None:
    run = stack.run("--tags", "elk", **CLOUD)
    assert "'secrets' failed at the task 'Find the key of secrets':" in run.refused()
    assert "There is no kms_key 'alias/metaflow-local-secrets' of stack" in run.refused()
    assert run.failed == {"secrets"}
    assert account.client("ssm").describe_parameters()["Parameters"] == []


def test_flows_get_what_is_given_and_nobody_sees_the_password(stack: Stack, account: Emulator) -> None:
    run = stack.run("--tags", "datastore,secrets,elk", "-vvv", **CLOUD).succeeded()
    assert CANARY not in run.output
    secrets = account.client("secretsmanager")
    found = {
        name: json.loads(secrets.get_secret_value(SecretId=f"metaflow-local/flows/{name}")["SecretString"])[name]
        for name in ("ES_CLOUD_ID", "ES_USERNAME", "ES_PASSWORD", "ES_ENDPOINT", "ES_CLOUD_HOST", "ES_CA_CERT")
    }
    assert found == {
        "ES_CLOUD_ID": CLOUD["elk_cloud_id"],
        "ES_USERNAME": "flows",
        "ES_PASSWORD": CANARY,
        "ES_ENDPOINT": CLOUD["elk_cloud_endpoint"],
        "ES_CLOUD_HOST": "metaflow.es.eu-west-1.aws.found.io",
        "ES_CA_CERT": "",
    }
    account.request("POST", "/_emulator/calls/reset")
    assert stack.run("--tags", "datastore,secrets,elk", full=True, **CLOUD).succeeded().changed == set()
    assert changes_outside_the_lock(account) == []
