# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module event_connection, and the webhook of notices that is called with it, a real server over TLS."""

from __future__ import annotations

import json
import queue
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import chain
from emulated_aws import Emulator
from integration.runtime.runtime_account import wait_for
from steps import Module

PLACE = chain.Place("aws", "us-east-1", "123456789012", "m")
ROLE = "arn:aws:iam::123456789012:role/"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:notices"
EXECUTION = "arn:aws:states:us-east-1:123456789012:execution:m-chain-nightly:one"
CONNECTION = {"name": "notices", "api_key_name": "X-Token", "api_key_secret": "m/flows/TOKEN", "wait_timeout": 20}


@pytest.fixture
def secret(emulator):
    """A client of Secrets Manager in an account that has the token, and nothing else."""
    emulator.reset()
    client = emulator.client("secretsmanager")
    client.create_secret(Name="m/flows/TOKEN", SecretString="first-token")
    return client


@pytest.fixture
def connection(secret, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "event_connection")


def test_twelve_steps(connection, secret):
    made = connection.change(CONNECTION)["event_connection"]
    assert made["auth_parameters"] == {"api_key_auth_parameters": {"api_key_name": "X-Token"}}
    assert made["connection_state"] == "AUTHORIZED"
    secret.put_secret_value(SecretId="m/flows/TOKEN", SecretString="second-token")
    changed = connection.change(CONNECTION)
    assert sorted(changed["diff"]["after"]) == ["AuthParameters", "AuthorizationType", "Description", "Name"]
    assert not any(token in json.dumps([made, changed]) for token in ("first-token", "second-token"))
    assert connection.change({"name": "notices", "state": "absent"})["event_connection"] == {}


def test_a_secret_that_is_missing_is_named(connection):
    result = connection.run(CONNECTION | {"api_key_secret": "m/flows/OTHER"}, fails=True)
    assert result["msg"] == "Failed to declare event connection 'notices': there is no secret 'm/flows/OTHER'"


class Webhook:
    """An HTTPS server that keeps what it is sent: pairs of headers and body."""

    def __init__(self, directory):
        self.certificate, key = directory / "certificate.pem", directory / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", self.certificate]
        subprocess.run([*command, *files], check=True, capture_output=True)
        self.told = queue.Queue()
        self.answers = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"https://localhost:{self._server.server_port}/failures"

    def _handler(self):
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 200 if webhook.answers.empty() else webhook.answers.get()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                webhook.told.put((dict(self.headers), json.loads(body)))

            def log_message(self, *_):
                pass

        return Handler

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook(tmp_path):
    server = Webhook(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def trusting(webhook, tmp_path, monkeypatch):
    """An account whose Step Functions trusts the server's certificate."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(webhook.certificate))
    account = Emulator(tmp_path / "state")
    yield account
    account.stop()


class Notices:
    """The state machine that calls a webhook, with a role that may call ``allowed``."""

    def __init__(self, account, url, allowed):
        events, iam, self.states = (account.client(name) for name in ("events", "iam", "stepfunctions"))
        key = {"ApiKeyAuthParameters": {"ApiKeyName": "X-Token", "ApiKeyValue": "the-token"}}
        made = events.create_connection(Name="notices", AuthorizationType="API_KEY", AuthParameters=key)
        principal = {"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName="notices", AssumeRolePolicyDocument=self.document([principal]))
        statements = chain.notice_statements(self.channels(allowed, made), MACHINE, PLACE)
        iam.put_role_policy(RoleName="notices", PolicyName="notices", PolicyDocument=self.document(statements))
        definition = json.dumps(chain.notice_definition(self.channels(url, made), PLACE, "https://console"))
        self.states.create_state_machine(name="notices", definition=definition, roleArn=f"{ROLE}notices")

    @staticmethod
    def document(statements):
        return json.dumps({"Version": "2012-10-17", "Statement": statements})

    @staticmethod
    def channels(url, made):
        return {"topic_arn": "", "webhook": {"url": url, "connection_arn": made["ConnectionArn"]}}

    def tell(self, **detail):
        """Start it as EventBridge does."""
        given = json.dumps({"detail": detail})
        return self.states.start_execution(stateMachineArn=MACHINE, input=given)["executionArn"]


FAILURE = {
    "stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:m-chain-nightly",
    "executionArn": EXECUTION,
    "status": "FAILED",
    "cause": "The step Train (m_Train) failed with States.TaskFailed.",
}


def test_a_webhook_is_told_of_a_chain_that_failed(webhook, trusting):
    webhook.answers.put(503)  # so it is told again
    Notices(trusting, webhook.url, allowed=webhook.url).tell(**FAILURE)
    log = f"https://console/states/home?region=us-east-1#/v2/executions/details/{EXECUTION}"
    for _ in range(2):
        headers, told = webhook.told.get(timeout=30)
        assert headers["X-Token"] == "the-token"
        assert told == {
            "text": f"m-chain-nightly: FAILED. The step Train (m_Train) failed with States.TaskFailed. Log: {log}",
            "subject": "m-chain-nightly: FAILED",
            "status": "FAILED",
            "execution": EXECUTION,
            "log": log,
        }


def test_a_role_that_may_call_another_address_may_not_call_this_one(webhook, trusting):
    notices = Notices(trusting, webhook.url, allowed=webhook.url + "/others")
    execution = notices.tell(**FAILURE)

    def failure():
        events = notices.states.get_execution_history(executionArn=execution)["events"]
        return next((event["taskFailedEventDetails"] for event in events if event["type"] == "TaskFailed"), None)

    assert "is not authorized to perform: states:InvokeHTTPEndpoint" in wait_for(failure)["cause"]
    assert webhook.told.empty()
