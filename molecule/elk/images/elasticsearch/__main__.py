# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in of Elasticsearch's image: the same environment, ports, TLS and API, as far as the role elk needs them.

In a container it stands at the paths of the real image. As a process of a development machine it takes STANDIN_HOME in
place of /usr/share/elasticsearch, and writes the port that it got to ``port`` there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import threading
from pathlib import Path

import flat
import settings as node_settings
from cluster import Cluster
from routes import Api
from serving import Handler, Server
from settings import Settings, refuse
from store import Store


class Certificates:
    """The TLS context of a layer, made anew when its files change: Elasticsearch does that without a restart, too."""

    def __init__(self, settings: Settings, layer: str) -> None:
        self._settings, self._layer = settings, layer
        self._seen: tuple[int, ...] = ()
        self.context: ssl.SSLContext = self.current()

    def _file(self, name: str) -> Path:
        return self._settings.file(f"xpack.security.{self._layer}.ssl.{name}")

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        files = [self._file("certificate"), self._file("key")]
        seen = tuple(file.stat().st_mtime_ns for file in files)
        if seen != self._seen:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            try:
                context.load_cert_chain(*files)
                if self._layer == "transport":
                    context.load_verify_locations(self._authority())
                    context.verify_mode = ssl.CERT_REQUIRED
            except ssl.SSLError as error:
                if not self._seen:
                    refuse(f"failed to load SSL configuration [xpack.security.{self._layer}.ssl] - {error}")
                # Half of a pair is new: the one before serves until the other half is there.
                return self.context
            self.context, self._seen = context, seen
        return self.context

    def _authority(self) -> Path:
        name = f"xpack.security.{self._layer}.ssl.certificate_authorities"
        paths = self._settings.items(name)
        if not paths:
            refuse(f"{name} is missing: the other nodes' certificates must be verified")
        self._settings.values[name] = paths[0]
        return self._file("certificate_authorities")

    def client(self) -> ssl.SSLContext:
        """Return the context with which this node calls others."""
        context = ssl.create_default_context(cafile=self._authority())
        context.load_cert_chain(self._file("certificate"), self._file("key"))
        mode = self._settings.get(f"xpack.security.{self._layer}.ssl.verification_mode", "full")
        context.check_hostname = mode == "full"
        return context


def rest(api: Api) -> type[Handler]:
    """Return what serves clients."""

    class Rest(Handler):
        def serve(self) -> None:
            content = self.content()
            kind = self.headers.get("Content-Type", "").split(";")[0]
            if content and kind not in (
                "application/json",
                "application/x-ndjson",
                "application/vnd.elasticsearch+json",
                "application/vnd.elasticsearch+x-ndjson",
            ):
                self.answer(406, {"error": f"Content-Type header [{kind}] is not supported", "status": 406})
                return
            status, answer = api.serve(self.command, self.path, content, self.headers.get("Authorization"))
            headers = {"X_elastic_product": "Elasticsearch"}
            if status == 401:
                headers["WWW_Authenticate"] = 'Basic realm="security", charset="UTF-8"'
            self.answer(status, answer, **headers)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = serve

    return Rest


def transport(api: Api, cluster: Cluster) -> type[Handler]:
    """Return what serves other nodes."""

    class Transport(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.content())
            if self.path == "/forward":
                asked = (body["method"], body["target"], body["content"].encode(), body["authorization"])
                status, content = api.serve(*asked)
                self.answer(200, {"status": status, "content": content})
                return
            self.answer(200, cluster.answer(self.path, body))

    return Transport


def check_version(store: Store, version: str) -> None:
    """Refuse data of a newer version, or of one too old, and keep with which it was written."""
    file = store.directory / "version"
    before = file.read_text() if file.exists() else version
    old, new = (tuple(int(part) for part in text.split(".")) for text in (before, version))
    if new < old:
        refuse(f"cannot downgrade a node from version [{before}] to version [{version}]")
    if new[0] > old[0] + 1:
        refuse(f"cannot upgrade a node from version [{before}] directly to version [{version}]")
    file.write_text(version)


def step_down() -> None:
    """Go on as the image's user, as its entrypoint does."""
    if os.getuid() == 0 and "STANDIN_HOME" not in os.environ:
        os.setgroups([])
        os.setgid(0)
        os.setuid(1000)


def main() -> None:
    step_down()
    settings = node_settings.read(dict(os.environ))
    settings.values.setdefault("node.name", socket.gethostname())
    data = Path(settings.get("path.data") or settings.home / "data")
    if not os.access(data, os.W_OK):
        refuse(f"failed to obtain node locks, tried [{data}]; maybe these locations are not writable")
    store = Store(data)
    check_version(store, settings.version)
    http = Certificates(settings, "http")
    inner = (
        Certificates(settings, "transport") if settings.get("xpack.security.transport.ssl.enabled") == "true" else None
    )
    cluster = Cluster(settings, store, inner.client() if inner else None)
    api = Api(settings, store, cluster)
    host = settings.get("http.host") or settings.get("network.host", node_settings.EVERYWHERE)
    server = Server((host, int(settings.get("http.port", "9200"))), rest(api), http.current)
    if inner and not settings.single:
        address = (settings.transport_host, int(settings.get("transport.port", "9300")))
        threading.Thread(
            target=Server(address, transport(api, cluster), inner.current).serve_forever, daemon=True
        ).start()
    cluster.start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    if "STANDIN_HOME" in os.environ:
        flat.tell(settings.home / "port", str(server.server_address[1]))
    print(f"[{settings['node.name']}] started; this is a stand-in of Elasticsearch {settings.version}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
