# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell the module stack_lock who runs the playbook, which a module can't know."""

from __future__ import annotations

import getpass
import os
import socket

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """See plugins/modules/stack_lock.py for the documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = {
            "owner": f"{getpass.getuser()}@{socket.gethostname()}",
            "pid": os.getppid(),  # an action runs in a worker, whose parent is the controller
            **self._task.args,
        }
        return self._execute_module("mlops.metaflow.stack_lock", module_args=arguments, task_vars=task_vars)
