"""diff.py by tables: each case is a name, the arguments, and what must come out."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import diff
from hypothesis import given
from hypothesis import strategies as st

# name, desired, live, unordered, changes
CHANGES = [
    ("equal", {"a": 1}, {"a": 1}, (), {}),
    ("what AWS adds is no difference", {"a": 1}, {"a": 1, "arn": "arn:x", "created": 7}, (), {}),
    ("scalar", {"a": 2}, {"a": 1}, (), {"a": 2}),
    ("missing", {"a": 1}, {}, (), {"a": 1}),
    ("false is not absent", {"a": False}, {}, (), {"a": False}),
    ("zero is not absent", {"a": 0}, {}, (), {"a": 0}),
    ("None means absent: left out", {"a": None}, {}, (), {}),
    ("None means absent: null", {"a": None}, {"a": None}, (), {}),
    ("None means absent: empty", {"a": None, "b": None, "c": None}, {"a": "", "b": [], "c": {}}, (), {}),
    ("None, and it is there", {"a": None}, {"a": 1}, (), {"a": None}),
    ("None, and false is there", {"a": None}, {"a": False}, (), {"a": None}),
    ("empty list is not there", {"a": []}, {}, (), {}),
    ("empty map is not there", {"a": {}}, {}, (), {}),
    ("empty list, and there is one", {"a": []}, {"a": [1]}, (), {"a": []}),
    ("nested", {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, (), {"a": {"c": 2}}),
    ("nested, what AWS adds", {"a": {"b": 1}}, {"a": {"b": 1, "c": 3}}, (), {}),
    ("nested None", {"a": {"b": None}}, {"a": {"b": 1}}, (), {"a": {"b": None}}),
    ("map instead of scalar", {"a": {"b": 1}}, {"a": "x"}, (), {"a": {"b": 1}}),
    ("list in order", {"a": [1, 2]}, {"a": [1, 2]}, (), {}),
    ("list out of order", {"a": [1, 2]}, {"a": [2, 1]}, (), {"a": [1, 2]}),
    ("list without order", {"a": [1, 2]}, {"a": [2, 1]}, ("a",), {}),
    ("list without order, one twice", {"a": [1, 1, 2]}, {"a": [1, 2, 2]}, ("a",), {"a": [1, 1, 2]}),
    ("list without order, below", {"a": {"b": [1, 2]}}, {"a": {"b": [2, 1]}}, ("a.b",), {}),
    ("the path counts, not the key", {"a": {"b": [1, 2]}}, {"a": {"b": [2, 1]}}, ("b",), {"a": {"b": [1, 2]}}),
    ("list of maps, what AWS adds", {"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, (), {}),
    ("list of maps, a value", {"a": [{"b": 1}]}, {"a": [{"b": 2}]}, (), {"a": [{"b": 1}]}),
    ("list of maps without order", {"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 2}, {"b": 1}]}, ("a",), {}),
    ("list of maps without order is compared whole", {"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, ("a",),
     {"a": [{"b": 1}]}),
    ("longer list", {"a": [1]}, {"a": [1, 2]}, (), {"a": [1]}),
    ("whole map", {"a": {"x": "1"}}, {"a": {"x": "1", "y": "2"}}, ("a",), {"a": {"x": "1"}}),
    ("whole map, equal", {"a": {"x": "1", "y": "2"}}, {"a": {"y": "2", "x": "1"}}, ("a",), {}),
    ("number and its text differ", {"a": 1}, {"a": "1"}, (), {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("desired", "live", "unordered", "expected"), [case[1:] for case in CHANGES],
                         ids=[case[0] for case in CHANGES])  # fmt: skip
def test_changes(desired, live, unordered, expected):
    before = copy.deepcopy((desired, live))
    assert diff.changes(desired, live, unordered) == expected
    assert (desired, live) == before, "the arguments are left as they were"


# name, live, desired, whole, merged
MERGED = [
    ("onto nothing", {}, {"a": 1}, (), {"a": 1}),
    ("beside", {"a": 1}, {"b": 2}, (), {"a": 1, "b": 2}),
    ("over", {"a": 1}, {"a": 2}, (), {"a": 2}),
    ("nested", {"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, (), {"a": {"b": 1, "c": 3}}),
    ("whole", {"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, ("a",), {"a": {"c": 3}}),
    ("whole, below", {"a": {"b": {"x": 1}}}, {"a": {"b": {"y": 2}}}, ("a.b",), {"a": {"b": {"y": 2}}}),
    ("lists replace", {"a": [1, 2]}, {"a": [3]}, (), {"a": [3]}),
    ("map over scalar", {"a": 1}, {"a": {"b": 1}}, (), {"a": {"b": 1}}),
    ("None", {"a": 1}, {"a": None}, (), {"a": None}),
]


@pytest.mark.parametrize(("live", "desired", "whole", "expected"), [case[1:] for case in MERGED],
                         ids=[case[0] for case in MERGED])  # fmt: skip
def test_merged(live, desired, whole, expected):
    before = copy.deepcopy(live)
    assert diff.merged(live, desired, whole) == expected
    assert live == before


# name, live, desired, whole, restricted
RESTRICTED = [
    ("ids are not shown", {"a": 1, "arn": "x"}, {"a": 2}, (), {"a": 1}),
    ("what is not there yet", {}, {"a": 2}, (), {}),
    ("nested", {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, (), {"a": {"b": 1}}),
    ("whole", {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, ("a",), {"a": {"b": 1, "c": 2}}),
    ("scalar that becomes a map", {"a": 1}, {"a": {"b": 3}}, (), {"a": 1}),
]


@pytest.mark.parametrize(("live", "desired", "whole", "expected"), [case[1:] for case in RESTRICTED],
                         ids=[case[0] for case in RESTRICTED])  # fmt: skip
def test_restricted(live, desired, whole, expected):
    assert diff.restricted(live, desired, whole) == expected


@pytest.mark.parametrize(
    ("value", "secret", "expected"),
    [
        ({"key": "k", "name": "n"}, ("key",), {"key": diff.MASK, "name": "n"}),
        ({"a": {"key": "k"}, "key": "shown"}, ("a.key",), {"a": {"key": diff.MASK}, "key": "shown"}),
        ({"a": {"x": 1, "y": [2]}}, ("a",), {"a": diff.MASK}),
        ({"key": None}, ("key",), {"key": None}),
        ({}, ("key",), {}),
    ],
)
def test_masked(value, secret, expected):
    assert diff.masked(value, secret) == expected


# name, desired, live, purge, (set, unset), tags after
TAGS = [
    ("left alone", None, {"a": "1"}, True, ({}, []), {"a": "1"}),
    ("nothing there", {"a": "1"}, None, True, ({"a": "1"}, []), {"a": "1"}),
    ("equal", {"a": "1"}, {"a": "1"}, True, ({}, []), {"a": "1"}),
    ("changed", {"a": "2"}, {"a": "1"}, True, ({"a": "2"}, []), {"a": "2"}),
    ("purged", {"b": "2"}, {"a": "1"}, True, ({"b": "2"}, ["a"]), {"b": "2"}),
    ("kept", {"b": "2"}, {"a": "1"}, False, ({"b": "2"}, []), {"a": "1", "b": "2"}),
    ("all purged", {}, {"a": "1", "b": "2"}, True, ({}, ["a", "b"]), {}),
    ("AWS's own stay", {}, {"aws:cloudformation:stack-name": "s", "a": "1"}, True, ({}, ["a"]),
     {"aws:cloudformation:stack-name": "s"}),
]  # fmt: skip


@pytest.mark.parametrize(("desired", "live", "purge", "written", "after"), [case[1:] for case in TAGS],
                         ids=[case[0] for case in TAGS])  # fmt: skip
def test_tags(desired, live, purge, written, after):
    assert diff.tag_changes(desired, live, purge) == written
    assert diff.tags_after(desired, live, purge) == after


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"max_time_seconds": 600, "reason": None}, {"maxTimeSeconds": 600}),
        ([{"image_type": "ECS_AL2023", "image_id_override": None}], [{"imageType": "ECS_AL2023"}]),
        ({"maxv_cpus": 4, "launch_template": {"launch_template_id": None, "version": "1"}},
         {"maxvCpus": 4, "launchTemplate": {"version": "1"}}),
        ({"tags": {"my_key": None, "Other_Key": "v"}}, {"tags": {"my_key": None, "Other_Key": "v"}}),
        ({"subnets": ["subnet_1"]}, {"subnets": ["subnet_1"]}),
        (None, None),
    ],
)  # fmt: skip
def test_api_form(value, expected):
    assert diff.api_form(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"maxvCpus": 4, "ec2KeyPair": "k"}, {"maxv_cpus": 4, "ec2_key_pair": "k"}),
        ([{"imageType": "ECS_AL2023"}], [{"image_type": "ECS_AL2023"}]),
        ({"tags": {"MyKey": "v"}, "computeResources": {"tags": {"Name": "n"}}},
         {"tags": {"MyKey": "v"}, "compute_resources": {"tags": {"Name": "n"}}}),
        ({"securityGroupIds": ["sg-A"]}, {"security_group_ids": ["sg-A"]}),
        ({"vpcId": None}, {"vpc_id": None}),
    ],
)  # fmt: skip
def test_option_form(value, expected):
    assert diff.option_form(value) == expected


@pytest.mark.parametrize(
    ("want", "have", "expected"),
    [
        ("batch", "arn:aws:iam::1:role/batch", "arn:aws:iam::1:role/batch"),
        ("batch", "arn:aws:iam::1:role/path/batch", "arn:aws:iam::1:role/path/batch"),
        ("batch", "arn:aws:iam::1:role/my-batch", "batch"),
        ("batch", "arn:aws:iam::1:role/other", "batch"),
        ("batch", "batch", "batch"),
        ("arn:aws:iam::1:role/batch", "arn:aws:iam::1:role/other", "arn:aws:iam::1:role/batch"),
        ("batch", None, "batch"),
        (None, "arn:aws:iam::1:role/batch", None),
    ],
)
def test_named(want, have, expected):
    assert diff.named(want, have) == expected


def test_without_none():
    assert diff.without_none({"a": None, "b": {"c": None, "d": 0}, "e": [None]}) == {"b": {"d": 0}, "e": [None]}


# Laws that hold for any resource

scalars = st.one_of(st.integers(0, 3), st.booleans(), st.text("ab", max_size=2))
resources = st.recursive(
    st.dictionaries(st.sampled_from("abc"), scalars, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.one_of(inner, scalars, st.lists(scalars, max_size=2))),
    max_leaves=8,
)


@given(resources)
def test_a_resource_shows_itself(resource):
    assert diff.changes(resource, resource) == {}


@given(resources, resources)
def test_laying_the_changes_over_the_live_resource_leaves_none(desired, live):
    after = diff.merged(live, diff.changes(desired, live))
    assert diff.changes(desired, after) == {}
