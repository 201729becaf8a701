# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Starts the stand-in of Elasticsearch (molecule/elk/images) as a process, with certificates of an own authority."""

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
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAM = Path(__file__).parents[1] / "molecule" / "elk" / "images" / "elasticsearch"
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


class Node:
    """A node, with the settings of a single one unless others are given."""

    def __init__(self, directory: Path, authority: Authority, password: str, **variables: str) -> None:
        self.directory, self.authority, self.password = directory, authority, password
        config = directory / "config"
        for needed in (config, directory / "data"):
            needed.mkdir(parents=True, exist_ok=True)
        authority.issue(config)
        (config / "ca.crt").write_bytes(authority.path.read_bytes())
        secret = directory / "password"
        secret.write_text(password + "\n")
        secret.chmod(0o600)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "STANDIN_HOME": str(directory),
            "STANDIN_VERSION": VERSION,
            "ELASTIC_PASSWORD_FILE": str(secret),
            "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
            "network.host": "127.0.0.1",
            "http.port": "0",
            "node.name": directory.name,
            "discovery.type": "single-node",
            "xpack.security.http.ssl.enabled": "true",
            "xpack.security.http.ssl.certificate": "node.crt",
            "xpack.security.http.ssl.key": "node.key",
            **{name.replace("__", "."): value for name, value in variables.items()},
        }
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def run(self) -> str:
        """Run it until it ends by itself, which it must do with an error; return what it said."""
        done = subprocess.run(
            [sys.executable, PROGRAM], env=self.environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def start(self) -> Node:
        """Start it, and wait until it listens."""
        written = self.directory / "port"
        written.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, PROGRAM], env=self.environment, stdout=log, stderr=log)
        limit = time.monotonic() + START_LIMIT
        while not (written.exists() and written.read_text()):
            if self.process.poll() is not None or time.monotonic() > limit:
                self.stop()
                raise RuntimeError(f"the node did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        self.url = f"https://127.0.0.1:{written.read_text()}"
        return self

    def stop(self) -> None:
        """Kill it as a crash does: nothing that it acknowledged may be lost."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def written(self) -> bytes:
        """Return the journal, which grows with every change."""
        return (self.directory / "data" / "journal").read_bytes()

    def call(self, method: str, path: str, body: Any = None, user: str = "elastic", password: str | None = None) -> Any:
        """Make a request as a user; return the status and the content."""
        password = self.password if password is None else password
        context = ssl.create_default_context(cafile=self.authority.path)
        connection = http.client.HTTPSConnection(self.url.removeprefix("https://"), timeout=60, context=context)
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {encoded}", "Content-Type": "application/json"}
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return what is there."""
        status, content = self.call("GET", path)
        assert status == 200, content
        return content
