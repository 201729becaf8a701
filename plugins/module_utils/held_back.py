# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Holds back what a command would write to AWS, and records it.

``step-functions create --only-json`` uploads the code package, registers job definitions and caches a token. So a
deployment is rehearsed with the very command that deploys, in whose interpreter this file's text runs first, as
``sitecustomize``: there it answers each writing call itself, through botocore's own events, and appends the call to
the file that ``HELD_BACK_CALLS`` names. It uses the standard library and botocore alone.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

RECORD = "HELD_BACK_CALLS"

READS = re.compile(r"(AssumeRole|BatchGet|Describe|Get|Head|List|Query|Scan)")

#: A body longer than this is a code package, whose text nobody reads.
LONGEST_BODY = 256 * 1024


class Held:
    """Stands for the HTTP answer to a call that was not made."""

    status_code = 200
    headers: dict[str, str] = {}
    content = b""
    text = ""
    raw = None


#: What Metaflow reads from the answer to a writing call: operation -> function of the call's parameters.
ANSWERS = {
    "CreateMultipartUpload": lambda _: {"UploadId": "held-back"},
    "UploadPart": lambda _: {"ETag": '"held-back"'},
    "PutObject": lambda _: {"ETag": '"held-back"'},
    "RegisterJobDefinition": lambda given: {"jobDefinitionArn": given["jobDefinitionName"], "revision": 1},
    "CreateStateMachine": lambda given: {"stateMachineArn": given["name"]},
    "PutTargets": lambda _: {"FailedEntryCount": 0, "FailedEntries": []},
    "RemoveTargets": lambda _: {"FailedEntryCount": 0, "FailedEntries": []},
}


def keep_parameters(params, context, **_more):
    """Keep a call's parameters in AWS's own terms until it is known whether it writes."""
    context["held_back_parameters"] = params


def hold_back(model, context, **_more):
    """Answer a writing call; let a reading one pass."""
    if READS.match(model.name):
        return None
    given = context.get("held_back_parameters") or {}
    record({"service": model.service_model.service_name, "operation": model.name, "parameters": readable(given)})
    answer = ANSWERS.get(model.name, lambda _: {})(given)
    return Held, {**answer, "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}, "RetryAttempts": 0}}


def readable(parameters):
    """Return the parameters with a body as text, or without it where it is none."""
    kept = {key: value for key, value in parameters.items() if key != "Body"}
    body = parameters.get("Body")
    if hasattr(body, "read"):
        start = body.tell()
        content = body.read(LONGEST_BODY + 1)
        body.seek(start)
        body = content
    if isinstance(body, (bytes, bytearray)) and len(body) <= LONGEST_BODY:
        with suppress(UnicodeDecodeError):
            kept["Body"] = bytes(body).decode()
    return kept


def record(entry):
    """Append one line of JSON."""
    with Path(os.environ[RECORD]).open("a") as file:
        file.write(json.dumps(entry, default=str) + "\n")


def record_flow():
    """Record what no call tells: the flow's parameters, and the disk in MB that its steps ask for.

    Metaflow doesn't hand ``@resources(disk=…)`` to Batch.
    """
    metaflow = sys.modules.get("metaflow")
    flowspec = getattr(metaflow, "FlowSpec", None)
    for flow in flowspec.__subclasses__() if flowspec else ():
        members = [getattr(flow, name, None) for name in dir(flow)]
        for member in members:
            if isinstance(member, metaflow.Parameter) and not getattr(member, "IS_CONFIG_PARAMETER", False):
                record({"service": "metaflow", "operation": "parameter", "parameters": {"name": member.name}})
            for decorator in getattr(member, "decorators", None) or ():
                disk = decorator.name == "resources" and decorator.attributes.get("disk")
                if disk:
                    record({"service": "metaflow", "operation": "disk", "parameters": {member.__name__: disk}})


def install():
    """Let every botocore session that is made from now on hold back."""
    try:
        from botocore import handlers
    except ImportError:  # a helper of the command that knows nothing of AWS
        return
    handlers.BUILTIN_HANDLERS += [("before-parameter-build", keep_parameters), ("before-call", hold_back)]
    atexit.register(record_flow)


if __name__ == "sitecustomize" and RECORD in os.environ:
    install()
