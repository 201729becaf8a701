# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Connection plug-in: `local`, with modules in forks of one preloaded interpreter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: warm
short_description: Run modules on the controller in forks of one preloaded interpreter
description:
  - Does what P(ansible.builtin.local#connection) does, with a fraction of the CPU time. A Python module that Ansible
    would run in a fresh interpreter runs in a fork of one that already holds C(ansible.module_utils), boto3 and
    botocore's models.
  - This interpreter (the fork server) starts with the first module and ends with its controller, also if that is
    killed. It serves only the workers of this controller and this user, through a socket in the controller's own
    private directory.
  - A module runs the code of its own payload. Preloaded code is compared with it, and left out if it differs.
  - All else runs as P(ansible.builtin.local#connection) does it - privilege escalation, C(async), binary and other
    modules that are no pipelined Python, O(pipelining=false), and the file transfers and commands of action plug-ins.
    So does a module whose environment sets variables that an interpreter reads when it starts (C(PYTHON*), C(LD_*),
    C(HOME), ...).
  - If the fork server cannot be used (an ansible-core version with payloads of an unknown shape, an operating system
    other than Linux), modules run as with P(ansible.builtin.local#connection), and one warning says why.
author:
  - The metaflow-ansible authors
version_added: 0.1.0
options:
  warm_enabled:
    description: Whether modules run in forks. If not, this plug-in is P(ansible.builtin.local#connection).
    type: bool
    default: true
    vars:
      - name: warm_enabled
    env:
      - name: METAFLOW_WARM_ENABLED
    ini:
      - section: warm_connection
        key: enabled
  warm_services:
    description:
      - AWS services whose botocore models the fork server may hold in memory. It reads each when the first module comes
        whose code makes a client of that service.
      - Other services work too. A module then reads the model itself.
    type: list
    elements: str
    default:
      - ec2
      - iam
      - s3
      - sts
      - kms
      - rds
      - ecs
      - elbv2
      - apigateway
      - batch
      - dynamodb
      - logs
      - secretsmanager
      - ssm
      - ecr
      - stepfunctions
      - events
      - resourcegroupstaggingapi
    vars:
      - name: warm_services
    env:
      - name: METAFLOW_WARM_SERVICES
    ini:
      - section: warm_connection
        key: services
  warm_archives:
    description:
      - Directory, of this user alone, for the archives that ansible-core builds of the modules of amazon.aws,
        community.aws and mlops.metaflow, so that the next run need not build them. An archive serves as long as none
        of the files has changed that it may hold. Empty for none.
    type: str
    default: ~/.cache/mlops.metaflow/archives
    vars:
      - name: warm_archives
    env:
      - name: METAFLOW_WARM_ARCHIVES
    ini:
      - section: warm_connection
        key: archives
  python_interpreter:
    description: The interpreter that the fork server starts with, before the first module, if this is its path.
    type: str
    default: ''
    vars:
      - name: ansible_python_interpreter
  pipelining:
    description: Whether modules are handed over without a file. Without it no module runs in a fork.
    type: bool
    default: true
    vars:
      - name: ansible_pipelining
    env:
      - name: ANSIBLE_PIPELINING
    ini:
      - section: defaults
        key: pipelining
      - section: connection
        key: pipelining
  become_success_timeout:
    description: As in P(ansible.builtin.local#connection), in seconds.
    type: int
    default: 10
    vars:
      - name: ansible_local_become_success_timeout
  become_strip_preamble:
    description: As in P(ansible.builtin.local#connection).
    type: bool
    default: true
    vars:
      - name: ansible_local_become_strip_preamble
notes:
  - A module that a task's C(timeout) or the end of the controller leaves behind is interrupted, and killed 3 seconds
    later.
  - A module leads its own process group, and holds one descriptor more than it would otherwise have.
"""

import os
from collections.abc import Callable
from pathlib import Path

import ansible.constants as C
from ansible.plugins.connection import ensure_connect
from ansible.plugins.connection.local import Connection as LocalConnection
from ansible.release import __version__
from ansible.utils.display import Display
from ansible_collections.mlops.metaflow.plugins.plugin_utils import warm_archives, warm_payload
from ansible_collections.mlops.metaflow.plugins.plugin_utils.warm_client import (
    DeclinedError,
    ForkServer,
    Outcome,
    UnavailableError,
)

display = Display()

# Python itself handles some signals, like SIGINT, and may not change what others, like SIGKILL, do.
_SUICIDE = b"""
import contextlib, os, signal
with contextlib.suppress(OSError):
    signal.signal(%(number)d, signal.SIG_DFL)
os.kill(os.getpid(), %(number)d)
"""


class Connection(LocalConnection):
    """`local`, except for pipelined Python modules.

    `transport` stays "local": by it ansible-core knows to run commands in the playbook's directory.
    """

    def set_options(self, *arguments: object, **options: object) -> None:
        """Take the task's options, and get ready: it is the last that happens before a module's archive is built."""
        super().set_options(*arguments, **options)
        if self.get_option("warm_enabled") and self.get_option("pipelining"):
            self._try_ahead(self._start_server)
            self._try_ahead(self._offer_archives)

    def _try_ahead(self, act: Callable[..., None], *arguments: object) -> None:
        """Do something that saves time. If it can't be done, a module that needs it says why."""
        try:
            act(*arguments)
        except (OSError, UnavailableError) as problem:
            display.vvv(f"WARM: {problem}", host=self._play_context.remote_addr)

    def _start_server(self) -> None:
        interpreter = self.get_option("python_interpreter")
        if Path(interpreter).is_absolute():
            self._server(interpreter).start_ahead()

    def _server(self, interpreter: str) -> ForkServer:
        return ForkServer(Path(C.DEFAULT_LOCAL_TMP), interpreter, self.get_option("warm_services"))

    def _offer_archives(self) -> None:
        if directory := self.get_option("warm_archives"):
            warm_archives.offer(Path(directory).expanduser(), Path(C.DEFAULT_LOCAL_TMP))

    @ensure_connect
    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command, in a fork if it is a module that can be; returns exit code, stdout and stderr."""
        if in_data and not self.become and self.get_option("warm_enabled"):
            try:
                return self._run_module(cmd, in_data)
            except DeclinedError as reason:
                display.vvv(f"WARM: {reason}", host=self._play_context.remote_addr)
            except UnavailableError as problem:
                self._warn_once(f"The warm connection is not used, modules run as with 'local': {problem}")
        return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)

    def _warn_once(self, message: str) -> None:
        """Show a warning unless a task of this run has shown one: then only to whom -vvv asks for it."""
        try:
            Path(C.DEFAULT_LOCAL_TMP, "warm-warned").touch(exist_ok=False)
        except FileExistsError:
            display.vvv(message, host=self._play_context.remote_addr)
        else:
            display.warning(message)

    def _run_module(self, cmd: str, in_data: bytes) -> tuple[int, bytes, bytes]:
        payload = warm_payload.parse_payload(in_data)
        if payload is None and not warm_payload.is_ansiballz(in_data):
            raise DeclinedError("not a pipelined Python module")
        command = warm_payload.parse_command(cmd, self._play_context.executable or "")
        if payload is None or command is None:
            raise UnavailableError(f"ansible-core {__version__} runs modules in a way that it does not know")
        display.vvv(f"WARM: {payload.module} with {command.interpreter}", host=self._play_context.remote_addr)
        outcome = self._server(command.interpreter).run(self._header(command, payload), in_data)
        self._try_ahead(warm_archives.keep, Path(C.DEFAULT_LOCAL_TMP), payload.module)
        return self._returned_by_shell(outcome, cmd)

    def _header(self, command: warm_payload.Command, payload: warm_payload.Payload) -> dict[str, object]:
        umask = os.umask(0)
        os.umask(umask)
        return {
            "zip_start": payload.zip_start,
            "zip_end": payload.zip_end,
            "environment": {**os.environ, **command.environment},
            "cwd": os.fsdecode(self.cwd) if self.cwd else str(Path.cwd()),
            "umask": umask,
        }

    def _returned_by_shell(self, outcome: Outcome, cmd: str) -> tuple[int, bytes, bytes]:
        """Exit code and output as they come through the shell that `local` puts around a module.

        How a shell words the death of its child by a signal is its own affair, so let it: with a child that dies so.
        """
        if outcome.signal is None:
            return outcome.exit, outcome.stdout, outcome.stderr
        code, stdout, stderr = super().exec_command(cmd, in_data=_SUICIDE % {b"number": outcome.signal})
        return code, outcome.stdout + stdout, outcome.stderr + stderr
