"""PostgreSQL as psycopg2 shows it to the metadata service: what a value becomes in a column, and what errors say.

The real service sends whatever a client posted to psycopg2, and answers with what comes back. What is not obvious here
was measured with psycopg2 2.9 and PostgreSQL 15. Left out of the errors: the excerpt of the statement ("LINE 1: …").
"""

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

VARCHAR_LIMIT = 255  # characters, of every VARCHAR in the service's schema
NEEDS_QUOTES = re.compile(r'[{},"\\ \t\n\v\f\r]')
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
INTEGER_TEXT = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*")


class DatabaseError(Exception):
    """The database, or its driver, refuses.

    `status` is the HTTP status that the service answers with, `body` the object whose JSON text it answers.
    """

    def __init__(self, err_msg: str | dict[str, Any], status: int = 500) -> None:
        super().__init__(err_msg if isinstance(err_msg, str) else err_msg["pgerror"])
        self.status = status
        self.body = {"err_msg": err_msg}


def server_error(code: str, message: str, detail: str = "", status: int = 500) -> DatabaseError:
    """An error that PostgreSQL reports, with its SQLSTATE code."""
    pgerror = f"ERROR:  {message}\n" + (f"DETAIL:  {detail}\n" if detail else "")
    diag = {"message_primary": message, "severity": "ERROR"}
    return DatabaseError({"pgerror": pgerror, "pgcode": code, "diag": diag}, status)


def driver_error() -> DatabaseError:
    """An error of psycopg2 itself (it cannot write a dict into a statement): all that the server would say is null."""
    diag = {"message_primary": None, "severity": None}
    return DatabaseError({"pgerror": None, "pgcode": None, "diag": diag})


def literal(value: str) -> str:
    """A string on its way into a statement."""
    if "\0" in value:
        raise DatabaseError("A string literal cannot contain NUL (0x00) characters.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DatabaseError(str(error)) from error
    return value


def text(value: Any) -> str | None:
    """A JSON value assigned to a TEXT column."""
    if value is None:
        return None
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, list):
        return _array(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _number(value)


def varchar(value: Any) -> str | None:
    """A JSON value assigned to a VARCHAR(255) column: only spaces may be cut off."""
    given = text(value)
    if given is None or len(given) <= VARCHAR_LIMIT:
        return given
    if given[VARCHAR_LIMIT:].strip(" "):
        raise server_error("22001", f"value too long for type character varying({VARCHAR_LIMIT})")
    return given[:VARCHAR_LIMIT]


def _integer_type(name: str, bits: int) -> Callable[[Any], int | None]:
    limit = 1 << (bits - 1)

    def convert(value: Any) -> int | None:
        if value is None:
            return None
        given = literal(str(value))
        if not INTEGER_TEXT.fullmatch(given):
            raise server_error("22P02", f'invalid input syntax for type {name}: "{given}"')
        number = int(given)
        if not -limit <= number < limit:
            raise server_error("22003", f'value "{given}" is out of range for type {name}')
        return number

    return convert


smallint = _integer_type("smallint", 16)
integer = _integer_type("integer", 32)
bigint = _integer_type("bigint", 64)


def jsonb(value: Any) -> str:
    """A JSON value assigned to a JSONB column, as JSON text. None becomes the JSON null, not NULL."""
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()
    except ValueError as error:  # NaN and Infinity, or half a surrogate pair
        raise server_error("22P02", "invalid input syntax for type json", str(error)) from error
    if ESCAPED_NUL.search(written):
        raise server_error("22P05", "unsupported Unicode escape sequence", r"\u0000 cannot be converted to text.")
    return written


def regular_expression(pattern: str) -> re.Pattern[str]:
    """A pattern of PostgreSQL's regexp_match as one of Python's, or ValueError.

    The dialects agree on what the client sends; here `.` matches a line end, and `$` nothing but the end of the text.
    """
    parts = re.findall(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", pattern, re.DOTALL)
    try:
        return re.compile("".join(r"\Z" if part == "$" else part for part in parts), re.DOTALL)
    except re.error as error:
        raise ValueError(f"invalid regular expression: {error}") from error


def _number(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, float):
        raise driver_error()
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return format(Decimal(repr(value)) + 0, "f")  # + 0: NUMERIC knows no negative zero


def _array(values: list[Any]) -> str:
    """psycopg2 writes a list as ARRAY[…], and PostgreSQL assigns the array's text form to the column."""
    if not values:
        return "{}"
    _check_elements(values)
    return f"{{{','.join(_element(value) for value in values)}}}"


def _check_elements(values: list[Any]) -> None:
    kinds = {_kind(value) for value in values} - {"null"}
    if len(kinds) > 1:
        first, second, *_ = sorted(kinds)
        raise server_error("42804", f"ARRAY types {first} and {second} cannot be matched")
    if kinds == {"array"}:
        if not all(values):
            raise server_error("42P18", "cannot determine type of empty array")
        if None in values or len({_shape(value) for value in values}) > 1:
            raise server_error("2202E", "multidimensional arrays must have array expressions with matching dimensions")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        raise driver_error()
    for kind, python_type in (("array", list), ("boolean", bool), ("text", str)):
        if isinstance(value, python_type):
            return kind
    return "numeric"


def _shape(value: Any) -> tuple[int, ...]:
    return (len(value), *_shape(value[0])) if isinstance(value, list) and value else ()


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return _array(value)
    if isinstance(value, bool):
        return "t" if value else "f"
    if not isinstance(value, str):
        return _number(value)
    if value and value.upper() != "NULL" and not NEEDS_QUOTES.search(value):
        return literal(value)
    escaped = literal(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
