#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# A lookup would bring the value to the controller, and into the arguments of a task. Here the machine that needs a
# secret fetches it with its own permissions. It uses boto3 alone: AnsibleAWSModule asks for a newer
# one than Debian 12 has.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: secret_file
version_added: 0.1.0
short_description: Write a secret of Secrets Manager into a file of this machine
description:
  - Fetches a secret with the credentials of the machine where the module runs, such as an instance profile, and writes
    it into a file. The value is in no argument, result, diff or log.
  - The file ends with a newline, and is replaced as a whole. Until it has its owner and mode nobody but the module's
    user can read it.
author:
  - The metaflow-ansible authors
options:
  name:
    description: The secret, by name or ARN.
    type: str
    required: true
  key:
    description: The field of the secret's JSON object to write. Without it, the whole text is written.
    type: str
  path:
    description: The file. Its directory must exist.
    type: path
    required: true
  region:
    description: The AWS region of the secret.
    type: str
    required: true
extends_documentation_fragment:
  - ansible.builtin.files
attributes:
  check_mode:
    description: Compares without writing. A secret that isn't there yet counts as a change.
    support: full
  diff_mode:
    description: Shows owner and mode, never the value.
    support: partial
  idempotent:
    description: Writes only what differs.
    support: full
notes:
  - Needs C(secretsmanager:GetSecretValue), and C(kms:Decrypt) for the key that encrypts the secret.
requirements:
  - boto3
"""

EXAMPLES = r"""
- name: Have the machine fetch the database's password
  mlops.metaflow.secret_file:
    name: metaflow-prod/evidently/database_password
    region: eu-west-1
    path: /etc/evidently/secrets/database_password
    owner: root
    mode: "0600"
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/evidently/secrets/database_password
version_id:
  description: The version of the secret that the file holds. Empty for a secret that isn't there yet, in check mode.
  returned: success
  type: str
  sample: 4f0b5f0e-5a56-4f3b-9d26-3f5a0a7b0c11
"""

import json
import os
import tempfile
import traceback
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    MISSING = None
except ImportError:
    MISSING = traceback.format_exc()


class Unusable(Exception):
    """The secret holds nothing that can be written; the message says what it holds instead."""


def fetch(params):
    """Return the text to write, and the version of the secret."""
    # An older boto3 does not read the variable by itself.
    client = boto3.client("secretsmanager", params["region"], endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))
    answer = client.get_secret_value(SecretId=params["name"])
    if "SecretString" not in answer:
        raise Unusable("it holds bytes, and no text")
    return field(answer["SecretString"], params["key"]), answer["VersionId"]


def field(text, key):
    """Return a field of a JSON object, or the whole text if ``key`` is None."""
    if key is None:
        return text
    try:
        value = json.loads(text)[key]
    except (ValueError, KeyError, TypeError):
        raise Unusable(f"it is no JSON object with the field '{key}'") from None
    if not isinstance(value, str):
        raise Unusable(f"its field '{key}' is no text")
    return value


def write(module, path, content):
    """Replace a file by one that only this user can read yet."""
    os.umask(0o077)
    descriptor, name = tempfile.mkstemp(dir=module.tmpdir)
    os.close(descriptor)
    Path(name).write_bytes(content)
    module.atomic_move(name, str(path))


def converge(module):
    """Do what the module is for, and return its result."""
    path = Path(module.params["path"])
    try:
        text, version = fetch(module.params)
    except ClientError as error:
        if not (module.check_mode and error.response["Error"]["Code"] == "ResourceNotFoundException"):
            raise
        return {"changed": True, "path": str(path), "version_id": ""}
    module.no_log_values.add(text)
    content = (text + "\n").encode()
    changed = not path.is_file() or path.read_bytes() != content
    if changed and not module.check_mode:
        write(module, path, content)
    if path.is_file():
        arguments = module.load_file_common_arguments({**module.params, "path": str(path)})
        changed = module.set_fs_attributes_if_different(arguments, changed)
    return {"changed": changed, "path": str(path), "version_id": version}


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"required": True},
            "key": {"no_log": False},
            "path": {"type": "path", "required": True},
            "region": {"required": True},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    if MISSING:
        module.fail_json(msg=missing_required_lib("boto3"), exception=MISSING)
    secret, path = module.params["name"], module.params["path"]
    if not Path(path).parent.is_dir():
        module.fail_json(msg=f"The directory of {path} is missing; make it first, with the mode that its secrets need.")
    try:
        result = converge(module)
    except (Unusable, BotoCoreError, ClientError) as error:
        module.fail_json(
            msg=f"Failed to fetch the secret {secret}: {error}. Is it there, and may this machine's role"
            " secretsmanager:GetSecretValue it, and kms:Decrypt with its key?"
        )
    except OSError as error:
        module.fail_json(msg=f"Failed to write {path}: {error.strerror}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
