# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module log_group against the emulator."""

from __future__ import annotations

import pytest
from steps import Module, answering

ARN = "arn:aws:logs:us-east-1:123456789012:log-group:/metaflow/test"
MINIMAL = {"name": "/metaflow/test"}
FULL = MINIMAL | {"retention_in_days": 3288, "tags": {"Component": "metadata_service", "a_b": "c"}}
ABSENT = MINIMAL | {"state": "absent"}


@pytest.fixture
def logs(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("logs")


@pytest.fixture
def log_group(logs, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "log_group")


def test_twelve_steps(log_group, logs):
    assert log_group.change(MINIMAL)["log_group"] == {
        "log_group_name": "/metaflow/test",
        "log_group_arn": ARN,
        "tags": {},
    }
    changed = log_group.change(FULL)
    assert changed["log_group"]["retention_in_days"] == 3288
    assert changed["log_group"]["tags"] == FULL["tags"]
    (live,) = logs.describe_log_groups()["logGroups"]
    assert live["retentionInDays"] == 3288

    assert log_group.change(ABSENT)["log_group"] == {}
    assert logs.describe_log_groups()["logGroups"] == []


def test_all_of_it_from_the_start(log_group, logs):
    predicted = log_group.run(FULL, check=True)["log_group"]
    assert log_group.run(FULL)["log_group"] == predicted
    assert logs.list_tags_for_resource(resourceArn=ARN)["tags"] == FULL["tags"]


def test_a_retention_that_is_left_open_stays(log_group, logs):
    log_group.run(FULL)
    log_group.run(FULL | {"retention_in_days": 7})
    log_group.run(MINIMAL, changes=False)


def test_a_longer_name_is_another_log_group(log_group, logs):
    logs.create_log_group(logGroupName="/metaflow/test-2")
    log_group.run(FULL)
    log_group.run(ABSENT)
    assert [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]] == ["/metaflow/test-2"]


def test_it_survives_kills(log_group, logs):
    def state():
        (live,) = logs.describe_log_groups()["logGroups"]
        return live["retentionInDays"], logs.list_tags_for_resource(resourceArn=ARN)["tags"]

    log_group.survives_kills(lambda: FULL, state)


def test_what_aws_says_is_passed_on(log_group, logs):
    with answering("CreateLogGroup", "LimitExceededException", "Resource limit exceeded."):
        failed = log_group.run_module(log_group.name, FULL, fails=True)
    assert failed["msg"].startswith("Failed to create log group '/metaflow/test': ")
    assert "Resource limit exceeded." in failed["msg"]
