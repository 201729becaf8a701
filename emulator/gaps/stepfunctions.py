"""Gaps of Step Functions."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult
from moto.core.utils import get_service_model
from moto.stepfunctions.models import StepFunctionBackend
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import (
    ILLEGAL_CUSTOM_ERROR_PREFIX,
    CustomErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import iteration_worker
from moto.stepfunctions.parser.asl.component.state.exec.state_parallel import branches_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_batch
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.program_state import ProgramStopped
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from emulator.gaps import ShapeError, add, gap, replace, wrap

SEVERAL_KEYS = re.compile(r"\$\.?\[\s*('[^']+'(?:\s*,\s*'[^']+')+)\s*\]")
TRANSITIONS = ("Next", "Default")


class InvalidDefinition(AWSError):
    """A state machine's definition that AWS refuses."""

    TYPE = "InvalidDefinition"
    STATUS = 400


class StateMachineAlreadyExists(AWSError):
    """A second state machine of the same name."""

    TYPE = "StateMachineAlreadyExists"
    STATUS = 400


@gap("stepfunctions", "execution-name", "An execution that is started without a name gets a UUID as its name.")
def execution_name() -> None:
    @wrap(StepFunctionsParserBackend, "start_execution")
    def start(
        original: Callable[..., Any],
        self: Any,
        state_machine_arn: str,
        name: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        return original(self, state_machine_arn, name or str(uuid.uuid4()), *args, **kwargs)


@gap("stepfunctions", "batch-parameters", "A Batch task's parameters begin with capitals, as its result does.")
def batch_parameters() -> None:
    service = state_task_service_batch.StateTaskServiceBatch

    @replace(service, "_normalise_parameters")
    def parameters_for_boto(
        self: Any, parameters: Any, boto_service_name: str | None = None, service_action_name: str | None = None
    ) -> None:
        _respell(parameters, _batch_operation(self, service_action_name).input_shape, _with_small_letter)

    @replace(service, "_normalise_response")
    def response_for_state(
        self: Any, response: Any, boto_service_name: str | None = None, service_action_name: str | None = None
    ) -> None:
        _respell(response, _batch_operation(self, service_action_name).output_shape, _with_capital)


def _batch_operation(task: Any, action: str | None) -> Any:
    """Return botocore's model of `submitJob` or `describe_jobs`."""
    name = "".join(_with_capital(word) for word in (action or task.resource.api_action).split("_"))
    return get_service_model("batch").operation_model(name)


def _with_small_letter(name: str) -> str:
    return name[0].lower() + name[1:]


def _with_capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _respell(value: Any, shape: Shape | None, spell: Callable[[str], str]) -> None:
    """Rename the members of structures in place; the keys of maps are the user's and stay."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        for member, inner in shape.members.items():
            for key in {_with_small_letter(member), _with_capital(member)} & value.keys():
                one = value.pop(key)
                _respell(one, inner, spell)
                value[spell(member)] = one
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for one in value:
            _respell(one, shape.member, spell)
    elif isinstance(shape, MapShape) and isinstance(value, dict):
        for one in value.values():
            _respell(one, shape.value, spell)


@gap("stepfunctions", "path-of-several-keys", "A path such as $['A','B'] gives an object with these keys.")
def path_of_several_keys() -> None:
    original = json_path.extract_json

    def extract_json(path: str, data: Any) -> Any:
        several = SEVERAL_KEYS.fullmatch(path)
        if several and isinstance(data, dict):
            return {key: data[key] for key in re.findall(r"'([^']+)'", several[1]) if key in data}
        return original(path, data)

    importers = [m for m in list(sys.modules.values()) if getattr(m, "extract_json", None) is original]
    if len(importers) < 2:  # the module itself and those that import the name from it
        raise ShapeError("nothing of moto's state machines uses json_path.extract_json")
    for module in importers:
        module.extract_json = extract_json


@gap("stepfunctions", "inner-errors", "A map or parallel fails with its inner state's error, States.TaskFailed too.")
def inner_errors() -> None:
    def error_name(error_name: str | None) -> ErrorName:
        own = error_name is not None and error_name.startswith(ILLEGAL_CUSTOM_ERROR_PREFIX)
        return StatesErrorName.from_name(error_name) if own else CustomErrorName(error_name)

    for module in (iteration_worker, branches_decl):
        if getattr(module, "CustomErrorName", None) is not CustomErrorName:
            raise ShapeError(f"{module.__name__} doesn't use CustomErrorName")
        module.CustomErrorName = error_name


@gap("stepfunctions", "stopped-map", "An execution that is stopped inside a map is ABORTED, not FAILED.")
def stopped_map() -> None:
    @wrap(Environment, "set_error")
    def set_error(original: Callable[..., None], self: Environment, error: Any) -> None:
        # The stopped iterations fail their map, which is no error of the execution's.
        if not isinstance(self.program_state(), ProgramStopped):
            original(self, error)


@gap("stepfunctions", "definition-transitions", "A definition whose transitions lead nowhere is refused.")
def definition_transitions() -> None:
    @wrap(StepFunctionsParserBackend, "_validate_definition")
    def validate(original: Callable[..., Any], definition: str) -> None:
        original(definition)
        problems = [problem["message"] for problem in _problems(definition)]
        if problems:
            raise InvalidDefinition(f"Invalid State Machine Definition: '{', '.join(problems)}'")


@gap("stepfunctions", "definition-validation", "A definition can be validated without making a state machine.")
def definition_validation() -> None:
    @add(StepFunctionResponse, "validate_state_machine_definition")
    def validate(self: Any) -> ActionResult:
        problems = list(_problems(self._get_param("definition")))
        return ActionResult({"result": "FAIL" if problems else "OK", "diagnostics": problems, "truncated": False})


def _problems(definition: str) -> Iterator[dict[str, str]]:
    """Yield what AWS would say against a definition."""
    try:
        machine = json.loads(definition)
    except ValueError as error:
        yield _problem("INVALID_JSON_DESCRIPTION", str(error), "")
        return
    if not isinstance(machine, dict):
        yield _problem("SCHEMA_VALIDATION_FAILED", "The definition is not an object", "")
        return
    yield from _problems_of_machine(machine, "")
    parse = StepFunctionsParserBackend._validate_definition.__wrapped__
    try:
        parse(definition)
    except AWSError as error:
        yield _problem("SCHEMA_VALIDATION_FAILED", error.message, "")


def _problems_of_machine(machine: dict[str, Any], where: str) -> Iterator[dict[str, str]]:
    states = machine.get("States") or {}
    if not states:
        yield _problem("SCHEMA_VALIDATION_FAILED", "The field 'States' must have at least one state", f"{where}/States")
        return
    targets = [("StartAt", machine.get("StartAt"), f"{where}/StartAt")]
    for name, state in states.items():
        here = f"{where}/States/{name}"
        targets += [(field, state[field], f"{here}/{field}") for field in TRANSITIONS if field in state]
        for field in ("Choices", "Catch"):
            targets += [("Next", rule.get("Next"), f"{here}/{field}") for rule in state.get(field, [])]
        inner = [*state.get("Branches", []), *(state[f] for f in ("Iterator", "ItemProcessor") if f in state)]
        for one in inner:
            yield from _problems_of_machine(one, here)
    for field, target, place in targets:
        if target not in states:
            yield _problem("MISSING_TRANSITION_TARGET", f"Missing '{field}' target: {target} at {place}", place)
    reached = {target for _, target, _ in targets}
    for name in states:
        if name not in reached:
            yield _problem("UNREACHABLE_STATE", f'State "{name}" is not reachable.', f"{where}/States/{name}")


def _problem(code: str, message: str, location: str) -> dict[str, str]:
    return {"severity": "ERROR", "code": code, "message": f"{code}: {message}", "location": location}


@gap("stepfunctions", "versions", "The published versions of a state machine can be listed, newest first.")
def versions() -> None:
    @add(StepFunctionResponse, "list_state_machine_versions")
    def list_versions(self: Any) -> ActionResult:
        machine = self.stepfunction_backend.describe_state_machine(self._get_param("stateMachineArn"))
        found = sorted(machine.versions.values(), key=lambda version: version.version, reverse=True)
        return ActionResult(
            {
                "stateMachineVersions": [
                    {"stateMachineVersionArn": version.arn, "creationDate": version.creation_date} for version in found
                ]
            }
        )


@gap("stepfunctions", "created-twice", "Creating a state machine again is refused unless all is the same.")
def created_twice() -> None:
    @wrap(StepFunctionBackend, "create_state_machine")
    def create(original: Callable[..., Any], self: Any, name: str, definition: str, *args: Any, **kwargs: Any) -> Any:
        for existing in self.state_machines:
            if existing.name == name and existing.definition != definition:
                raise StateMachineAlreadyExists(f"State Machine Already Exists: '{existing.arn}'")
        return original(self, name, definition, *args, **kwargs)


@gap("stepfunctions", "definition-of-an-execution", "An execution's definition is the one that it began with.")
def definition_of_an_execution() -> None:
    @wrap(StepFunctionResponse, "describe_state_machine_for_execution")
    def describe(original: Callable[..., ActionResult], self: Any) -> ActionResult:
        answer = original(self)
        execution = self.stepfunction_backend.describe_execution(self._get_param("executionArn"))
        # The execution holds a copy of its state machine as it was.
        return ActionResult({**answer.result, "definition": execution.state_machine.definition})
