"""metaflow_service_migration: against servers that answer as told, and against the local metadata service."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

MODULE = "mlops.metaflow.metaflow_service_migration"
PATH = "ansible_collections.mlops.metaflow.plugins.modules.metaflow_service_migration"
ROOT = Path(__file__).parents[3]
VERSIONS = ["0", "1", "20230118020300"]
OLD = {
    "is_up_to_date": False,
    "current_version": "1",
    "migration_in_progress": True,
    "db_schema_versions": VERSIONS,
    "unapplied_migrations": ["20230118020300"],
}
NEW = OLD | {
    "is_up_to_date": True,
    "current_version": "20230118020300",
    "migration_in_progress": False,
    "unapplied_migrations": [],
}
FORBIDDEN = (403, {"message": "Forbidden"})
LOST = "the connection is closed before an answer"


class Scripted:
    """A migration server that gives a list of answers for each method; the last one again and again.

    An answer is (status, JSON or text), or LOST.
    """

    def __init__(self, **script):
        self.script = {method: list(answers) for method, answers in script.items()}
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                outer.requests.append((self.command, self.path, self.headers))
                answers = outer.script[self.command]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer is LOST:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, body = answer
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PATCH = answer

            def log_message(self, *args):
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def asked(self):
        """Methods and paths in the order of the requests."""
        return [f"{method} {path}" for method, path, _ in self.requests]


@pytest.fixture
def scripted(monkeypatch):
    """Start scripted servers, and let nothing in the module wait for long."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(f"{PATH}.PAUSE", 0.05)
    started = []

    def start(**script):
        started.append(Scripted(**script))
        return started[-1]

    yield start
    for one in started:
        one.server.shutdown()
        one.server.server_close()


def test_nothing_is_pending(run_module, scripted):
    service = scripted(GET=[(200, NEW)])
    result = run_module(MODULE, {"url": service.url + "/"})
    assert not result["changed"]
    assert result["schema"] == {key: value for key, value in NEW.items() if key != "migration_in_progress"}
    assert service.asked == ["GET /api/db_schema_status"]


def test_pending_migrations_are_applied_and_verified(run_module, scripted):
    service = scripted(GET=[(200, OLD), (200, NEW)], PATCH=[(200, "upgrade success")])
    result = run_module(MODULE, {"url": service.url})
    assert result["changed"]
    assert result["schema"]["current_version"] == "20230118020300"
    assert result["diff"] == {
        "before": {"current_version": "1", "unapplied_migrations": ["20230118020300"]},
        "after": {"current_version": "20230118020300", "unapplied_migrations": []},
    }
    assert service.asked == ["GET /api/db_schema_status", "PATCH /api/upgrade", "GET /api/db_schema_status"]


@pytest.mark.parametrize("args", [{"state": "status"}, {}])
def test_status_and_check_mode_only_tell(run_module, scripted, args):
    service = scripted(GET=[(200, OLD)])
    result = run_module(MODULE, {"url": service.url, **args}, check=not args)
    assert result["changed"] == (not args)
    assert result["schema"]["unapplied_migrations"] == ["20230118020300"]
    assert service.asked == ["GET /api/db_schema_status"]
    if not args:
        assert result["diff"]["after"] == {"current_version": "20230118020300", "unapplied_migrations": []}


@pytest.mark.parametrize("answer", [LOST, (504, {"message": "Endpoint request timed out"}), (502, "")])
def test_an_upgrade_without_an_answer_is_watched_until_it_is_done(run_module, scripted, answer):
    service = scripted(GET=[(200, OLD), (200, OLD), (503, ""), (200, NEW)], PATCH=[answer])
    assert run_module(MODULE, {"url": service.url})["schema"]["is_up_to_date"]
    assert service.asked.count("PATCH /api/upgrade") == 1
    assert service.asked.count("GET /api/db_schema_status") == 4


@pytest.mark.parametrize("answer", [LOST, (503, {"message": "Service Unavailable"}), FORBIDDEN, (429, "")])
def test_a_service_that_starts_is_waited_for(run_module, scripted, answer):
    service = scripted(GET=[answer, answer, (200, NEW)])
    assert run_module(MODULE, {"url": service.url})["schema"]["is_up_to_date"]
    assert len(service.asked) == 3


# name, script, what the message must say
FAILURES = [
    (
        "a wrong key",
        {"GET": [FORBIDDEN]},
        r"after \d s, GET .*/db_schema_status .* with 403 .*API key enabled",
    ),
    ("a wrong path", {"GET": [(404, "")]}, r"answered with 404 .*Does the URL name the migration server"),
    ("a broken service", {"GET": [(500, {"detail": "no database"})]}, r"500 .*no database.*Is the service running"),
    (
        "another server",
        {"GET": [(200, "<html>hello</html>")]},
        r"something else than .* \(<html>hello",
    ),
    ("another JSON", {"GET": [(200, [1])]}, r"something else than the migration server"),
    ("a redirection", {"GET": [(302, "")]}, r"answered with 302"),
    ("a failed migration", {"GET": [(200, OLD)], "PATCH": [(500, "upgrade failed")]}, r"a migration failed.*log says"),
    ("no right to upgrade", {"GET": [(200, OLD)], "PATCH": [FORBIDDEN]}, r"PATCH .*403 .*upgrade_auth: aws_iam"),
    ("no upgrade offered", {"GET": [(200, OLD)], "PATCH": [(404, "")]}, r"MF_MIGRATION_ENDPOINTS_ENABLED=1"),
    (
        "no end",
        {"GET": [(200, OLD)], "PATCH": [(200, "")]},
        r"after \d s, these .* pending still: 2023011802",
    ),
]


@pytest.mark.parametrize(("script", "message"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES])
def test_failures_say_what_to_do(run_module, scripted, script, message):
    service = scripted(**script)
    result = run_module(MODULE, {"url": service.url, "api_key": "k" * 30, "wait_timeout": 0}, fails=True)
    assert re.search(message, result["msg"]), result["msg"]
    assert result["msg"].startswith(f"Failed to bring the schema of {service.url} up to date: ")
    assert "k" * 30 not in json.dumps(result)


def test_a_refusal_is_not_waited_for_as_long_as_a_start(run_module, scripted, monkeypatch):
    monkeypatch.setattr(f"{PATH}.REFUSAL_GRACE", 0)
    service = scripted(GET=[(503, ""), FORBIDDEN])
    assert "403" in run_module(MODULE, {"url": service.url, "wait_timeout": 60}, fails=True)["msg"]
    assert len(service.asked) == 2


def closed_port():
    """A port of this machine on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_refused_connection_is_named(run_module, scripted):
    url = f"http://127.0.0.1:{closed_port()}"
    result = run_module(MODULE, {"url": url, "wait_timeout": 0}, fails=True)
    assert re.search(r"got no answer \(.*refused\). Is the service running", result["msg"]), result["msg"]


@pytest.mark.parametrize("args", [{}, {"api_key_id": "predicted"}])
def test_check_mode_goes_on_without_a_service(run_module, scripted, args):
    result = run_module(MODULE, {"url": f"http://127.0.0.1:{closed_port()}", **args}, check=True)
    assert (result["changed"], result["schema"]) == (False, {})
    assert "can't be checked" in json.dumps(result["warnings"])


def test_the_key_is_fetched_and_sent_and_never_shown(run_module, scripted, emulator):
    emulator.reset()
    key = emulator.client("apigateway").create_api_key(name="metaflow", enabled=True, generateDistinctId=True)
    service = scripted(GET=[(200, OLD), (200, NEW)], PATCH=[(200, "")])
    result = run_module(MODULE, {"url": service.url, "api_key_id": key["id"]})
    assert [headers["x-api-key"] for *_, headers in service.requests] == [key["value"]] * 3
    assert key["value"] not in json.dumps(result)


def test_a_missing_key_is_named(run_module, scripted, emulator):
    emulator.reset()
    result = run_module(MODULE, {"url": "http://127.0.0.1:1", "api_key_id": "abc"}, fails=True)
    assert "GetApiKey" in result["msg"]


def test_only_the_upgrade_is_signed(run_module, scripted):
    service = scripted(GET=[(200, OLD), (200, NEW)], PATCH=[(200, "")])
    run_module(MODULE, {"url": service.url, "upgrade_auth": "aws_iam", "region": "eu-west-1"})
    signatures = [headers.get("Authorization") for *_, headers in service.requests]
    assert signatures[0] is signatures[2] is None
    assert re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=\w+/\d{8}/eu-west-1/execute-api/aws4_request, "
        r"SignedHeaders=host;x-amz-date, Signature=[0-9a-f]{64}",
        signatures[1],
    )


@pytest.fixture
def metadata_service(tmp_path, monkeypatch):
    """Return a function that starts the local metadata service at an older schema and returns its migration server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started = []

    def start(version):
        environment = {
            "PYTHONPATH": str(ROOT),
            "EMULATOR_DATABASE_PATH": str(tmp_path / "database"),
            "EMULATOR_SCHEMA_VERSION": version,
            "MF_METADATA_PORT": "0",
            "MF_MIGRATION_PORT": "0",
        }
        command = [sys.executable, "-m", "emulator.metadata_service"]
        started.append(subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE))
        ports = [re.search(r", (\d+)\)", started[-1].stdout.readline())[1] for _ in range(2)]
        return f"http://127.0.0.1:{ports[1]}"

    yield start
    for process in started:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_the_local_service_is_migrated(run_module, metadata_service):
    url = metadata_service("1")
    predicted = run_module(MODULE, {"url": url}, check=True)
    result = run_module(MODULE, {"url": url})
    assert predicted["diff"] == result["diff"]
    assert result["diff"]["before"]["current_version"] == "1"
    assert len(result["diff"]["before"]["unapplied_migrations"]) == len(result["schema"]["db_schema_versions"]) - 1
    again = run_module(MODULE, {"url": url})
    assert not again["changed"]
    assert again["schema"] == result["schema"]


def test_through_a_stage_with_key_and_signature(run_module, metadata_service, emulator):
    """The stack's way: API Gateway asks for the clients' key, and for a signature where the schema is upgraded."""
    emulator.reset()
    server = metadata_service("1")
    gateway = "mlops.metaflow.api_gateway_"
    routes = [
        {"path": "/db_schema_status", "method": "GET", "api_key_required": True},
        {"path": "/upgrade", "method": "PATCH", "authorization_type": "AWS_IAM"},
    ]
    routes = [{**route, "integration": {"uri": server + route["path"]}} for route in routes]
    api = run_module(gateway + "rest_api", {"name": "metadata", "routes": routes, "stage": {"name": "api"}})["rest_api"]
    stages = [{"api_id": api["id"], "stage": "api"}]
    plan = run_module(
        gateway + "usage_plan", {"name": "metadata", "api_stages": stages, "api_keys": [{"name": "client"}]}
    )["usage_plan"]
    args = {"url": f"{emulator.endpoint}/restapis/{api['id']}/api/_user_request_", "wait_timeout": 0}

    assert "answered with 403" in run_module(MODULE, args, fails=True)["msg"]
    args |= {"api_key_id": plan["api_keys"]["client"]["id"]}
    assert len(run_module(MODULE, args, check=True)["schema"]["unapplied_migrations"]) > 1
    refused = run_module(MODULE, args, fails=True)["msg"]
    assert re.search(r"PATCH .*/upgrade was answered with 403 .*upgrade_auth: aws_iam", refused), refused
    assert run_module(MODULE, args | {"upgrade_auth": "aws_iam"})["schema"]["is_up_to_date"]
    assert not run_module(MODULE, args)["changed"]
