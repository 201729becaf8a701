# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logstash's language of pipelines, without filters and conditions."""

from __future__ import annotations

import re
from typing import Any

from flat import refuse
from known import known

TOKEN = re.compile(r'\s+|#[^\n]*|(=>|[{}\[\],])|"((?:[^"\\]|\\.)*)"|\'([^\']*)\'|([\w.%+-]+)')
INPUTS, OUTPUTS = ("beats", "tcp", "udp"), ("elasticsearch",)


def tokens(text: str) -> list[tuple[str, str]]:
    """Return what a text is made of: pairs of ``mark``, ``text`` or ``word``, and the content."""
    found, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if not match:
            line = text.count("\n", 0, place) + 1
            refuse(f'Failed to execute action: Expected one of [ \\t\\r\\n], "#", "{{" at line {line} of the pipeline')
        place = match.end()
        mark, double, single, word = match.groups()
        if mark:
            found.append(("mark", mark))
        elif double is not None or single is not None:
            found.append(("text", double if double is not None else single))
        elif word:
            found.append(("word", word))
    return found


class Parser:
    """Takes one token after the other."""

    def __init__(self, text: str, environment: dict[str, str]) -> None:
        self._tokens, self._environment = tokens(text), environment

    def _next(self, *expected: str) -> str:
        if not self._tokens:
            refuse(f"Failed to execute action: the pipeline ends where one of {expected} is expected")
        _kind, content = self._tokens.pop(0)
        if expected and content not in expected:
            refuse(f"Failed to execute action: Expected one of {expected} in the pipeline, and not '{content}'")
        return content

    def _ahead(self) -> str:
        return self._tokens[0][1] if self._tokens else ""

    def sections(self) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        """Return the plug-ins of each section, with their options."""
        found: dict[str, list[tuple[str, dict[str, Any]]]] = {"input": [], "output": []}
        while self._tokens:
            section = self._next("input", "filter", "output")
            if section == "filter":
                refuse("this stand-in knows no filters")
            self._next("{")
            while self._ahead() != "}":
                found[section].append(self._plugin(section))
            self._next("}")
        return found

    def _plugin(self, section: str) -> tuple[str, dict[str, Any]]:
        name = self._next(*(INPUTS if section == "input" else OUTPUTS))
        options: dict[str, Any] = {}
        self._next("{")
        while self._ahead() != "}":
            option = self._next()
            if option not in known(name):
                refuse(f"Unknown setting '{option}' for {name}; Something is wrong with your configuration.")
            self._next("=>")
            options[option] = self._value()
        self._next("}")
        return name, options

    def _value(self) -> Any:
        if not self._tokens:
            refuse("Failed to execute action: the pipeline ends where a value is expected")
        kind, content = self._tokens.pop(0)
        if content == "[" and kind == "mark":
            items = []
            while self._ahead() != "]":
                items.append(self._value())
                if self._ahead() == ",":
                    self._next(",")
            self._next("]")
            return items
        if kind == "mark":
            refuse(f"Failed to execute action: Expected a value in the pipeline, and not '{content}'")
        return re.sub(r"\$\{(\w+)(?::([^}]*))?\}", self._variable, content)

    def _variable(self, match: re.Match[str]) -> str:
        name, default = match.groups()
        value = self._environment.get(name, default)
        if value is None:
            refuse(
                f"Cannot evaluate `${{{name}}}`. Replacement variable `{name}` is not defined in a Logstash secret"
                " store or an Environment entry and there is no default value given."
            )
        return value
