"""The service as a process with two workers: versions are switched under load, and it is killed."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import requests
from conftest import ADMIN_TOKEN, MODELS, TABLES, certify, foods, free_port, sql
from cryptography import x509

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
REQUESTS = 200
ROWS = 3


def ask(method: str, url: str, **options) -> requests.Response:
    """Ask as the administrator, by a connection of its own."""
    options = {"headers": ADMIN, "timeout": 60, **options}
    return requests.request(method, url, verify=os.environ["AUTHORITY_FILE"], **options)


@pytest.fixture
def running(serving, start_service):
    """The address of a service with two workers, version 1 active and 2 deployed."""
    for model in MODELS:
        assert serving.deploy("2", model).status_code == 200
    port = free_port()
    start_service(serving.environment, port)
    return f"https://127.0.0.1:{port}"


async def predict_at_once(
    url: str, first: threading.Event, switching: threading.Event, switched: threading.Event
) -> list[httpx2.Response]:
    """Send requests side by side: half of them before versions are switched, others meanwhile, the last after it."""
    limits = httpx2.Limits(max_connections=REQUESTS)
    trusted = ssl.create_default_context(cafile=os.environ["AUTHORITY_FILE"])
    async with httpx2.AsyncClient(headers=ADMIN, limits=limits, timeout=60, verify=trusted) as client:

        async def one(number: int) -> httpx2.Response:
            body = {"features": foods(ROWS, seed=number)}
            answer = await client.post(f"{url}/predict/{MODELS[number % 2]}", json=body)
            first.set()
            return answer

        before = [asyncio.create_task(one(number)) for number in range(REQUESTS // 2)]
        await asyncio.to_thread(switching.wait, 60)
        last = REQUESTS - len(MODELS)
        during = [asyncio.create_task(one(number)) for number in range(REQUESTS // 2, last)]
        await asyncio.to_thread(switched.wait, 60)
        after = [asyncio.create_task(one(number)) for number in range(last, REQUESTS)]
        return await asyncio.gather(*before, *during, *after)


FORTH = ("PUT", "active", {"version": "2"})
BACK = ("POST", "rollback", {"from_version": "2"})


def switch_back_and_forth(
    url: str, first: threading.Event, switching: threading.Event, switched: threading.Event
) -> list[tuple[int, bool]]:
    """Switch both models from the first answer on, by either way, and end with version 2."""
    assert first.wait(60)
    statuses = []
    for method, path, body in (FORTH, BACK) * 3 + (FORTH,):
        for model in MODELS:
            answer = ask(method, f"{url}/models/{model}/{path}", json=body)
            statuses.append((answer.status_code, answer.json().get("changed")))
            switching.set()
    switched.set()
    return statuses


def test_200_predictions_while_versions_are_switched(serving, running):
    events = [threading.Event() for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        switches = pool.submit(switch_back_and_forth, running, *events)
        answers = asyncio.run(predict_at_once(running, *events))
    assert switches.result() == [(200, True)] * 14
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert {answer.json()["version"] for answer in answers} == {"1", "2"}
    for model in MODELS:
        told = {
            (number, value, answer.json()["version"])
            for answer in answers
            if answer.json()["model_name"] == model
            for number, value in zip(answer.json()["ids"], answer.json()["predictions"], strict=True)
        }
        assert len(told) == REQUESTS // 2 * ROWS
        assert told == set(serving.sql(f"SELECT id, predictions, model_version FROM {TABLES[model]}"))


def test_both_workers_use_a_new_version_at_once_and_add_up_their_figures(running):
    ask("PUT", f"{running}/models/xgboost_model/active", json={"version": "2"})
    with ThreadPoolExecutor(8) as pool:
        # A connection each, so that both workers get some.
        answers = list(
            pool.map(
                lambda seed: ask("POST", f"{running}/predict/xgboost_model", json={"features": foods(1, seed)}),
                range(40),
            )
        )
    assert {answer.json()["version"] for answer in answers} == {"2"}
    figures = ask("GET", f"{running}/metrics").text
    assert 'model_service_predictions_total{model="xgboost_model",version="2"} 40.0' in figures


def test_both_workers_serve_a_renewed_certificate(authority, serving, running):
    """Nothing is restarted. A connection each, so that both workers get some."""
    port = int(running.rsplit(":", 1)[1])

    def serial(_: int) -> int:
        pem = ssl.get_server_certificate(("127.0.0.1", port), ca_certs=os.environ["AUTHORITY_FILE"])
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    before = serial(0)
    certify(authority, Path(serving.environment["CERTIFICATE_FILE"]).parent)
    with ThreadPoolExecutor(8) as pool:
        after = set(pool.map(serial, range(40)))
    assert len(after) == 1
    assert before not in after


def test_a_killed_service_keeps_its_active_version_and_every_answered_row(serving, start_service):
    serving.deploy("2")
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    process = start_service(serving.environment, port)
    ask("PUT", f"{url}/models/xgboost_model/active", json={"version": "2"})

    answered: list[int] = []
    enough = threading.Event()

    def keep_predicting(worker: int) -> None:
        for seed in range(1000):
            try:
                answer = ask("POST", f"{url}/predict/xgboost_model", json={"features": foods(ROWS, seed)})
            except requests.ConnectionError:
                return
            answered.extend(answer.json()["ids"])
            if len(answered) > 60:
                enough.set()

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(keep_predicting, number) for number in range(4)]
        assert enough.wait(60)
        process.kill()
        for worker in workers:
            worker.result()
    stored = {number for (number,) in sql(serving.environment, "SELECT id FROM xgboost_prediction")}
    assert set(answered) <= stored

    start_service(serving.environment, port)
    ready = ask("GET", f"{url}/readyz", headers={})
    assert ready.status_code == 200
    assert ready.json()["models"]["xgboost_model"] == {"version": "2", "loaded": True}
    answer = ask("POST", f"{url}/predict/xgboost_model", json={"features": foods(1)})
    assert answer.json()["version"] == "2"


def test_requests_under_way_are_answered_when_the_service_is_stopped(serving, start_service):
    port = free_port()
    process = start_service(serving.environment, port, workers=1)
    from conftest import connect

    environment = serving.environment
    with ThreadPoolExecutor() as pool, connect(environment, environment["PGDATABASE"]) as other:
        with other.transaction():
            # The request waits for this lock until the service has been told to stop.
            other.execute("LOCK TABLE xgboost_prediction")
            answer = pool.submit(
                ask, "POST", f"https://127.0.0.1:{port}/predict/xgboost_model", json={"features": foods(1)}
            )
            while not other.execute(
                "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'xgboost_prediction'::regclass"
            ).fetchall():
                pass
            process.popen.terminate()
            process.await_line("Shutting down")
        assert answer.result().status_code == 200
    assert process.popen.wait(60) in (0, -15)


def test_a_secret_stands_neither_in_the_process_list_nor_in_the_log(serving, start_service):
    port = free_port()
    process = start_service(serving.environment, port)
    ask("GET", f"https://127.0.0.1:{port}/models")
    ask("GET", f"https://127.0.0.1:{port}/models", headers={"Authorization": "Bearer wrong-canary"})
    import subprocess

    listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    said = "".join(process.lines) + listed
    secrets = [ADMIN_TOKEN, "reader-3f1c", "only for tests", "wrong-canary"]
    assert [secret for secret in secrets if secret in said] == []
