#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# amazon.aws and community.aws (10.1) have no module for connections of EventBridge.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: event_connection
version_added: 0.1.0
short_description: Manage connections of EventBridge
description:
  - Creates, changes and deletes a connection, by which state machines and EventBridge authorize their calls of an HTTPS
    address with an API key in a header.
  - The key is read from a secret of Secrets Manager. It passes through no variable, and is in no result and no diff.
  - EventBridge shows no key, so the description holds the version of the secret that it was read from. When the secret
    has another version, the next run writes the connection again.
  - Connections have no tags.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the connection, unique in account and region.
    type: str
    required: true
  api_key_name:
    description: Name of the header. Needed with O(state=present).
    type: str
  api_key_secret:
    description: Name or ARN of the secret whose text is the header's value. Needed with O(state=present).
    type: str
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure that calls of the webhook are authorized
  mlops.metaflow.event_connection:
    name: failures
    api_key_name: Authorization
    api_key_secret: metaflow-prod/flows/WEBHOOK_TOKEN

- name: Ensure that the connection is gone
  mlops.metaflow.event_connection:
    name: failures
    state: absent
"""

RETURN = r"""
event_connection:
  description: The connection; in check mode, as it would be. Empty when O(state=absent).
  returned: always
  type: dict
  contains:
    auth_parameters:
      description: How calls are authorized, without the key.
      type: dict
      sample: {"api_key_auth_parameters": {"api_key_name": "Authorization"}}
    authorization_type: {type: str, sample: API_KEY, description: What the authorization is called.}
    connection_arn:
      description: ARN of the connection, which ends with an id that AWS makes.
      type: str
      sample: arn:aws:events:eu-west-1:123456789012:connection/failures/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9
    connection_state: {type: str, sample: AUTHORIZED, description: What EventBridge says of it.}
    description: {type: str, sample: "failures, version 1 of it", description: The secret and its version.}
    name: {type: str, sample: failures, description: Its name.}
    secret_arn:
      description: ARN of the secret in which EventBridge keeps the key.
      type: str
      sample: arn:aws:secretsmanager:eu-west-1:123456789012:secret:events!connection/failures/0a1b2c3d-AbCdEf
"""

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import absent_when
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    AwsResource,
    Failed,
    options,
    patient_client,
)

SHOWN = ("Name", "Description", "AuthorizationType", "AuthParameters", "ConnectionArn", "ConnectionState", "SecretArn")

#: What a connection is on its way to; it stays as it was only in others.
ON_THE_WAY = ("CREATING", "UPDATING", "AUTHORIZING", "DEAUTHORIZING")


class Connection(AwsResource):
    """A connection of EventBridge, keyed by its name."""

    kind = "event connection"
    service = "events"
    result_key = "event_connection"

    def declare(self):
        return {
            "Name": self.name,
            "Description": f"{self.params['api_key_secret']}, version {self._version()}",
            "AuthorizationType": "API_KEY",
            "AuthParameters": {"ApiKeyAuthParameters": {"ApiKeyName": self.params["api_key_name"]}},
        }

    def _version(self):
        """Return the id of the secret's current version; in check mode, a word if a run would have made the secret."""
        with absent_when("ResourceNotFoundException"):
            versions = self._secrets.describe_secret(SecretId=self.params["api_key_secret"])["VersionIdsToStages"]
            return next(version for version, stages in versions.items() if "AWSCURRENT" in stages)
        if not self.module.check_mode:
            raise Failed(f"there is no secret '{self.params['api_key_secret']}'")
        return "to come"

    @property
    def _secrets(self):
        return patient_client(self.module, "secretsmanager")

    def read(self):
        with absent_when("ResourceNotFoundException"):
            live = self.client.describe_connection(Name=self.name)
            return {key: live[key] for key in SHOWN if key in live}
        return None

    def predict(self, desired):
        return {"ConnectionArn": self.arn(f"connection/{self.name}")}

    def create(self, desired):
        self.client.create_connection(**self._with_key(desired))

    def update(self, live, desired, changes):
        self.client.update_connection(**self._with_key(desired))

    def _with_key(self, desired):
        secret = self._secrets.get_secret_value(SecretId=self.params["api_key_secret"])["SecretString"]
        key = {**desired["AuthParameters"]["ApiKeyAuthParameters"], "ApiKeyValue": secret}
        return {**desired, "AuthParameters": {"ApiKeyAuthParameters": key}}

    def delete(self, live):
        self.client.delete_connection(Name=self.name)

    def deleting(self, live):
        return live["ConnectionState"] == "DELETING"

    def settled(self, live):
        if live["ConnectionState"] not in ("AUTHORIZED", *ON_THE_WAY):
            raise Failed(f"EventBridge says {live['ConnectionState']}")
        return live["ConnectionState"] == "AUTHORIZED"


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            # The header's and the secret's names; the key itself is in neither.
            api_key_name={"no_log": False},
            api_key_secret={"no_log": False},
        ),
        required_if=[("state", "present", ["api_key_name", "api_key_secret"])],
        supports_check_mode=True,
    )
    Connection(module).run()


if __name__ == "__main__":
    main()
