# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Recognise what ansible-core hands to a connection: the command line and the AnsiballZ payload of a pipelined module.

Pure functions over text. Whatever they do not know exactly, they do not recognise.
"""

from __future__ import annotations

import dataclasses
import re
import shlex

# The call that ends the wrapper, and its arguments: `key=<repr>,`, one a line (a repr holds no line break).
# Source: ansible/executor/module_common.py, the same in ansible-core 2.19, 2.20 and 2.21.
_CALL = b'\nif __name__ == "__main__":\n    _ansiballz_main(\n'
_CALL_END = b"\n)\n"
_ARGUMENTS = set(b"ansible_module module_fqn profile date_time rlimit_nofile params extensions zip_data".split())
# The hand-over inside the wrapper at which the fork server shows Python the payload's own archive.
_HAND_OVER = re.compile(
    rb"from ansible\.module_utils\._internal\._ansiballz import _loader\n"
    rb".*?_loader\.run_module\(.*?modlib_path=modlib_path,",
    re.DOTALL,
)
_ZIP_DATA = b"\nzip_data='"
_MODULE_FQN = re.compile(rb"^module_fqn='([\w.]+)',$", re.MULTILINE)
_SHELL_SUFFIX = " && sleep 0"  # appended by ansible-core up to 2.20, so that the shell stays until the module has ended
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line that only runs one Python interpreter, with these additions to the environment."""

    interpreter: str
    environment: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Payload:
    """Where the base64 text of the module's zip archive lies in the payload, and the module's full name."""

    module: str
    zip_start: int
    zip_end: int


def parse_command(command: str, shell: str) -> Command | None:
    """Return what `command` runs, or None if it is more than `shell -c '[K=V …] python'`.

    The command is put together again from what was understood and must be the same text: so no quoting, expansion
    or redirection can go unnoticed.
    """
    try:
        script = shlex.split(command)[-1]
        suffix = _SHELL_SUFFIX if script.endswith(_SHELL_SUFFIX) else ""
        *assignments, interpreter = shlex.split(script.removesuffix(suffix))
    except (ValueError, IndexError):
        return None
    matches = [_ASSIGNMENT.fullmatch(word) for word in assignments]
    pairs = [match.groups() for match in matches if match]
    words = [f"{name}={shlex.quote(value)}" for name, value in pairs]
    expected = " ".join([*words, shlex.quote(interpreter)]) + suffix
    if not all(matches) or command != f"{shell} -c {shlex.quote(expected)}":
        return None
    return Command(interpreter, dict(pairs))


def is_ansiballz(payload: bytes) -> bool:
    """Whether `payload` calls itself an AnsiballZ wrapper, in whatever shape."""
    return b"ansiballz" in payload[:65536].lower()


def parse_payload(payload: bytes) -> Payload | None:
    """Return where the parts of a pipelined AnsiballZ module lie, or None if its shape is not the known one."""
    call = payload.rfind(_CALL)
    if call < 0 or not payload.endswith(_CALL_END) or not _HAND_OVER.search(payload, 0, call):
        return None
    # The archive is nearly all of the payload, so it is neither searched nor copied.
    zip_start = payload.find(_ZIP_DATA, call) + len(_ZIP_DATA)
    zip_end = payload.find(b"',\n", zip_start)
    arguments = payload[call + len(_CALL) : zip_start] + payload[zip_end : -len(_CALL_END)]
    module = _MODULE_FQN.search(arguments)
    if {line.partition(b"=")[0] for line in arguments.split(b"\n")} != _ARGUMENTS or not module:
        return None
    return Payload(module[1].decode(), zip_start, zip_end)
