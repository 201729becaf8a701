"""What of an answer lasts, what differs between two documents, and which components equal their record."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import live, live_reads
from ansible_collections.mlops.metaflow.plugins.modules import stack_record

LASTING = {
    "what AWS changes by itself goes": (
        {"Subnets": [{"SubnetId": "s", "AvailableIpAddressCount": 9}], "ResponseMetadata": {"RequestId": "x"}},
        {"Subnets": [{"SubnetId": "s"}]},
    ),
    "lists have no order": ({"a": [{"k": 2}, {"k": 1}], "b": ["y", "x"]}, {"a": [{"k": 1}, {"k": 2}], "b": ["x", "y"]}),
    "JSON's types stay": ({"a": [True, None, 1.5, "t"]}, {"a": ["t", 1.5, None, True]}),
}


@pytest.mark.parametrize("case", LASTING)
def test_what_of_an_answer_lasts(case):
    answer, lasting = LASTING[case]
    assert live.lasting(answer).keys() == lasting.keys()
    for key, value in lasting.items():
        assert sorted(map(repr, live.lasting(answer)[key])) == sorted(map(repr, value))


def test_a_state_machine_is_kept_without_secrets_and_another_one_is_seen():
    def machine(headers, queue="main"):
        variables = [{"Name": "METAFLOW_SERVICE_HEADERS", "Value": headers}, {"Name": "QUEUE", "Value": queue}]
        state = {"Type": "Task", "Parameters": {"ContainerOverrides": {"Environment": variables}}, "End": True}
        return {"name": "m", "definition": json.dumps({"StartAt": "a", "States": {"a": state}})}

    kept = live_reads.without_secrets(machine("the key"))
    assert "the key" not in json.dumps(kept)
    assert json.loads(kept["definition"])["States"]["a"]["Parameters"]["ContainerOverrides"]["Environment"][1] == {
        "Name": "QUEUE",
        "Value": "main",
    }
    assert kept == live_reads.without_secrets(machine("the key"))
    assert kept != live_reads.without_secrets(machine("another key"))
    assert kept != live_reads.without_secrets(machine("the key", "other"))


def test_the_order_of_an_answers_parts_is_no_difference():
    one = {"a": [{"x": 1}, {"x": 2}], "b": {"c": 1, "d": 2}}
    other = {"b": {"d": 2, "c": 1}, "a": [{"x": 2}, {"x": 1}]}
    assert live.digest(live.lasting(one)) == live.digest(live.lasting(other))


DIFFERENCES = {
    "nothing": ({"a": [{"Name": "x", "v": 1}]}, {"a": [{"Name": "x", "v": 1}]}, []),
    "an attribute": ({"a": [{"Name": "x", "v": 1}]}, {"a": [{"Name": "x", "v": 2}]}, [("a[x].v", 1, 2)]),
    "a thing less": ({"a": [{"Name": "x"}, {"Name": "y"}]}, {"a": [{"Name": "x"}]}, [("a[y]", {"Name": "y"}, None)]),
    "a thing more": ({"a": ["p"]}, {"a": ["p", "q"]}, [('a["q"]', None, "q")]),
    "by the tag Name": (
        {"a": [{"VpcId": "v", "Tags": [{"Key": "Name", "Value": "n"}], "c": 1}]},
        {"a": [{"VpcId": "v", "Tags": [{"Key": "Name", "Value": "n"}], "c": 2}]},
        [("a[n].c", 1, 2)],
    ),
    "gone altogether": (
        {"s3 get_bucket_policy": {"Policy": "p"}},
        {},
        [("s3 get_bucket_policy", {"Policy": "p"}, None)],
    ),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_differences(case):
    recorded, now, expected = DIFFERENCES[case]
    found = live.differences(recorded, now)
    assert [(d["path"], d["recorded"], d["live"]) for d in found] == expected


def test_things_of_the_same_name_are_all_compared():
    tags = [{"Key": "Name", "Value": "same"}]
    recorded = {"a": [{"Tags": tags, "v": 1}, {"Tags": tags, "v": 2}]}
    assert live.differences(recorded, {"a": [{"Tags": tags, "v": 3}, {"Tags": tags, "v": 2}]}) != []


WAVES = [["network", "datastore"], ["batch"], ["client_config"]]
DOCUMENTS = {"network": {"n": 1}, "datastore": {"d": 1}, "batch": {"b": 1}}
INPUTS = {"network": "in", "datastore": "id", "batch": "ib"}


def recorded():
    entries = stack_record.entries(INPUTS, DOCUMENTS, WAVES)
    return {"version": 1, "components": entries, "notes": {}}


COMPARED = {
    "all the same": ({}, {}, ["network", "datastore", "batch"], []),
    "a variable": ({"batch": "other"}, {}, ["network", "datastore"], []),
    "a change by hand": ({}, {"batch": {"b": 2}}, ["network", "datastore"], []),
    "a change by hand in an earlier wave": ({}, {"network": {"n": 2}}, ["datastore"], ["batch"]),
    "both": ({"batch": "other"}, {"network": {"n": 2}}, ["datastore"], []),
    "what isn't read in advance": ({"hosts": "ih"}, {}, ["network", "datastore", "batch"], []),
}


@pytest.mark.parametrize("case", COMPARED)
def test_which_components_equal_their_record(case):
    inputs, documents, unchanged, waiting = COMPARED[case]
    result = stack_record.compare(recorded(), INPUTS | inputs, DOCUMENTS | documents, WAVES)
    assert result[:2] == (unchanged, waiting)
    assert set(result[2]) == set(INPUTS | inputs) - set(unchanged)


def test_what_is_not_read_is_not_compared():
    unread = {name: document for name, document in DOCUMENTS.items() if name != "network"}
    unchanged, _, reasons = stack_record.compare(recorded(), INPUTS, unread, WAVES)
    assert unchanged == ["datastore"]
    assert set(reasons) == {"network", "batch"}  # batch was converged on a network that can't be seen now


@pytest.mark.parametrize(
    ("kept", "given", "expected"),
    [
        ({}, {}, set()),
        ({}, {"network": "in"}, {"network", "datastore"}),
        ({"batch": {}}, {"network": "in"}, {"network", "datastore", "batch"}),
        ({"renamed": {}}, {}, {"renamed"}),
    ],
)
def test_nothing_of_a_later_wave_is_read(kept, given, expected):
    assert stack_record.concerned({"waves": WAVES, "inputs": given}, {"components": kept}) == expected


NO_RECORDS = [
    None, [], "text", {}, {"version": 2, "components": {}, "notes": {}}, {"version": 1, "components": {}},
    {"version": 1, "components": [], "notes": {}}, {"version": 1, "components": {"a": None}, "notes": {}},
    {"version": 1, "components": {"a": {"inputs": 1, "document": {}, "earlier": {}}}, "notes": {}},
]  # fmt: skip


@pytest.mark.parametrize("record", NO_RECORDS)
def test_what_is_no_record(record):
    assert not stack_record.is_sound(record)


def test_what_is_a_record():
    assert stack_record.is_sound(recorded()) and stack_record.is_sound(stack_record.NO_RECORD)
