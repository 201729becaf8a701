# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of Elasticsearch's modules share: one node, and a module that is held to what it may write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elastic_node import Node

ELASTIC = "canary-elastic-1"


class Steps:
    """A module, run on a node as elastic; no password may be in what it returns."""

    def __init__(self, run_module: Callable[..., dict[str, Any]], node: Node, directory: Path, name: str) -> None:
        self._run, self.node, self._directory, self._name = run_module, node, directory, f"mlops.metaflow.{name}"

    def secret(self, name: str, password: str) -> str:
        """Write a password into a file, and return its path."""
        path = self._directory / name
        path.write_text(f"{password}\n")
        return str(path)

    def options(self, **given: Any) -> dict[str, Any]:
        """Return all options; None takes one out."""
        options = {
            "url": self.node.url,
            "ca_path": str(self.node.authority.path),
            "password_file": self.secret("elastic", self.node.password),
            **given,
        }
        return {name: value for name, value in options.items() if value is not None}

    def run(self, check: bool = False, changes: bool = True, **given: Any) -> dict[str, Any]:
        """Run it: it must say whether it changes anything, and write accordingly."""
        before = self.node.written()
        result = self._run(self._name, self.options(**given), check=check)
        assert "canary" not in json.dumps(result)
        assert result["changed"] == changes, result
        assert (self.node.written() != before) == (changes and not check)
        return result

    def change(self, **given: Any) -> dict[str, Any]:
        """Change and again, each in check mode and for real; check mode must predict what happens."""
        predicted, real = self.run(check=True, **given), self.run(**given)
        assert predicted["diff"] == real["diff"]
        assert real["diff"]["before"] != real["diff"]["after"]
        self.run(check=True, changes=False, **given)
        again = self.run(changes=False, **given)
        assert again["diff"]["before"] == again["diff"]["after"]
        return real

    def refused(self, **given: Any) -> str:
        """Run it in check mode and for real; both must refuse without a change, in the same words: return them."""
        before = self.node.written()
        said = [self._run(self._name, self.options(**given), check=check, fails=True) for check in (True, False)]
        assert self.node.written() == before
        assert said[0]["msg"] == said[1]["msg"]
        assert "canary" not in json.dumps(said)
        return said[0]["msg"]
