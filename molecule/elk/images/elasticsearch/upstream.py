# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Elasticsearch, as the stand-ins of Kibana and Logstash call it: the first node that answers, verified."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from flat import refuse


class Unreachable(Exception):
    """No node answers, or the answer is no good one; the text says why."""


class Upstream:
    """The nodes, and the user that calls them."""

    def __init__(self, hosts: list[str], authorities: list[str], username: str, password: str) -> None:
        self._nodes = [urlsplit(host) for host in hosts]
        if any(node.scheme != "https" for node in self._nodes):
            refuse(f"this stand-in calls Elasticsearch by https only, not {hosts}")
        if not authorities:
            refuse("without the certificate of its authority Elasticsearch would not be trusted")
        self._context = ssl.create_default_context(cafile=authorities[0])
        self.user = (username, password)

    def call(self, method: str, path: str, body: bytes | None = None, user: tuple[str, str] | None = None) -> Any:
        """Return a good answer's content."""
        encoded = base64.b64encode(":".join(user or self.user).encode()).decode()
        kind = "application/x-ndjson" if path.endswith("_bulk") else "application/json"
        headers = {"Authorization": f"Basic {encoded}", "Content-Type": kind}
        why = []
        for node in self._nodes:
            connection = http.client.HTTPSConnection(node.netloc, timeout=10, context=self._context)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                content = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                why.append(f"{node.netloc}: {error}")
                continue
            finally:
                connection.close()
            if answer.status < 300:
                return content
            why.append(f"{node.netloc}: {answer.status} {content['error']['type']}: {content['error']['reason']}")
        raise Unreachable("; ".join(why))
