"""Gaps of Auto Scaling, by which Batch starts instances."""

from __future__ import annotations

from typing import Any

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from emulator.gaps import gap, replace
from emulator.runtime.place import Place
from emulator.runtime.supply import supply


@gap("autoscaling", "scaling-activities", "DescribeScalingActivities says which launches of instances failed, and why.")
def scaling_activities() -> None:
    @replace(AutoScalingResponse, "describe_scaling_activities")
    def describe(self: Any) -> ActionResult:
        group = self._get_param("AutoScalingGroupName")
        activities = supply.activities(Place(self.current_account, self.region))
        return ActionResult({"Activities": [a for a in activities if group in (None, a["AutoScalingGroupName"])]})
