#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# community.aws.secretsmanager_secret takes the value as an argument: it would have to stand in the play, and each
# run would write it again. Here Secrets Manager generates the value, and only where there is none.

DOCUMENTATION = r"""
---
module: generated_secret
version_added: 0.1.0
short_description: Keep a secret whose value Secrets Manager generates
description:
  - Makes a secret in Secrets Manager with a value that C(GetRandomPassword) generates. The value is in no argument,
    result, diff or log, and the module needs no right to read it.
  - A value that exists is never overwritten, whoever wrote it, unless O(rotate=true).
  - A secret that is scheduled for deletion is restored, with the value that it had; a warning says so.
options:
  name:
    description: The name of the secret.
    type: str
    required: true
  state:
    description: Whether the secret is to exist.
    type: str
    choices: [present, absent]
    default: present
  description:
    description: A text for people. Without it, the present one stays.
    type: str
  kms_key_id:
    description:
      - The id, ARN or alias of the KMS key that encrypts the value.
      - Without it, the present one stays, and a new secret gets the account's C(aws/secretsmanager).
    type: str
  template:
    description:
      - Makes the value a JSON object with these fixed fields, and the generated text under O(generate_key).
      - It is shown in logs, so it is no place for secrets.
      - Like the other options of the value, it counts only when a value is generated.
    type: dict
  generate_key:
    description: The field of the JSON object that gets the generated text. Only with O(template).
    type: str
    default: password
  password_length:
    description: The number of characters to generate, 8 to 4096.
    type: int
    default: 32
  exclude_characters:
    description:
      - Characters that are not used.
      - The default leaves out what RDS refuses in a password and what ends a quoted text in shells and JSON.
    type: str
    default: "\"'@/\\ `$"
  exclude_punctuation:
    description: Use letters and digits only.
    type: bool
    default: false
  rotate:
    description: Generate a new value now, at every run. The old one stays as version C(AWSPREVIOUS).
    type: bool
    default: false
  recovery_window:
    description:
      - With O(state=absent), for how many days (7 to 30) the secret can be restored.
      - V(0) deletes it at once and for ever, also one that is scheduled for deletion.
    type: int
    default: 30
  wait:
    description: Wait until the secret is there or gone.
    type: bool
    default: true
  wait_timeout:
    description: The longest wait, in seconds.
    type: int
    default: 600
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
author:
  - The metaflow-ansible authors
attributes:
  check_mode:
    description: Predicts the secret. The last six characters of a new ARN are random, and predicted as C(??????).
    support: full
  diff_mode:
    description: Shows the secret's settings and whether it has a value, never the value.
    support: full
  idempotent:
    description: Except with O(rotate=true), which makes a new version on purpose.
    support: partial
notes:
  - Needs C(DescribeSecret) of Secrets Manager and, for what it does, C(GetRandomPassword), C(CreateSecret),
    C(PutSecretValue), C(UpdateSecret), C(TagResource), C(UntagResource), C(RestoreSecret) and C(DeleteSecret).
  - With O(kms_key_id) also C(GenerateDataKey) and C(Decrypt) of KMS, and C(DescribeKey) for an alias.
"""

EXAMPLES = r"""
- name: Ensure the password of the metadata database
  mlops.metaflow.generated_secret:
    name: metaflow-prod/database
    kms_key_id: alias/metaflow-prod
    template: {username: metaflow, dbname: metaflow}
    tags: {stack: metaflow-prod}

- name: Replace the password
  mlops.metaflow.generated_secret:
    name: metaflow-prod/database
    template: {username: metaflow, dbname: metaflow}
    rotate: true

- name: Delete it for ever
  mlops.metaflow.generated_secret:
    name: metaflow-prod/database
    state: absent
    recovery_window: 0
"""

RETURN = r"""
secret:
  description: The secret, without its value; empty with O(state=absent).
  returned: success
  type: dict
  contains:
    arn:
      description: The ARN.
      type: str
      sample: arn:aws:secretsmanager:us-east-1:123456789012:secret:metaflow-prod/database-a1B2c3
    name:
      description: The name.
      type: str
      sample: metaflow-prod/database
    version_id:
      description: The id of the current version; missing in the prediction of check mode for a new secret.
      type: str
      sample: 4f0b5f0e-5a56-4f3b-9d26-3f5a0a7b0c11
    has_value:
      description: Whether the secret has a current version.
      type: bool
      sample: true
    deleted_date:
      description: Until when it can be restored; missing where it is not scheduled for deletion.
      type: str
      sample: "2026-01-31T03:04:05+00:00"
    description:
      description: The text for people.
      type: str
      sample: The master user of the metadata database
    kms_key_id:
      description: The KMS key as Secrets Manager names it; missing for the account's C(aws/secretsmanager).
      type: str
      sample: alias/metaflow-prod
    tags:
      description: The tags.
      type: dict
      sample: {stack: metaflow-prod}
"""

import json
from uuid import uuid4

from ansible.module_utils.common.warnings import warn
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    options,
    patient_client,
)


class GeneratedSecret(AwsResource):
    kind = "secret"
    service = "secretsmanager"
    result_key = "secret"

    def __init__(self, module):
        super().__init__(module)
        # A version takes the token of its call as its id, and a call that the SDK repeats makes no second version.
        self.token = str(uuid4())

    def declare(self):
        params = self.params
        desired = {"Name": params["name"], "HasValue": True, "DeletedDate": None}
        if params["description"] is not None:
            desired["Description"] = params["description"] or None
        if params["kms_key_id"]:
            desired["KmsKeyId"] = params["kms_key_id"]
        if params["rotate"]:
            desired["VersionId"] = self.token
        if params["tags"] is not None:
            desired["tags"] = params["tags"]
        return desired

    def read(self):
        try:
            secret = self.client.describe_secret(SecretId=self.name)
        except self.client.exceptions.ResourceNotFoundException:
            return None
        deleted = secret.get("DeletedDate")
        if deleted and self.params["state"] == "absent" and self.params["recovery_window"]:
            return None
        stages = secret.get("VersionIdsToStages", {})
        current = next((version for version, labels in stages.items() if "AWSCURRENT" in labels), None)
        return {
            **{key: secret[key] for key in ("ARN", "Name", "Description", "KmsKeyId") if key in secret},
            "DeletedDate": deleted,
            "HasValue": current is not None,
            "VersionId": current,
            "tags": boto3_tag_list_to_ansible_dict(secret.get("Tags", [])),
        }

    def refine(self, desired, live):
        if live is None:
            return desired
        if live["DeletedDate"]:
            warn(f"Secret '{self.name}' is scheduled for deletion; it is restored with the value that it has.")
        if "KmsKeyId" in desired and self._is_same_key(desired["KmsKeyId"], live.get("KmsKeyId")):
            return {**desired, "KmsKeyId": live["KmsKeyId"]}
        return desired

    def _is_same_key(self, declared, live):
        """Compare two names of a KMS key; Secrets Manager shows an id or an ARN, of the key or of its alias."""
        declared, live = key_name(declared), key_name(live)
        if declared == live or not declared.startswith("alias/") or live is None or live.startswith("alias/"):
            return declared == live
        key = patient_client(self.module, "kms").describe_key(KeyId=self.params["kms_key_id"])["KeyMetadata"]
        return key["KeyId"] == live

    def create(self, desired):
        settings = {key: desired[key] for key in ("Description", "KmsKeyId") if desired.get(key)}
        tags = ansible_dict_to_boto3_tag_list(desired.get("tags", {}))
        self.client.create_secret(Name=self.name, Tags=tags, **settings, **self._value())

    def update(self, live, desired, changes):
        if "DeletedDate" in changes:
            self.client.restore_secret(SecretId=live["ARN"])
        settings = {key: changes[key] or "" for key in ("Description", "KmsKeyId") if key in changes}
        if settings:
            self.client.update_secret(SecretId=live["ARN"], **settings)
        if "HasValue" in changes or "VersionId" in changes:
            self.client.put_secret_value(SecretId=live["ARN"], **self._value())

    def delete(self, live):
        days = self.params["recovery_window"]
        how = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
        self.client.delete_secret(SecretId=live["ARN"], **how)

    def tag(self, live, tags):
        self.client.tag_resource(SecretId=live["ARN"], Tags=ansible_dict_to_boto3_tag_list(tags))

    def untag(self, live, keys):
        self.client.untag_resource(SecretId=live["ARN"], TagKeys=keys)

    def predict(self, desired):
        return {"ARN": self.arn(f"secret:{self.name}-??????")}

    def _value(self):
        """Return a new value, as the arguments of the call that stores it."""
        params = self.params
        generated = self.client.get_random_password(
            PasswordLength=params["password_length"],
            ExcludeCharacters=params["exclude_characters"],
            ExcludePunctuation=params["exclude_punctuation"],
            RequireEachIncludedType=True,
        )["RandomPassword"]
        template = params["template"]
        value = generated if template is None else json.dumps({**template, params["generate_key"]: generated})
        # Nothing here returns them; should an error of AWS quote one, Ansible blots it out.
        self.module.no_log_values.update({generated, value})
        return {"SecretString": value, "ClientRequestToken": self.token}


def key_name(key):
    """Return the id of a KMS key, or ``alias/…``, from an ARN or from itself; None stays None."""
    return key and key.split(":")[-1].removeprefix("key/")


def problem(params):
    """Return the sentence for the first option that can't be, or None."""
    if params["recovery_window"] != 0 and not 7 <= params["recovery_window"] <= 30:
        return f"recovery_window is {params['recovery_window']}, and must be 0 (delete at once) or 7 to 30 days."
    if not 8 <= params["password_length"] <= 4096:
        return f"password_length is {params['password_length']}, and must be 8 to 4096."
    if params["generate_key"] in (params["template"] or {}):
        return f"template has a value for '{params['generate_key']}', which generate_key says is generated."
    return None


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"type": "str", "required": True},
            description={"type": "str"},
            kms_key_id={"type": "str"},
            template={"type": "dict"},
            generate_key={"type": "str", "default": "password", "no_log": False},
            password_length={"type": "int", "default": 32, "no_log": False},
            exclude_characters={"type": "str", "default": "\"'@/\\ `$"},
            exclude_punctuation={"type": "bool", "default": False},
            rotate={"type": "bool", "default": False},
            recovery_window={"type": "int", "default": 30},
            **TAG_OPTIONS,
        ),
        supports_check_mode=True,
    )
    wrong = problem(module.params)
    if wrong:
        module.fail_json(msg=wrong)
    GeneratedSecret(module).run()


if __name__ == "__main__":
    main()
