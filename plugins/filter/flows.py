# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters on the list of flows."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from ansible_collections.mlops.metaflow.plugins.module_utils.cron import cron_problems
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_deployment import UNSPEAKABLE, decorators
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_parameters import value_problems

_GIT = re.compile(r"(https?|ssh|git|file)://.*|[\w.-]+@[\w.-]+:.*|.*\.git/?")


def git_address(source):
    """Tell whether a source is the address of a git repository, and not a folder's path."""
    return _GIT.fullmatch(source) is not None


def with_secret_ids(flows, prefix):
    """Return the flows with the ids of their secrets: a bare key is a secret of the stack, below ``prefix``."""
    return [
        {
            **flow,
            "secrets": [secret if re.search("[/:]", secret) else f"{prefix}/{secret}" for secret in flow["secrets"]],
        }
        if flow.get("secrets")
        else flow
        for flow in flows
    ]


def flow_problems(flows, folder=""):
    """Return a sentence for each thing that is wrong with a list of flows, whose types are right.

    :param str folder: where their files are, if they are on this machine by now.
    """
    names = Counter(flow["name"] for flow in flows)
    problems = [f"{count} flows have the name '{name}'" for name, count in names.items() if count > 1]
    for flow in flows:
        problems += [f"{flow['name']}: {problem}" for problem in _problems(flow, folder)]
    return problems


def _problems(flow, folder):
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", flow["name"]):
        yield "the name has at most 64 letters, digits, dots, underscores and hyphens"
    if flow.get("state", "present") == "absent":
        return
    if not flow.get("file"):
        yield "file is missing"
    elif flow["file"].startswith("/") or ".." in flow["file"].split("/"):
        yield f"file '{flow['file']}' must lie in the source"
    elif folder and not Path(folder, flow["file"]).is_file():
        yield f"there is no file '{flow['file']}' in {folder}"
    if flow.get("schedule") not in (None, "none"):
        yield from cron_problems(flow["schedule"])
    yield from _project_problems(flow.get("project") or {})
    yield from value_problems(flow.get("parameters"))
    for tag in flow.get("tags") or []:
        if not re.fullmatch(r"[\w.:/@=+,%-]+", tag):
            yield f"tags has '{tag}', but a shell reads tags in steps: letters, digits and . : / @ = + , % - _ are safe"
    for name in flow.get("environment") or {}:
        if not re.fullmatch(r"[A-Za-z_]\w*", str(name)):
            yield f"environment has '{name}', which is no name of an environment variable"
        elif isinstance(flow["environment"][name], (dict, list)):
            yield f"environment has a map or a list as '{name}'; the value of an environment variable is a text"
    for spec in flow.get("with") or []:
        if not re.fullmatch(r"\w+(:.*)?", spec):
            yield f"with has '{spec}'; write it as in --with, e.g. retry or resources:cpu=2,memory=8000"
    for secret in flow.get("secrets") or []:
        if not re.fullmatch(r"[\w/+=.@:-]+", secret):
            yield f"secrets has '{secret}', which is neither a key of secrets_flow_values nor a secret's name or ARN"
    for spec in decorators({key: flow.get(key) for key in ("environment", "secrets")}):
        if UNSPEAKABLE.search(spec):
            yield f"Metaflow can't take a comma that a word and an equals sign follow, as in {spec}"
    for option in flow.get("options") or []:
        if not re.fullmatch(r"--?[\w-]+(=.*)?", option):
            yield f"options has '{option}'; options begin with a hyphen and have their value after an equals sign"
    for option in ("max_workers", "workflow_timeout"):
        if flow.get(option) is not None and int(flow[option]) < 1:
            yield f"{option} must be 1 or more"


def _project_problems(project):
    for key in ("name", "branch"):
        if project.get(key) and not re.fullmatch(r"[a-z0-9_]{1,128}", project[key]):
            yield f"project has the {key} '{project[key]}'; Metaflow takes lower-case letters, digits and underscores"


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"flow_problems": flow_problems, "git_address": git_address, "with_secret_ids": with_secret_ids}
