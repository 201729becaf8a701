# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a rehearsed ``step-functions create`` would have made, read from the calls that were held back."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_command import CommandError


@dataclass(frozen=True)
class Rehearsal:
    """A state machine as it would be.

    :param schedule: the schedule expression of its ``@schedule``, or None.
    :param commands: ``(bucket, key)`` -> the text of a step's command.
    :param job_definitions: name -> container's properties of what would be registered.
    :param disks: step -> MB of disk that it asks for.
    :param parameters: the names of the flow's parameters.
    """

    name: str
    definition: dict
    role: str
    logging: str
    schedule: str | None
    commands: dict
    job_definitions: dict
    disks: dict
    parameters: tuple[str, ...]

    @classmethod
    def of(cls, calls):
        """Return what the calls would have made (see :mod:`held_back`).

        :raises CommandError: if no state machine is among it.
        """
        made = {}
        for call in calls:
            made.setdefault(call["operation"], []).append(call["parameters"])
        if "CreateStateMachine" not in made:
            raise CommandError("Metaflow ended without making a state machine")
        machine = made["CreateStateMachine"][-1]
        return cls(
            name=machine["name"],
            definition=json.loads(machine["definition"]),
            role=machine["roleArn"],
            logging=machine.get("loggingConfiguration", {}).get("level", "OFF"),
            schedule=next((rule["ScheduleExpression"] for rule in made.get("PutRule", [])), None),
            commands={(put["Bucket"], put["Key"]): put["Body"] for put in made.get("PutObject", []) if "Body" in put},
            job_definitions={
                definition["jobDefinitionName"]: definition["containerProperties"]
                for definition in made.get("RegisterJobDefinition", [])
            },
            disks={step: disk for found in made.get("disk", []) for step, disk in found.items()},
            parameters=tuple(sorted({found["name"] for found in made.get("parameter", [])})),
        )
