# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check a component's variables on the controller, in one task and without a call to anything."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

ROLES = Path(__file__).resolve().parents[2] / "roles"

#: Ansible's own name for the option that a variable fails by, in the messages of its validator.
HIDDEN = "(hidden)"


def load_options(component):
    """Return ``{variable: specification}`` of a role's first entry point.

    :param str component: name of a role of this collection.
    :raises AnsibleError: if the role has no argument specification.
    """
    path = ROLES / component / "meta" / "argument_specs.yml"
    try:
        return next(iter(yaml.safe_load(path.read_text())["argument_specs"].values()))["options"]
    except (OSError, KeyError) as error:
        raise AnsibleError(f"The role '{component}' has no argument specification: {error!r}") from error


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
    _VALID_ARGS = frozenset(("component", "checks", "files", "recorded"))

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        component = self._task.args["component"]
        checks = self._task.args.get("checks") or []
        options = load_options(component)
        problems = self._unknown(component, options, task_vars)
        typed, invalid = self._validated(options, task_vars)
        problems += invalid
        if not invalid:  # a check on a value of the wrong type would only add noise
            problems += self._failed_checks(options, checks, {**task_vars, **typed})
        if problems:
            return {"failed": True, "msg": "\n".join(problems), "problems": problems}
        facts = {"stack_preflight_passed": True}
        if boolean(self._task.args.get("recorded", True)):
            facts[f"stack_inputs_{component}"] = self._digest(options, task_vars)
            facts["stack_files"] = self._task.args.get("files") or []
        return {"changed": False, "msg": f"The variables of {component} are sound", "ansible_facts": facts}

    def _unknown(self, component, options, task_vars):
        problems = []
        for name in unknown_variables(component, options, task_vars):
            meant = closest(name, options, component + "_")
            hint = f"; did you mean '{meant}'?" if meant else f"; ansible-doc -t role mlops.metaflow.{component}"
            problems.append(f"'{name}' is no variable of {component}{hint}")
        return problems

    def _validated(self, options, task_vars):
        """Validate types, choices and what is required, as Ansible itself does for a role.

        :returns: the variables that are set, in the type of their option ("30" of the command line is the number 30),
            and a sentence for each problem.
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
            return {}, problems
        given, problems = self._evaluated(options, task_vars)
        if problems:
            return {}, problems
        result = ArgumentSpecValidator(as_argument_spec(options)).validate(given)
        typed = {name: without_none(result.validated_parameters[name]) for name in given if name in options}
        return typed, list(result.error_messages)

    def _evaluated(self, options, task_vars):
        """Return the values of those options that are set, and a sentence for each that can't be evaluated."""
        given, problems = {}, []
        for name, option in options.items():
            if name not in task_vars:
                continue
            try:
                given[name] = self._templar.template(task_vars[name])
            except AnsibleError as error:
                shown = HIDDEN if option.get("no_log") else error.message
                problems.append(f"{name} can't be evaluated: {shown}")
        return given, problems

    def _digest(self, options, task_vars):
        """Return a digest of the values of all options, by which stack_record sees that one has changed."""
        values, _ = self._evaluated(options, task_vars)
        secrets = {name: value for name, value in values.items() if options[name].get("no_log") and value}
        plain = {name: value for name, value in values.items() if name not in secrets}
        digest = hashlib.sha256(_canonical(plain))
        if secrets:
            # The digest is stored in the bucket: slow to compute, so that nobody guesses a short secret by it.
            digest.update(hashlib.scrypt(_canonical(secrets), salt=digest.digest(), n=2**14, r=8, p=1))
        return digest.hexdigest()

    def _failed_checks(self, options, checks, variables):
        templar = self._templar.copy_with_new_env(available_variables=variables)
        problems = []
        # The expressions stand in a role of this collection; being arguments they are not marked as templates.
        for check in checks:
            variable = check["variable"]
            if "problems" in check:
                found = templar.evaluate_expression(trust_as_template(check["problems"]))
                problems += [f"{variable} is not allowed: {problem}" for problem in found]
                continue
            if templar.evaluate_conditional(trust_as_template(check["that"])):
                continue
            value = HIDDEN if options.get(variable, {}).get("no_log") else templar.template(variables[variable])
            problems.append(f"{variable} '{value}' is not allowed: it must be {check['allowed']}")
        return problems


def without_none(value):
    """Return a value without the suboptions that nobody set: validation adds them as None."""
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_none(inner) for inner in value]
    return value


def _canonical(values):
    return json.dumps(values, sort_keys=True, default=str).encode()


def text_of(option):
    """Return an option's description as a list of sentences."""
    text = option.get("description", "")
    return text if isinstance(text, list) else [text]
