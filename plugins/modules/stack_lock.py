#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# No collection has a lock: two stock runs at once make two VPCs, and both say ok.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_lock
short_description: Let one run at a time change a stack
version_added: 0.1.0
description:
  - A lease with an owner and an expiry, kept in SSM Parameter Store, which exists in every account before the first
    resource of the stack does.
  - Each lease is a parameter of its own, C(<name>/<number>), and is created without overwriting, so that of two runs
    exactly one gets the next number. The highest number is the one in force.
  - A lease whose holder is gone does not block. On the holder's machine that is seen at once (its process has ended);
    elsewhere it is when the lease expires.
  - In check mode the lock is only looked at. A run that changes nothing needs no lock.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Path of the lock in Parameter Store, one for each stack and environment.
    type: str
    required: true
  state:
    description:
      - V(present) takes the lease, or renews one that this run holds, and fails while another run holds it.
      - V(absent) gives back the lease of this run; with O(force=true) it removes anybody's.
    choices: [present, absent]
    default: present
    type: str
  owner:
    description: Who holds the lease, for the message to the other run, e.g. "ann@laptop".
    type: str
    required: true
  pid:
    description: Process id of the controller that runs the playbook. A new lease for another pid is another run.
    type: int
    required: true
  lease_seconds:
    description:
      - How long the lease lasts unless it is renewed. It must be longer than the longest wave takes; a database takes
        up to 20 minutes.
    type: int
    default: 3600
  tags:
    description: Tags of the parameter.
    type: dict
    default: {}
  force:
    description: Remove the lease of another run too. For a person who knows that it has ended.
    type: bool
    default: false
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Looks whether another run holds the lease, and writes nothing.
    support: full
  diff_mode:
    description: The lock is no part of the stack.
    support: none
"""

EXAMPLES = r"""
- name: Let no other run change the stack meanwhile
  mlops.metaflow.stack_lock:
    name: /metaflow/prod/run-lock
    owner: ann@laptop
    pid: 4711

- name: Give the lock back
  mlops.metaflow.stack_lock:
    name: /metaflow/prod/run-lock
    owner: ann@laptop
    pid: 4711
    state: absent
"""

RETURN = r"""
lease:
  description: The lease in force, or C(null) where there is none.
  returned: success
  type: dict
  sample:
    owner: ann@laptop
    host: laptop
    pid: 4711
    expires: 1790000000
"""

import json
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import ansible_dict_to_boto3_tag_list
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import error_code, patient_client


def process_started(pid):
    """Return when a process of this machine started (clock ticks since boot, with the boot's id), or None.

    A process id alone may have been given to another process since. Linux only (/proc); elsewhere always None.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # proc(5): the second field, in parentheses, may hold blanks; the third is the state, the 22nd the start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":  # dead, and nobody has asked for its exit status yet
            return f"{boot} {fields[19]}"
    return None


def new_lease(params, now):
    """Return the lease that this run takes."""
    return {
        "owner": params["owner"],
        "host": socket.gethostname(),
        "pid": params["pid"],
        "started": process_started(params["pid"]),
        "expires": int(now) + params["lease_seconds"],
    }


def is_ours(lease, mine):
    """Tell whether a lease belongs to the run that asks."""
    return all(lease.get(key) == mine[key] for key in ("host", "pid", "started"))


def is_dead(lease, now):
    """Tell whether the holder of a lease can't be at work any more."""
    if lease["expires"] <= now:
        return True
    if lease["host"] != socket.gethostname() or not lease.get("started"):
        return False
    return process_started(lease["pid"]) != lease["started"]


class Lock:
    """The leases below one path of Parameter Store."""

    def __init__(self, client, name):
        self.client = client
        self.name = name

    def leases(self):
        """Return ``{number: lease}`` of all that exist."""
        pages = self.client.get_paginator("get_parameters_by_path").paginate(Path=self.name)
        return {
            int(parameter["Name"].rpartition("/")[2]): json.loads(parameter["Value"])
            for page in pages
            for parameter in page["Parameters"]
        }

    def create(self, number, lease, tags):
        """Create a lease; return False where another run was quicker."""
        try:
            self.client.put_parameter(
                Name=f"{self.name}/{number}",
                Value=json.dumps(lease),
                Type="String",
                Description="A run of metaflow-ansible changes this stack; see its playbook unlock.yml",
                Overwrite=False,
                Tags=ansible_dict_to_boto3_tag_list(tags),
            )
        except botocore.exceptions.ClientError as error:
            if error_code(error) != "ParameterAlreadyExists":
                raise
            return False
        return True

    def renew(self, number, lease):
        """Write a later expiry into a lease that this run holds."""
        self.client.put_parameter(Name=f"{self.name}/{number}", Value=json.dumps(lease), Type="String", Overwrite=True)

    def remove(self, numbers):
        """Remove leases; those that are gone already don't matter."""
        numbers = list(numbers)
        for begin in range(0, len(numbers), 10):  # DeleteParameters takes ten names at most
            self.client.delete_parameters(Names=[f"{self.name}/{number}" for number in numbers[begin : begin + 10]])


def held_message(lease):
    """Return the sentence that tells a person who holds the stack and what to do."""
    until = datetime.fromtimestamp(lease["expires"], UTC).strftime("%H:%M:%S UTC")
    return (
        f"Another run changes this stack: {lease['owner']}, process {lease['pid']} on {lease['host']}, until {until} "
        "at the latest. Wait for it to end; if it has ended without giving the lock back, run playbooks/unlock.yml."
    )


def take(module, lock):
    """Take or renew the lease, or fail and name its holder."""
    now = time.time()
    mine = new_lease(module.params, now)
    leases = lock.leases()
    latest = max(leases, default=0)
    holder = leases.get(latest)
    if holder and not is_ours(holder, mine) and not is_dead(holder, now):
        module.fail_json(msg=held_message(holder), lease=holder)
    if module.check_mode:
        module.exit_json(changed=False, lease=holder)
    if holder and is_ours(holder, mine):
        lock.renew(latest, mine)
        module.exit_json(changed=False, lease=mine)

    created = lock.create(latest + 1, mine, module.params["tags"])
    after = lock.leases()
    if not after:  # the run that was quicker has ended already
        take(module, lock)
    newest = max(after)
    if not created or newest != latest + 1:
        if created:  # numbered from an old reading: a later lease is in force
            lock.remove([latest + 1])
        module.fail_json(msg=held_message(after[newest]), lease=after[newest])
    lock.remove(number for number in after if number < newest)
    # The lock comes and goes with each run, so it is no change of the stack.
    module.exit_json(changed=False, lease=mine)


def give_back(module, lock):
    """Remove this run's lease, or anybody's by force."""
    mine = new_lease(module.params, time.time())
    leases = lock.leases()
    ours = [number for number, lease in leases.items() if module.params["force"] or is_ours(lease, mine)]
    if ours and not module.check_mode:
        lock.remove(ours)
    left = [lease for number, lease in sorted(leases.items()) if number not in ours]
    module.exit_json(changed=bool(ours) and module.params["force"], lease=left[-1] if left else None)


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "owner": {"required": True},
            "pid": {"type": "int", "required": True},
            "lease_seconds": {"type": "int", "default": 3600},
            "tags": {"type": "dict", "default": {}},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    lock = Lock(patient_client(module, "ssm"), module.params["name"])
    act = take if module.params["state"] == "present" else give_back
    try:
        act(module, lock)
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg=f"Failed to use the lock '{lock.name}'")


if __name__ == "__main__":
    main()
