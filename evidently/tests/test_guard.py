"""Tokens, limits, health, figures, OpenAPI: what stands around the routes."""

from __future__ import annotations

import asyncio
import os

import pytest
from conftest import ADMIN_TOKEN, API_TOKEN, connect, foods
from fastapi.testclient import TestClient

from model_service import guard
from model_service.api import create_app
from model_service.settings import Settings, SettingsError

ROUTES = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/models"),
    ("GET", "/models/xgboost_model"),
    ("PUT", "/models/xgboost_model/versions/1"),
    ("PUT", "/models/xgboost_model/active"),
    ("POST", "/models/xgboost_model/rollback"),
    ("POST", "/predict/xgboost_model"),
    ("GET", "/monitor-model/xgboost_model"),
    ("GET", "/monitor-target/xgboost_model"),
    ("GET", "/there-is-no-such-route"),
    ("GET", "/healthz/"),
]
WRONG = {
    "none": {},
    "empty": {"Authorization": ""},
    "another kind": {"Authorization": f"Basic {API_TOKEN}"},
    "no kind": {"Authorization": API_TOKEN},
    "empty token": {"Authorization": "Bearer "},
    "part of it": {"Authorization": f"Bearer {API_TOKEN[:-1]}"},
    "more than it": {"Authorization": f"Bearer {API_TOKEN}x"},
    "not ASCII": {"Authorization": "Bearer \xe9\xff".encode("latin-1")},
    "in the query": {"X-Token": API_TOKEN},
}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("wrong", WRONG)
def test_every_route_but_the_open_ones_needs_a_token(shared, method, path, wrong):
    answer = shared.client.request(method, path, headers=WRONG[wrong], content=b"{")
    assert answer.status_code == 401
    assert answer.json() == {"detail": "a valid bearer token is needed"}
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_all_routes_of_the_application_are_tested_for_their_token(shared):
    documented = {
        (method.upper(), path.replace("{model_name}", "xgboost_model").replace("{version}", "1"))
        for path, methods in shared.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert documented - set(ROUTES) == {("GET", "/healthz"), ("GET", "/readyz")}


def test_health_and_readiness_are_open(shared):
    assert shared.client.get("/healthz").json() == {"status": "ok"}
    answer = shared.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["models"]["xgboost_model"] == {"version": "1", "loaded": True}


@pytest.mark.parametrize("path", [path for method, path in ROUTES if path.startswith("/models") and method != "GET"])
def test_only_the_admin_token_changes_versions(shared, path):
    method = "POST" if path.endswith("rollback") else "PUT"
    assert shared.call(method, path, API_TOKEN, json={}).status_code == 403
    assert shared.call(method, path, ADMIN_TOKEN, json={"bad": 1}).status_code == 422


def test_the_admin_token_may_do_everything(shared):
    assert shared.call("GET", "/models", ADMIN_TOKEN).status_code == 200


def test_tokens_are_compared_in_constant_time(shared, monkeypatch):
    compared = []
    real = guard.hmac.compare_digest
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda *both: compared.append(both) or real(*both))
    assert shared.get("/").status_code == 200
    assert (API_TOKEN.encode(), API_TOKEN.encode()) in compared


def test_secrets_are_not_shown_by_the_settings(shared):
    shown = repr(Settings.from_environment(shared.environment))
    assert not [secret for secret in (API_TOKEN, ADMIN_TOKEN, "only for tests") if secret in shown]


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("API_TOKEN_FILE", "", "is not set"),
        ("API_TOKEN_FILE", "/nonexistent", "cannot read /nonexistent: FileNotFoundError"),
        ("API_TOKEN_FILE", os.devnull, "is empty"),
        ("ADMIN_TOKEN_FILE", os.devnull, "is empty"),
        ("MODELS_BUCKET", "", "is not set"),
        ("REQUEST_BYTES", "many", "must be a whole number above 0"),
        ("REQUEST_SECONDS", "0", "must be a whole number above 0"),
    ],
)
def test_a_wrong_environment_is_told_in_a_sentence(shared, variable, value, reason):
    with pytest.raises(SettingsError, match=f"^{variable}.*{reason}"):
        Settings.from_environment(shared.environment | {variable: value})


def app_with(api, **changes: str) -> TestClient:
    return TestClient(create_app(Settings.from_environment(api.environment | changes)), raise_server_exceptions=False)


def parts():
    for _ in range(3):
        yield b" " * 500


@pytest.mark.parametrize("content", [b" " * 1001, parts], ids=["with its length", "in parts"])
def test_a_large_body_is_413(shared, content):
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    with app_with(shared, REQUEST_BYTES="1000") as client:
        body = content() if callable(content) else content
        answer = client.post("/predict/xgboost_model", content=body, headers=headers)
    assert answer.status_code == 413
    assert answer.json() == {"detail": "the body has more than 1000 bytes"}


def test_what_takes_too_long_is_503(shared):
    """PostgreSQL holds the answer back: a lock on the table."""
    with (
        app_with(shared, REQUEST_SECONDS="6") as client,
        connect(shared.environment, shared.environment["PGDATABASE"]) as other,
        other.transaction(),
    ):
        other.execute("LOCK TABLE xgboost_prediction")
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        answer = client.post("/predict/xgboost_model", json={"features": foods(1)}, headers=headers)
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the database does not answer; nothing was stored"}
    assert shared.sql("SELECT count(*) FROM xgboost_prediction") == [(0,)]


class Endless:
    """An application that never answers, and a body that never ends."""

    def __init__(self):
        self.forever = asyncio.Event()
        self.sent: list[dict] = []

    async def wait(self, *_):
        await self.forever.wait()

    async def send(self, message):
        self.sent.append(message)

    async def ready_body(self):
        return {"type": "http.request", "body": b"", "more_body": False}

    async def gone(self):
        return {"type": "http.disconnect"}


@pytest.mark.parametrize(("body", "status"), [("wait", 408), ("ready_body", 503), ("gone", 400)])
def test_time_is_limited_for_the_body_and_for_the_answer(shared, body, status):
    settings = Settings.from_environment(shared.environment | {"REQUEST_SECONDS": "1"})
    endless = Endless()
    headers = [(b"authorization", f"Bearer {API_TOKEN}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/predict/x", "headers": headers}
    asyncio.run(guard.Guard(endless.wait, settings)(scope, getattr(endless, body), endless.send))
    assert [message.get("status") for message in endless.sent] == [status, None]


def test_a_database_that_is_away_is_503_and_found_again(shared):
    """All connections are cut: the next request makes new ones. With no database at all, /readyz says so."""
    shared.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert shared.get("/models").status_code == 200


def test_without_a_database_predictions_are_503(shared, monkeypatch):
    monkeypatch.setenv("PGPORT", "9")
    with app_with(shared) as client:
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        answer = client.post("/predict/xgboost_model", json={"features": foods(1)}, headers=headers)
        assert answer.status_code == 503
        assert answer.json() == {"detail": "the database does not answer; nothing was stored"}
        assert client.get("/readyz").json() == {"ready": False, "database": "no connection"}
        assert client.get("/healthz").status_code == 200


def test_an_old_schema_is_not_ready(shared):
    shared.sql("UPDATE alembic_version SET version_num = '0000'")
    try:
        answer = shared.client.get("/readyz")
    finally:
        shared.sql("UPDATE alembic_version SET version_num = '0001'")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "database": "the schema is at 0000; run migrate"}


def test_figures_count_requests_by_route_and_predictions_by_version(serving):
    serving.predict(foods(7))
    serving.predict([])
    serving.get("/no-such-route")
    figures = serving.get("/metrics").text
    assert 'model_service_predictions_total{model="xgboost_model",version="1"}' in figures
    count = "model_service_request_seconds_count"
    assert f'{count}{{method="POST",route="/predict/{{model_name}}",status="200"}}' in figures
    assert f'{count}{{method="POST",route="/predict/{{model_name}}",status="422"}}' in figures
    assert f'{count}{{method="GET",route="none",status="404"}}' in figures
    assert "no-such-route" not in figures


def test_openapi_names_the_routes_the_token_and_the_nutrients(shared):
    document = shared.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "saturatedFat" in document["components"]["schemas"]["Food"]["properties"]
    parameters = document["paths"]["/monitor-model/{model_name}"]["get"]["parameters"]
    assert {"model_name", "window_size"} == {parameter["name"] for parameter in parameters}
    assert shared.client.get("/docs").status_code == 401
