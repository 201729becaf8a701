# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A server of HTTPS, as all three stand-ins are."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Serves HTTPS; the handshake happens in the connection's own thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any, context: Callable[[], ssl.SSLContext]) -> None:
        """Listen.

        :param context: returns the TLS context for a new connection.
        """
        self._context = context
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        request.settimeout(60)
        try:
            secure = self._context().wrap_socket(request, server_side=True)
        except OSError:  # among them: plain HTTP, a client that trusts another authority
            return
        with secure:
            self.RequestHandlerClass(secure, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what went wrong with a connection."""
        print(f"WARN caught exception while handling client traffic: {sys.exc_info()[1]!r}", flush=True)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def content(self) -> bytes:
        """Return the request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, content: Any, **headers: str) -> None:
        """Send an answer: a text as it is, anything else as JSON.

        :param headers: further ones, with ``_`` for ``-``.
        """
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """The real ones log no requests, either."""
