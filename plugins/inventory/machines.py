# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# amazon.aws.aws_ec2 knows no variables of its inventory, so that region and environment would have to be said twice;
# and where it can't ask EC2 the whole inventory fails (any_unparsed_is_failed), also for a stack that has no machine.

from __future__ import annotations

DOCUMENTATION = r"""
---
name: machines
short_description: The running machines of a stack, found by amazon.aws.aws_ec2
version_added: 0.1.0
description:
  - Puts each running machine of C(hosts_list) into the group that its entry names, C(elk) or C(evidently), under the
    name of its entry. What EC2 says of it stands in its variables, with the prefix C(ec2_).
  - Which stack it is comes from the variables of the inventory that the file lies in, and from extra variables -
    C(stack_name), C(stack_environment), C(stack_region), C(stack_profile), C(stack_client_environment).
  - Where C(hosts_list) is empty, EC2 isn't asked. Where EC2 can't be asked, for want of credentials, a permission or a
    network, a warning says so and the groups stay empty; the rest of the inventory is as it is.
author:
  - The metaflow-ansible authors
options:
  plugin:
    description: Says that the file is one of this plug-in.
    required: true
    choices: [mlops.metaflow.machines]
    type: str
"""

EXAMPLES = r"""
# inventories/prod/aws_ec2.yml
plugin: mlops.metaflow.machines
"""

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.plugins.loader import inventory_loader
from ansible.utils.display import Display
from ansible.vars.plugins import get_vars_from_path

TAG = "mlops.metaflow"
VARIABLES = (
    "stack_name",
    "stack_environment",
    "stack_region",
    "stack_profile",
    "stack_client_environment",
    "hosts_list",
)


def configuration(stack):
    """Return the configuration of amazon.aws.aws_ec2 for a stack, which is a map of the variables above."""
    profile = {"profile": stack["stack_profile"]} if stack.get("stack_profile") else {}
    return {
        "plugin": "amazon.aws.aws_ec2",
        "regions": [stack["stack_region"]],
        **profile,
        "filters": {
            f"tag:{TAG}/stack": stack.get("stack_name", "metaflow"),
            f"tag:{TAG}/environment": stack["stack_environment"],
            f"tag:{TAG}/component": "hosts",
            "instance-state-name": "running",
        },
        "hostnames": [f"tag:{TAG}/host"],
        "hostvars_prefix": "ec2_",
        "keyed_groups": [{"key": f"ec2_tags['{TAG}/group']", "prefix": "", "separator": ""}],
        # A missing permission is an error, which is told.
        "strict_permissions": True,
    }


@contextmanager
def environment(variables):
    """Let the SDK find these environment variables."""
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in variables.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class InventoryModule(BaseInventoryPlugin):
    """Asks EC2 through amazon.aws.aws_ec2."""

    NAME = "mlops.metaflow.machines"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(("aws_ec2.yml", "aws_ec2.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            stack = self._stack(path)
            if not stack.get("hosts_list") or not stack.get("stack_region") or not stack.get("stack_environment"):
                return
            with environment(stack.get("stack_client_environment") or {}):
                self._ask(configuration(stack))
        except AnsibleError as error:
            Display().warning(
                f"EC2 can't be asked for the machines of hosts_list, so the inventory is without them: {error}"
            )

    def _stack(self, path):
        """Return the values of the stack's variables, as the inventory and the command line give them."""
        everybody = self.inventory.groups["all"]
        variables = get_vars_from_path(self.loader, str(Path(path).parent), [everybody], "task")
        self.templar.available_variables = {**variables, **self._vars}
        given = self.templar.available_variables
        return {name: self.templar.template(given[name]) for name in VARIABLES if name in given}

    def _ask(self, config):
        """Let amazon.aws.aws_ec2 fill the inventory; it takes its configuration from a file."""
        with tempfile.NamedTemporaryFile("w", suffix=".aws_ec2.yml") as file:
            json.dump(config, file)
            file.flush()
            inventory_loader.get("amazon.aws.aws_ec2").parse(self.inventory, self.loader, file.name, cache=False)
