#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# No collection reads an instance's console.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_host_keys
short_description: Read the SSH host keys of instances from their consoles
version_added: 0.1.0
description:
  - Reads the public host keys that cloud-init writes to the console of an instance when it first starts, and that EC2
    hands out to whoever may call C(GetConsoleOutput). So the keys come by another way than SSH, and needn't be trusted
    blindly.
  - A new instance has its keys on the console after a minute or some; the module waits for them.
  - EC2 keeps the last 64 KiB of a console, from which an old instance's keys may have gone. Keep what was read.
author:
  - The metaflow-ansible authors
options:
  instance_ids:
    description: The instances.
    type: list
    elements: str
    required: true
  wait_timeout:
    description: Longest time in seconds to wait for the keys.
    type: int
    default: 600
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Read the host keys
  mlops.metaflow.ec2_host_keys:
    instance_ids: [i-0a1b2c3d4e5f60718]
  register: found
"""

RETURN = r"""
host_keys:
  description: The keys of each instance, as C(known_hosts) has them, sorted.
  returned: success
  type: dict
  sample: {i-0a1b2c3d4e5f60718: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOqv…"]}
"""

import re
import time
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import error_code, patient_client

#: Seconds between two looks.
PAUSE = 5

BLOCK = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
KEY = re.compile(r"\b((?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) AAAA[A-Za-z0-9+/]+=*)")


class Contradiction(Exception):
    """A console shows different keys: nobody can tell which are the machine's."""


def host_keys(console):
    """Return the host keys that a console shows, sorted.

    :raises Contradiction: if it shows several sets that differ.
    """
    sets = {tuple(sorted(set(KEY.findall(block)))) for block in BLOCK.findall(console)} - {()}
    if len(sets) > 1:
        raise Contradiction
    return list(*sets)


def console_of(client, instance):
    """Return what EC2 has of an instance's console."""
    try:
        return client.get_console_output(InstanceId=instance, Latest=True).get("Output", "")
    except botocore.exceptions.ClientError as error:
        # Only instances on Nitro show more than the console of their start.
        if error_code(error) != "UnsupportedOperation":
            raise
    return client.get_console_output(InstanceId=instance).get("Output", "")


def read_all(client, instances, wait_timeout):
    """Return ``{instance: keys}`` once all have keys, or as it is after ``wait_timeout`` seconds."""
    started = time.monotonic()
    found = {instance: [] for instance in instances}
    while True:
        for instance in [one for one, keys in found.items() if not keys]:
            try:
                found[instance] = host_keys(console_of(client, instance))
            except Contradiction:
                raise Contradiction(instance) from None
        if all(found.values()) or time.monotonic() - started >= wait_timeout:
            return found
        time.sleep(PAUSE)


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "instance_ids": {"type": "list", "elements": "str", "required": True},
            "wait_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    wait_timeout = 0 if module.check_mode else module.params["wait_timeout"]
    try:
        found = read_all(patient_client(module, "ec2"), module.params["instance_ids"], wait_timeout)
    except Contradiction as error:
        module.fail_json(
            msg=f"The console of {error} shows different SSH host keys, so they can't be told from forged ones. "
            "Replace the instance, or read its keys through Session Manager (cat /etc/ssh/ssh_host_*.pub)."
        )
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg="Failed to read the consoles of instances")
    missing = sorted(instance for instance, keys in found.items() if not keys)
    if missing and not module.check_mode:
        module.fail_json(
            msg=f"The console of {', '.join(missing)} shows no SSH host keys after {wait_timeout} s. A new instance "
            "shows them once cloud-init is done; an old one may have lost them: read them through Session Manager "
            "(cat /etc/ssh/ssh_host_*.pub) and add them to the known_hosts file, with the instance's id as the name."
        )
    module.exit_json(changed=False, host_keys=found)


if __name__ == "__main__":
    main()
