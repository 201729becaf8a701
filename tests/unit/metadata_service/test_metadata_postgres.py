"""What PostgreSQL and psycopg2 make of values. The expectations were measured with PostgreSQL 15 and psycopg2 2.9."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.metadata_service import postgres
from emulator.metadata_service.postgres import DatabaseError

TEXTS = [
    ("x", "x"),
    ("", ""),
    (5, "5"),
    (-5, "-5"),
    (2**70, "1180591620717411303424"),
    (1.5, "1.5"),
    (1e20, "100000000000000000000"),
    (1e-7, "0.0000001"),
    (-0.0, "0.0"),
    (float("nan"), "NaN"),
    (float("-inf"), "-Infinity"),
    (True, "true"),
    (None, None),
    ([], "{}"),
    (
        ["a", "b c", "", None, "NULL", 'q"\\', "a,b", "{}", "é\n"],
        '{a,"b c","",NULL,"NULL","q\\"\\\\","a,b","{}","é\n"}',
    ),
    (["\u00a0"], "{\u00a0}"),
    (["foreach=0"], "{foreach=0}"),
    ([1, 2], "{1,2}"),
    ([1.5, 2], "{1.5,2}"),
    ([True, False, None], "{t,f,NULL}"),
    ([None, None], "{NULL,NULL}"),
    ([["a"], ["b"]], "{{a},{b}}"),
]

REFUSED = [
    ({"a": 1}, None),
    ([{"a": 1}], None),
    ([1, "a"], "42804"),
    ([True, 1], "42804"),
    (["a", ["b"]], "42804"),
    ([["a"], ["b", "c"]], "2202E"),
    ([[]], "42P18"),
]


@pytest.mark.parametrize(("value", "stored"), TEXTS)
def test_text(value: Any, stored: str | None) -> None:
    assert postgres.text(value) == stored


@pytest.mark.parametrize(("value", "code"), REFUSED)
def test_text_refuses(value: Any, code: str | None) -> None:
    with pytest.raises(DatabaseError) as refusal:
        postgres.text(value)
    assert refusal.value.body["err_msg"]["pgcode"] == code


def test_nul_is_refused_by_the_driver() -> None:
    with pytest.raises(DatabaseError) as refusal:
        postgres.text(["a\0"])
    assert refusal.value.body == {"err_msg": "A string literal cannot contain NUL (0x00) characters."}


PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.none() | PLAIN_TEXT, min_size=1))
def test_array_text_can_be_parsed_back(values: list[str | None]) -> None:
    parsed = re.findall(r'"((?:\\.|[^"\\])*)"|([^,{}"]+)', (postgres.text(values) or "")[1:-1], re.DOTALL)
    elements = [bare if bare else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) for quoted, bare in parsed]
    assert elements == ["NULL" if value is None else value for value in values]


@pytest.mark.parametrize(
    ("given_text", "stored"), [("a" * 255, "a" * 255), ("a" * 255 + "   ", "a" * 255), ("é" * 255, "é" * 255)]
)
def test_varchar_keeps_255_characters(given_text: str, stored: str) -> None:
    assert postgres.varchar(given_text) == stored


def test_varchar_refuses_more() -> None:
    with pytest.raises(DatabaseError) as refusal:
        postgres.varchar("a" * 256)
    assert refusal.value.body["err_msg"] == {
        "pgerror": "ERROR:  value too long for type character varying(255)\n",
        "pgcode": "22001",
        "diag": {"message_primary": "value too long for type character varying(255)", "severity": "ERROR"},
    }


@given(st.integers(-(2**15), 2**15 - 1))
def test_smallint_takes_what_fits(number: int) -> None:
    assert postgres.smallint(f" {number} ") == number


@pytest.mark.parametrize(
    ("convert", "value", "message"),
    [
        (postgres.smallint, "70000", 'value "70000" is out of range for type smallint'),
        (postgres.integer, "1721143286111471", 'value "1721143286111471" is out of range for type integer'),
        (postgres.bigint, "9" * 20, f'value "{"9" * 20}" is out of range for type bigint'),
        (postgres.integer, "²", 'invalid input syntax for type integer: "²"'),
        (postgres.smallint, "1.0", 'invalid input syntax for type smallint: "1.0"'),
        (postgres.smallint, "None", 'invalid input syntax for type smallint: "None"'),
    ],
)
def test_integers_refuse(convert: Any, value: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=re.escape(message)):
        convert(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | PLAIN_TEXT, st.lists))
def test_jsonb_gives_back_what_it_took(value: Any) -> None:
    assert json.loads(postgres.jsonb(value)) == value


@pytest.mark.parametrize(
    ("value", "code"), [(["\0"], "22P05"), (["\\\0"], "22P05"), (["\ud800"], "22P02"), ([float("nan")], "22P02")]
)
def test_jsonb_refuses(value: Any, code: str) -> None:
    with pytest.raises(DatabaseError) as refusal:
        postgres.jsonb(value)
    assert refusal.value.body["err_msg"]["pgcode"] == code


def test_jsonb_takes_a_backslash_before_u0000() -> None:
    assert json.loads(postgres.jsonb(["\\u0000"])) == ["\\u0000"]


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("^(?:a.*)$", "a\nb", True),
        ("a$", "a\n", False),
        ("a|b$", "b\n", False),
        (r"\$", "a$", True),
        ("[$]", "a$", True),
        (r"[\]$]x", "$x", True),
        ("[^]]", "]", False),
        ("b", "abc", True),
        ("", "", True),
    ],
)
def test_regular_expression(pattern: str, value: str, matches: bool) -> None:
    assert bool(postgres.regular_expression(pattern).search(value)) is matches


def test_bad_regular_expression_is_named() -> None:
    with pytest.raises(ValueError, match="invalid regular expression"):
        postgres.regular_expression("(")
