"""The awslogs log driver: what a container prints becomes events of a CloudWatch log stream."""

import time
from collections.abc import Callable, Mapping

from moto.core.exceptions import JsonRESTError

from .errors import ResourceInitializationError
from .place import Place
from .policies import allows, role_documents

Sink = Callable[[str], None]
"""Takes one line of output."""


FAILED = (
    "failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: "
    "{error} : exit status 1"
)


def open_stream(place: Place, options: Mapping[str, str], stream: str, role: str | None) -> Sink:
    """Create the stream in the group that the ``awslogs-*`` options name, and return what writes to it.

    Raises ResourceInitializationError where the group is missing and ``awslogs-create-group`` does not ask for it, or
    the execution role (by name; None: the instance's, which is not looked at) may not write to it.
    """
    place = Place(place.account, options.get("awslogs-region", place.region))
    logs = place.backend("logs")
    group = options["awslogs-group"]
    if role:
        _check(place, role, place.arn("logs", f"log-group:{group}:log-stream:{stream}"))
    try:
        if options.get("awslogs-create-group") == "true":
            logs.ensure_log_group(group)
        logs.ensure_log_stream(group, stream)
    except JsonRESTError as error:
        raise ResourceInitializationError(FAILED.format(error=f"ResourceNotFoundException: {error.message}")) from error

    def write(line: str) -> None:
        """Write an event; a group that was deleted meanwhile loses it, as on AWS."""
        log_group = logs.groups.get(group)
        if log_group and stream in log_group.streams and line:
            event = {"timestamp": int(time.time() * 1000), "message": line}
            log_group.streams[stream].put_log_events([event])

    return write


def _check(place: Place, role: str, stream_arn: str) -> None:
    documents = role_documents(place, role)
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        if not allows(documents, action, stream_arn):
            user = f"arn:{place.partition}:sts::{place.account}:assumed-role/{role}"
            raise ResourceInitializationError(
                FAILED.format(
                    error=f"AccessDeniedException: User: {user} is not authorized to perform: {action} on resource: "
                    f"{stream_arn} because no identity-based policy allows the {action} action"
                )
            )


def discard(line: str) -> None:
    """The sink of a container without a log configuration."""
