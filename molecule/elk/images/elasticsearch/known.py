# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lists in known.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

_LISTS = tomllib.loads(Path(__file__).with_name("known.toml").read_text())


def known(name: str) -> set[str]:
    """Return a list of names, by its own."""
    return set(_LISTS[name])
