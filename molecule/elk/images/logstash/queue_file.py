# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logstash's persisted queue: what was taken is on the disk until Elasticsearch has it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


class Queue:
    """Events in a file, one JSON text a line, and how many of them were sent on."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path, self._done = directory / "events", directory / "sent"
        self.ready = threading.Condition()
        self._waiting: list[dict[str, Any]] = []
        sent = int(self._done.read_text() or 0) if self._done.exists() else 0
        for line in self._path.read_bytes().splitlines()[sent:] if self._path.exists() else ():
            try:
                self._waiting.append(json.loads(line))
            except ValueError:
                break  # cut short by a crash, and so never acknowledged
        self._begin()

    def _begin(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text("".join(json.dumps(event) + "\n" for event in self._waiting))
        # Should it end here, events may be sent twice; none is lost.
        self._done.unlink(missing_ok=True)
        temporary.rename(self._path)
        self._file, self._sent = self._path.open("a"), 0

    def put(self, events: list[dict[str, Any]]) -> None:
        """Keep events."""
        with self.ready:
            self._file.write("".join(json.dumps(event) + "\n" for event in events))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._waiting += events
            self.ready.notify()

    def first(self, most: int) -> list[dict[str, Any]]:
        """Return the oldest events, as soon as there are any."""
        with self.ready:
            self.ready.wait_for(lambda: self._waiting)
            return self._waiting[:most]

    def sent(self, count: int) -> None:
        """Forget the oldest events."""
        with self.ready:
            del self._waiting[:count]
            self._sent += count
            self._done.write_text(str(self._sent))
            if not self._waiting:
                self._begin()

    def __len__(self) -> int:
        return len(self._waiting)
