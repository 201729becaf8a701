"""HTTP tasks of state machines (``http:invoke``), which moto doesn't know.

https://docs.aws.amazon.com/step-functions/latest/dg/call-https-apis.html
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
from botocore.exceptions import ClientError
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent
from moto.stepfunctions.parser.asl.component.state.exec.state_task import state_task_factory
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

from emulator.gaps import wrap

from .place import Place

PARAMETERS = {"ApiEndpoint", "Method", "Authentication", "Headers", "QueryParameters", "RequestBody", "Transform"}
MOST_SECONDS = 60
"""The longest that an HTTP task waits for its answer."""


def install() -> None:
    """Let states have the resource ``arn:aws:states:::http:invoke``."""

    @wrap(state_task_factory, "state_task_service_for")
    def service_for(original: Callable[..., Any], service_name: str) -> Any:
        return HttpTask() if service_name == "http" else original(service_name)


@dataclass(eq=False)  # an exception has a hash
class HttpError(Exception):
    """A call that gave no answer, or one whose status is no success."""

    error: str
    cause: str


class HttpErrorName(ErrorName):
    """The name of such an error, which begins with "States." like those that moto has a list of."""


class HttpTask(StateTaskServiceCallback):
    """Calls an address with the credentials of a connection of EventBridge."""

    def __init__(self) -> None:
        super().__init__(supported_integration_patterns=set())

    def _get_supported_parameters(self) -> set[str] | None:
        return PARAMETERS if self.resource.api_action == "invoke" else None

    def _normalise_parameters(self, *args: Any, **kwargs: Any) -> None:
        """They are no call of an SDK, so they stay as they are."""

    def _normalise_response(self, *args: Any, **kwargs: Any) -> None:
        """Neither is the answer one."""

    def _from_error(self, env: Any, ex: Exception) -> FailureEvent:
        if isinstance(ex, ClientError):
            ex = HttpError("States.Runtime", ex.response["Error"]["Message"])
        if not isinstance(ex, HttpError):
            return super()._from_error(env=env, ex=ex)
        details = TaskFailedEventDetails(
            error=ex.error,
            cause=ex.cause,
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
        )
        return FailureEvent(
            env=env,
            error_name=HttpErrorName(ex.error),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )

    def _eval_service_task(
        self, env: Any, resource_runtime_part: Any, normalised_parameters: dict[str, Any], state_credentials: Any
    ) -> None:
        place = Place(env.aws_execution_details.account, resource_runtime_part.region)
        connection = find_connection(place, normalised_parameters["Authentication"]["ConnectionArn"])
        env.stack.append(call(normalised_parameters, credentials(connection)))


def find_connection(place: Place, arn: str) -> Any:
    """moto's connection with that ARN; :class:`HttpError` where there is none."""
    for connection in place.backend("events").connections.values():
        if connection.arn == arn:
            return connection
    raise HttpError("Events.ConnectionResource.InvalidConnectionState", f"There is no connection {arn}")


def credentials(connection: Any) -> dict[str, str]:
    """The header that a connection with an API key adds to each call."""
    key = connection.auth_parameters["ApiKeyAuthParameters"]
    return {key["ApiKeyName"]: key["ApiKeyValue"]}


def call(parameters: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    """Make the call; its answer as the state's result."""
    if not parameters["ApiEndpoint"].startswith("https://"):
        raise HttpError("States.Runtime", "The API endpoint must begin with https://")
    try:
        answer = requests.request(
            parameters["Method"],
            parameters["ApiEndpoint"],
            json=parameters.get("RequestBody"),
            params=parameters.get("QueryParameters"),
            headers={**(parameters.get("Headers") or {}), **headers, "User-Agent": "Amazon|StepFunctions|HttpInvoke"},
            timeout=MOST_SECONDS,
        )
    except requests.RequestException as error:
        raise HttpError("States.Http.Socket", str(error)) from error
    if not answer.ok:
        raise HttpError(f"States.Http.StatusCode.{answer.status_code}", answer.text or answer.reason)
    return {
        "Headers": {name: [value] for name, value in answer.headers.items()},
        "ResponseBody": body(answer),
        "StatusCode": answer.status_code,
        "StatusText": answer.reason,
    }


def body(answer: requests.Response) -> Any:
    """The body as JSON where it is some, else as text."""
    try:
        return answer.json()
    except json.JSONDecodeError:
        return answer.text
