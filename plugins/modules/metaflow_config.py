#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
---
module: metaflow_config
version_added: 0.1.0
short_description: Write a profile of Metaflow's client configuration
description:
  - Writes C(config_<profile>.json) (C(config.json) without a profile), from which Metaflow's client takes its settings.
  - The key of the metadata service is fetched by the module itself (O(api_key_id)), on the host that gets the file, so
    that it is in no argument, result, diff or log.
  - The file remembers which keys were written here, in its entry C(_managed_by_ansible), which Metaflow ignores. A key
    that was written here and is no longer declared is removed. All other keys are a person's and stay.
  - Everything is checked before anything is touched. The file is replaced in one step. At every run it gets mode 0600
    and its directory 0700.
  - Before its first change a file that was not written here is copied to C(<file>.<time>.bak), mode 0600.
options:
  state:
    description:
      - V(present) writes the file.
      - V(absent) removes the keys that were written here, and the file if nothing else is in it.
    type: str
    choices: [present, absent]
    default: present
  metaflow_profile:
    description:
      - Metaflow's profile, as in C(METAFLOW_PROFILE). Letters, digits, C(.), C(_) and C(-).
      - Not to be confused with O(profile), which chooses AWS credentials.
    type: str
  home:
    description:
      - The directory of the configuration files, as in C(METAFLOW_HOME).
    type: path
    default: ~/.metaflowconfig
  config:
    description:
      - Metaflow's settings, with the prefix C(METAFLOW_). A value V(null) removes the key, whoever wrote it.
      - All values are written as text; a map becomes JSON in text, as Metaflow expects it.
      - Required with O(state=present).
    type: dict
  secret_config:
    description:
      - Like O(config), for values that nobody may see.
      - Only accepted here are keys that end in KEY, TOKEN, PASSWORD, SECRET or CREDENTIALS, and the free maps
        C(METAFLOW_SERVICE_HEADERS), C(METAFLOW_DATATOOLS_CLIENT_PARAMS) and C(METAFLOW_DATATOOLS_SESSION_VARS).
    type: dict
  api_key_id:
    description:
      - The id (not the value) of the API Gateway key for the metadata service.
      - Its value becomes C(METAFLOW_SERVICE_AUTH_KEY).
      - Needs C(apigateway:GET) on the key, and boto3 on the host.
      - In check mode a key that does not exist yet is taken for one that the run will create.
    type: str
  purge:
    description:
      - Remove all keys that are not declared, also those that a person wrote.
    type: bool
    default: false
  strict:
    description:
      - Fail on keys that Metaflow does not read, instead of warning of them.
    type: bool
    default: false
  metaflow_python:
    description:
      - The Python interpreter that Metaflow is installed for. It is asked for a key that this collection does not know.
      - Without it, the interpreter that runs the module.
    type: path
  owner:
    description:
      - The user that owns file and directory. Without it, a file that exists keeps its owner.
    type: str
  group:
    description:
      - The group of file and directory. Without it, a file that exists keeps its group.
    type: str
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
requirements:
  - boto3 and botocore, only with O(api_key_id)
author:
  - The metaflow-ansible authors
attributes:
  check_mode:
    description: Reads the file and the API key, and predicts the change.
    support: full
  diff_mode:
    description: Shows the keys that change, secrets masked.
    support: full
  idempotent:
    description: A file that says the same, however it is laid out, is left alone.
    support: full
notes:
  - Where the file belongs to another user, C(become_user) is better than root with O(owner).
seealso:
  - module: mlops.metaflow.metaflow_verify
"""

EXAMPLES = r"""
- name: Write the profile of the production stack
  mlops.metaflow.metaflow_config:
    metaflow_profile: prod
    region: us-east-1
    api_key_id: a1b2c3d4e5
    config:
      METAFLOW_DEFAULT_METADATA: service
      METAFLOW_SERVICE_URL: https://f6g7h8i9j0.execute-api.us-east-1.amazonaws.com/api/
      METAFLOW_DEFAULT_DATASTORE: s3
      METAFLOW_DATASTORE_SYSROOT_S3: s3://example-metaflow-prod/metaflow
      METAFLOW_BATCH_DEFAULT_TAGS: {team: research}

- name: Remove what was written
  mlops.metaflow.metaflow_config:
    metaflow_profile: prod
    state: absent
"""

RETURN = r"""
path:
  description: The configuration file. Ansible adds its C(owner), C(group), C(mode) and C(size).
  returned: when the file has been looked at
  type: str
  sample: /home/ada/.metaflowconfig/config_prod.json
managed_keys:
  description: The keys that are written by this module.
  returned: success
  type: list
  elements: str
  sample: [METAFLOW_DEFAULT_METADATA, METAFLOW_SERVICE_AUTH_KEY, METAFLOW_SERVICE_URL]
backup_file:
  description: The copy of a file that was not written here.
  returned: when one was made
  type: str
  sample: /home/ada/.metaflowconfig/config_prod.json.20260102T030405Z.bak
"""

import re
import sys
from functools import partial

from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.warnings import warn
from ansible_collections.amazon.aws.plugins.module_utils.botocore import HAS_BOTO3
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import metaflow_config as conf
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_file import ConfigFile, owner_problems
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_probe import ProbeError, ask
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import error_code, patient_client

AUTH_KEY = "METAFLOW_SERVICE_AUTH_KEY"


def declaration(module):
    """Return the declared keys as text, without the API key; fail with a sentence for each that can't be."""
    if module.params["config"] is None:  # required_if takes a null for a value
        refuse(module, ["config is missing; with state=present it says what Metaflow's settings are."])
    open_config, secret_config = (module.params[name] or {} for name in ("config", "secret_config"))
    # The invocation that Ansible prints under -vvv holds what is refused below.
    module.no_log_values.update(conf.secrets_in(open_config))
    declared = {key: conf.rendered(value) for key, value in {**open_config, **secret_config}.items()}
    problems = [
        f"{key} is a secret, and config is shown in logs; give it in secret_config."
        for key, value in open_config.items()
        if conf.is_secret(key) and value is not None
    ]
    if module.params["api_key_id"] and AUTH_KEY in declared:
        problems.append(f"{AUTH_KEY} is declared, and api_key_id says to fetch it; give one of them.")
    refuse(module, problems + conf.value_problems(declared))
    note_unknown(module, declared)
    return declared


def refuse(module, problems):
    """Fail with all ``problems``, if there are any."""
    if problems:
        module.fail_json(msg=" ".join(problems))


def note_unknown(module, declared):
    """Warn of (with ``strict``: fail on) keys that Metaflow doesn't read; ask it only for those that we don't know."""
    unknown = conf.unknown_keys(declared)
    if unknown:
        try:
            answer = ask(module, module.params["metaflow_python"] or sys.executable, "keys")
        except ProbeError as error:
            module.debug(f"Metaflow could not be asked for its keys, so this collection's list counts: {error}")
        else:
            unknown = [key for key in unknown if key not in answer["keys"]]
    messages = [conf.unknown_message(key) for key in unknown]
    if module.params["strict"]:
        refuse(module, messages)
    for message in messages:
        warn(message)


def fetch_api_key(module):
    """Return the value of the API Gateway key; from here on Ansible blots it out of all that the module returns."""
    if not HAS_BOTO3:
        module.fail_json(msg=missing_required_lib("boto3 and botocore", reason="for api_key_id"))
    from botocore.exceptions import BotoCoreError, ClientError

    key_id = module.params["api_key_id"]
    client = patient_client(module, "apigateway")
    try:
        value = client.get_api_key(apiKey=key_id, includeValue=True)["value"]
    except (BotoCoreError, ClientError) as error:
        if module.check_mode and isinstance(error, ClientError) and error_code(error) == "NotFoundException":
            return "(created-by-the-run)"
        module.fail_json_aws(error, msg=f"Failed to fetch the API Gateway key '{key_id}' (api_key_id)")
    module.no_log_values.add(value)
    return value


def preview(module, file, planned):
    """Return what the file holds and what it should hold; None is "no file". Fail where either can't be used."""
    try:
        before = file.read()
    except conf.ConfigError as error:
        module.fail_json(path=file.name, msg=str(error))
    after = planned(before)
    if module.params["state"] == "present":
        refuse(module, conf.whole_problems(after))
    return before, after


def ensure(module, file, planned):
    """Make the file what ``planned`` makes of its content; return the module's result."""
    result, permissions = {}, {"before": {}, "after": {}}
    before, after = preview(module, file, planned)
    if before != after and not module.check_mode:
        with file.locked():
            # Another writer may have come first; the look above was to refuse before the directory is made.
            before, after = preview(module, file, planned)
            if before is not None and conf.MANAGED not in before:
                result["backup_file"] = file.back_up()
            if before != after:
                file.replace(after)
    repaired = module.params["state"] == "present" and file.repair(permissions)
    shown_before, shown_after = conf.shown_change(before or {}, after or {})
    result["diff"] = {
        "before_header": file.name,
        "after_header": file.name,
        "before": {**shown_before, **permissions["before"]},
        "after": {**shown_after, **permissions["after"]},
    }
    managed = (after or {}).get(conf.MANAGED, [])
    return {"changed": before != after or repaired, "path": file.name, "managed_keys": managed, **result}


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "state": {"choices": ["present", "absent"], "default": "present"},
            "metaflow_profile": {"type": "str"},
            "home": {"type": "path", "default": "~/.metaflowconfig"},
            "config": {"type": "dict"},
            "secret_config": {"type": "dict", "no_log": True},
            "api_key_id": {"type": "str", "no_log": False},
            "purge": {"type": "bool", "default": False},
            "strict": {"type": "bool", "default": False},
            "metaflow_python": {"type": "path"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
        },
        supports_check_mode=True,
        check_boto3=False,
    )
    params, profile = module.params, module.params["metaflow_profile"]
    if profile is not None and not re.fullmatch(r"\w[\w.-]*", profile, re.ASCII):
        refuse(module, [f"metaflow_profile is '{profile}', and must be of letters, digits, '.', '_' and '-'."])
    refuse(module, owner_problems(params["owner"], params["group"]))
    file = ConfigFile(module, params["home"], conf.file_name(profile))
    planned = conf.plan_absent
    if params["state"] == "present":
        declared = declaration(module)
        if params["api_key_id"]:
            declared[AUTH_KEY] = fetch_api_key(module)
        planned = partial(conf.plan, declared=declared, purge=params["purge"])
    try:
        result = ensure(module, file, planned)
    except OSError as error:
        module.fail_json(path=file.name, msg=f"{error.filename or file.name}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
