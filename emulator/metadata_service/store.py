"""What the service keeps: flows, runs, steps, tasks, metadata and artifacts.

A *path* is the mapping of a route's parameters (flow_id, run_number, step_name, task_id, artifact_name, attempt_id).
A run or a task is named in it by the integer that the service gave or by the name that the client gave. Answers show
the client's name where there is one in the field of the number, and for a run or a task also in a field of its own.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from . import postgres
from .database import Database
from .postgres import DatabaseError

HEARTBEAT_INTERVAL = 10  # seconds that a client is told to wait; an earlier heartbeat changes nothing

Path = Mapping[str, str]
Row = dict[str, Any]

_RUN = "coalesce(run_id, run_number) AS run_number"
_TASK = "coalesce(task_name, task_id) AS task_id"
_TAGS = ("tags", "system_tags")


@dataclass(frozen=True)
class Table:
    """A table, and what answers show of its rows."""

    name: str
    fields: tuple[str, ...]
    serial: str | None = None  # the column that a sequence fills
    shows_run_tags: bool = False  # a run's tags can change after its parts were written, with their own copy
    order: str = "rowid"

    @property
    def columns(self) -> str:
        """The fields as the columns of a SELECT."""
        return ", ".join(self.fields)


FLOWS = Table("flows_v3", ("flow_id", "user_name", "ts_epoch", *_TAGS))
RUNS = Table(
    "runs_v3",
    ("flow_id", _RUN, "run_id", "user_name", "ts_epoch", *_TAGS, "last_heartbeat_ts"),
    serial="run_number",
)
STEPS = Table(
    "steps_v3",
    ("flow_id", _RUN, "step_name", "user_name", "ts_epoch", *_TAGS),
    shows_run_tags=True,
)
TASKS = Table(
    "tasks_v3",
    ("flow_id", _RUN, "run_id", "step_name", _TASK, "task_name", "user_name", "ts_epoch", *_TAGS, "last_heartbeat_ts"),
    serial="task_id",
    shows_run_tags=True,
)
METADATA = Table(
    "metadata_v3",
    ("id", "flow_id", _RUN, "step_name", _TASK, "field_name", "value", "type", "user_name", "ts_epoch", *_TAGS),
    serial="id",
)
ARTIFACTS = Table(
    "artifact_v3",
    (
        *("flow_id", _RUN, "step_name", _TASK, "name", "location", "ds_type", "sha", "type", "content_type"),
        *("user_name", "attempt_id", "ts_epoch", *_TAGS),
    ),
    shows_run_tags=True,
    order="attempt_id DESC, rowid",
)

_CONVERSIONS = {
    "run_number": postgres.bigint,
    "task_id": postgres.bigint,
    "attempt_id": postgres.smallint,
    "last_heartbeat_ts": postgres.bigint,
    "ts_epoch": postgres.bigint,
    "value": postgres.text,
    "tags": postgres.jsonb,
    "system_tags": postgres.jsonb,
}
"""How a value is assigned to a column; VARCHAR(255) where nothing else is said."""


class NotFound(Exception):
    """There is no such flow, run, step, task or artifact."""


class Store:
    """The six tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractContextManager[None]:
        """Everything in the block becomes visible at once; other services that write to the same database wait."""
        return self._database.transaction()

    def check(self) -> None:
        """Raise if the database does not answer."""
        self._database.query("SELECT 1")

    def select(self, table: Table, path: Path) -> list[Row]:
        """The rows under the path, as answers show them."""
        found = self._rows(table, path, table.columns)
        if not table.shows_run_tags:
            return [_decoded(row) for row in found]
        return self.with_run_tags([_decoded(row) for row in found], path)

    def get(self, table: Table, path: Path) -> Row:
        """The one row at the path, or NotFound."""
        if found := self.select(table, path):
            return found[0]
        raise NotFound

    def keys(self, table: Table, path: Path, *columns: str) -> Row:
        """These columns of the row at the path, as they are stored, or NotFound."""
        if found := self._rows(table, path, ", ".join(columns)):
            return dict(found[0])
        raise NotFound

    def with_run_tags(self, rows: list[Row], path: Path) -> list[Row]:
        """The rows with the tags of their run."""
        if rows:
            run = self.get(RUNS, {"flow_id": path["flow_id"], "run_number": path["run_number"]})
            tags = {"tags": run["tags"], "system_tags": run["system_tags"]}
            rows = [{**row, **tags} for row in rows]
        return rows

    def latest_artifact(self, path: Path) -> Row:
        """The artifact at the path, of the task's latest attempt, or NotFound.

        The latest attempt is that of the artifact `name`, which Metaflow writes in every attempt: an artifact that
        only an earlier attempt wrote is not found.
        """
        names = self.select(ARTIFACTS, {**path, "artifact_name": "name"})
        attempt = names[0]["attempt_id"] if names else 0
        return self.get(ARTIFACTS, {**path, "attempt_id": str(attempt)})

    def tasks_with_metadata(self, path: Path, field_name: str | None, pattern: str | None) -> list[str]:
        """Pathspecs of the step's tasks that have metadata of this field name with a value that matches."""
        where, values = _where(METADATA, path)
        if field_name:
            where, values = f"{where} AND field_name = ?", [*values, postgres.literal(field_name)]
        matches = postgres.regular_expression(pattern or "").search
        run, task = "coalesce(nullif(run_id, ''), run_number)", "coalesce(nullif(task_name, ''), task_id)"
        found = self._database.query(
            f"SELECT flow_id || '/' || {run} || '/' || step_name || '/' || {task} AS pathspec, value "  # noqa: S608 - constants
            f"FROM metadata_v3 WHERE {where} ORDER BY task_id",
            values,
        )
        return list(dict.fromkeys(row["pathspec"] for row in found if matches(row["value"])))

    def insert(self, table: Table, values: Mapping[str, Any]) -> Row:
        """Add a row of JSON values; the row as answers show it. A refused row leaves a gap in the table's sequence."""
        row = {column: _assign(column, value) for column, value in values.items()}
        row["ts_epoch"] = time.time_ns() // 1_000_000
        if table.serial:
            row[table.serial] = self._next_value(table)
        return _decoded(self._database.insert(table.name, row, table.columns))

    def insert_all(self, table: Table, rows: Iterator[Mapping[str, Any]]) -> int:
        """Add the rows that the database takes; how many these were."""
        count = 0
        with self.transaction():
            for row in rows:
                try:
                    self.insert(table, row)
                except DatabaseError:  # the service counts, and tells a client no more
                    continue
                count += 1
        return count

    def heartbeat(self, table: Table, path: Path) -> bool:
        """Note that a run or task lives; False where there is none, or one whose last heartbeat is too recent."""
        where, values = _where(table, path)
        now = int(time.time())
        changed = self._database.execute(
            f"UPDATE {table.name} SET last_heartbeat_ts = ? "  # noqa: S608 - constants
            f"WHERE {where} AND (last_heartbeat_ts IS NULL OR last_heartbeat_ts <= ?)",
            [now, *values, now - HEARTBEAT_INTERVAL],
        )
        return changed == 1

    def set_run_tags(self, path: Path, tags: list[Any]) -> None:
        """Replace the tags of a run."""
        where, values = _where(RUNS, path)
        self._database.execute(
            f"UPDATE runs_v3 SET tags = ? WHERE {where}",  # noqa: S608 - constants
            [postgres.jsonb(tags), *values],
        )

    def _rows(self, table: Table, path: Path, columns: str) -> list[Any]:
        where, values = _where(table, path)
        return self._database.query(
            f"SELECT {columns} FROM {table.name} WHERE {where} ORDER BY {table.order}",  # noqa: S608 - constants
            values,
        )

    def _next_value(self, table: Table) -> int:
        return self._database.query(
            "UPDATE sequences SET last_value = last_value + 1 WHERE name = ? RETURNING last_value", (table.name,)
        )[0]["last_value"]


def _where(table: Table, path: Path) -> tuple[str, list[Any]]:
    """A condition on the columns that the path's parameters name, and its values."""
    conditions = {_column(parameter, value): value for parameter, value in path.items()}
    values = [_comparable(table, column, value) for column, value in conditions.items()]
    return " AND ".join(f"{column} = ?" for column in conditions) or "true", values


def _column(parameter: str, value: str) -> str:
    if parameter == "artifact_name":
        return "name"
    if parameter in ("run_number", "task_id") and not value.isnumeric():
        return {"run_number": "run_id", "task_id": "task_name"}[parameter]
    return parameter


def _comparable(table: Table, column: str, value: str) -> Any:
    if table is RUNS and column == "run_number":  # SERIAL: narrower than in all other tables
        return postgres.integer(value)
    return _CONVERSIONS.get(column, postgres.literal)(value)


def _assign(column: str, value: Any) -> Any:
    return _CONVERSIONS.get(column, postgres.varchar)(value)


def _decoded(row: Mapping[str, Any]) -> Row:
    given = {key: row[key] for key in row.keys() if key not in ("run_id", "task_name") or row[key] is not None}  # noqa: SIM118 - sqlite3.Row iterates over values
    return {**given, "tags": json.loads(row["tags"]), "system_tags": json.loads(row["system_tags"])}
