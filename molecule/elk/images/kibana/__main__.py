# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stand-in of Kibana's image: its settings, its HTTPS and its status, and signing in. It shows no data.

In a container it stands at the paths of the real image. As a process of a development machine it takes STANDIN_HOME in
place of /usr/share/kibana, and writes the port that it got to ``port`` there.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flat
from flat import refuse
from known import known
from serving import Handler, Server
from upstream import Unreachable, Upstream

# The codes with which the real one ends.
UNKNOWN_SETTING, BAD_CONFIGURATION = 64, 78
SHORTEST_KEY = 32
CHECK = 1.0  # seconds between two looks at Elasticsearch


class Kibana:
    """Kibana's settings, and how it stands with Elasticsearch."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.home = Path(environment.get("STANDIN_HOME", "/usr/share/kibana"))
        self.version = environment["STANDIN_VERSION"]
        self.settings = {
            name: filled(value, environment)
            for name, value in flat.settings(self.home / "config" / "kibana.yml").items()
        }
        check(self.settings, environment)
        authorities = flat.listed(self.settings.get("elasticsearch.ssl.certificateAuthorities", "[]"))
        self.elasticsearch = Upstream(
            flat.listed(self.settings["elasticsearch.hosts"]),
            [str(self._path(one)) for one in authorities],
            self.settings["elasticsearch.username"],
            self.settings["elasticsearch.password"],
        )
        self.problem = "Kibana has not looked for Elasticsearch yet"
        self.sessions: dict[str, str] = {}
        self._load()

    def _path(self, name: str) -> Path:
        return self.home / "config" / name

    def _load(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        files = [self._path(self.settings[f"server.ssl.{name}"]) for name in ("certificate", "key")]
        try:
            context.load_cert_chain(*files)
        except OSError as error:
            refuse(f"[config validation of [server].ssl]: {files}: {error}", BAD_CONFIGURATION)
        self._context = context

    def reload(self, *_signal: Any) -> None:
        """Take another certificate, as the real one does at this signal."""
        print("Reloading Kibana configuration (reason: SIGHUP).", flush=True)
        self._load()

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for a new connection."""
        return self._context

    def watch(self) -> None:
        """Find out, again and again, whether Elasticsearch is there and of a version that goes with this one."""
        while True:
            problem = self._look()
            if problem != self.problem:
                print(problem or "Kibana is now available", flush=True)
            self.problem = problem
            time.sleep(CHECK)

    def _look(self) -> str:
        try:
            number = self.elasticsearch.call("GET", "/")["version"]["number"]
        except Unreachable as error:
            return f"Unable to retrieve version information from Elasticsearch nodes. {error}"
        theirs, ours = ([int(part) for part in text.split(".")[:2]] for text in (number, self.version))
        if theirs[0] != ours[0] or theirs < ours:
            return (
                f"This version of Kibana (v{self.version}) is incompatible with the following Elasticsearch nodes in"
                f" your cluster: v{number}"
            )
        return ""

    def sign_in(self, name: str, password: str) -> bool:
        """Tell whether Elasticsearch takes a user's password."""
        try:
            self.elasticsearch.call("GET", "/_security/_authenticate", user=(name, password))
        except Unreachable:
            return False
        return True


def filled(value: str, environment: dict[str, str]) -> str:
    """Return a setting with the variables that it names."""

    def variable(match: re.Match[str]) -> str:
        if match[1] not in environment:
            refuse(f"Unknown environment variable referenced in config : {match[1]}")
        return environment[match[1]]

    return re.sub(r"\$\{(\w+)\}", variable, value)


def check(settings: dict[str, str], environment: dict[str, str]) -> None:
    """Refuse settings as the real one does."""
    unknown = sorted(set(settings) - known("settings"))
    if unknown:
        names = ", ".join(f'"{name}"' for name in unknown)
        spelling = "Check for spelling errors and ensure that expected plugins are installed."
        refuse(f"Unknown configuration key(s): {names}. {spelling}", UNKNOWN_SETTING)
    arguments = {name.replace(".", "_").upper() for name in known("settings")} & set(environment)
    if arguments:
        refuse(f"{sorted(arguments)} in the environment would become arguments, which anybody reads: use kibana.yml")
    if settings.get("server.ssl.enabled") != "true":
        refuse("this stand-in serves nothing without server.ssl.enabled")
    for name, problem in problems(settings):
        refuse(f"[config validation of [{name}]: {problem}", BAD_CONFIGURATION)


def problems(settings: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the settings that can't be, each with the reason."""
    for name in ("hosts", "username", "password"):
        if not settings.get(f"elasticsearch.{name}"):
            yield f"elasticsearch].{name}", "it is missing"
    if settings.get("elasticsearch.username") == "elastic":
        yield (
            "elasticsearch].username",
            'value of "elastic" is forbidden. This is a superuser account that cannot write to system indices that'
            " Kibana needs to function. Use a service account token instead.",
        )
    for plugin in ("encryptedSavedObjects", "reporting", "security"):
        key = settings.get(f"xpack.{plugin}.encryptionKey")
        if key is not None and len(key) < SHORTEST_KEY:
            reason = f"value has length [{len(key)}] but it must have a minimum length of [{SHORTEST_KEY}]."
            yield f"xpack.{plugin}].encryptionKey", reason
    if not all(settings.get(f"server.ssl.{name}") for name in ("certificate", "key")):
        yield "server].ssl", "must specify [certificate] and [key] -- or [keystore.path]"


def routes(kibana: Kibana) -> type[Handler]:
    """Return what serves browsers and clients."""

    class Routes(Handler):
        def _signed_in(self) -> bool:
            cookie = re.search(r"\bsid=(\w+)", self.headers.get("Cookie", ""))
            if cookie and cookie[1] in kibana.sessions:
                return True
            scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
            try:
                name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return False
            return scheme.lower() == "basic" and kibana.sign_in(name, password)

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path == "/api/status":
                self._status()
            elif kibana.problem:
                self.answer(503, "Kibana server is not ready yet.")
            elif path == "/login":
                self.answer(200, "<!doctype html><title>Elastic</title><p>Log in to Kibana (a stand-in)</p>")
            elif not self._signed_in():
                if path.startswith(("/api/", "/internal/")):
                    self.answer(401, {"statusCode": 401, "error": "Unauthorized", "message": "Unauthorized"})
                else:
                    self.answer(302, "", Location="/login?next=%2F")
            else:
                self.answer(200, "<!doctype html><title>Elastic</title><p>Welcome to a stand-in of Kibana</p>")

        do_HEAD = do_GET

        def _status(self) -> None:
            level = "unavailable" if kibana.problem else "available"
            content: dict[str, Any] = {"status": {"overall": {"level": level}}}
            if not kibana.problem and self._signed_in():
                content = {
                    "name": kibana.settings.get("server.name", "kibana"),
                    "version": {"number": kibana.version},
                    **content,
                }
            self.answer(503 if kibana.problem else 200, content)

        def do_POST(self) -> None:
            body = self.content()
            if "kbn-xsrf" not in self.headers:
                self.answer(
                    400,
                    {"statusCode": 400, "error": "Bad Request", "message": "Request must contain a kbn-xsrf header."},
                )
            elif self.path != "/internal/security/login":
                self.answer(404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"})
            else:
                self._login(json.loads(body)["params"])

        def _login(self, asked: dict[str, str]) -> None:
            if not kibana.sign_in(asked["username"], asked["password"]):
                self.answer(401, {"statusCode": 401, "error": "Unauthorized", "message": "Unauthorized"})
                return
            session = secrets.token_hex(16)
            kibana.sessions[session] = asked["username"]
            self.answer(200, {"location": "/"}, Set_Cookie=f"sid={session}; Secure; HttpOnly; Path=/")

    return Routes


def main() -> None:
    if os.getuid() == 0 and "STANDIN_HOME" not in os.environ:
        refuse("Kibana should not be run as root.  Use --allow-root to continue.")
    kibana = Kibana(dict(os.environ))
    signal.signal(signal.SIGHUP, kibana.reload)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    host, port = kibana.settings.get("server.host", "localhost"), int(kibana.settings.get("server.port", "5601"))
    server = Server((host, port), routes(kibana), kibana.context)
    if "STANDIN_HOME" in os.environ:
        flat.tell(kibana.home / "port", str(server.server_address[1]))
    threading.Thread(target=kibana.watch, daemon=True).start()
    print(f"http server running; this is a stand-in of Kibana {kibana.version}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
