"""metaflow_config with a key of the emulated account, and metaflow_verify with the stand-in of the metadata service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFIG = "mlops.metaflow.metaflow_config"
VERIFY = "mlops.metaflow.metaflow_verify"
KEY_NAME = "METAFLOW_SERVICE_AUTH_KEY"
BUCKET = "metaflow-test"


@pytest.fixture(autouse=True)
def account(emulator):
    """The account with nothing but a bucket."""
    emulator.reset()
    emulator.client("s3").create_bucket(Bucket=BUCKET)
    return emulator


@pytest.fixture
def key(account):
    """An API key: ``id`` and ``value``."""
    return account.client("apigateway").create_api_key(name="metaflow-test", enabled=True)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def written(home):
    return json.loads((home / "config_test.json").read_text())


def settings(home, url="http://127.0.0.1:1", key_id=None, **config):
    """Return the module's arguments for a profile "test" with S3 in the account."""
    return {
        "home": str(home),
        "metaflow_profile": "test",
        "api_key_id": key_id,
        "config": {
            "METAFLOW_DEFAULT_METADATA": "service",
            "METAFLOW_SERVICE_URL": url,
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{BUCKET}/metaflow",
            **config,
        },
    }


# The API key


def test_the_key_is_fetched_and_shown_nowhere(run_module, account, key, home):
    results = [
        run_module(CONFIG, settings(home, key_id=key["id"]), check=True),
        run_module(CONFIG, settings(home, key_id=key["id"])),
        run_module(CONFIG, settings(home, key_id=key["id"])),
    ]
    assert [result["changed"] for result in results] == [True, True, False]
    assert written(home)[KEY_NAME] == key["value"]
    assert results[0]["diff"] == results[1]["diff"]
    assert results[1]["diff"]["after"][KEY_NAME] == "(secret)"
    assert key["value"] not in json.dumps(results)
    assert account.mutations() == [call for call in account.mutations() if call["service"] in ("s3", "apigateway")]
    assert {call["action"] for call in account.mutations()} == {"CreateBucket", "CreateApiKey"}


def test_another_key_replaces_the_first(run_module, account, key, home):
    run_module(CONFIG, settings(home, key_id=key["id"]))
    other = account.client("apigateway").create_api_key(name="other", enabled=True)
    result = run_module(CONFIG, settings(home, key_id=other["id"]))
    assert result["diff"] == {
        "before_header": str(home / "config_test.json"),
        "after_header": str(home / "config_test.json"),
        "before": {KEY_NAME: "(secret)"},
        "after": {KEY_NAME: "(another secret)"},
    }
    assert written(home)[KEY_NAME] == other["value"]
    assert run_module(CONFIG, settings(home))["changed"]  # without api_key_id the key is no longer declared
    assert KEY_NAME not in written(home)


def test_a_key_that_is_not_there_is_named_and_in_check_mode_expected(run_module, home):
    assert "API Gateway key 'none' (api_key_id)" in run_module(CONFIG, settings(home, key_id="none"), fails=True)["msg"]
    assert not home.exists()
    predicted = run_module(CONFIG, settings(home, key_id="none"), check=True)
    assert predicted["diff"]["after"][KEY_NAME] == "(secret)"


def test_without_boto3_only_api_key_id_is_refused(home, tmp_path):
    """A host with nothing but Python: the SDK is hidden from a process of its own."""
    hide = "import sys, runpy; sys.modules.update(boto3=None, botocore=None)\n"
    run = "runpy.run_module('ansible_collections.mlops.metaflow.plugins.modules.metaflow_config', {}, '__main__')\n"

    def on_bare_host(arguments):
        file = tmp_path / "arguments"
        file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        command = [sys.executable, "-c", f"{hide}sys.argv = ['module', {str(file)!r}]\n{run}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return json.loads(output.stdout or f'"{output.stderr}"')

    assert on_bare_host(settings(home))["changed"]
    assert "boto3" in on_bare_host(settings(home, key_id="abc"))["msg"]


# Metaflow's own word


@pytest.fixture
def service(tmp_path):
    """The address of a stand-in of the metadata service."""
    environment = {
        "PATH": os.environ["PATH"],
        "EMULATOR_DATABASE_PATH": str(tmp_path / "database"),
        "MF_METADATA_PORT": "0",
        "MF_MIGRATION_PORT": "0",
        "LOGLEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "emulator.metadata_service"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE) as process:
        try:
            yield "http://127.0.0.1:" + re.search(r"', (\d+)\)", process.stdout.readline())[1]
        finally:
            process.terminate()


class BrokenService(BaseHTTPRequestHandler):
    """A server whose first path component says how it is broken."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        if kind == "silent":
            self.server.released.wait(60)
        self.send_response(403 if kind == "refusing" else 200)
        if kind == "html":
            self.send_header("METADATA_SERVICE_VERSION", "2.5.0")
        self.end_headers()
        self.wfile.write(f"<html>{self.headers['x-api-key']}</html>".encode())

    def log_message(self, *args):
        """Be quiet."""


@pytest.fixture(scope="module")
def broken():
    """The address of a BrokenService."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BrokenService)
    server.released = threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def verify(run_module, home, **options):
    return run_module(VERIFY, {"home": str(home), "metaflow_profile": "test", **options.pop("args", {})}, **options)


def test_a_profile_that_works(run_module, account, service, home, key, monkeypatch):
    """Variables of the environment have no say: they would hide what the file lacks."""
    monkeypatch.setenv("METAFLOW_SERVICE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("METAFLOW_PROFILE", "another")
    run_module(CONFIG, settings(home, service, key["id"], METAFLOW_S3_ENDPOINT_URL=account.endpoint))
    result = verify(run_module, home)
    assert not result["changed"]
    assert {name: result[name] for name in ("service_url", "flows", "datastore", "datastore_root")} == {
        "service_url": service,
        "flows": 0,
        "datastore": "s3",
        "datastore_root": f"s3://{BUCKET}/metaflow",
    }
    assert re.fullmatch(r"\d+\.\d+\.\d+", result["service_version"])
    assert result["metaflow_version"]
    assert key["value"] not in json.dumps(result)


FAULTS = {
    "refused": ("{broken}/refusing", {}, "refused the request"),
    "silent": ("{broken}/silent", {}, "was silent: no answer in 3 s"),
    "no version": ("{broken}/plain", {}, "is no working metadata service: its answer to /ping names no version"),
    "no JSON": ("{broken}/html", {}, "is no working metadata service: "),
    "unreachable": ("http://127.0.0.1:1", {}, "could not be reached: "),
    "no bucket": ("{service}", {"METAFLOW_DATASTORE_SYSROOT_S3": "s3://nowhere"}, "NoSuchBucket"),
    "local metadata": ("{service}", {"METAFLOW_DEFAULT_METADATA": "local"}, "METAFLOW_DEFAULT_METADATA is 'local'"),
    "a value that Metaflow can't read": ("{service}", {"METAFLOW_SPIN_ALLOWED_DECORATORS": "x"}, "Metaflow can't use"),
}


@pytest.mark.parametrize(("url", "config", "words"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_named_and_the_key_is_not(run_module, service, broken, home, key, url, config, words):
    run_module(CONFIG, settings(home, url.format(broken=broken, service=service), key["id"], **config))
    result = verify(run_module, home, fails=True, args={"timeout": 3 if "silent" in url else 30})
    assert words in result["msg"]
    assert key["value"] not in json.dumps(result)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"metaflow_profile": "tset"}, "config_tset.json does not exist. There are: config_test.json."),
        ({"home": "/nonexistent"}, "There is no profile in /nonexistent."),
        ({"metaflow_python": "/nonexistent/python"}, "/nonexistent/python could not run Metaflow's client"),
        ({"metaflow_python": "/bin/false"}, "/bin/false could not run Metaflow's client: exit status 1."),
    ],
)
def test_what_is_not_there_is_named(run_module, home, args, words):
    run_module(CONFIG, settings(home))
    assert words in verify(run_module, home, fails=True, args=args)["msg"]


def test_an_interpreter_without_metaflow_is_named(run_module, home, tmp_path):
    run_module(CONFIG, settings(home))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    result = verify(run_module, home, fails=True, args={"metaflow_python": python})
    assert f"Metaflow is not installed for {python}" in result["msg"]


def test_check_mode_before_there_is_a_file(run_module, home):
    assert "Nothing to verify yet" in verify(run_module, home, check=True)["msg"]


# As a person runs it

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/mlops.metaflow.aws: {region: us-east-1}
  tasks:
    - mlops.metaflow.metaflow_config:
        metaflow_profile: test
        home: "{{ home }}"
        api_key_id: "{{ key_id }}"
        config:
          METAFLOW_DEFAULT_METADATA: service
          METAFLOW_SERVICE_URL: "{{ url }}"
          METAFLOW_SERVICE_RETRY_COUNT: 3
          METAFLOW_SFN_COMPRESS_STATE_MACHINE: true
        secret_config:
          METAFLOW_SERVICE_HEADERS: {x-team: "{{ lookup('env', 'TEAM_TOKEN') }}"}
      register: written
    - mlops.metaflow.metaflow_verify:
        metaflow_profile: test
        home: "{{ home }}"
    - ansible.builtin.debug:
        var: written
"""


def test_no_secret_is_in_the_output_of_a_playbook(aws_environment, key, service, home, tmp_path):
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-vvv", "--diff", str(playbook)]
    command += ["-e", json.dumps({"home": str(home), "key_id": key["id"], "url": service})]
    token = "a-token-of-the-team"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "TEAM_TOKEN": token,
    }
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    assert run.returncode == 0, output
    assert "ok=3    changed=1" in output
    assert f'"{KEY_NAME}": "(secret)"' in output
    assert key["value"] not in output
    assert token not in output
    assert written(home)[KEY_NAME] == key["value"]
    assert json.loads(written(home)["METAFLOW_SERVICE_HEADERS"]) == {"x-team": token}
