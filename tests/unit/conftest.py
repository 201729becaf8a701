"""Makes the collection importable: `ansible_collections` is a namespace package, ours stands beside site-packages'."""

from __future__ import annotations

import sys
from pathlib import Path

COLLECTIONS = str(Path(__file__).parents[2] / "collections")
if COLLECTIONS not in sys.path:
    sys.path.append(COLLECTIONS)
