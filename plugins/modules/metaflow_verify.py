#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
---
module: metaflow_verify
version_added: 0.1.0
short_description: Ask the installed Metaflow whether a client configuration works
description:
  - Runs Metaflow's own client, in its own interpreter, with one profile of the configuration and nothing else.
  - Confirms that the metadata service answers with its version and lists its flows, and that the root of the datastore
    can be listed where it is in S3.
  - Reads only. The key of the service is never shown.
  - AWS credentials, region and C(AWS_ENDPOINT_URL) are those of the environment of the task, as for a person who works
    on this host. C(METAFLOW_*) variables of the environment and a C(.metaflow) directory have no say.
options:
  metaflow_profile:
    description:
      - Metaflow's profile, as in C(METAFLOW_PROFILE). Without it, the default profile C(config.json).
    type: str
  home:
    description:
      - The directory of the configuration files, as in C(METAFLOW_HOME).
    type: path
    default: ~/.metaflowconfig
  metaflow_python:
    description:
      - The Python interpreter that Metaflow is installed for.
      - Without it, the interpreter that runs the module.
    type: path
  timeout:
    description:
      - Seconds until the check is ended. Metaflow waits for a service that is silent for ever.
    type: int
    default: 30
author:
  - The metaflow-ansible authors
attributes:
  check_mode:
    description: Reads only, so it does the same; without a configuration file it does nothing and says so.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  idempotent:
    description: Never changes anything.
    support: full
seealso:
  - module: mlops.metaflow.metaflow_config
"""

EXAMPLES = r"""
- name: Verify that Metaflow reaches its service and its datastore
  mlops.metaflow.metaflow_verify:
    metaflow_profile: prod
    metaflow_python: /opt/flows/.venv/bin/python
"""

RETURN = r"""
path:
  description: The configuration file that was tried.
  returned: always
  type: str
  sample: /home/ada/.metaflowconfig/config_prod.json
metaflow_version:
  description: The version of the installed Metaflow.
  returned: success, with a configuration file
  type: str
  sample: 2.19.39
service_url:
  description: The address of the metadata service.
  returned: success, with a configuration file
  type: str
  sample: https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/api/
service_version:
  description: The version that the metadata service gives.
  returned: success, with a configuration file
  type: str
  sample: 2.5.0
flows:
  description: How many flows the service knows.
  returned: success, with a configuration file
  type: int
  sample: 3
datastore:
  description: The type of the datastore. Only C(s3) is looked into.
  returned: success, with a configuration file
  type: str
  sample: s3
datastore_root:
  description: The root of the datastore.
  returned: success, with a configuration file
  type: str
  sample: s3://example-metaflow-prod/metaflow
"""

import sys
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.metaflow.plugins.module_utils import metaflow_config as conf
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_probe import ProbeError, ask

#: What each kind of ProbeError means, and what to do.
MESSAGES = {
    "python": "{python} could not run Metaflow's client: {detail}. Set metaflow_python to the interpreter of Metaflow.",
    "metaflow": "Metaflow is not installed for {python}: {detail}. Set metaflow_python to the interpreter that has it.",
    "config": "Metaflow can't use {path}: {detail}",
    "local": "{path} is not for a service: METAFLOW_DEFAULT_METADATA is '{detail}', and must be 'service'.",
    "refused": "The metadata service at {url} refused the request: {detail}. METAFLOW_SERVICE_AUTH_KEY in {path} is "
    "missing or not a key of the API's usage plan, or the API does not admit this host's address. "
    "metaflow_config fetches the key (api_key_id).",
    "unreachable": "The metadata service at {url} could not be reached: {detail}. Check METAFLOW_SERVICE_URL in {path} "
    "and whether this host may connect to it.",
    "timeout": "The metadata service at {url}, or the datastore, was silent: {detail}. A firewall or a security group "
    "may drop the connection; check METAFLOW_SERVICE_URL in {path}, or raise timeout.",
    "service": "What answers at {url} is no working metadata service: {detail}",
    "datastore": "The metadata service works, the datastore does not: {detail}. Check the bucket's name and region, "
    "and the AWS credentials of this task.",
}


def read(module, path):
    """Return the configuration; fail where there is no such profile or the file is broken."""
    if not path.exists():
        others = sorted(file.name for file in path.parent.glob("config*.json"))
        found = f"There are: {', '.join(others)}." if others else f"There is no profile in {path.parent}."
        module.fail_json(path=str(path), msg=f"Metaflow's configuration {path} does not exist. {found}")
    try:
        return conf.parse(path.read_bytes(), path)
    except (conf.ConfigError, OSError) as error:
        module.fail_json(path=str(path), msg=str(error))


def main():
    module = AnsibleModule(
        argument_spec={
            "metaflow_profile": {"type": "str"},
            "home": {"type": "path", "default": "~/.metaflowconfig"},
            "metaflow_python": {"type": "path"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    home, profile = module.params["home"], module.params["metaflow_profile"]
    path = Path(conf.path_of(home, profile))
    if module.check_mode and not path.exists():
        module.exit_json(changed=False, path=str(path), msg=f"Nothing to verify yet: {path} does not exist.")
    config = read(module, path)
    module.no_log_values.update(conf.secrets_in(config))
    python = module.params["metaflow_python"] or sys.executable
    try:
        answer = ask(module, python, "verify", home, profile, module.params["timeout"])
    except ProbeError as error:
        url = config.get("METAFLOW_SERVICE_URL")
        message = MESSAGES[error.kind].format(python=python, path=path, url=url, detail=error)
        module.fail_json(path=str(path), msg=message)
    module.exit_json(changed=False, path=str(path), **answer)


if __name__ == "__main__":
    main()
