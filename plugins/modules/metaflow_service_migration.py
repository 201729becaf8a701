#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# No module of amazon.aws or community.aws does this. ansible.builtin.uri could ask, but neither sign the upgrade nor
# read the key without showing it to Ansible, and it takes API Gateway's time limit of 29 seconds for a failure.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: metaflow_service_migration
version_added: 0.1.0
short_description: Bring the database schema of a Metaflow metadata service up to date
description:
  - Waits until the service's migration server answers, asks it which migrations are pending, and has it apply them.
  - The server applies migrations while the request waits, and API Gateway ends a request after 29 seconds. So an
    answer that doesn't come is no failure; the module goes on asking until no migration is pending.
  - The server's C(migration_in_progress) is true whenever migrations are pending, running or not, and is ignored.
author:
  - The metaflow-ansible authors
options:
  url:
    description:
      - URL below which the service answers C(/db_schema_status) and C(/upgrade), e.g. that of the API's stage.
      - Directly, the migration server listens on port 8082.
    type: str
    required: true
  state:
    description: With V(status) the module only tells which migrations are pending.
    type: str
    choices: [up_to_date, status]
    default: up_to_date
  api_key:
    description: API key, which is sent as C(x-api-key).
    type: str
  api_key_id:
    description:
      - Id of the API key in API Gateway. The module fetches its value, which so never passes through Ansible.
      - The caller needs the permission C(apigateway:GET) for it.
    type: str
  upgrade_auth:
    description:
      - V(aws_iam) signs the request for the upgrade with the AWS credentials of the module. The principal needs
        C(execute-api:Invoke) for C(PATCH /upgrade).
    type: str
    choices: [none, aws_iam]
    default: none
  wait_timeout:
    description: Longest time in seconds for each wait, for the service to answer and for the schema to be up to date.
    type: int
    default: 600
attributes:
  check_mode:
    description:
      - Tells the pending migrations and applies none.
      - A service that can't be asked, for instance because it doesn't exist yet, is named in a warning.
    support: full
  diff_mode:
    description: Shows the version of the schema and the pending migrations, before and after.
    support: full
  idempotent:
    description: Asks for no upgrade where no migration is pending.
    support: full
notes:
  - O(validate_certs) and O(aws_ca_bundle) also count for O(url).
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the schema of a service behind API Gateway is up to date
  mlops.metaflow.metaflow_service_migration:
    url: "{{ rest_api.invoke_url }}"
    api_key_id: "{{ usage_plan.api_keys['metaflow-prod'].id }}"
    upgrade_auth: aws_iam

- name: Show which migrations are pending
  mlops.metaflow.metaflow_service_migration:
    url: http://metadata.internal.example.org:8082
    state: status
  register: migration
"""

RETURN = r"""
schema:
  description: The schema of the database; in check mode, as it is. Empty where check mode can't ask.
  returned: success
  type: dict
  contains:
    current_version:
      description: Version of the schema.
      type: str
      sample: "20230118020300"
    is_up_to_date:
      description: Whether no migration is pending.
      type: bool
      sample: true
    unapplied_migrations:
      description: The pending migrations.
      type: list
      elements: str
      sample: []
    db_schema_versions:
      description: All versions that the service knows, the newest last.
      type: list
      elements: str
      sample: ["0", "1", "20230118020300"]
"""

import http.client
import json
import math
import socket
import ssl
import time
import urllib.error
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import boto3
    import botocore.exceptions
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

from ansible.module_utils.urls import open_url
from ansible_collections.amazon.aws.plugins.module_utils.botocore import get_aws_connection_info
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import patient_client

#: Seconds for one request: a little more than the 29 that API Gateway gives it.
REQUEST_TIMEOUT = 35
#: Seconds for which a refusal may pass: API Gateway's hosts learn of a new key, stage or policy one after the other.
REFUSAL_GRACE = 90
#: Longest pause in seconds between two requests.
PAUSE = 5

KEYS = ("current_version", "is_up_to_date", "unapplied_migrations", "db_schema_versions")


class Problem(Exception):
    """The service can't be asked; the text says what came instead of an answer, and what to do."""

    def __init__(self, text, patience=math.inf):
        super().__init__(text)
        #: For how many seconds it is worth waiting that the problem passes.
        self.patience = patience


class Unreached(Problem):
    """The request has not arrived."""


class Unanswered(Problem):
    """The request has arrived, or may have, and no answer came."""


def problem(method, url, status, body):
    """Return what an answer other than 200 means.

    :param str body: the answer, of which a part is quoted.
    """
    said = f"{method} {url} was answered with {status} ({excerpt(body)})"
    if status in (401, 403):
        return Problem(
            f"{said}. Is the API key enabled, and in a usage plan of this stage? Does the API's resource policy admit "
            "this machine's address? Does the route demand a signature (upgrade_auth: aws_iam), and may its principal "
            "execute-api:Invoke it?",
            patience=REFUSAL_GRACE,
        )
    if status == 404:
        return Problem(
            f"{said}. Does the URL name the migration server (port 8082) or the API's stage? The service offers "
            "/upgrade only with MF_MIGRATION_ENDPOINTS_ENABLED=1.",
            patience=REFUSAL_GRACE,
        )
    if status == 500 and method == "PATCH" and "upgrade failed" in body:
        return Problem(f"{said}: a migration failed. The service's log says which one, and why.", patience=0)
    if status >= 500:
        return Unanswered(f"{said}. Is the service running, and healthy behind its load balancer? Its log says more.")
    return Problem(f"{said}.", patience=math.inf if status == 429 else 0)


def unanswered(method, url, reason):
    """Return what the exception ``reason`` means, which ended a request before its answer."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Problem(f"{method} {url} failed: {reason}. Is aws_ca_bundle the authority's?", patience=0)
    kind = Unreached if isinstance(reason, ConnectionRefusedError | socket.gaierror) else Unanswered
    return kind(f"{method} {url} got no answer ({reason}). Is the service running, and can it be reached from here?")


def excerpt(body):
    """Return the beginning of an answer on one line, for a message."""
    return " ".join(body.split())[:200]


class Service:
    """The migration server, as this module reaches it."""

    def __init__(self, module):
        self.module = module
        self.url = module.params["url"].rstrip("/")
        self.key = module.params["api_key"]
        if module.params["api_key_id"]:
            client = patient_client(module, "apigateway")
            self.key = client.get_api_key(apiKey=module.params["api_key_id"], includeValue=True)["value"]
            module.no_log_values.add(self.key)

    def schema(self):
        """Return what the service says of its database's schema."""
        body = self._request("GET", "/db_schema_status")
        try:
            answer = json.loads(body)
            return {key: answer[key] for key in KEYS}
        except (ValueError, KeyError, TypeError) as error:
            raise Problem(
                f"GET {self.url}/db_schema_status was answered by something else than the migration server "
                f"({excerpt(body)}).",
                patience=REFUSAL_GRACE,
            ) from error

    def upgrade(self):
        """Have the pending migrations applied, and return when that is done."""
        self._request("PATCH", "/upgrade", sign=self.module.params["upgrade_auth"] == "aws_iam")

    def _request(self, method, path, sign=False):
        url = self.url + path
        headers = self._signature(method, url) if sign else {}
        if self.key:
            headers["x-api-key"] = self.key
        try:
            answer = open_url(
                url,
                method=method,
                headers=headers,
                timeout=REQUEST_TIMEOUT,
                validate_certs=self.module.params["validate_certs"],
                ca_path=self.module.params["aws_ca_bundle"],
                follow_redirects="none",  # they would carry the key elsewhere
                use_netrc=False,  # would replace the signature
            )
            return answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            raise problem(method, url, error.code, error.read().decode(errors="replace")) from error
        except (OSError, http.client.HTTPException) as error:
            raise unanswered(method, url, getattr(error, "reason", error)) from error

    def _signature(self, method, url):
        """Return the headers that sign a request for API Gateway (Signature Version 4)."""
        region, _, connection = get_aws_connection_info(self.module)
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile_name")
        session = boto3.Session(**{name: connection.get(name) for name in names})
        request = AWSRequest(method, url)
        SigV4Auth(session.get_credentials(), "execute-api", region).add_auth(request)
        return dict(request.headers)


def poll(ask, timeout, done=bool):
    """Ask until the answer is ``done``, and return it.

    :param ask: function that returns an answer or raises :class:`Problem`.
    :param timeout: longest time in seconds.
    :raises Problem: the last one, or that the answer is not what is awaited; the text has the time.
    """
    started, pause = time.monotonic(), 0.5
    passes_until = math.inf
    while True:
        try:
            answer = ask()
            if done(answer):
                return answer
            reason = f"these migrations are pending still: {', '.join(answer['unapplied_migrations'])}."
        except Problem as error:
            reason = str(error)
            may_last = error.patience == math.inf
            passes_until = math.inf if may_last else min(passes_until, time.monotonic() + error.patience)
        now = time.monotonic()
        if now >= min(started + timeout, passes_until):
            raise Problem(f"after {now - started:.0f} s, {reason}")
        time.sleep(pause)
        pause = min(pause * 2, PAUSE)


def upgraded(service, timeout):
    """Have the service upgraded, and return the schema once it is up to date."""
    lost = []

    def upgrade():
        try:
            service.upgrade()
        except Unanswered as error:  # what came of it, the schema tells
            lost.append(f" The upgrade: {error}")
        return True

    poll(upgrade, timeout)
    try:
        return poll(service.schema, timeout, done=lambda schema: schema["is_up_to_date"])
    except Problem as error:
        raise Problem(f"{error}{''.join(lost)}") from error


def shown(schema):
    """Return what a diff shows of a schema."""
    return {key: schema[key] for key in ("current_version", "unapplied_migrations")}


def migrate(module):
    """Do what the module is for, and return its result."""
    service, timeout = Service(module), module.params["wait_timeout"]
    schema = poll(service.schema, 0 if module.check_mode else timeout)
    if schema["is_up_to_date"] or module.params["state"] == "status":
        return {"changed": False, "schema": schema}
    if module.check_mode:
        after = {"current_version": schema["db_schema_versions"][-1], "unapplied_migrations": []}
        return {"changed": True, "schema": schema, "diff": {"before": shown(schema), "after": after}}
    after = upgraded(service, timeout)
    return {"changed": True, "schema": after, "diff": {"before": shown(schema), "after": shown(after)}}


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "url": {"required": True},
            "state": {"choices": ["up_to_date", "status"], "default": "up_to_date"},
            "api_key": {"no_log": True},
            "api_key_id": {"no_log": False},
            "upgrade_auth": {"choices": ["none", "aws_iam"], "default": "none"},
            "wait_timeout": {"type": "int", "default": 600},
        },
        mutually_exclusive=[("api_key", "api_key_id")],
        supports_check_mode=True,
    )
    try:
        result = migrate(module)
    except (Problem, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        if not module.check_mode:
            module.fail_json(msg=f"Failed to bring the schema of {module.params['url']} up to date: {error}")
        # An earlier task of the same run may be about to make or mend what is missing here.
        module.warn(f"The schema of {module.params['url']} can't be checked: {error}")
        result = {"changed": False, "schema": {}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
