"""The awslogs log driver: what a container prints becomes events of a CloudWatch log stream."""

import time
from collections.abc import Callable, Mapping

from moto.core.exceptions import JsonRESTError

from .errors import ResourceInitializationError
from .place import Place

Sink = Callable[[str], None]
"""Takes one line of output."""


def open_stream(place: Place, options: Mapping[str, str], stream: str) -> Sink:
    """Create the stream in the group that the ``awslogs-*`` options name, and return what writes to it.

    Raises ResourceInitializationError where the group is missing and ``awslogs-create-group`` does not ask for it.
    """
    place = Place(place.account, options.get("awslogs-region", place.region))
    logs = place.backend("logs")
    group = options["awslogs-group"]
    try:
        if options.get("awslogs-create-group") == "true":
            logs.ensure_log_group(group)
        logs.ensure_log_stream(group, stream)
    except JsonRESTError as error:
        raise ResourceInitializationError(
            "failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log "
            f"stream: ResourceNotFoundException: {error.message} : exit status 1"
        ) from error

    def write(line: str) -> None:
        """Write an event; a group that was deleted meanwhile loses it, as on AWS."""
        log_group = logs.groups.get(group)
        if log_group and stream in log_group.streams and line:
            event = {"timestamp": int(time.time() * 1000), "message": line}
            log_group.streams[stream].put_log_events([event])

    return write


def discard(line: str) -> None:
    """The sink of a container without a log configuration."""
