# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What differs between what is asked of Elasticsearch and what it shows, and what its errors say."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils.elasticsearch import missing, reason_in
from ansible_collections.mlops.metaflow.plugins.module_utils.json_service import reason


@pytest.mark.parametrize(
    ("desired", "live", "differing"),
    [
        ({}, {"a": 1}, {}),
        ({"a": 1}, {"a": "1", "b": 2}, {}),
        ({"a": True}, {"a": "true"}, {}),
        ({"a": True}, {"a": "false"}, {"a": True}),
        ({"a.b": 1}, {"a": {"b": 1}}, {}),
        ({"a": {"b": 1}}, {"a.b": 1}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a.c": 2}),
        ({"a": None}, {}, {}),
        ({"a": None}, {"a": 1}, {"a": None}),
        ({"a": None}, {"a": {"b": 1}}, {"a": None}),
        ({"a": {}}, {"a": {}}, {}),
        ({"a": {}}, {}, {"a": {}}),
        ({"a": []}, {}, {}),
        ({"a": "x"}, {"a": ["x"]}, {}),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, {"a": ["x", "y"]}),
        ({"a": [{"b": 1}]}, {"a": [{"b": "1", "c": 2}]}, {}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, {"a": [{"b": 1}]}),
        ({"a": 1}, None, {"a": 1}),
    ],
)
def test_what_is_missing(desired, live, differing):
    assert missing(desired, live or {}) == differing


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (json.dumps({"error": {"reason": "a", "caused_by": {"reason": "b", "caused_by": {"reason": "b"}}}}), "a: b"),
        (json.dumps({"error": {"reason": "Validation Failed: 1: x;"}}), "Validation Failed: 1: x"),
        (json.dumps({"error": "no handler"}), "no handler"),
        ("<html>\n proxy</html>", "<html> proxy</html>"),
        ("", "without a reason"),
    ],
)
def test_why_something_was_refused(body, text):
    assert reason(body.encode(), reason_in) == text
