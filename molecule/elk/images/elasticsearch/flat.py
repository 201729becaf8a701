# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files of settings, as all three stand-ins read them: YAML whose lines are ``name: value``, the value perhaps JSON."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

LINE = re.compile(r"([A-Za-z0-9_.]+):(?:\s+(.*))?")


def refuse(message: str, code: int = 1) -> NoReturn:
    """End with a message, as the real programs do."""
    print(f"ERROR: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def settings(path: Path) -> dict[str, str]:
    """Return the settings of a file as texts; none where there is no file."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        text = re.sub(r"(^|\s)#.*", "", line).rstrip()
        match = LINE.fullmatch(text)
        if text and not match:
            refuse(f"Failed to parse {path}: '{line}' (this stand-in reads lines of 'name: value' only)")
        if match:
            found[match[1]] = unquoted(match[2] or "")
    return found


def unquoted(text: str) -> str:
    """Return a text without its quotes."""
    if text.startswith('"'):
        return str(json.loads(text))
    return text.strip("'")


def listed(text: str) -> list[Any]:
    """Return a value that is a list, or is one of one."""
    return json.loads(text) if text.startswith("[") else [text]


def tell(path: Path, text: str) -> None:
    """Write a file that somebody waits for: it is whole as soon as it is there."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.rename(path)
