# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Starts the stand-ins of the Elastic images (molecule/elk/images) as processes, with certificates of their own."""

from __future__ import annotations

import base64
import datetime
import http.client
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

IMAGES = Path(__file__).parents[1] / "molecule" / "elk" / "images"
START_LIMIT = 30  # seconds; a start takes less than one on an idle machine
VERSION = "8.17.0"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Authority:
    """An authority that signs certificates, and the directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.path = directory / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {directory.name}")])
        certificate = self._builder(self._name, self._key.public_key())
        certificate = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.path.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, public_key: Any) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(1))

    def issue(self, directory: Path, address: str = "127.0.0.1") -> None:
        """Write ``node.crt`` and ``node.key`` for an address into a directory."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")]), key.public_key())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = builder.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        (directory / "node.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (directory / "node.key").write_bytes(key.private_bytes(*form))


class StandIn:
    """One of the three programs, with the certificates ``node`` and ``ca`` in its directory ``config``."""

    program = ""
    #: The file that it writes when it listens.
    written_at_start = "port"

    def __init__(self, directory: Path, authority: Authority, **variables: str) -> None:
        self.directory, self.authority = directory, authority
        config = directory / "config"
        for needed in (config, directory / "data"):
            needed.mkdir(parents=True, exist_ok=True)
        authority.issue(config)
        (config / "ca.crt").write_bytes(authority.path.read_bytes())
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "STANDIN_HOME": str(directory),
            "STANDIN_VERSION": VERSION,
            **variables,
        }
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def refuses(self) -> str:
        """Run it until it ends by itself, which it must do with an error; return what it said."""
        command = [sys.executable, IMAGES / self.program]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        written = self.directory / self.written_at_start
        written.unlink(missing_ok=True)
        command = [sys.executable, IMAGES / self.program]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        limit = time.monotonic() + START_LIMIT
        while not written.exists():
            if self.process.poll() is not None or time.monotonic() > limit:
                self.stop()
                raise RuntimeError(f"{self.program} did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Kill it as a crash does: nothing that it acknowledged may be lost."""
        if self.process:
            self.process.kill()
            self.process.wait()

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{(self.directory / 'port').read_text()}"

    def call(self, method: str, path: str, body: Any = None, user: str = "", password: str = "") -> tuple[int, Any]:
        """Make a request, as a user unless the name is empty; return the status and the content."""
        context = ssl.create_default_context(cafile=self.authority.path)
        connection = http.client.HTTPSConnection(self.url.removeprefix("https://"), timeout=60, context=context)
        headers = {"Content-Type": "application/json", "kbn-xsrf": "true"}
        if user:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
            is_json = answer.getheader("Content-Type") == "application/json"
            return answer.status, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()


class Node(StandIn):
    """A node of Elasticsearch, with the settings of a single one unless others are given."""

    program = "elasticsearch"

    def __init__(self, directory: Path, authority: Authority, password: str, **settings: str) -> None:
        super().__init__(directory, authority)
        self.password = password
        secret = directory / "password"
        secret.write_text(password + "\n")
        secret.chmod(0o600)
        self.environment |= {
            "ELASTIC_PASSWORD_FILE": str(secret),
            "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
            "network.host": "127.0.0.1",
            "http.port": "0",
            "node.name": directory.name,
            "discovery.type": "single-node",
            "xpack.security.http.ssl.enabled": "true",
            "xpack.security.http.ssl.certificate": "node.crt",
            "xpack.security.http.ssl.key": "node.key",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }

    def written(self) -> bytes:
        """Return the journal, which grows with every change."""
        return (self.directory / "data" / "journal").read_bytes()

    def call(
        self, method: str, path: str, body: Any = None, user: str = "elastic", password: str = ""
    ) -> tuple[int, Any]:
        """Make a request, as elastic unless a user is named."""
        return super().call(method, path, body, user, password or self.password)

    def get(self, path: str) -> Any:
        """Return what is there."""
        status, content = self.call("GET", path)
        assert status == 200, content
        return content


def cluster(directory: Path, authority: Authority, password: str, count: int = 3) -> list[Node]:
    """Return the nodes of one cluster, not started."""
    names = [f"node{number}" for number in range(count)]
    ports = {name: free_port() for name in names}
    nodes = []
    for name in names:
        settings = {
            "discovery.type": "multi-node",
            "discovery.seed_hosts": ",".join(f"127.0.0.1:{port}" for other, port in ports.items() if other != name),
            "cluster.initial_master_nodes": ",".join(names),
            "transport.port": str(ports[name]),
            "xpack.security.transport.ssl.enabled": "true",
            "xpack.security.transport.ssl.certificate": "node.crt",
            "xpack.security.transport.ssl.key": "node.key",
            "xpack.security.transport.ssl.certificate_authorities": "ca.crt",
        }
        nodes.append(Node(directory / name, authority, password, **settings))
    return nodes


def until(condition: Callable[[], Any], limit: float = 30) -> Any:
    """Wait for something, and return it."""
    end = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found
