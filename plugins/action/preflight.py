# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check the variables of components on the controller, in one task and without a call to anything."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import re
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader, connection_loader, shell_loader
from ansible.template import trust_as_template

ROLES = Path(__file__).resolve().parents[2] / "roles"

#: The options of the module.
ARGUMENTS = {
    "components": {"type": "list", "elements": "str", "required": True},
    "by_host": {"type": "bool", "default": False},
}

#: Ansible's own name for the option that a variable fails by, in the messages of its validator.
HIDDEN = "(hidden)"

# Ansible's strategies load this class in the controller. What is loaded with it every worker has when it is forked, and
# need not load for each task: 20 ms of CPU.
for _loader, _name in ((connection_loader, "mlops.metaflow.warm"), (shell_loader, "sh"), (action_loader, "normal")):
    _loader.get(_name, class_only=True)


def load_options(component):
    """Return ``{variable: specification}`` of a role's first entry point.

    :param str component: name of a role of this collection.
    :raises AnsibleError: if the role has no argument specification.
    """
    path = ROLES / component / "meta" / "argument_specs.yml"
    try:
        return next(iter(yaml_load(path.read_text())["argument_specs"].values()))["options"]
    except (OSError, KeyError) as error:
        raise AnsibleError(f"The role '{component}' has no argument specification: {error!r}") from error


def load_variables(component, loader):
    """Return a role's variables, as in a task of the role: its defaults and those of the role that it depends on."""
    roles = ["stack", component] if component != "stack" else ["stack"]
    paths = [ROLES / role / kind / "main.yml" for kind in ("defaults", "vars") for role in roles]
    return {name: value for path in paths for name, value in load_yaml(path, loader).items()}


@functools.cache  # all components ask for those of `stack`
def load_yaml(path, loader):
    """Return what a file of a role holds, whose texts may be templates; nothing where there is no file."""
    # Without the loader's own cache, which gives a deep copy of everything.
    return (loader.load_from_file(str(path), cache="none", trusted_as_template=True) if path.exists() else None) or {}


def as_argument_spec(options):
    """Return role options as ``ArgumentSpecValidator`` takes them: without documentation, and without choices
    for secrets, because its errors quote the value."""
    spec = {}
    for name, option in options.items():
        kept = {key: value for key, value in option.items() if key not in ("description", "version_added")}
        if kept.get("no_log"):
            kept.pop("choices", None)
        if "options" in kept:
            kept["options"] = as_argument_spec(kept["options"])
        spec[name] = kept
    return spec


def unknown_variables(component, options, variables):
    """Return the names with the component's prefix that no option has: most are typing errors.

    Names that begin with the prefix of a longer component's name (``api_gateway_…``) are that one's.
    """
    prefix = component + "_"
    longer = [other.name + "_" for other in ROLES.iterdir() if other.name.startswith(prefix)]
    return sorted(
        name
        for name in variables
        if name.startswith(prefix) and name not in options and not any(name.startswith(other) for other in longer)
    )


#: What Ansible's validator says of a value of the wrong type.
WRONG_TYPE = re.compile(
    r"(?P<element>Elements value for option|argument) '(?P<name>[^']+)'(?: is of type (?P<is>\w+))?"
    r"(?: found in '(?P<where>[^']+)'\.?)?(?: is of type (?P<was>\w+))? and we were unable to convert to "
    r"(?P<wanted>\w+): (?P<why>.*)",
    re.DOTALL,
)
UNKNOWN_PART = re.compile(r"(\S+)\. Supported parameters include: (.*)")
#: What it adds to a sentence that tells more.
ADDED = re.compile(
    r"dictionary requested, could not parse JSON or key=value|value of '\w+' must be of type dict or list of.*"
)
TYPES = {
    "dict": "a map",
    "list": "a list",
    "str": "a text",
    "NoneType": "empty",
    "int": "a whole number",
    "bool": "true or false",
}


def sentences(messages):
    """Return what Ansible's validator says, each once and in the words of an inventory."""
    told = [message for message in messages if not ADDED.fullmatch(message)] or messages
    return list(dict.fromkeys(sentence(message) for message in told))


def sentence(message):
    """Return a message of Ansible's validator in the words of an inventory, where it is in Python's."""
    if unknown := UNKNOWN_PART.fullmatch(message):
        return f"{unknown[1]} is unknown; known are {unknown[2].removesuffix('.')}"
    wrong = WRONG_TYPE.fullmatch(message)
    if not wrong:
        return message
    name = f"an element of '{wrong['name']}'" if wrong["element"] != "argument" else f"'{wrong['name']}'"
    where = f" in '{wrong['where']}'" if wrong["where"] else ""
    wanted, found = (TYPES.get(kind, kind) for kind in (wrong["wanted"], wrong["is"] or wrong["was"]))
    why = "" if "<class" in wrong["why"] or ADDED.fullmatch(wrong["why"]) else f": {wrong['why']}"
    return f"{name}{where} must be {wanted}, and is {found}{why}"


def closest(name, candidates, prefix):
    """Return the candidate that a mistyped name most likely means, or None; the prefix of all of them doesn't count."""
    own = {candidate.removeprefix(prefix): candidate for candidate in candidates}
    return next((own[match] for match in difflib.get_close_matches(name.removeprefix(prefix), own, n=1)), None)


class ActionModule(ActionBase):
    """See plugins/modules/preflight.py for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset(("components", "by_host"))

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        components = arguments["components"]
        problems, facts = [], {"stack_preflight_passed": True}
        for component in components:
            variables = self._variables_of_host(component, task_vars) if arguments["by_host"] else task_vars
            found, known = self._check(component, variables)
            problems += found
            facts |= known
            if problems and component == "stack":  # all others' names are made of its variables
                break
        if problems:
            return {"failed": True, "msg": "\n".join(problems), "problems": problems}
        return {"changed": False, "msg": f"The variables of {', '.join(components)} are sound", "ansible_facts": facts}

    def _variables_of_host(self, name, task_vars):
        """Return the variables of the inventory host of a component's name; those of the task where there is none.

        ``hostvars[name]`` is without the play's variables, hence the variable manager that stands behind it.
        """
        hostvars = task_vars["hostvars"]
        if name not in hostvars:
            return task_vars
        manager = hostvars._variable_manager
        return manager.get_vars(play=self._task.get_play(), host=hostvars._inventory.get_host(name), task=self._task)

    def _check(self, component, variables):
        """Return the problems of a component's variables, and the facts that stack_record asks for."""
        options = load_options(component)
        variables = load_variables(component, self._loader) | variables
        problems = self._unknown(component, options, variables)
        given, typed, invalid = self._validated(options, variables)
        problems += invalid
        if invalid:  # a check on a value of the wrong type would only add noise
            return problems, {}
        asked = load_yaml(ROLES / component / "meta" / "preflight.yml", self._loader)
        templar = self._templar.copy_with_new_env(available_variables=variables | typed)
        problems += self._failed_checks(options, asked.get("checks", []), templar)
        facts = {}
        if not problems and boolean(templar.template(asked.get("recorded", True))):
            facts[f"stack_inputs_{component}"] = digest_of(given, options)
            facts[f"stack_files_{component}"] = templar.template(asked.get("files", []))
        return problems, facts

    def _unknown(self, component, options, task_vars):
        problems = []
        for name in unknown_variables(component, options, task_vars):
            meant = closest(name, options, component + "_")
            hint = f"; did you mean '{meant}'?" if meant else f"; ansible-doc -t role mlops.metaflow.{component}"
            problems.append(f"'{name}' is no variable of {component}{hint}")
        return problems

    def _validated(self, options, task_vars):
        """Validate types, choices and what is required, as Ansible itself does for a role.

        :returns: the variables that are set, as they are; the same in the type of their option ("30" of the command
            line is the number 30); and a sentence for each problem.
        """
        # First what is required: names and the like are made of it, and can't be evaluated without it.
        required = {name: option for name, option in options.items() if option.get("required")}
        given, problems = self._evaluated(required, task_vars)
        problems += [
            f"{name} is required and not set: {' '.join(text_of(option))}"
            for name, option in required.items()
            if given.get(name, task_vars.get(name)) in (None, "")
        ]
        if problems:
            return {}, {}, problems
        given, problems = self._evaluated(options, task_vars)
        if problems:
            return {}, {}, problems
        result = ArgumentSpecValidator(as_argument_spec(options)).validate(given)
        typed = {name: without_none(result.validated_parameters[name]) for name in given if name in options}
        return given, typed, sentences(result.error_messages)

    def _evaluated(self, options, task_vars):
        """Return the values of those options that are set, and a sentence for each that can't be evaluated."""
        templar = self._templar.copy_with_new_env(available_variables=task_vars)
        given, problems = {}, []
        for name, option in options.items():
            if name not in task_vars:
                continue
            try:
                given[name] = templar.template(task_vars[name])
            except AnsibleError as error:
                shown = HIDDEN if option.get("no_log") else error.message
                problems.append(f"{name} can't be evaluated: {shown}")
        return given, problems

    def _failed_checks(self, options, checks, templar):
        problems = []
        for check in checks:
            variable = check["variable"]
            if "problems" in check:
                found = templar.evaluate_expression(check["problems"])
                problems += [f"{variable} is not allowed: {problem}" for problem in found]
                continue
            if templar.evaluate_conditional(check["that"]):
                continue
            secret = options.get(variable, {}).get("no_log")
            value = HIDDEN if secret else templar.evaluate_expression(trust_as_template(variable))
            problems.append(f"{variable} '{value}' is not allowed: it must be {templar.template(check['allowed'])}")
        return problems


def without_none(value):
    """Return a value without the suboptions that nobody set: validation adds them as None."""
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_none(inner) for inner in value]
    return value


def digest_of(values, options):
    """Return a digest of the values of a component's options, by which stack_record sees that one has changed."""
    secrets = {name: value for name, value in values.items() if options[name].get("no_log") and value}
    plain = {name: value for name, value in values.items() if name not in secrets}
    digest = hashlib.sha256(_canonical(plain))
    if secrets:
        # The digest is stored in the bucket: slow to compute, so that nobody guesses a short secret by it.
        digest.update(hashlib.scrypt(_canonical(secrets), salt=digest.digest(), n=2**14, r=8, p=1))
    return digest.hexdigest()


def _canonical(values):
    return json.dumps(values, sort_keys=True, default=str).encode()


def text_of(option):
    """Return an option's description as a list of sentences."""
    text = option.get("description", "")
    return text if isinstance(text, list) else [text]
