"""A private PostgreSQL, an S3 of moto's, an authority, and the service on them: in this process, or as another one."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import psycopg
import pytest
import trustme
from fastapi.testclient import TestClient
from moto.server import ThreadedMotoServer

from model_service import database
from model_service.api import create_app
from model_service.foods import make_foods
from model_service.settings import DatabaseSettings, Settings, StoreSettings
from model_service.store import Store
from model_service.training import train

ROOT = Path(__file__).resolve().parents[1]
API_TOKEN = "reader-3f1c"
ADMIN_TOKEN = "admin-9b7e"
PASSWORD = "only for tests: 'quoted' = hard"
MODELS = ("xgboost_model", "linear_regression_model")
AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
TABLES = {"xgboost_model": "xgboost_prediction", "linear_regression_model": "linear_regression_prediction"}


def postgres_program(name: str) -> str | None:
    """Return a server's program; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """Start PostgreSQL on a free port; yield libpq's variables for it."""
    programs = [postgres_program(name) for name in ("initdb", "pg_ctl")]
    if None in programs:
        pytest.skip("PostgreSQL IS MISSING: install Debian's package postgresql to run these tests")
    initdb, pg_ctl = programs
    # PostgreSQL refuses to run as root.
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    as_account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="model-service-postgres-"))
    os.chown(home, account.pw_uid, account.pw_gid)
    data, password_file = home / "data", home / "password"
    password_file.write_text(PASSWORD + "\n")
    os.chown(password_file, account.pw_uid, account.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL, timeout=600, **as_account)

    run(initdb, "-D", str(data), "-A", "scram-sha-256", "-U", "model_service", "--pwfile", str(password_file), "-N")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    try:
        run(pg_ctl, "-D", str(data), "-l", str(home / "log"), "-o", options, "-w", "-t", "300", "start")
        yield {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "model_service", "PASSWORD_FILE": str(password_file)}
    finally:
        subprocess.run(
            [pg_ctl, "-D", data, "-m", "immediate", "stop"], cwd=home, stdout=subprocess.DEVNULL, **as_account
        )
        shutil.rmtree(home)


def connect(environment: dict[str, str], name: str) -> psycopg.Connection:
    host, port, user = (environment[variable] for variable in ("PGHOST", "PGPORT", "PGUSER"))
    return psycopg.connect(host=host, port=port, user=user, password=PASSWORD, dbname=name, autocommit=True)


def sql(environment: dict[str, str], statement: str) -> list[tuple]:
    """Run a statement on a test's database; return its rows, if it has any."""
    with connect(environment, environment["PGDATABASE"]) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def certify(authority: trustme.CA, directory: Path) -> dict[str, str]:
    """Write a new certificate and its key, each as a whole new file; return the variables that name them."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    files = {
        "AUTHORITY_FILE": (authority.cert_pem, "ca.crt"),
        "CERTIFICATE_KEY_FILE": (certificate.private_key_pem, "node.key"),
        "CERTIFICATE_FILE": (certificate.cert_chain_pems[0], "node.crt"),
    }
    for blob, name in files.values():
        blob.write_to_path(directory / f"{name}.next")
        (directory / f"{name}.next").replace(directory / name)
    return {variable: str(directory / name) for variable, (_, name) in files.items()}


class Api:
    """The service in this process, as its clients see it."""

    def __init__(self, client: TestClient, environment: dict[str, str]):
        self.client = client
        self.environment = environment

    def activate(self, version: str) -> Api:
        for model in MODELS:
            assert self.deploy(version, model).status_code == 200
            assert self.switch(version, model).status_code == 200
        return self

    def sql(self, statement: str) -> list[tuple]:
        """Run a statement past the service."""
        return sql(self.environment, statement)

    def call(self, method: str, path: str, token: str = API_TOKEN, **options):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        if "json" in options:
            # As ASCII: what is half a surrogate pair can be sent so, and the client's own encoder refuses it.
            options["content"] = json.dumps(options.pop("json"))
        return self.client.request(method, path, headers=headers, **options)

    def get(self, path: str, **options):
        return self.call("GET", path, **options)

    def predict(self, foods, model: str = "xgboost_model"):
        return self.call("POST", f"/predict/{model}", json={"features": foods})

    def deploy(self, version: str, model: str = "xgboost_model", **body):
        return self.call("PUT", f"/models/{model}/versions/{version}", ADMIN_TOKEN, json=body)

    def switch(self, version: str, model: str = "xgboost_model"):
        return self.call("PUT", f"/models/{model}/active", ADMIN_TOKEN, json={"version": version})

    def roll_back(self, model: str = "xgboost_model", **body):
        return self.call("POST", f"/models/{model}/rollback", ADMIN_TOKEN, json=body)


@contextmanager
def place(
    cluster: dict[str, str], s3_endpoint: str, authority: trustme.CA, directory: Path
) -> Iterator[dict[str, str]]:
    """A database without a schema, a bucket, tokens, a certificate: in this process's environment, and as a map."""
    name = f"test-{os.urandom(6).hex()}"
    with connect(cluster, "postgres") as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    (directory / "api-token").write_text(API_TOKEN + "\n")
    (directory / "admin-token").write_text(ADMIN_TOKEN + "\n")
    variables = {
        **AWS,
        **certify(authority, directory),
        "AWS_ENDPOINT_URL": s3_endpoint,
        "MODELS_BUCKET": name,
        "MODELS_CACHE": str(directory / "cache"),
        "API_TOKEN_FILE": str(directory / "api-token"),
        "ADMIN_TOKEN_FILE": str(directory / "admin-token"),
        "DATABASE_PASSWORD_FILE": cluster["PASSWORD_FILE"],
        "PGDATABASE": name,
        **{variable: cluster[variable] for variable in ("PGHOST", "PGPORT", "PGUSER")},
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in variables.items():
            patch.setenv(variable, value)
        boto3.client("s3").create_bucket(Bucket=name)
        yield dict(os.environ)


@contextmanager
def serve_versions(environment: dict[str, str], trained: dict[str, bytes]) -> Iterator[Api]:
    """The service in this process, with both versions of both models in the bucket, and none deployed."""
    migrate_now(environment)
    for key, content in trained.items():
        boto3.client("s3").put_object(Bucket=environment["MODELS_BUCKET"], Key=key, Body=content)
    with TestClient(create_app(Settings.from_environment(environment)), raise_server_exceptions=False) as client:
        yield Api(client, environment)


def migrate_now(environment: dict[str, str]) -> None:
    engine = database.make_engine(DatabaseSettings.from_environment(environment))
    database.migrate(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def trained(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of versions 1 and 2 of both models, by their key."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {**AWS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
            patch.setenv(variable, value)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="trained")
        store = Store(StoreSettings("trained", "models", tmp_path_factory.mktemp("cache"), 1 << 30))
        for version in ("1", "2"):
            assert [train(store, name, version, seed=int(version)) for name in MODELS] == [True, True]
        keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="trained")["Contents"]]
        return {key: s3.get_object(Bucket="trained", Key=key)["Body"].read() for key in keys}


@pytest.fixture
def empty_place(cluster, s3_endpoint, authority, tmp_path) -> Iterator[dict[str, str]]:
    """The environment of a new installation, before `migrate`."""
    with place(cluster, s3_endpoint, authority, tmp_path) as environment:
        yield environment


@pytest.fixture
def api(empty_place, trained) -> Iterator[Api]:
    """The service, with versions in the bucket, and none deployed."""
    with serve_versions(empty_place, trained) as api:
        yield api


@pytest.fixture
def serving(api: Api) -> Api:
    """The service with version 1 of both models active."""
    return api.activate("1")


@pytest.fixture(scope="module")
def shared(cluster, s3_endpoint, authority, trained, tmp_path_factory) -> Iterator[Api]:
    """The same for a module's tests that leave nothing behind."""
    with (
        place(cluster, s3_endpoint, authority, tmp_path_factory.mktemp("shared")) as environment,
        serve_versions(environment, trained) as api,
    ):
        yield api.activate("1")


def foods(count: int, seed: int = 99, **changes) -> list[dict]:
    """Return rows as a client sends them."""
    frame = make_foods(count, seed).assign(**changes)
    return json.loads(frame.to_json(orient="records"))


class Process:
    """A command of the service's, running."""

    def __init__(self, environment: dict[str, str], *arguments: str):
        command = [sys.executable, "-m", "model_service", *arguments]
        self.popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.popen.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()

    def await_line(self, part: str, times: int = 1) -> None:
        """Wait until the process has said something a number of times."""
        with self._news:
            said = self._news.wait_for(lambda: sum(part in line for line in self.lines) >= times, timeout=300)
        assert said, "".join(self.lines)

    def kill(self) -> None:
        """End it and its children as a power cut would."""
        os.killpg(self.popen.pid, 9)
        self.popen.wait()
        self._reader.join(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def service_processes() -> Iterator[Callable[..., Process]]:
    """Start services, each with some workers, and wait until these answer; end those that still run."""
    started: list[Process] = []

    def start(environment: dict[str, str], port: int, workers: int = 2) -> Process:
        started.append(Process({**environment, "PORT": str(port), "WORKERS": str(workers)}, "serve"))
        started[-1].await_line("Application startup complete", workers)
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            if process.popen.poll() is None:
                process.kill()


@pytest.fixture
def start_service() -> Iterator[Callable[..., Process]]:
    with service_processes() as start:
        yield start


@pytest.fixture(scope="module")
def start_for_module() -> Iterator[Callable[..., Process]]:
    with service_processes() as start:
        yield start
