"""State machines: moto's interpreter, with what Metaflow's machines and our Batch jobs need of it while they run."""

import functools
import json
import re
import sys
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import boto3
from botocore.config import Config
from jsonpath_ng.ext import parse
from moto.stepfunctions.parser.asl.component.state.exec.state_map.result_writer.resource_eval.resource_eval_s3 import (
    ResourceEvalS3 as ResultWriterS3,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_batch import (
    StateTaskServiceBatch,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sfn import (
    StateTaskServiceSfn,
)
from moto.stepfunctions.parser.asl.utils import boto_client, json_path
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution

from emulator.gaps import replace, wrap

from . import execution_roles, http_task
from .batch_scheduler import BatchScheduler
from .eventbridge import publish
from .place import Place

INDEFINITE = re.compile(r"\.\.|\*|\?\(|\[[^\]']*[:,]|\[\s*'[^']*'\s*,")
"""What makes a path one that may find several values: descent, wildcard, filter, slice, union."""
MOST_CONNECTIONS = 100
STOPPED = "The state machine execution was stopped"


def install(endpoint: str, scheduler: BatchScheduler) -> None:
    """Let moto's state machines run well on our Batch."""
    _read_definite_paths()
    _keep_clients(endpoint)
    _wait_for_jobs(scheduler)
    _read_bodies()
    _spell_executions()
    _write_map_results()
    http_task.install()
    execution_roles.install()
    _publish_states()


def _read_definite_paths() -> None:
    """A path that can find one value only gives that value; moto gives a list after an index (``$[0].JobId``)."""
    original = json_path.extract_json
    parsed = functools.lru_cache(maxsize=1000)(parse)

    def extract_json(path: str, data: Any) -> Any:
        found = [] if INDEFINITE.search(path) else parsed(path).find(data)
        return found[0].value if found else original(path, data)

    _replace_everywhere("extract_json", original, extract_json)


def _keep_clients(endpoint: str) -> None:
    """One client for each service and region: making one reads botocore's models, which takes 0.1 s of CPU and more."""

    @functools.cache
    def client(service: str, region: str) -> Any:
        return boto3.Session().client(
            service,
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id="ak",
            aws_secret_access_key="sk",  # noqa: S106 - the emulator takes any
            config=Config(
                parameter_validation=False,
                retries={"total_max_attempts": 1},
                read_timeout=300,
                max_pool_connections=MOST_CONNECTIONS,
            ),
        )

    def boto_client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        return client(service, region)

    _replace_everywhere("boto_client_for", boto_client.boto_client_for, boto_client_for)


def _wait_for_jobs(scheduler: BatchScheduler) -> None:
    """``submitJob.sync`` waits for the job instead of asking twice a second; a stopped execution ends its jobs."""

    @wrap(StateTaskServiceBatch, "_build_sync_resolver")
    def build(
        original: Callable[..., Any],
        self: StateTaskServiceBatch,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> Callable[[], Any]:
        job = scheduler.jobs[env.stack[-1]["JobId"]]
        resolve = original(self, env, resource_runtime_part, normalised_parameters, state_credentials)

        def wait() -> Any:
            while not job.ended.wait(0.2):
                if not env.is_running():
                    scheduler.end(job, STOPPED)
                    return None
            return resolve()

        return wait


def _read_bodies() -> None:
    """A body that an SDK task gets (``aws-sdk:s3:getObject``) is text in the state's result."""

    @wrap(StateTaskServiceAwsSdk, "_eval_service_task")
    def evaluate(
        original: Callable[..., None], self: StateTaskServiceAwsSdk, env: Any, *args: Any, **kwargs: Any
    ) -> None:
        original(self, env, *args, **kwargs)
        response = env.stack[-1]
        for name, value in response.items():
            if hasattr(value, "read"):
                response[name] = value.read().decode()


def _spell_executions() -> None:
    """The parameters of ``states:startExecution`` begin with capitals, as its result does; moto hands them on as is."""

    @wrap(StateTaskServiceSfn, "_normalise_parameters")
    def parameters(
        original: Callable[..., None], self: StateTaskServiceSfn, parameters: Any, *args: Any, **kwargs: Any
    ) -> None:
        original(self, parameters, *args, **kwargs)
        _rename_keys(parameters, _camel_case)

    @wrap(StateTaskServiceSfn, "_normalise_response")
    def response(
        original: Callable[..., None], self: StateTaskServiceSfn, response: Any, *args: Any, **kwargs: Any
    ) -> None:
        original(self, response, *args, **kwargs)
        _rename_keys(response, _pascal_case)
        for key in response.keys() & {"StartDate", "StopDate"}:
            if isinstance(response[key], datetime):
                response[key] = int(response[key].timestamp() * 1000)
        for key in response.keys() & {"InputDetails", "OutputDetails"}:
            _rename_keys(response[key], _pascal_case)


def _camel_case(name: str) -> str:
    return name[0].lower() + name[1:]


def _pascal_case(name: str) -> str:
    return name[0].upper() + name[1:]


def _rename_keys(document: dict[str, Any], spell: Callable[[str], str]) -> None:
    for key in list(document):
        document[spell(key)] = document.pop(key)


def _write_map_results() -> None:
    """A distributed map's ResultWriter writes what its child executions gave; moto's writes an empty manifest."""

    @replace(ResultWriterS3, "_handle_put_object")
    def put_object(env: Any, resource_runtime_part: Any, state_credentials: Any) -> None:
        parameters, outputs = env.stack.pop(), env.stack.pop()
        record = env.map_run_record_pool_manager.get_all()[-1]
        prefix = parameters.get("Prefix", "")
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        folder += record.map_run_arn.split(":")[-1]
        files = {
            f"{folder}/SUCCEEDED_0.json": [_child_execution(record.map_run_arn, output) for output in outputs],
            f"{folder}/manifest.json": _manifest(
                parameters["Bucket"], record.map_run_arn, f"{folder}/SUCCEEDED_0.json"
            ),
        }
        s3 = ResultWriterS3._get_s3_client(resource_runtime_part, state_credentials)
        for key, document in files.items():
            s3.put_object(Bucket=parameters["Bucket"], Key=key, Body=json.dumps(document).encode())
        details = {"Bucket": parameters["Bucket"], "Key": f"{folder}/manifest.json"}
        env.stack.append({"MapRunArn": record.map_run_arn, "ResultWriterDetails": details})


def _child_execution(map_run_arn: str, output: Any) -> dict[str, Any]:
    """https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html"""
    name = str(uuid.uuid4())
    return {
        "ExecutionArn": f"{map_run_arn.replace(':mapRun:', ':execution:')}:{name}",
        "Name": name,
        "Output": json.dumps(output),
        "OutputDetails": {"Included": True},
        "Status": "SUCCEEDED",
    }


def _manifest(bucket: str, map_run_arn: str, key: str) -> dict[str, Any]:
    return {
        "DestinationBucket": bucket,
        "MapRunArn": map_run_arn,
        "ResultFiles": {"FAILED": [], "PENDING": [], "SUCCEEDED": [{"Key": key}]},
    }


def _publish_states() -> None:
    """Tell EventBridge when an execution starts and ends."""

    @wrap(Execution, "start")
    def start(original: Callable[..., None], self: Execution) -> None:
        original(self)
        _publish(self, "RUNNING")  # whatever it is by now: a short one may have ended

    @wrap(BaseExecutionWorkerCommunication, "terminated")
    def terminated(original: Callable[..., None], self: BaseExecutionWorkerCommunication) -> None:
        original(self)
        _publish(self.execution, self.execution.status)


def _publish(execution: Execution, status: str) -> None:
    """https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html"""
    detail = {
        "executionArn": execution.exec_arn,
        "stateMachineArn": execution.state_machine.arn,
        "name": execution.name,
        "status": status,
        "error": None if status == "RUNNING" else execution.error,
        "cause": None if status == "RUNNING" else execution.cause,
    }
    place = Place(execution.account_id, execution.region_name)
    publish(place, "aws.states", "Step Functions Execution Status Change", [execution.exec_arn], detail)


def _replace_everywhere(name: str, original: Any, new: Any) -> None:
    """Put a function in place of one that moto's modules have imported by name."""
    modules = [module for module in list(sys.modules.values()) if getattr(module, name, None) is original]
    if len(modules) < 2:
        raise RuntimeError(f"nothing of moto's state machines uses {name}")
    for module in modules:
        setattr(module, name, new)
