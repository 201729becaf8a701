# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the stack's status says of its flows."""

from __future__ import annotations

from types import SimpleNamespace

from ansible_collections.mlops.metaflow.plugins.module_utils import activity

LAST = {"a_never": None, "b_well": "SUCCEEDED", "c_runs": "RUNNING", "d_late": "TIMED_OUT", "e_failed": "FAILED"}


def test_flows_that_failed_last_come_first(monkeypatch):
    page = {"stateMachines": [{"name": f"p_{name}"} for name in LAST]}
    paginator = SimpleNamespace(paginate=lambda: [page])
    scope = SimpleNamespace(client=lambda service: SimpleNamespace(get_paginator=lambda operation: paginator))

    def flow(scope, machine, prefix):
        name = machine["name"].removeprefix("p_")
        return {"name": name, "executions": [{"status": LAST[name]}] if LAST[name] else []}

    monkeypatch.setattr(activity, "_flow", flow)
    assert [one["name"] for one in activity.flows(scope, "p")] == ["d_late", "e_failed", "c_runs", "b_well", "a_never"]
