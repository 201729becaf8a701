#!/usr/bin/env python3
"""Write docs/roles/<role>.md from each role's argument specification, its defaults and docs/roles.yml.

python docs/write_roles.py
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ROLES = ROOT / "roles"
NOTES = ROOT / "docs" / "roles.yml"
PAGES = ROOT / "docs" / "roles"

HEAD = "<!-- Written by docs/write_roles.py; change the role's meta/argument_specs.yml or docs/roles.yml instead. -->"

#: Ansible's markup in descriptions: V(value), O(option), C(code) and the like.
MARKUP = re.compile(r"\b[VOCEP]\(([^)]*)\)")

TAGS = {
    "stack": "It has no tag: its names, its account check and its lock are part of every run.",
    "emulator": "It has no tag: the account is there in every run of an inventory that has the host `emulator`.",
    "host": "It has no tag: it is the first half of what a machine's group converges, e.g. `--tags evidently`.",
    "elk": "`--tags elk` converges its machines alone, `--skip-tags elk` leaves them out.",
    "flow_client": "It has no tag: it is the last part of what a machine's group converges, e.g. `--tags evidently`.",
    "evidently": "`--tags evidently` converges its machines alone, `--skip-tags evidently` leaves them out.",
}
TAG = "`--tags {role}` converges this component alone, `--skip-tags {role}` leaves it out."
UNDO = "`playbooks/destroy.yml` does this in its wave; with `--tags {role}` it removes this component alone."


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text()) or {}


def specification(role: str) -> dict:
    """Return the first entry point of a role's argument specification."""
    return next(iter(load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"].values()))


def sentences(description: str | list[str]) -> list[str]:
    """Return a description as a list of paragraphs in Markdown."""
    paragraphs = description if isinstance(description, list) else [description]
    return [MARKUP.sub(r"`\1`", paragraph) for paragraph in paragraphs]


def code(value: object) -> str:
    """Return a value as YAML would have it on one line, as Markdown code."""
    shown = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{' '.join(shown.split())}`"


def cell(content: str) -> str:
    return content.replace("|", "\\|")


def type_of(option: dict) -> str:
    kind = option.get("type", "str")
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def default_of(name: str, option: dict, defaults: dict) -> str:
    """Return the default; the roles' defaults know those that the specification leaves out (computed names)."""
    if option.get("required"):
        return "**required**"
    if "default" in option:
        return code(option["default"])
    return code(defaults[name]) if name in defaults else "—"


def rows(options: dict, defaults: dict, prefix: str = "") -> Iterator[str]:
    """Yield a table row for each option, and after it those of its own options."""
    for name, option in options.items():
        columns = (
            f"`{prefix}{name}`",
            type_of(option),
            default_of(name, option, defaults),
            ", ".join(map(code, option.get("choices", []))) or "—",
            " ".join(sentences(option["description"])),
        )
        yield f"| {' | '.join(map(cell, columns))} |"
        yield from rows(option.get("options", {}), {}, f"{prefix}{name}[].")


def bullets(items: list[str]) -> str:
    return "\n".join(textwrap.fill(item, 120, initial_indent="- ", subsequent_indent="  ") for item in items)


def page(role: str, notes: dict) -> str:
    """Return the page of a role."""
    spec = specification(role)
    table = rows(spec["options"], load(ROLES / role / "defaults" / "main.yml"))
    paragraphs = [
        HEAD,
        f"# {role}",
        f"{spec['short_description']}. `ansible-doc -t role mlops.metaflow.{role}` shows the same.",
        *(textwrap.fill(paragraph, 120) for paragraph in sentences(spec["description"])),
        "## Variables",
        "\n".join(["| variable | type | default | choices | meaning |", "| --- | --- | --- | --- | --- |", *table]),
        "## Tags",
        TAGS.get(role, TAG.format(role=role)),
        "## What it needs",
        bullets(notes["needs"]),
        "## How to undo it",
        *([] if role in TAGS else [UNDO.format(role=role)]),
        bullets(notes["undo"]),
    ]
    return "\n\n".join(paragraphs) + "\n"


def index(roles: list[str]) -> str:
    """Return the list of all roles."""
    lines = [f"| [{role}]({role}.md) | {specification(role)['short_description']} |" for role in roles]
    return "\n".join([HEAD, "", "# Roles", "", "| role | what it is |", "| --- | --- |", *lines]) + "\n"


def pages() -> dict[str, str]:
    """Return file name -> page, for all roles."""
    notes = load(NOTES)
    roles = sorted(role.name for role in ROLES.iterdir())
    return {"README.md": index(roles)} | {f"{role}.md": page(role, notes[role]) for role in roles}


def main() -> None:
    PAGES.mkdir(exist_ok=True)
    for name, content in pages().items():
        (PAGES / name).write_text(content)


if __name__ == "__main__":
    main()
