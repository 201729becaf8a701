"""TLS over real sockets: a certificate is renewed while clients ask, and what must not be served is not."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import requests
import uvicorn
from conftest import certify, free_port

from model_service import tls
from model_service.client import Client
from model_service.settings import SettingsError


async def application(scope, receive, send):
    """Answer everything well."""
    assert scope["type"] == "http"
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def server(authority, tmp_path):
    """A server in a thread, with its files and its address."""
    files = certify(authority, tmp_path)
    port = free_port()
    config = uvicorn.Config(
        application,
        port=port,
        lifespan="off",
        log_config=None,
        ssl_context_factory=tls.make_context,
        **tls.certificate_files(files),
    )
    running = uvicorn.Server(config)
    ready = threading.Event()
    startup = running.startup

    async def started(*arguments, **options):
        await startup(*arguments, **options)
        ready.set()

    running.startup = started
    thread = threading.Thread(target=running.run)
    thread.start()
    assert ready.wait(60)
    yield SimpleNamespace(port=port, directory=tmp_path, files=files, url=f"https://127.0.0.1:{port}")
    running.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


def served(server, name: str | None = "localhost", **options) -> str:
    """Return the serial number of the certificate that a new connection gets."""
    context = ssl.create_default_context(cafile=server.files["AUTHORITY_FILE"])
    context.check_hostname = name is not None
    for option, value in options.items():
        getattr(context, option)(value) if callable(getattr(context, option)) else setattr(context, option, value)
    with (
        socket.create_connection(("127.0.0.1", server.port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as encrypted,
    ):
        return encrypted.getpeercert()["serialNumber"]


def test_a_renewed_certificate_is_served_without_a_failed_request(authority, server):
    """Open connections go on, and new ones are made all the time; from the renewal on they get the new one."""
    options = {"verify": server.files["AUTHORITY_FILE"], "timeout": 10}
    seen: Counter[str] = Counter()
    news, stop = threading.Condition(), threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            assert requests.get(server.url, **options).text == "ok"
            number = served(server)
            with news:
                seen[number] += 1
                news.notify_all()

    def often(number: str) -> bool:
        with news:
            return news.wait_for(lambda: seen[number] > 10, 60)

    with requests.Session() as session, ThreadPoolExecutor() as pool:
        assert session.get(server.url, **options).text == "ok"
        before = served(server)
        askers = [pool.submit(keep_asking) for _ in range(2)]
        try:
            assert often(before)
            for _ in range(5):
                certify(authority, server.directory)
            after = served(server)
            assert often(after)
            assert session.get(server.url, **options).text == "ok"
        finally:
            stop.set()
        assert [asker.result() for asker in askers] == [None, None]
    assert after != before


def test_a_client_that_names_no_server_gets_the_renewed_one_too(authority, server):
    before = served(server, None)
    certify(authority, server.directory)
    assert served(server, None) == served(server) != before


def test_files_that_do_not_fit_are_told_once_and_the_one_before_is_served(authority, server, caplog):
    before = served(server)
    with caplog.at_level(logging.ERROR, "model_service"):
        (server.directory / "node.crt").write_text("half")
        assert [served(server), served(server)] == [before, before]
    assert len(caplog.records) == 1
    assert "the one before is served" in caplog.text
    certify(authority, server.directory)
    assert served(server) != before


def test_tls_1_2_is_the_oldest(server):
    assert served(server, maximum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(OSError, match=r"(?i)version|protocol|reset"), pytest.warns(DeprecationWarning):
        served(
            server,
            set_ciphers="DEFAULT:@SECLEVEL=0",
            minimum_version=ssl.TLSVersion.TLSv1_1,
            maximum_version=ssl.TLSVersion.TLSv1_1,
        )


def test_plain_http_gets_no_answer(server):
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{server.port}/", timeout=10)


@pytest.mark.parametrize("variable", ["CERTIFICATE_FILE", "CERTIFICATE_KEY_FILE"])
def test_files_that_cannot_be_served_are_told_in_a_sentence(authority, tmp_path, variable):
    files = certify(authority, tmp_path)
    assert tls.certificate_files(files)["ssl_certfile"] == files["CERTIFICATE_FILE"]
    with pytest.raises(SettingsError, match=f"^{variable} is not set"):
        tls.certificate_files({**files, variable: ""})
    with pytest.raises(SettingsError, match=r"/nowhere.*: No such file or directory"):
        tls.certificate_files({**files, variable: "/nowhere"})
    with pytest.raises(SettingsError, match=r"CERTIFICATE_FILE.* and CERTIFICATE_KEY_FILE"):
        tls.certificate_files({**files, variable: files["AUTHORITY_FILE"]})


def test_a_client_sends_its_token_to_nobody_else():
    with pytest.raises(SettingsError, match=r"^MODEL_SERVICE_URL 'http://127.0.0.1:9' must begin with https://"):
        Client("http://127.0.0.1:9", "token")
    with pytest.raises(SettingsError, match=r"^AUTHORITY_FILE /nowhere is no file"):
        tls.authority({"AUTHORITY_FILE": "/nowhere"})


def test_a_client_trusts_its_authority_alone(server):
    assert Client(server.url, "token", server.files["AUTHORITY_FILE"]).call("GET", "/").text == "ok"
    with pytest.raises(Exception, match="does not answer: SSLError"):
        Client(server.url, "token").call("GET", "/")
