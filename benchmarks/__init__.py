"""Measures this project beside Terraform on emulated accounts: `python -m benchmarks --help`, docs/performance.md."""

from __future__ import annotations

import sys
from pathlib import Path

# The benchmark starts accounts and runs as the tests do.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
