"""The SQLite file behind the service, and its errors in PostgreSQL's words."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .postgres import DatabaseError, server_error

LOCK_LIMIT = 10.0  # seconds to wait for another service that writes to the same file (a rolling deployment)


class Database:
    """One connection to the file, used by one thread: the service's event loop is the one writer."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=LOCK_LIMIT)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")  # enough in WAL mode; no fsync at each commit
        self._connection.execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        """Close the connection, and with the last one fold the write-ahead log into the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction that holds the write lock from its beginning, and is rolled back by any error."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a SELECT, or of a statement with RETURNING."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            raise _missing(error) from error

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; the number of rows that it changed."""
        try:
            return self._connection.execute(statement, values).rowcount
        except sqlite3.OperationalError as error:
            raise _missing(error) from error

    def insert(self, table: str, row: Mapping[str, Any], returning: str) -> sqlite3.Row:
        """Insert a row and return these columns of it, or raise PostgreSQL's error."""
        places = ", ".join("?" * len(row))
        # Names in statements are this package's constants, never a client's words.
        statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places}) RETURNING {returning}"  # noqa: S608
        try:
            return self.query(statement, tuple(row.values()))[0]
        except sqlite3.IntegrityError as error:
            raise self._violation(table, row, error) from error

    def _violation(self, table: str, row: Mapping[str, Any], error: sqlite3.IntegrityError) -> DatabaseError:
        message = str(error)
        if message.startswith("NOT NULL"):
            column = message.rpartition(".")[2]
            return server_error(
                "23502", f'null value in column "{column}" of relation "{table}" violates not-null constraint'
            )
        if message.startswith("UNIQUE"):
            return self._duplicate(table, row)
        return self._missing_parent(table, row)

    def _duplicate(self, table: str, row: Mapping[str, Any]) -> DatabaseError:
        """Which constraint: PostgreSQL checks them in the order of creation; index_list is in the reverse one"""
        unique = [index["name"] for index in self.query(f"PRAGMA index_list({table})") if index["unique"]]
        for name in reversed(unique):
            columns = [column["name"] for column in self.query(f"PRAGMA index_info({name})")]
            values = [row[column] for column in columns]
            where = " AND ".join(f"{column} = ?" for column in columns)
            if self.query(f"SELECT 1 FROM {table} WHERE {where}", values):  # noqa: S608 - constants, as above
                detail = f"Key ({', '.join(columns)})=({', '.join(map(str, values))}) already exists."
                message = f'duplicate key value violates unique constraint "{name}"'
                return server_error("23505", message, detail, status=409)
        raise RuntimeError(f"no unique constraint of {table} is violated")

    def _missing_parent(self, table: str, row: Mapping[str, Any]) -> DatabaseError:
        keys = self.query(f"PRAGMA foreign_key_list({table})")
        columns = [key["from"] for key in sorted(keys, key=lambda key: key["seq"])]
        constraint = f"{table}_{'_'.join(columns)}_fkey"
        values = ", ".join(str(row[column]) for column in columns)
        return server_error(
            "23503",
            f'insert or update on table "{table}" violates foreign key constraint "{constraint}"',
            f'Key ({", ".join(columns)})=({values}) is not present in table "{keys[0]["table"]}".',
            status=404,
        )


def _missing(error: sqlite3.OperationalError) -> Exception:
    """What PostgreSQL says of a column or table that an older schema does not have; else the error itself."""
    message = str(error)
    if found := re.fullmatch(r"no such column: (\S+)", message):
        return server_error("42703", f'column "{found[1]}" does not exist')
    if found := re.fullmatch(r"table (\S+) has no column named (\S+)", message):
        return server_error("42703", f'column "{found[2]}" of relation "{found[1]}" does not exist')
    if found := re.fullmatch(r"no such table: (\S+)", message):
        return server_error("42P01", f'relation "{found[1]}" does not exist')
    return error
