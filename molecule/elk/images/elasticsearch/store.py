# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node keeps: one map, changed by operations, each of which is on the disk before it counts.

An operation is ``[path, value]``: the value at a path of keys, or None to take it away. They stand in a journal, one
JSON text a line; a line that a crash has cut short was never acknowledged, and is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

Operation = tuple[list[str], Any]


class Store:
    """The map and its journal. ``term`` and ``sequence`` say how new it is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = threading.RLock()
        self._guard = self._take(directory / "node.lock")
        self.term, self.voted_for, self.sequence, self.written_in = 0, "", 0, 0
        self.data: dict[str, Any] = {}
        self._read()
        self.install(self.document())

    @staticmethod
    def _take(path: Path) -> Any:
        try:
            guard = path.open("w")
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            sys.exit(
                f"failed to obtain node locks, tried [{path.parent}]; maybe these locations are not writable or"
                f" multiple nodes were started on the same data path? ({error.strerror})"
            )
        return guard

    def _read(self) -> None:
        whole = self.directory / "state.json"
        if whole.exists():
            self._take_over(json.loads(whole.read_text()))
        journal = self.directory / "journal"
        for line in journal.read_bytes().splitlines() if journal.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                return
            self._apply(entry)

    def _take_over(self, document: dict[str, Any]) -> None:
        self.term, self.voted_for = document["term"], document["voted_for"]
        self.sequence, self.written_in, self.data = document["sequence"], document["written_in"], document["data"]

    def document(self) -> dict[str, Any]:
        """Return all there is, as another node installs it."""
        with self.lock:
            names = ("term", "voted_for", "sequence", "written_in", "data")
            return {name: getattr(self, name) for name in names}

    def install(self, document: dict[str, Any]) -> None:
        """Become another node's state, or begin a new journal on one's own."""
        with self.lock:
            self._take_over(json.loads(json.dumps(document)))
            temporary = self.directory / "state.new"
            with temporary.open("w") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.directory / "state.json")
            self._journal = (self.directory / "journal").open("w")

    def _apply(self, entry: dict[str, Any]) -> None:
        if "vote" in entry:
            self.term, self.voted_for = entry["term"], entry["vote"]
            return
        self.sequence, self.written_in = entry["sequence"], entry["term"]
        for path, value in entry["operations"]:
            change(self.data, path, value)

    def _write(self, entry: dict[str, Any]) -> None:
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._apply(entry)

    def append(self, entry: dict[str, Any]) -> None:
        """Keep an entry that another node has numbered."""
        with self.lock:
            self._write(entry)

    def entry(self, operations: list[Operation]) -> dict[str, Any]:
        """Return the next entry, which nobody has yet."""
        return {"sequence": self.sequence + 1, "term": self.term, "operations": operations}

    def vote(self, term: int, candidate: str) -> None:
        """Keep for whom this node has voted."""
        with self.lock:
            self._write({"vote": candidate, "term": term})

    def get(self, *path: str, default: Any = None) -> Any:
        """Return the value at a path. It belongs to the store: nobody changes it in place."""
        found: Any = self.data
        for key in path:
            if not isinstance(found, dict) or key not in found:
                return default
            found = found[key]
        return found


def change(data: dict[str, Any], path: list[str], value: Any) -> None:
    """Do one operation."""
    *above, last = path
    for key in above:
        data = data.setdefault(key, {})
    if value is None:
        data.pop(last, None)
    else:
        data[last] = value
