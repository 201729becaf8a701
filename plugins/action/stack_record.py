# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell the module stack_record what it can't know: the variables of all components, and the code that runs them."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
from pathlib import Path

from ansible import release
from ansible.plugins.action import ActionBase

COLLECTION = Path(__file__).resolve().parents[2]

#: What the facts of the preflight are called that name a component's files.
FILES = "stack_files_"

#: Collections whose modules the roles use; another version of them may set something else.
LIBRARIES = ("amazon.aws", "community.aws")


class ActionModule(ActionBase):
    """See plugins/modules/stack_record.py for the documentation."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        components = arguments.get("components", [])
        hosts = task_vars["hostvars"]
        facts = {}
        for name in task_vars["groups"]["all"]:
            facts |= hosts[name].get("ansible_facts", {})
        arguments |= {
            "names": self._names(task_vars),
            "inputs": inputs_digests(facts, components),
            "files": {name.removeprefix(FILES): paths for name, paths in facts.items() if name.startswith(FILES)},
        }
        return self._execute_module("mlops.metaflow.stack_record", module_args=arguments, task_vars=task_vars)

    def _names(self, task_vars):
        """Return the stack's variables that are texts, without the prefix."""
        own = {name: task_vars[name] for name in task_vars if name.startswith("stack_")}
        texts = {name: self._templar.template(value) for name, value in own.items() if isinstance(value, str)}
        return {name.removeprefix("stack_"): value for name, value in texts.items() if isinstance(value, str)}


def inputs_digests(facts, components):
    """Return the digest of the inputs of each of the components whose variables the run has checked.

    :param dict facts: what the preflight has kept, of all hosts: it checks all components on one of them.
    """
    digests = {}
    for component in components:
        parts = [facts.get("stack_inputs_stack"), facts.get(f"stack_inputs_{component}")]
        if all(parts):
            digests[component] = hashlib.sha256(json.dumps([*parts, code_digest(component)]).encode()).hexdigest()
    return digests


def code_digest(component):
    """Return a digest of all that runs for a component: its role, the naming rules, the plug-ins, the libraries."""
    return hashlib.sha256(
        b"".join(
            [digest_of(COLLECTION / "roles" / component), digest_of(COLLECTION / "roles" / "stack"), plugins_digest()]
        )
    ).hexdigest()


@functools.cache
def plugins_digest():
    digest = hashlib.sha256(digest_of(COLLECTION / "plugins") + release.__version__.encode())
    for library in LIBRARIES:
        package = importlib.import_module(f"ansible_collections.{library}")
        manifest = Path(package.__path__[0]) / "MANIFEST.json"
        if manifest.exists():  # a checkout of the library's repository has none
            digest.update(manifest.read_bytes())
    return digest.digest()


def digest_of(directory):
    """Return a digest of the names and contents of all files below a directory."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(directory)} {content}\n".encode())
    return digest.digest()
