# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure part of ``metaflow_flow``: the command that deploys a flow, what identifies a deployment, what differs.

What varies in two deployments of the same flow (Metaflow 2.19, ``plugins/aws/step_functions``): the names of two
temporary files are random, and the command that holds them lies in S3 under its digest; the code package has the git
commit in it; job definitions have a revision; METAFLOW_VERSION names the machine. So equality goes by two tags on the
state machine: the fingerprint of the *inputs*, and the digest of what was *live* after the deployment.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import re

from ansible_collections.mlops.metaflow.plugins.module_utils.diff import MASK
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_parameters import texts
from ansible_collections.mlops.metaflow.plugins.module_utils.job_fit import Request
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_config import is_secret

TAG_FLOW = "mlops.metaflow/flow"
TAG_SOURCE = "mlops.metaflow/source"
TAG_DEPLOYED = "mlops.metaflow/deployed"
TAG_PARAMETERS = "mlops.metaflow/parameters"

#: Characters that a tag's value may have.
LONGEST_TAG = 256

#: Step Functions' integration by which a step becomes a job.
SUBMIT_JOB = ":states:::batch:submitJob"

#: What differs from machine to machine or from commit to commit, and says nothing about how a step runs.
_VOLATILE_VARIABLES = {"METAFLOW_VERSION", "METAFLOW_CODE_SHA", "METAFLOW_CODE_URL"}
_RANDOM_FILE = re.compile(r"(set_batch_environment (?:parameters|parent_tasks)) ([a-z]{10}) && \. `pwd`/\2")
_CODE_URL = re.compile(r"(?<=/data/)[0-9a-f]{2}/[0-9a-f]{40}")
_PARTS = re.compile(r" && |; | (?=--[a-z])")
_COMMAND_IN_S3 = re.compile(r'download_file\("([^"]+)", "([^"]+)"')

#: Decorator attributes are split at a comma that an equals sign follows; nothing escapes it.
UNSPEAKABLE = re.compile(r",\s*\w+\s*=")


def decorators(item):
    """Return the ``--with`` specifications of an item of the list: its own, then environment and secrets."""
    specs = list(item.get("with") or [])
    if item.get("environment"):
        specs.append("environment:vars=" + json.dumps(item["environment"], sort_keys=True))
    if item.get("secrets"):
        specs.append("secrets:sources=" + json.dumps(item["secrets"]))
    return specs


def arguments(item):
    """Return the command-line arguments after ``python <flow>`` that deploy an item of the list."""
    project = item.get("project") or {}
    given = ["--no-pylint", *(f"--with={spec}" for spec in decorators(item))]
    if project.get("production"):
        given.append("--production")
    if project.get("branch"):
        given.append(f"--branch={project['branch']}")
    given += [*(item.get("options") or []), "step-functions", "create"]
    given += [f"--tag={tag}" for tag in item.get("tags") or []]
    for option in ("max_workers", "namespace", "authorize", "workflow_timeout"):
        if item.get(option) is not None:
            given.append(f"--{option.replace('_', '-')}={item[option]}")
    for option in ("log_execution_history", "use_distributed_map"):
        if item.get(option):
            given.append(f"--{option.replace('_', '-')}")
    return given


def digest(value):
    """Return a short digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def is_marked(tags, marks):
    """Tell whether a state machine with ``tags`` was deployed from a list.

    :param dict marks: the tags that the list's component gives; those of the organisation don't count.
    """
    own = {key: value for key, value in marks.items() if key.startswith("mlops.metaflow/")}
    return TAG_FLOW in tags and all(tags.get(key) == value for key, value in own.items())


def rule_name(state_machine):
    """Return the name of a state machine's EventBridge rule, as Metaflow's ``event_bridge_client.format`` makes it."""
    if len(state_machine) <= 64:
        return state_machine
    suffix = base64.b32encode(hashlib.sha1(state_machine.encode(), usedforsecurity=False).digest())
    return f"{state_machine[:47]}-{suffix.decode()[:16].lower()}"


def execution_input(parameters):
    """Return the input of an execution, in which Metaflow reads the values of parameters (None: the default)."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return json.dumps({"Parameters": json.dumps(texts(given), sort_keys=True)})


def parameter_tags(names):
    """Return the tag that keeps the names of a flow's parameters: Metaflow ignores the value of an unknown one."""
    value = " ".join(names)
    return {TAG_PARAMETERS: value} if len(value) <= LONGEST_TAG else {}


def unknown_parameters(parameters, tags):
    """Return the names among ``parameters`` that a state machine's tags say its flow doesn't have."""
    return sorted(set(parameters) - set(tags[TAG_PARAMETERS].split())) if TAG_PARAMETERS in tags else []


def states(definition):
    """Yield ``(name, state)`` of a definition and of all that is nested in it."""
    for name, state in definition.get("States", {}).items():
        yield name, state
        for branch in state.get("Branches", []):
            yield from states(branch)
        for nested in ("Iterator", "ItemProcessor"):
            yield from states(state.get(nested, {}))


def jobs(definition):
    """Yield ``(step, parameters)`` of the states that submit a job, in AWS's own terms."""
    for name, state in states(definition):
        if SUBMIT_JOB in str(state.get("Resource")):
            yield name, state["Parameters"]


def requests(flow, definition, disks):
    """Return the :class:`job_fit.Request` of each step.

    :param str flow: what the flow is called, for messages.
    :param dict disks: step -> MB of disk that it asks for.
    """
    return [
        Request(
            flow=flow,
            step=step,
            queue=job["JobQueue"],
            vcpus=float(asked.get("VCPU", 1)),
            memory=int(asked.get("MEMORY", 0)),
            gpus=int(asked.get("GPU", 0)),
            disk=int(disks[step]) / 1024 if step in disks else None,
        )
        for step, job in jobs(definition)
        for asked in [{item["Type"]: item["Value"] for item in job["ContainerOverrides"]["ResourceRequirements"]}]
    ]


def start_parameters(definition):
    """Return the job parameters of the first step, in which Metaflow keeps owner and token; empty if not Metaflow's."""
    start = definition.get("States", {}).get(definition.get("StartAt"), {})
    return start.get("Parameters", {}).get("Parameters", {})


def flow_name(definition):
    """Return the name of the flow's class."""
    return start_parameters(definition).get("metaflow.flow_name", "")


def commands_in_s3(definition):
    """Return the ``(bucket, key)`` of the commands that lie in S3."""
    return [location for _, job in jobs(definition) if (location := _command_location(job))]


def code_location(definition):
    """Return ``(bucket, key)`` of the code package, or None."""
    for _, job in jobs(definition):
        for variable in job["ContainerOverrides"].get("Environment", []):
            if variable["Name"] == "METAFLOW_CODE_URL":
                bucket, _, key = variable["Value"].removeprefix("s3://").partition("/")
                return bucket, key
    return None


def _command_location(job):
    match = _COMMAND_IN_S3.search(_command(job))
    return match.groups() if match else None


def summary(definition, commands, job_definitions):
    """Return a state machine as a person reads it: state by state, each step with what its job gets.

    :param dict definition: the state machine's definition.
    :param dict commands: ``(bucket, key)`` -> the text of a command in S3.
    :param dict job_definitions: name or ARN -> its container's properties.
    """
    return {
        name: _job_summary(state, commands, job_definitions) if _is_job(state) else _plain_summary(state)
        for name, state in states(definition)
    }


def outline(definition, job_definitions):
    """Return a new state machine in short: a line for each state."""
    return {name: _outlined(state, job_definitions) for name, state in states(definition)}


def _is_job(state):
    return SUBMIT_JOB in str(state.get("Resource"))


def _plain_summary(state):
    branches = {"Branches": [branch["StartAt"] for branch in state["Branches"]]} if "Branches" in state else {}
    return {
        key: value for key, value in state.items() if key not in ("Branches", "Iterator", "ItemProcessor")
    } | branches


def _job_summary(state, commands, job_definitions):
    job = state["Parameters"]
    location = _command_location(job)
    command = commands.get(location) if location else _command(job)
    container = job_definitions.get(job["JobDefinition"], {})
    # AWS answers with empty lists for what was left out; command and resources are overridden by each job.
    kept = {key: value for key, value in container.items() if value not in ([], {}, None)}
    return {
        **{key: value for key, value in state.items() if key != "Parameters"},
        **_resources(job),
        "queue": job["JobQueue"].rpartition("/")[2],
        "image": kept.pop("image", None),
        "job_definition": {key: kept[key] for key in kept if key not in ("command", "resourceRequirements")},
        "attempts": job.get("RetryStrategy", {}).get("Attempts"),
        "timeout": job.get("Timeout", {}).get("AttemptDurationSeconds"),
        "environment": _environment(job),
        "command": _command_lines(command or ""),
        "tags": {key: value for key, value in job.get("Tags", {}).items() if not key.startswith("metaflow.")},
    }


def _outlined(state, job_definitions):
    after = f", then {state['Next']}" if "Next" in state else ""
    if not _is_job(state):
        branches = [branch["StartAt"] for branch in state.get("Branches", [])]
        return f"{state['Type']}{' of ' + ' and '.join(branches) if branches else ''}{after}"
    job, resources = state["Parameters"], _resources(state["Parameters"])
    gpus = f", {resources['gpu']} GPU" if "gpu" in resources else ""
    attempts = job.get("RetryStrategy", {}).get("Attempts", 1)
    return (
        f"job with {resources['vcpu']} vCPU, {resources['memory']} MiB{gpus}, {attempts} attempt(s), "
        f"image {job_definitions.get(job['JobDefinition'], {}).get('image')}, "
        f"in queue {job['JobQueue'].rpartition('/')[2]}{after}"
    )


def _resources(job):
    return {item["Type"].lower(): item["Value"] for item in job["ContainerOverrides"].get("ResourceRequirements", [])}


def _command(job):
    return (job["ContainerOverrides"].get("Command") or [""])[-1]


def _environment(job):
    shown = {}
    for variable in job["ContainerOverrides"].get("Environment", []):
        name, value = variable["Name"], variable.get("Value", variable.get("Value.$"))
        if name not in _VOLATILE_VARIABLES:
            shown[name] = MASK if is_secret(name, value) else value
    return shown


def _command_lines(command):
    """Return the command part by part, each option for itself, without what is random."""
    command = _RANDOM_FILE.sub(r"\1 FILE && . `pwd`/FILE", command)
    return _PARTS.split(_CODE_URL.sub("CODE", command))


def differing(before, after):
    """Return both reduced to what differs; maps in them are reduced too, and texts to the lines that differ."""
    left, right = {}, {}
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            old, new = differing(old, new)
        elif _are_lines(old) and _are_lines(new):
            old, new = _differing_lines(old, new)
        if key in before:
            left[key] = old
        if key in after:
            right[key] = new
    return left, right


def _are_lines(value):
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _differing_lines(old, new):
    left, right = [], []
    for kind, start, end, new_start, new_end in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if kind != "equal":
            left += old[start:end]
            right += new[new_start:new_end]
    return left, right


def rule_view(rule, targets):
    """Return what of an EventBridge rule and its targets matters, or None where there is none."""
    if rule is None:
        return None
    return {
        "expression": rule.get("ScheduleExpression"),
        "state": rule.get("State"),
        "targets": [
            {key: target.get(key) for key in ("Arn", "RoleArn", "Input")}
            for target in sorted(targets, key=lambda target: target["Id"])
        ],
    }
