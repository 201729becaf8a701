"""The API on port 8080: one function for each thing that the real service does at a route.

Where the real service answers oddly (a heartbeat that comes too early is 404), so does this one: a deployment must meet
at home what it meets on AWS. The oddities that no comment explains are in its own integration tests.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from . import STAND_IN_VERSION
from .postgres import DatabaseError
from .responses import VERSION_HEADER, AiohttpPage, Answer, Handler, Resource, formatted, internal_error, json_text
from .store import ARTIFACTS, FLOWS, HEARTBEAT_INTERVAL, METADATA, RUNS, STEPS, TASKS, NotFound, Path, Row, Store, Table

FLOW = "/flows/{flow_id}"
RUN = f"{FLOW}/runs/{{run_number}}"
STEP = f"{RUN}/steps/{{step_name}}"
TASK = f"{STEP}/tasks/{{task_id}}"

WAIT = json.dumps({"wait_time_in_seconds": HEARTBEAT_INTERVAL})


class Api:
    """The routes over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """All routes of the API."""
        artifacts, latest = self._artifacts, _latest_attempts
        resources = {
            "/ping": Resource(GET=_ping),
            "/version": Resource(GET=_version),
            "/healthcheck": Resource(GET=self._healthcheck),
            "/flows": Resource(GET=self._many(FLOWS)),
            FLOW: Resource(GET=self._one(FLOWS), POST=formatted(self._create_flow)),
            f"{FLOW}/runs": Resource(GET=self._many(RUNS)),
            f"{FLOW}/run": Resource(POST=formatted(self._create_run)),
            RUN: Resource(GET=self._one(RUNS)),
            f"{RUN}/heartbeat": Resource(POST=formatted(self._run_heartbeat)),
            f"{RUN}/tag/mutate": Resource(PATCH=formatted(self._mutate_tags)),
            f"{RUN}/metadata": Resource(GET=self._many(METADATA)),
            f"{RUN}/artifacts": Resource(GET=artifacts(latest)),
            f"{RUN}/steps": Resource(GET=self._many(STEPS)),
            STEP: Resource(GET=self._one(STEPS)),
            f"{STEP}/step": Resource(POST=formatted(self._create_step)),
            f"{STEP}/artifacts": Resource(GET=artifacts(latest)),
            f"{STEP}/filtered_tasks": Resource(GET=formatted(self._filtered_tasks)),
            f"{STEP}/tasks": Resource(GET=self._many(TASKS)),
            f"{STEP}/task": Resource(POST=formatted(self._create_task)),
            TASK: Resource(GET=self._one(TASKS)),
            f"{TASK}/heartbeat": Resource(POST=formatted(self._task_heartbeat)),
            f"{TASK}/metadata": Resource(GET=self._many(METADATA), POST=self._create_metadata),
            f"{TASK}/artifact": Resource(POST=self._create_artifacts),
            f"{TASK}/artifacts": Resource(GET=artifacts(latest)),
            f"{TASK}/attempt/{{attempt_id}}/artifacts": Resource(GET=artifacts(_one_attempt)),
            f"{TASK}/artifacts/{{artifact_name}}": Resource(GET=formatted(self._latest_artifact)),
            f"{TASK}/artifacts/{{artifact_name}}/attempt/{{attempt_id}}": Resource(GET=self._one(ARTIFACTS)),
        }
        return [Route(path, resource) for path, resource in resources.items()]

    async def _healthcheck(self, request: Request) -> Response:
        self._store.check()
        # JSON in JSON, as the real service writes it.
        return PlainTextResponse(
            json.dumps(json.dumps({"status": "UP"})), headers=VERSION_HEADER, media_type="application/json"
        )

    def _many(self, table: Table) -> Handler:
        async def answer(request: Request) -> Answer:
            return 200, self._store.select(table, request.path_params)

        return formatted(answer)

    def _one(self, table: Table) -> Handler:
        async def answer(request: Request) -> Answer:
            return 200, self._store.get(table, request.path_params)

        return formatted(answer)

    async def _create_flow(self, request: Request) -> Answer:
        return 200, self._store.insert(FLOWS, {**request.path_params, **_described(await _json(request))})

    async def _create_run(self, request: Request) -> Answer:
        body = await _json(request)
        values = {**request.path_params, **_described(body), "run_id": body.get("run_number")}
        if values["run_id"] and values["run_id"].isnumeric():
            raise ValueError("provided run_id may not be a numeric")
        return 200, self._store.insert(RUNS, values)

    async def _create_step(self, request: Request) -> Answer:
        path, body = request.path_params, await _json(request)
        values = {**path, **_described(body, default_user=""), **self._run_of(path)}
        if values["run_id"] is None:  # only here: a step's run is a text, also when the service numbered it
            values["run_id"] = str(values["run_number"])
        return 200, self._created(STEPS, values, path)

    async def _create_task(self, request: Request) -> Answer:
        path, body = request.path_params, await _json(request)
        values = {**path, **_described(body), "task_name": body.get("task_id")}
        if values["task_name"] and values["task_name"].isnumeric():
            raise AiohttpPage("provided task_name may not be a numeric")
        return 200, self._created(TASKS, values | self._run_of(path), path)

    def _run_of(self, path: Path) -> Row:
        return self._store.keys(RUNS, _run_path(path), "run_number", "run_id")

    def _created(self, table: Table, values: Row, path: Path) -> Row:
        return self._store.with_run_tags([self._store.insert(table, values)], path)[0]

    async def _create_metadata(self, request: Request) -> Response:
        def row(datum: Row) -> Row:
            given = {key: datum.get(key, " ") for key in ("field_name", "value", "type")}
            return given | _described(datum)

        return await self._create_all(METADATA, request, row, "metadata_created")

    async def _create_artifacts(self, request: Request) -> Response:
        def row(artifact: Row) -> Row:
            given = {key: artifact.get(key, " ") for key in ("name", "location", "ds_type", "sha", "type")}
            given |= {"content_type": artifact.get("content_type", " "), "attempt_id": artifact.get("attempt_id", 0)}
            return given | _described(artifact, default_user=" ")

        return await self._create_all(ARTIFACTS, request, row, "artifacts_created")

    async def _create_all(self, table: Table, request: Request, row: Callable[[Row], Row], counter: str) -> Response:
        path, body = request.path_params, await _json(request)
        try:
            run = self._store.keys(RUNS, _run_path(path), "run_number", "run_id")
            task = self._store.keys(TASKS, path, "task_id", "task_name")
        except (NotFound, DatabaseError):
            return json_text(400, {"message": "need to register run_id and task_id first"})
        keys = {"flow_id": path["flow_id"], "step_name": path["step_name"], **run, **task}
        return json_text(200, {counter: self._store.insert_all(table, ({**keys, **row(item)} for item in body))})

    def _artifacts(self, choose: Callable[[list[Row], Any], Iterator[Row]]) -> Handler:
        async def answer(request: Request) -> Response:
            path = dict(request.path_params)
            attempt = path.pop("attempt_id", None)
            try:
                found = self._store.select(ARTIFACTS, path)
            except DatabaseError as error:
                # The real service writes a pair of status and body, not the body.
                return json_text(error.status, [500, internal_error(json.dumps(error.body))])
            return json_text(200, list(choose(found, attempt)))

        return answer

    async def _latest_artifact(self, request: Request) -> Answer:
        return 200, self._store.latest_artifact(request.path_params)

    async def _filtered_tasks(self, request: Request) -> Answer:
        query = request.query_params
        found = self._store.tasks_with_metadata(
            request.path_params, query.get("metadata_field_name"), query.get("pattern")
        )
        return 200, found

    async def _run_heartbeat(self, request: Request) -> Answer:
        return self._heartbeat(RUNS, request.path_params)

    async def _task_heartbeat(self, request: Request) -> Answer:
        self._heartbeat(RUNS, _run_path(request.path_params))
        return self._heartbeat(TASKS, request.path_params)

    def _heartbeat(self, table: Table, path: Path) -> Answer:
        """The body is the same whether the heartbeat was noted (200), not wanted (404), or could not be asked for."""
        try:
            return (200 if self._store.heartbeat(table, path) else 404), WAIT
        except DatabaseError as error:
            return error.status, WAIT

    async def _mutate_tags(self, request: Request) -> Answer:
        body = await _json(request)
        added, removed = body.get("tags_to_add", []), body.get("tags_to_remove", [])
        for name, tags in (("tags_to_add", added), ("tags_to_remove", removed)):
            if not isinstance(tags, list):
                return 422, f"{name} must be a list"
        if not all(isinstance(tag, str) for tag in chain(added, removed)):
            return 422, "All tag values must be strings"
        try:
            with self._store.transaction():
                return self._change_tags(request.path_params, set(added), set(removed))
        except TypeError as error:  # a run whose tags are not a list of strings
            raise DatabaseError(str(error)) from error

    def _change_tags(self, path: Path, added: set[str], removed: set[str]) -> Answer:
        """Removals come before additions, and a system tag never becomes a tag."""
        run = self._store.get(RUNS, path)
        tags, system_tags = set(run["tags"]), set(run["system_tags"])
        if removed & system_tags:
            return 422, f"Cannot remove tags that are existing system tags {removed & system_tags}"
        changed = (tags - removed) | (added - system_tags)
        if changed != tags:
            self._store.set_run_tags(path, list(changed))
        return 200, {"tags": list(changed)}


async def _ping(request: Request) -> Response:
    return PlainTextResponse("pong", headers=VERSION_HEADER)


async def _version(request: Request) -> Response:
    return PlainTextResponse(STAND_IN_VERSION)


async def _json(request: Request) -> Any:
    return json.loads((await request.body()).decode())


def _described(body: Row, default_user: str | None = None) -> Row:
    """What every object has."""
    described = {key: body.get(key) for key in ("tags", "system_tags")}
    return {"user_name": body.get("user_name", default_user), **described}


def _run_path(path: Path) -> Path:
    return {"flow_id": path["flow_id"], "run_number": path["run_number"]}


def _latest_attempts(artifacts: list[Row], attempt: None) -> Iterator[Row]:
    """Of each task, the artifacts of the latest attempt that wrote any."""
    latest: dict[Any, int] = defaultdict(int)
    for artifact in artifacts:
        latest[artifact["task_id"]] = max(latest[artifact["task_id"]], artifact["attempt_id"])
    return (artifact for artifact in artifacts if artifact["attempt_id"] == latest[artifact["task_id"]])


def _one_attempt(artifacts: list[Row], attempt: str) -> Iterator[Row]:
    return (artifact for artifact in artifacts if artifact["attempt_id"] == int(attempt))
