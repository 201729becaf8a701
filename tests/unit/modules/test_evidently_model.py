# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""evidently_model: what is planned from what is deployed. On the real service it is tried in evidently/tests."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import json_service
from ansible_collections.mlops.metaflow.plugins.modules import evidently_model

A, B = "a" * 64, "b" * 64


def model(active=None, previous=None, versions=("1",)):
    return {
        "name": "m",
        "active": active,
        "previous": previous,
        "versions": [{"version": version, "sha256": A, "deployed_at": "now"} for version in versions],
    }


def params(state, **given):
    return {"state": state, "version": None, "sha256": None, "from_version": None, **given}


@pytest.mark.parametrize(
    ("before", "wanted", "steps", "after"),
    [
        (model(), params("present", version="1"), set(), (None, None, ["1"])),
        (model(), params("present", version="2"), {"deploy"}, (None, None, ["1", "2"])),
        (model(), params("present", version="1", sha256=A), set(), (None, None, ["1"])),
        (model(), params("active", version="1"), {"switch"}, ("1", None, ["1"])),
        (model("1"), params("active", version="1"), set(), ("1", None, ["1"])),
        (model("1"), params("active", version="2"), {"deploy", "switch"}, ("2", "1", ["1", "2"])),
        (model("2", "1", "12"), params("rolled_back", from_version="2"), {"roll_back"}, ("1", None, ["1", "2"])),
        (model("1", None, "12"), params("rolled_back", from_version="2"), set(), ("1", None, ["1", "2"])),
    ],
)
def test_what_is_planned(before, wanted, steps, after):
    planned, predicted = evidently_model.plan(before, wanted)
    assert planned == steps
    shown = evidently_model.shown(predicted)
    assert (shown["active"], shown["previous"], shown["versions"]) == after


@pytest.mark.parametrize(
    ("before", "wanted", "reason"),
    [
        (model(), params("active", version="1", sha256=B), "a version never changes"),
        (model("1"), params("rolled_back", from_version="1"), "no version before 1"),
    ],
)
def test_what_is_refused_before_a_call(before, wanted, reason):
    with pytest.raises(evidently_model.Refused, match=reason):
        evidently_model.plan(before, wanted)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b'{"detail": "why"}', "why"), (b"<h1>Bad\n gateway</h1>", "<h1>Bad gateway</h1>"), (b"", "without a reason")],
)
def test_the_reason_of_an_answer(body, reason):
    assert json_service.reason(body, evidently_model.reason_in) == reason
