# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in of Logstash's image: its settings, pipelines from beats, tcp and udp to Elasticsearch, its API's root.

In a container it stands at the paths of the real image. As a process of a development machine it takes STANDIN_HOME in
place of /usr/share/logstash, and writes ``ready`` there.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import re
import signal
import socket
import socketserver
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import flat
from flat import refuse
from known import known
from pipeline import Parser
from queue_file import Queue
from upstream import Unreachable, Upstream

BATCH = 125  # events, as pipeline.batch.size is by itself
FINAL = {200, 201, 400, 404, 409}  # what comes of an event; other answers may be others later
PAUSE = 1.0  # seconds until what Elasticsearch did not take is sent again
JVM_OPTION = re.compile(r"-(Xm[sx]\d+[kmg]?|Xss\d+[kmg]?|X?X:\S+|D\S+)", re.I)
FRAME = struct.Struct(">I")

Take = Callable[[list[dict[str, Any]]], None]


def event(content: Any, **more: Any) -> dict[str, Any]:
    """Return an event as the codecs make it."""
    fields = content if isinstance(content, dict) else {"message": content}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"@timestamp": now, "@version": "1", **more, **fields}


def decoded(line: bytes, codec: str) -> dict[str, Any]:
    """Return the event of a line."""
    text = line.decode(errors="replace").rstrip("\r\n")
    if codec in ("json", "json_lines"):
        try:
            return event(json.loads(text))
        except ValueError:
            return event(text, tags=["_jsonparsefailure"])
    return event(text)


def server_context(options: dict[str, Any]) -> ssl.SSLContext | None:
    """Return an input's TLS context, or None where it has none."""
    if options.get("ssl_enabled", "false") != "true":
        return None
    certificate, key = options.get("ssl_certificate"), options.get("ssl_key")
    if not certificate or not key:
        refuse("Using an SSL certificate needs ssl_certificate and ssl_key, when ssl_enabled is true")
    for path in (certificate, key):
        if not os.access(path, os.R_OK):
            refuse(f"File does not exist or cannot be opened {path}")
    if "BEGIN PRIVATE KEY" not in Path(key).read_text():
        refuse(f"File does not contain valid private key: {key} (it must be of the form PKCS8)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class Tcp(socketserver.ThreadingTCPServer):
    """An input by TCP, perhaps with TLS; ``serve(file, connection)`` handles one connection."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, context: ssl.SSLContext | None, serve: Callable[[Any, Any], None]) -> None:
        self._context, self._serve = context, serve
        super().__init__((host(), port), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        connection = self._context.wrap_socket(request, server_side=True) if self._context else request
        with connection, connection.makefile("rb") as file:
            self._serve(file, connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line that a connection ended."""
        print(f"[WARN] connection from {client_address[0]} ended with an error", flush=True)


def host() -> str:
    """Return the address to listen on: the container's all, the development machine's own."""
    return "127.0.0.1" if "STANDIN_HOME" in os.environ else ""


def tcp_input(options: dict[str, Any], take: Take) -> None:
    """Take lines by TCP."""
    codec = options.get("codec", "line")

    def serve(file: Any, _connection: Any) -> None:
        for line in file:
            if line.strip():
                take([decoded(line, codec)])

    run(Tcp(int(options["port"]), server_context(options), serve).serve_forever)


def udp_input(options: dict[str, Any], take: Take) -> None:
    """Take datagrams."""
    codec = options.get("codec", "plain")
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((host(), int(options["port"])))

    def receive() -> None:
        while True:
            take([decoded(receiver.recv(65535), codec)])

    run(receive)


def beats_input(options: dict[str, Any], take: Take) -> None:
    """Take what Beats send by Lumberjack, version 2: windows of events, each acknowledged when it is kept."""

    def serve(file: Any, connection: Any) -> None:
        while frames(file, connection):
            pass

    def frames(file: Any, connection: Any) -> bool:
        head = file.read(2)
        if len(head) < 2:
            return False
        if head != b"2W":
            raise ValueError("no window")
        (size,) = FRAME.unpack(file.read(4))
        events: list[dict[str, Any]] = []
        sequence = 0
        while len(events) < size:
            sequence = read_frame(file, events) or sequence
        take(events)
        connection.sendall(b"2A" + FRAME.pack(sequence))
        return True

    run(Tcp(int(options["port"]), server_context(options), serve).serve_forever)


def read_frame(file: Any, events: list[dict[str, Any]]) -> int:
    """Read one frame with events; return the last one's number."""
    head = file.read(2)
    if head == b"2C":
        (length,) = FRAME.unpack(file.read(4))
        inner = io.BytesIO(zlib.decompress(file.read(length)))
        sequence = 0
        while inner.tell() < len(inner.getbuffer()):
            sequence = read_frame(inner, events)
        return sequence
    if head != b"2J":
        raise ValueError("no frame with an event")
    sequence, length = FRAME.unpack(file.read(4))[0], FRAME.unpack(file.read(4))[0]
    events.append(event(json.loads(file.read(length))))
    return sequence


def run(what: Callable[[], None]) -> None:
    """Do something beside the rest."""
    threading.Thread(target=what, daemon=True).start()


def output(options: dict[str, Any], queue: Queue) -> None:
    """Send events on, the oldest first, until Elasticsearch has taken them."""
    if options.get("data_stream", "auto") == "auto" and "index" not in options:
        refuse("this stand-in writes into an index: set data_stream => false and index")
    for option in ("manage_template", "ilm_enabled"):
        if options.get(option) != "false":
            refuse(f"{option} must be false: logstash_internal may not manage templates and lifecycles")
    authorities = options.get("ssl_certificate_authorities", [])
    hosts = options["hosts"] if isinstance(options["hosts"], list) else [options["hosts"]]
    upstream = Upstream(hosts, authorities, options["user"], options["password"])
    while True:
        events = queue.first(BATCH)
        count, said = len(events), ""
        while events:
            events, problem = send(upstream, events, options["index"])
            if problem not in ("", said):
                print(problem, flush=True)
            said = problem
            if events:
                time.sleep(PAUSE)
        queue.sent(count)


def send(upstream: Upstream, events: list[dict[str, Any]], index: str) -> tuple[list[dict[str, Any]], str]:
    """Send events; return those to send again, and what there is to say. What is no good event is dropped."""
    try:
        items = upstream.call("POST", "/_bulk", bulk(events, index))["items"]
    except Unreachable as error:
        return events, f"[ERROR] Encountered a retryable error (will retry): {error}"
    results = [item["create"] for item in items]
    again = [one for one, result in zip(events, results, strict=True) if result["status"] not in FINAL]
    errors = [result["error"] for result in results if "error" in result]
    return again, f"[WARN] Could not index {len(errors)} events to Elasticsearch: {errors[0]}" if errors else ""


def bulk(events: list[dict[str, Any]], pattern: str) -> bytes:
    """Return events as the bulk API takes them."""
    today = datetime.datetime.now(datetime.UTC).strftime("%Y.%m.%d")
    index = pattern.replace("%{+YYYY.MM.dd}", today)
    lines = (json.dumps({"create": {"_index": index}}) + "\n" + json.dumps(one) + "\n" for one in events)
    return "".join(lines).encode()


def api(settings: dict[str, str], version: str, queue: Queue) -> None:
    """Serve the API's root."""

    class Root(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = {"host": socket.gethostname(), "version": version, "name": settings.get("node.name", "logstash")}
            body = json.dumps(
                {**status, "status": "green", "pipeline": {"workers": 1}, "events_in_queue": len(queue)}
            ).encode()
            known_path = self.path.split("?")[0] in ("/", "/_node", "/_node/stats")
            self.send_response(200 if known_path else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Requests are not logged."""

    address = settings.get("api.http.host", "127.0.0.1"), int(settings.get("api.http.port", "9600").split("-")[0])
    run(ThreadingHTTPServer(address, Root).serve_forever)


def check(settings: dict[str, str], environment: dict[str, str]) -> None:
    """Refuse settings as the real one does."""
    unknown = sorted(set(settings) - known("settings"))
    if unknown:
        refuse(f"Setting \"{unknown[0]}\" doesn't exist. Please check if you haven't made a typo.")
    squashed = {re.sub(r"[._]", "", name) for name in known("settings")}
    given = [name for name in environment if re.sub(r"[._]", "", name.lower()) in squashed]
    if given:
        refuse(f"env2yaml would write {given} into logstash.yml, which is mounted: put them there")
    for option in environment.get("LS_JAVA_OPTS", "").split():
        if not JVM_OPTION.fullmatch(option):
            refuse(f"Unrecognized option: {option}")


def main() -> None:
    environment = dict(os.environ)
    home = Path(environment.get("STANDIN_HOME", "/usr/share/logstash"))
    if os.getuid() == 0 and "STANDIN_HOME" not in environment:
        refuse("Running Logstash as a superuser is not allowed.")
    settings = flat.settings(home / "config" / "logstash.yml")
    check(settings, environment)
    text = "\n".join(path.read_text() for path in sorted((home / "pipeline").glob("*.conf")))
    sections = Parser(text, environment).sections()
    if not sections["input"] or len(sections["output"]) != 1:
        refuse("this stand-in runs inputs and one output")
    queue = Queue(Path(settings.get("path.data") or home / "data") / "queue" / "main")
    inputs = {"beats": beats_input, "tcp": tcp_input, "udp": udp_input}
    for name, options in sections["input"]:
        inputs[name](options, queue.put)
    api(settings, environment["STANDIN_VERSION"], queue)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if "STANDIN_HOME" in environment:
        (home / "ready").write_text("")
    print(f"Pipeline started; this is a stand-in of Logstash {environment['STANDIN_VERSION']}", flush=True)
    output(sections["output"][0][1], queue)


if __name__ == "__main__":
    main()
