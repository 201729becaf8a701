"""The API answers each request as the real service does: status, body, content type, version header."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.metadata_service import SERVICE_VERSION
from emulator.metadata_service.database import Database

OBJECT = {"user_name": "ann", "tags": ["a", "b"], "system_tags": ["runtime:dev"]}
RUN = "/flows/F/runs/1"
STEP = f"{RUN}/steps/s"
TASK = f"{STEP}/tasks/1"


def artifact(name: str, attempt: int = 0, **more: Any) -> dict[str, Any]:
    """An artifact as the client posts it."""
    described = {"location": f"s3://b/{name}/{attempt}", "ds_type": "s3", "sha": "1f", "type": "t", "content_type": "c"}
    return {"name": name, "attempt_id": attempt, **described, **OBJECT, **more}


@pytest.fixture
def task(api: Any) -> Any:
    """The API with a task: 1, of step s in run 1 of flow F."""
    for path in ("/flows/F", "/flows/F/run", f"{STEP}/step", f"{STEP}/task"):
        assert api.post(path, OBJECT).status == 200
    return api


def error(answer: Any) -> dict[str, Any]:
    """The error of a database, which is JSON text inside of JSON."""
    return json.loads(answer.json())["err_msg"]


# Service


def test_ping(api: Any) -> None:
    answer = api.get("/ping")
    assert (answer.status, answer.text) == (200, "pong")
    assert answer.headers["metadata_service_version"] == SERVICE_VERSION
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_version_says_that_it_is_a_stand_in(api: Any) -> None:
    answer = api.get("/version")
    assert answer.text == f"{SERVICE_VERSION}+local-stand-in"
    assert "metadata_service_version" not in answer.headers


def test_healthcheck(api: Any, database: Database) -> None:
    answer = api.get("/healthcheck")
    assert (answer.status, json.loads(answer.json())) == (200, {"status": "UP"})
    assert answer.headers["content-type"] == "application/json"
    database.close()
    assert api.get("/healthcheck").status == 500


@pytest.mark.parametrize("path", ["/", "/flows/", "/flow", "/flows/F/runs/1/", "/api/flows", "/upgrade"])
def test_unknown_path(api: Any, path: str) -> None:
    answer = api.get(path)
    assert (answer.status, answer.text) == (404, "404: Not Found")


@pytest.mark.parametrize(("method", "path", "allowed"), [("DELETE", "/flows/F", "GET,POST"), ("HEAD", "/ping", "GET")])
def test_unknown_method(api: Any, method: str, path: str, allowed: str) -> None:
    answer = api.send(method, path)
    assert (answer.status, answer.text, answer.headers["allow"]) == (405, "405: Method Not Allowed", allowed)


def test_path_prefix(database: Database, api_over: Callable[..., Any]) -> None:
    api = api_over(database, "/metadata")
    assert api.post("/metadata/flows/F").status == 200
    assert api.get("/metadata/flows/F").json()["flow_id"] == "F"
    assert (api.get("/flows").status, api.get("/metadata").status, api.get("/ping").text) == (
        404,
        404,
        "404: Not Found",
    )


# Flows


def test_flow(api: Any) -> None:
    before = time.time() * 1000
    created = api.post("/flows/F", OBJECT)
    flow = created.json()
    assert before - 1 <= flow.pop("ts_epoch") <= time.time() * 1000
    assert flow == {"flow_id": "F", **OBJECT}
    assert created.headers["metadata_service_version"] == SERVICE_VERSION
    assert created.headers["content-type"] == "text/plain; charset=utf-8"
    assert api.get("/flows/F").text == created.text
    assert api.get("/flows").json() == [created.json()]


def test_second_flow_of_a_name(api: Any) -> None:
    api.post("/flows/F")
    answer = api.post("/flows/F")
    message = 'duplicate key value violates unique constraint "flows_v3_pkey"'
    assert answer.status == 409
    assert error(answer) == {
        "pgerror": f"ERROR:  {message}\nDETAIL:  Key (flow_id)=(F) already exists.\n",
        "pgcode": "23505",
        "diag": {"message_primary": message, "severity": "ERROR"},
    }


@pytest.mark.parametrize("path", ["/flows/F", RUN, STEP, TASK, f"{TASK}/artifacts/x", f"{TASK}/artifacts/x/attempt/0"])
def test_missing_single_thing(api: Any, path: str) -> None:
    answer = api.get(path)
    assert (answer.status, answer.text) == (404, "{}")


@pytest.mark.parametrize(
    "path",
    ["/flows", "/flows/F/runs", f"{RUN}/steps", f"{STEP}/tasks", f"{TASK}/metadata", f"{RUN}/metadata"]
    + [f"{level}/artifacts" for level in (RUN, STEP, TASK, f"{TASK}/attempt/0")]
    + [f"{STEP}/filtered_tasks"],
)
def test_missing_things_are_an_empty_list(api: Any, path: str) -> None:
    answer = api.get(path)
    assert (answer.status, answer.text) == (200, "[]")


def test_tags_that_were_not_given_are_null(api: Any) -> None:
    assert {**api.post("/flows/F").json(), "ts_epoch": 0} == {
        "flow_id": "F",
        "user_name": None,
        "ts_epoch": 0,
        "tags": None,
        "system_tags": None,
    }


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "'list' object has no attribute 'get'"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_broken_body(api: Any, body: bytes, detail: str) -> None:
    answer = api.send("POST", "/flows/F", body)
    assert answer.status == 500
    assert {**answer.json(), "traceback": ""} == {
        "traceback": "",
        "detail": detail,
        "status": 500,
        "title": "Internal Server Error",
        "type": "about:blank",
    }


def test_too_long_name(api: Any) -> None:
    answer = api.post(f"/flows/{'F' * 256}")
    assert (answer.status, error(answer)["pgcode"]) == (500, "22001")


# Runs


def test_run_of_a_missing_flow(api: Any) -> None:
    answer = api.post("/flows/F/run")
    assert answer.status == 404
    assert error(answer)["pgerror"] == (
        'ERROR:  insert or update on table "runs_v3" violates foreign key constraint "runs_v3_flow_id_fkey"\n'
        'DETAIL:  Key (flow_id)=(F) is not present in table "flows_v3".\n'
    )


def test_run_numbers_are_one_sequence_and_refused_runs_leave_gaps(api: Any) -> None:
    api.post("/flows/F")
    api.post("/flows/G")
    numbers = [api.post(f"/flows/{flow}/run").json()["run_number"] for flow in "FGF"]
    api.post("/flows/missing/run")
    api.post("/flows/F/run", {"run_number": "x" * 256})  # refused before a number is drawn
    assert [*numbers, api.post("/flows/G/run").json()["run_number"]] == [1, 2, 3, 5]


def test_run_of_the_client_s_name(api: Any) -> None:
    api.post("/flows/F")
    run = api.post("/flows/F/run", {**OBJECT, "run_number": "sfn-1"})
    assert {**run.json(), "ts_epoch": 0} == {
        "flow_id": "F",
        "run_number": "sfn-1",
        "run_id": "sfn-1",
        **OBJECT,
        "ts_epoch": 0,
        "last_heartbeat_ts": None,
    }
    assert api.get("/flows/F/runs/sfn-1").text == api.get("/flows/F/runs/1").text == run.text
    again = api.post("/flows/F/run", {"run_number": "sfn-1"})
    assert (again.status, error(again)["pgcode"]) == (409, "23505")
    assert '"runs_v3_flow_id_run_id_key"' in error(again)["pgerror"]


@pytest.mark.parametrize(
    ("run_id", "detail"),
    [("7", "provided run_id may not be a numeric"), (7, "'int' object has no attribute 'isnumeric'")],
)
def test_numeric_run_name(api: Any, run_id: Any, detail: str) -> None:
    api.post("/flows/F")
    answer = api.post("/flows/F/run", {"run_number": run_id})
    assert (answer.status, answer.json()["detail"]) == (500, detail)


def test_run_number_out_of_range(api: Any) -> None:
    answer = api.get("/flows/F/runs/1721143286111471")
    assert answer.status == 500
    assert error(answer)["diag"]["message_primary"] == 'value "1721143286111471" is out of range for type integer'


def test_runs_come_in_the_order_of_creation(task: Any) -> None:
    for _ in range(3):
        task.post("/flows/F/run")
    assert [run["run_number"] for run in task.get("/flows/F/runs").json()] == [1, 2, 3, 4]


# Steps and tasks


def test_step(task: Any) -> None:
    step = task.get(STEP)
    # The run of a step is a text even where the service numbered it.
    assert {**step.json(), "ts_epoch": 0} == {
        "flow_id": "F",
        "run_number": "1",
        "step_name": "s",
        **OBJECT,
        "ts_epoch": 0,
    }
    assert task.get(f"{RUN}/steps").json() == [step.json()]
    again = task.post(f"{STEP}/step", OBJECT)
    assert (again.status, error(again)["pgcode"]) == (409, "23505")
    assert '"steps_v3_pkey"' in error(again)["pgerror"]


def test_step_without_user(task: Any) -> None:
    assert task.post(f"{RUN}/steps/t/step").json()["user_name"] == ""


def test_task(task: Any) -> None:
    found = task.get(TASK)
    assert {**found.json(), "ts_epoch": 0} == {
        "flow_id": "F",
        "run_number": 1,
        "step_name": "s",
        "task_id": 1,
        **OBJECT,
        "ts_epoch": 0,
        "last_heartbeat_ts": None,
    }
    assert task.get(f"{STEP}/tasks").json() == [found.json()]


def test_task_of_the_client_s_name(task: Any) -> None:
    named = task.post(f"{STEP}/task", {**OBJECT, "task_id": "batch-1"})
    assert named.json()["task_id"] == "batch-1"
    assert task.get(f"{STEP}/tasks/batch-1").text == task.get(f"{STEP}/tasks/2").text == named.text
    again = task.post(f"{STEP}/task", {"task_id": "batch-1"})
    assert again.status == 409
    assert '"tasks_v3_flow_id_run_number_step_name_task_name_key"' in error(again)["pgerror"]


def test_task_of_a_missing_step(task: Any) -> None:
    answer = task.post(f"{RUN}/steps/missing/task")
    assert answer.status == 404
    assert 'constraint "tasks_v3_flow_id_run_number_step_name_fkey"' in error(answer)["pgerror"]


@pytest.mark.parametrize(
    "path", ["/flows/F/runs/9/steps/s/step", "/flows/F/runs/9/steps/s/task", "/flows/F/runs/x/steps/s/task"]
)
def test_part_of_a_missing_run(task: Any, path: str) -> None:
    answer = task.post(path, OBJECT)
    assert (answer.status, answer.json()) == (404, {})


def test_numeric_task_name_breaks_the_real_service(task: Any) -> None:
    answer = task.post(f"{STEP}/task", {"task_id": "7"})
    assert (answer.status, answer.text) == (500, "500 Internal Server Error\n\nServer got itself in trouble")
    assert "metadata_service_version" not in answer.headers


def test_everything_under_a_run_of_the_client_s_name(task: Any) -> None:
    task.post("/flows/F/run", {**OBJECT, "run_number": "sfn-1"})
    step = "/flows/F/runs/sfn-1/steps/s"
    assert task.post(f"{step}/step", OBJECT).json()["run_number"] == "sfn-1"
    assert task.post(f"{step}/task", {**OBJECT, "task_id": "t-1"}).json()["run_number"] == "sfn-1"
    assert task.post(f"{step}/tasks/t-1/metadata", [{"field_name": "f"}]).json() == {"metadata_created": 1}
    assert task.post(f"{step}/tasks/t-1/artifact", [artifact("name")]).json() == {"artifacts_created": 1}
    lists = [f"{step}/tasks", f"{step}/tasks/t-1/metadata", f"{step}/tasks/t-1/artifacts", "/flows/F/runs/2/artifacts"]
    for path in lists:
        assert [(row["run_number"], row["task_id"]) for row in task.get(path).json()] == [("sfn-1", "t-1")]
    assert task.get(f"{step}/filtered_tasks").json() == ["F/sfn-1/s/t-1"]


# Heartbeats


def test_no_heartbeat_before_the_first(task: Any) -> None:
    tagged = {"system_tags": ["metaflow_version:2.19.39"]}
    assert task.post("/flows/F/run", tagged).json()["last_heartbeat_ts"] is None
    assert task.post(f"{STEP}/task", tagged).json()["last_heartbeat_ts"] is None


@pytest.mark.parametrize("path", [RUN, TASK])
def test_heartbeat(task: Any, path: str) -> None:
    for status in (200, 404):  # the second one comes too early, and the real service finds no row to change
        answer = task.post(f"{path}/heartbeat")
        assert (answer.status, json.loads(answer.json())) == (status, {"wait_time_in_seconds": 10})
    assert time.time() - task.get(path).json()["last_heartbeat_ts"] < 5


def test_heartbeat_of_a_task_is_one_of_its_run(task: Any) -> None:
    task.post(f"{TASK}/heartbeat")
    assert task.get(RUN).json()["last_heartbeat_ts"] == task.get(TASK).json()["last_heartbeat_ts"]


def test_heartbeat_after_the_interval(task: Any, database: Database) -> None:
    long_ago = int(time.time()) - 10
    database.execute("UPDATE runs_v3 SET last_heartbeat_ts = ?", (long_ago,))
    assert task.post(f"{RUN}/heartbeat").status == 200
    assert task.get(RUN).json()["last_heartbeat_ts"] > long_ago


@pytest.mark.parametrize(
    ("path", "status"), [("/flows/F/runs/9", 404), (f"{STEP}/tasks/9", 404), ("/flows/F/runs/99999999999", 500)]
)
def test_heartbeat_of_a_missing_thing(task: Any, path: str, status: int) -> None:
    answer = task.post(f"{path}/heartbeat")
    assert (answer.status, json.loads(answer.json())) == (status, {"wait_time_in_seconds": 10})


# Tags


def test_tag_mutation_shows_in_every_part_of_the_run(task: Any) -> None:
    task.post(f"{TASK}/artifact", [artifact("name")])
    answer = task.patch(f"{RUN}/tag/mutate", {"tags_to_add": ["c", "runtime:dev"], "tags_to_remove": ["a", "missing"]})
    assert (answer.status, sorted(answer.json()["tags"])) == (200, ["b", "c"])
    shown = [task.get(path).json() for path in (RUN, STEP, TASK, f"{TASK}/artifacts/name")]
    shown += [task.get(f"{level}/artifacts").json()[0] for level in (RUN, STEP, TASK)]
    for thing in shown:
        assert (sorted(thing["tags"]), thing["system_tags"]) == (["b", "c"], ["runtime:dev"])


def test_metadata_keeps_its_own_tags(task: Any) -> None:
    task.post(f"{TASK}/metadata", [{"field_name": "f", **OBJECT}])
    task.patch(f"{RUN}/tag/mutate", {"tags_to_remove": ["a"]})
    assert task.get(f"{TASK}/metadata").json()[0]["tags"] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"tags_to_remove": ["runtime:dev"]}, 422, "Cannot remove tags that are existing system tags {'runtime:dev'}"),
        ({"tags_to_add": "c"}, 422, "tags_to_add must be a list"),
        ({"tags_to_remove": {"c": 1}}, 422, "tags_to_remove must be a list"),
        ({"tags_to_add": [5]}, 422, "All tag values must be strings"),
        ({"tags_to_remove": [None]}, 422, "All tag values must be strings"),
    ],
)
def test_wrong_tag_mutation(task: Any, body: Any, status: int, message: str) -> None:
    answer = task.patch(f"{RUN}/tag/mutate", body)
    assert (answer.status, answer.json()) == (status, message)
    assert task.get(RUN).json()["tags"] == ["a", "b"]


def test_tag_mutation_of_a_missing_run(task: Any) -> None:
    answer = task.patch("/flows/F/runs/9/tag/mutate", {"tags_to_add": ["c"]})
    assert (answer.status, answer.text) == (404, "{}")


def test_tag_mutation_of_a_run_without_tags(api: Any) -> None:
    api.post("/flows/F")
    api.post("/flows/F/run")
    answer = api.patch(f"{RUN}/tag/mutate", {"tags_to_add": ["c"]})
    assert (answer.status, error(answer)) == (500, "'NoneType' object is not iterable")


TAGS = st.lists(st.sampled_from("abcdef"), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(TAGS, TAGS, TAGS, TAGS)
def test_tag_mutation_is_set_arithmetic(
    task: Any, tags: list[str], system_tags: list[str], added: list[str], removed: list[str]
) -> None:
    number = task.post("/flows/F/run", {"tags": tags, "system_tags": system_tags}).json()["run_number"]
    answer = task.patch(f"/flows/F/runs/{number}/tag/mutate", {"tags_to_add": added, "tags_to_remove": removed})
    stored = set(task.get(f"/flows/F/runs/{number}").json()["tags"])
    if set(removed) & set(system_tags):
        assert (answer.status, stored) == (422, set(tags))
    else:
        expected = (set(tags) - set(removed)) | (set(added) - set(system_tags))
        assert (answer.status, set(answer.json()["tags"]), stored) == (200, expected, expected)


# Metadata


def test_metadata(task: Any) -> None:
    data = [
        {"field_name": "foreach-stack", "value": ["items=a b", "k=1"], "type": "foreach-stack", **OBJECT},
        {"field_name": "attempt", "value": 0, "type": "attempt"},
        {},
    ]
    created = task.post(f"{TASK}/metadata", data)
    assert (created.status, created.json()) == (200, {"metadata_created": 3})
    assert "metadata_service_version" not in created.headers
    found = task.get(f"{TASK}/metadata")
    assert found.headers["metadata_service_version"] == SERVICE_VERSION
    assert {**found.json()[0], "ts_epoch": 0} == {
        "id": 1,
        "flow_id": "F",
        "run_number": 1,
        "step_name": "s",
        "task_id": 1,
        "field_name": "foreach-stack",
        "value": '{"items=a b",k=1}',
        "type": "foreach-stack",
        **OBJECT,
        "ts_epoch": 0,
    }
    assert [(row["field_name"], row["value"], row["type"]) for row in found.json()[1:]] == [
        ("attempt", "0", "attempt"),
        (" ", " ", " "),
    ]
    assert task.get(f"{RUN}/metadata").text == found.text


def test_metadata_that_the_database_refuses_is_not_counted(task: Any) -> None:
    data = [{"value": None}, {"value": {"a": 1}}, {"field_name": "f" * 256}, {"value": "kept"}, {"type": None}]
    assert task.post(f"{TASK}/metadata", data).json() == {"metadata_created": 1}
    assert [(row["id"], row["value"]) for row in task.get(f"{TASK}/metadata").json()] == [(2, "kept")]


@pytest.mark.parametrize("kind", ["metadata", "artifact"])
@pytest.mark.parametrize(
    "place", ["/flows/G/runs/1/steps/s/tasks/1", "/flows/F/runs/9/steps/s/tasks/1", f"{STEP}/tasks/9"]
)
def test_data_of_a_missing_task(task: Any, place: str, kind: str) -> None:
    answer = task.post(f"{place}/{kind}", [])
    assert (answer.status, answer.json()) == (400, {"message": "need to register run_id and task_id first"})
    assert "metadata_service_version" not in answer.headers


@pytest.mark.parametrize("kind", ["metadata", "artifact"])
@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b"[1]"])
def test_broken_data(task: Any, kind: str, body: bytes) -> None:
    answer = task.send("POST", f"{TASK}/{kind}", body)
    assert (answer.status, answer.text) == (500, "500 Internal Server Error\n\nServer got itself in trouble")


def test_filtered_tasks(task: Any) -> None:
    for value in ("value_a", "other"):
        number = task.post(f"{STEP}/task", OBJECT).json()["task_id"]
        data = [{"field_name": "a", "value": value}, {"field_name": "b", "value": "value_b"}]
        task.post(f"{STEP}/tasks/{number}/metadata", data)
    cases = {
        "": ["F/1/s/2", "F/1/s/3"],  # task 1 has no metadata
        "?metadata_field_name=a": ["F/1/s/2", "F/1/s/3"],
        "?metadata_field_name=a&pattern=value": ["F/1/s/2"],
        "?pattern=value": ["F/1/s/2", "F/1/s/3"],
        "?metadata_field_name=a&pattern=%5E(?:val)%24": [],
        "?metadata_field_name=missing": [],
        "?metadata_field_name=&pattern=": ["F/1/s/2", "F/1/s/3"],
    }
    answers = {query: task.get(f"{STEP}/filtered_tasks{query}") for query in cases}
    assert {query: answer.json() for query, answer in answers.items()} == cases
    broken = task.get(f"{STEP}/filtered_tasks?pattern=(")
    assert (broken.status, broken.json()["title"]) == (500, "Internal Server Error")


# Artifacts


def test_artifact(task: Any) -> None:
    created = task.post(f"{TASK}/artifact", [artifact("name"), artifact("x"), {}])
    assert (created.status, created.json()) == (200, {"artifacts_created": 3})
    assert "metadata_service_version" not in created.headers
    found = task.get(f"{TASK}/artifacts/x")
    assert {**found.json(), "ts_epoch": 0} == {
        "flow_id": "F",
        "run_number": 1,
        "step_name": "s",
        "task_id": 1,
        **artifact("x"),
        "ts_epoch": 0,
    }
    assert found.headers["metadata_service_version"] == SERVICE_VERSION
    assert task.get(f"{TASK}/artifacts/x/attempt/0").text == found.text
    listed = task.get(f"{TASK}/artifacts")
    assert "metadata_service_version" not in listed.headers
    assert [row["name"] for row in listed.json()] == ["name", "x", " "]
    assert task.get(f"{STEP}/artifacts").text == task.get(f"{RUN}/artifacts").text == listed.text


def test_artifact_that_is_there_is_not_counted(task: Any) -> None:
    assert [task.post(f"{TASK}/artifact", [artifact("x")]).json()["artifacts_created"] for _ in range(2)] == [1, 0]
    refused = [artifact("y", 70000), artifact("y", location=None), artifact("y", attempt_id=None)]
    assert task.post(f"{TASK}/artifact", refused).json() == {"artifacts_created": 0}


def test_latest_attempt_hides_what_only_an_earlier_one_wrote(task: Any) -> None:
    task.post(f"{TASK}/artifact", [artifact("name"), artifact("x"), artifact("name", 1)])
    assert task.get(f"{TASK}/artifacts/x").status == 404
    assert task.get(f"{TASK}/artifacts/x/attempt/0").status == 200
    assert task.get(f"{TASK}/artifacts/name").json()["attempt_id"] == 1


WRITTEN = st.sets(st.tuples(st.sampled_from(["name", "x", "y"]), st.integers(0, 3)), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(WRITTEN, WRITTEN)
def test_attempts(task: Any, first: set[tuple[str, int]], second: set[tuple[str, int]]) -> None:
    run = f"/flows/F/runs/{task.post('/flows/F/run', OBJECT).json()['run_number']}"
    task.post(f"{run}/steps/s/step", OBJECT)
    latest: set[tuple[int, str, int]] = set()
    for written in (first, second):
        number = task.post(f"{run}/steps/s/task", OBJECT).json()["task_id"]
        path = f"{run}/steps/s/tasks/{number}"
        task.post(f"{path}/artifact", [artifact(name, attempt) for name, attempt in written])
        last = max((attempt for _, attempt in written), default=0)
        latest |= {(number, name, attempt) for name, attempt in written if attempt == last}
        for attempt in range(4):
            listed = task.get(f"{path}/attempt/{attempt}/artifacts").json()
            assert {(row["name"], row["attempt_id"]) for row in listed} == {key for key in written if key[1] == attempt}
        named = max((attempt for name, attempt in written if name == "name"), default=0)
        assert (task.get(f"{path}/artifacts/x").status == 200) is (("x", named) in written)
    for level in (run, f"{run}/steps/s"):
        listed = task.get(f"{level}/artifacts").json()
        assert {(row["task_id"], row["name"], row["attempt_id"]) for row in listed} == latest


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{TASK}/attempt/x/artifacts", 500),
        (f"{TASK}/artifacts/name/attempt/x", 500),
        (f"{TASK}/attempt/9/artifacts", 200),
    ],
)
def test_wrong_attempt(task: Any, path: str, status: int) -> None:
    task.post(f"{TASK}/artifact", [artifact("name")])
    assert task.get(path).status == status


def test_error_of_an_artifact_list_is_a_pair(task: Any) -> None:
    answer = task.get(f"/flows/F/runs/{'9' * 20}/artifacts")
    status, body = answer.json()
    assert (answer.status, status, body["title"]) == (500, 500, "Internal Server Error")
    assert json.loads(body["detail"])["err_msg"]["pgcode"] == "22003"


# Size


def test_no_read_scans_a_table(task: Any, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else reading the thousands of tasks of a foreach would be quadratic. All flows are the one list without a key."""
    task.post("/flows/F/run", {**OBJECT, "run_number": "sfn-1"})
    task.post("/flows/F/runs/sfn-1/steps/s/step", OBJECT)
    for run, name in (("1", "t-1"), ("sfn-1", "t-2")):
        task.post(f"/flows/F/runs/{run}/steps/s/task", {**OBJECT, "task_id": name})
    paths = ["/flows/F", "/flows/F/runs"]
    for run, tasks in (("1", ["1", "t-1"]), ("sfn-1", ["3", "t-2"])):
        level = f"/flows/F/runs/{run}"
        paths += [level, *(f"{level}/{part}" for part in ("steps", "artifacts", "metadata"))]
        level = f"{level}/steps/s"
        paths += [level, *(f"{level}/{part}" for part in ("tasks", "artifacts", "filtered_tasks"))]
        for number in tasks:
            parts = ("metadata", "artifacts", "artifacts/x", "artifacts/x/attempt/0", "attempt/0/artifacts")
            paths += [f"{level}/tasks/{number}", *(f"{level}/tasks/{number}/{part}" for part in parts)]
    statements: list[tuple[str, Any]] = []
    query = database.query
    monkeypatch.setattr(database, "query", lambda *call: statements.append(call) or query(*call))
    for path in paths:
        assert task.get(path).status in (200, 404)
    plans = [
        row["detail"] for statement, *values in statements for row in query(f"EXPLAIN QUERY PLAN {statement}", *values)
    ]
    assert len(statements) >= len(paths)
    assert [plan for plan in plans if re.match("SCAN", plan)] == []
