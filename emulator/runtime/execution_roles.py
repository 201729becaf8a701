"""The role of a state machine: what a state asks of another service, the role must be allowed."""

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError
from moto.core.exceptions import AWSError
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_batch import (
    StateTaskServiceBatch,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_dynamodb import (
    StateTaskServiceDynamoDB,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sfn import (
    StateTaskServiceSfn,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sns import (
    StateTaskServiceSns,
)
from moto.stepfunctions.responses import StepFunctionResponse

from emulator.gaps import before, wrap

from .http_task import HttpTask, find_connection
from .place import Place
from .policies import Context, allows, find_role, role_documents, trusts

SERVICE_PRINCIPAL = "states.amazonaws.com"

Permission = tuple[str, str] | tuple[str, str, Context]
"""Action and resource, and what conditions may ask for."""


class NotAssumable(AWSError):
    """The service may not act as the role that a machine is to have."""

    TYPE = "AccessDeniedException"
    STATUS = 400


def install() -> None:
    """Let machines have only roles that the service may assume, and act as them.

    That is: in states of the services that Metaflow and chains of flows use.
    """
    for service, needed in (
        (StateTaskServiceBatch, _for_batch),
        (StateTaskServiceDynamoDB, _for_dynamodb),
        (StateTaskServiceSfn, _for_states),
        (StateTaskServiceSns, _for_sns),
        (HttpTask, _for_http),
    ):
        _check_before(service, needed)
    for operation in ("create_state_machine", "update_state_machine"):
        _check_role_before(operation)


def _check_role_before(operation: str) -> None:
    @before(StepFunctionResponse, operation)
    def check(self: Any) -> None:
        role = self._get_param("roleArn")
        if role and not trusts(Place(self.current_account, self.region), role, SERVICE_PRINCIPAL):
            raise NotAssumable(
                f"Neither the global service principal {SERVICE_PRINCIPAL}, nor the regional one is authorized to "
                "assume the provided role."
            )


def _check_before(service: type, needed: Callable[..., Iterator[Permission]]) -> None:
    @wrap(service, "_eval_service_task")
    def evaluate(
        original: Callable[..., None],
        self: Any,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        details = env.aws_execution_details
        place = Place(details.account, resource_runtime_part.region)
        role = find_role(place, details.role_arn)
        if role is None or not trusts(place, role.arn, SERVICE_PRINCIPAL):
            raise _denied(f"{SERVICE_PRINCIPAL} is not authorized to assume the role {details.role_arn}")
        machine = env.states.context_object.context_object_data["StateMachine"]["Id"]
        for permission in needed(place, self.resource, normalised_parameters, machine):
            _check(place, role.name, *permission)
        original(self, env, resource_runtime_part, normalised_parameters, state_credentials)


def _for_batch(place: Place, resource: Any, parameters: dict[str, Any], machine: str) -> Iterator[Permission]:
    """https://docs.aws.amazon.com/step-functions/latest/dg/connect-batch.html"""
    batch = place.backend("batch")
    definition, queue = (
        batch.get_job_definition(parameters["jobDefinition"]),
        batch.get_job_queue(parameters["jobQueue"]),
    )
    yield from (("batch:SubmitJob", found.arn) for found in (definition, queue) if found)
    if resource.condition is not None:
        yield from _managed_rule(place, "StepFunctionsGetEventsForBatchJobsRule")


def _for_dynamodb(place: Place, resource: Any, parameters: dict[str, Any], machine: str) -> Iterator[Permission]:
    action = resource.api_action[0].upper() + resource.api_action[1:]
    yield f"dynamodb:{action}", place.arn("dynamodb", f"table/{parameters['TableName']}")


def _for_states(place: Place, resource: Any, parameters: dict[str, Any], machine: str) -> Iterator[Permission]:
    """https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html"""
    yield "states:StartExecution", parameters["stateMachineArn"]
    if resource.condition is not None:
        yield from _managed_rule(place, "StepFunctionsGetEventsForStepFunctionsExecutionRule")


def _for_sns(place: Place, resource: Any, parameters: dict[str, Any], machine: str) -> Iterator[Permission]:
    yield "sns:Publish", parameters["TopicArn"]


def _for_http(place: Place, resource: Any, parameters: dict[str, Any], machine: str) -> Iterator[Permission]:
    """https://docs.aws.amazon.com/step-functions/latest/dg/call-https-apis.html"""
    asked = {"states:HTTPEndpoint": parameters["ApiEndpoint"], "states:HTTPMethod": parameters["Method"]}
    yield "states:InvokeHTTPEndpoint", machine, asked
    connection = find_connection(place, parameters["Authentication"]["ConnectionArn"])
    yield "events:RetrieveConnectionCredentials", connection.arn
    for action in ("GetSecretValue", "DescribeSecret"):
        yield f"secretsmanager:{action}", connection.secret_arn


def _managed_rule(place: Place, name: str) -> Iterator[Permission]:
    """By a rule of its own Step Functions learns that a job or an execution has ended."""
    for action in ("PutTargets", "PutRule", "DescribeRule"):
        yield f"events:{action}", place.arn("events", f"rule/{name}")


def _check(place: Place, role: str, action: str, resource: str, context: Context | None = None) -> None:
    if not allows(role_documents(place, role), action, resource, context):
        user = f"arn:{place.partition}:sts::{place.account}:assumed-role/{role}"
        raise _denied(f"User: {user} is not authorized to perform: {action} on resource: {resource}")


def _denied(message: str) -> ClientError:
    """The error as the SDK would raise it, from which moto makes the state's error and cause."""
    error = {"Code": "AccessDeniedException", "Message": message}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 403, "RequestId": ""}}, "AssumeRole")
