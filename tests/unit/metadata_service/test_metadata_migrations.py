"""The schema's versions, and the server that shows and applies them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.metadata_service import migrations
from emulator.metadata_service.database import Database
from emulator.metadata_service.migrations import VERSIONS
from emulator.metadata_service.postgres import DatabaseError

Status = Callable[[Database], dict[str, Any]]


@pytest.fixture
def status(migration_server_over: Callable[..., Any]) -> Status:
    """Reads what the migration server says of the schema."""

    def read(database: Database) -> dict[str, Any]:
        answer = migration_server_over(database).get("/db_schema_status")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        return answer.json()

    return read


def test_empty_database_gets_the_newest_schema(database: Database, status: Status) -> None:
    assert status(database) == {
        "is_up_to_date": True,
        "current_version": VERSIONS[-1],
        "migration_in_progress": False,
        "db_schema_versions": list(VERSIONS),
        "unapplied_migrations": [],
    }


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_upgrade_from_every_older_version(
    empty_database: Database, version: str, status: Status, migration_server_over: Callable[..., Any]
) -> None:
    migrations.initialise(empty_database, version)
    pending = list(VERSIONS[VERSIONS.index(version) + 1 :])
    assert status(empty_database) == {
        "is_up_to_date": False,
        "current_version": version,
        "migration_in_progress": True,
        "db_schema_versions": list(VERSIONS),
        "unapplied_migrations": pending,
    }
    answer = migration_server_over(empty_database).patch("/upgrade")
    assert (answer.status, answer.text) == (200, "upgrade success")
    assert status(empty_database)["is_up_to_date"] is True


def test_every_path_to_the_newest_schema_leads_to_the_same(empty_database: Database, tmp_path: Path) -> None:
    def schema(database: Database) -> set[tuple[str, str]]:
        rows = database.query("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
        return {(row["type"], row["name"]) for row in rows}

    for version in VERSIONS:
        migrations.upgrade(empty_database, version)
    at_once = Database(tmp_path / "at_once")
    migrations.initialise(at_once, None)
    assert schema(empty_database) == schema(at_once)
    at_once.close()


def test_failed_upgrade_changes_nothing_and_says_so(
    empty_database: Database, status: Status, migration_server_over: Callable[..., Any]
) -> None:
    migrations.initialise(empty_database, "1")
    empty_database.execute("CREATE INDEX runs_v3_idx_ts_epoch ON runs_v3 (ts_epoch)")  # a later migration's name
    answer = migration_server_over(empty_database).patch("/upgrade")
    assert (answer.status, answer.text) == (500, "upgrade failed")
    assert status(empty_database)["current_version"] == "1"


def test_a_database_with_tables_is_left_alone(empty_database: Database) -> None:
    migrations.initialise(empty_database, "1")
    migrations.initialise(empty_database, None)
    assert migrations.current_version(empty_database) == "1"


def test_data_survives_the_upgrade(empty_database: Database, api_over: Callable[..., Any]) -> None:
    migrations.initialise(empty_database, "20200603104139")
    api = api_over(empty_database)
    api.post("/flows/F", {"tags": ["a"]})
    api.post("/flows/F/run")
    before = [api.get(path).text for path in ("/flows", "/flows/F/runs")]
    migrations.upgrade(empty_database)
    assert [api.get(path).text for path in ("/flows", "/flows/F/runs")] == before


def test_oldest_schema_lacks_the_columns_that_the_api_reads(
    empty_database: Database, api_over: Callable[..., Any], migration_server_over: Callable[..., Any]
) -> None:
    migrations.initialise(empty_database, "1")
    api = api_over(empty_database)
    assert api.post("/flows/F").status == 200
    for answer in (api.get("/flows/F/runs"), api.post("/flows/F/run")):
        assert answer.status == 500
        assert json.loads(answer.json())["err_msg"]["pgcode"] == "42703"
    assert migration_server_over(empty_database).get("/version").text == "v_1_0_1"


def test_before_its_migration_a_task_has_each_metadata_field_once(
    empty_database: Database, api_over: Callable[..., Any]
) -> None:
    migrations.initialise(empty_database, "20200603104139")
    api = api_over(empty_database)
    for path in ("/flows/F", "/flows/F/run", "/flows/F/runs/1/steps/s/step", "/flows/F/runs/1/steps/s/task"):
        assert api.post(path).status == 200
    datum = [{"field_name": "attempt", "value": "0", "type": "attempt"}]
    task = "/flows/F/runs/1/steps/s/tasks/1/metadata"
    assert [api.post(task, datum).json()["metadata_created"] for _ in range(2)] == [1, 0]
    migrations.upgrade(empty_database)
    assert api.post(task, datum).json() == {"metadata_created": 1}


def test_upgrade_is_offered_only_when_enabled(database: Database, migration_server_over: Callable[..., Any]) -> None:
    server = migration_server_over(database, upgrade_enabled=False)
    assert server.patch("/upgrade").status == 404
    assert (server.get("/ping").text, server.get("/version").text) == ("pong", "latest")
    assert server.get("/db_schema_status").status == 200


def test_unreadable_database_is_an_error_of_the_status(
    database: Database, migration_server_over: Callable[..., Any]
) -> None:
    database.execute("DROP TABLE goose_db_version")
    answer = migration_server_over(database).get("/db_schema_status")
    assert answer.status == 500
    assert DatabaseError.__name__ in answer.json()["detail"]
