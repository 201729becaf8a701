# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a list of chains or triggers, each in a sentence. What a role's specification tells is right."""

from __future__ import annotations

import re
from collections import Counter

from ansible_collections.mlops.metaflow.plugins.module_utils.chain import (
    KINDS,
    equals,
    flows_of,
    lists_in,
    step_name,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.cron import cron_problems
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_parameters import value_problems

#: Options of a flow in a chain, besides ``flow``.
STEP_OPTIONS = ("step", "parameters", "retry", "on_failure", "timeout")
RETRY_OPTIONS = ("max_attempts", "interval", "backoff")
CHOICE_OPTIONS = ("parameter", "result", "equals", "then", "otherwise")
STATUSES = ("SUCCEEDED", "FAILED", "NOT_RUN")

_CHAIN_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME = re.compile(r"[A-Za-z]\w{0,63}", re.ASCII)
_FLOW = re.compile(r"[A-Za-z_][\w.]*|arn:[\w-]+:states:[\w-]+:\d{12}:stateMachine:[\w.-]+", re.ASCII)
_SCHEDULE = re.compile(r"cron\((\S+ ){5}\S+\)|rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)")
_NAME_RULE = "the name has at most 32 lower-case letters, digits and hyphens"


def chain_problems(chains):
    """Return a sentence for each thing that is wrong with a list of chains, whose types are right."""
    names = Counter(chain["name"] for chain in chains)
    problems = [f"{count} chains have the name '{name}'" for name, count in names.items() if count > 1]
    for chain in chains:
        problems += [f"{chain['name']}: {problem}" for problem in _problems_of_chain(chain)]
    return problems


def trigger_problems(triggers):
    """Return a sentence for each thing that is wrong with a list of triggers, whose types are right."""
    names = Counter(trigger["name"] for trigger in triggers)
    problems = [f"{count} triggers have the name '{name}'" for name, count in names.items() if count > 1]
    started = {}
    for trigger in triggers:
        started.setdefault(trigger["after"], set()).add(trigger["start"])
    for trigger in triggers:
        if not _CHAIN_NAME.fullmatch(trigger["name"]):
            problems.append(f"{trigger['name']}: {_NAME_RULE}")
        problems += [
            f"{trigger['name']}: {key} has '{trigger[key]}', which is neither a flow's name nor a state machine's ARN"
            for key in ("after", "start")
            if not _FLOW.fullmatch(trigger[key])
        ]
        if trigger["after"] in _all_started(trigger["start"], started):
            problems.append(f"{trigger['name']}: {trigger['after']} would start itself for ever")
        problems += [f"{trigger['name']}: {problem}" for problem in value_problems(trigger.get("parameters"))]
    return problems


def _all_started(flow, started):
    """Return a flow and those that triggers start after it, and after those."""
    found, waiting = set(), {flow}
    while waiting:
        found |= waiting
        waiting = {following for one in waiting for following in started.get(one, ())} - found
    return found


def _problems_of_chain(chain):
    if not _CHAIN_NAME.fullmatch(chain["name"]):
        yield _NAME_RULE
    if chain.get("state", "present") == "absent":
        return
    if not chain.get("steps"):
        yield "steps is missing or empty"
        return
    if chain.get("schedule") and not _SCHEDULE.fullmatch(chain["schedule"]):
        yield f"schedule '{chain['schedule']}' must be cron(six fields) or rate(number unit), e.g. rate(6 hours)"
    elif str(chain.get("schedule")).startswith("cron("):
        yield from cron_problems(chain["schedule"][5:-1])
    yield from _positive(chain, ("timeout",))
    for name in chain.get("parameters") or {}:
        if not _NAME.fullmatch(str(name)):
            yield f"the parameter '{name}' must be letters, digits and underscores, beginning with a letter"
    yield from value_problems(chain.get("parameters"))
    shapes = list(_shape_problems(chain["steps"], "steps"))
    yield from shapes
    if shapes:  # names can be read only in items that have their form
        return
    steps = Counter(step_name(item) for item in flows_of(chain["steps"]))
    yield from (f"{count} steps are called '{step}'; name them by step" for step, count in steps.items() if count > 1)
    yield from _reference_problems(chain["steps"], set(), chain.get("parameters") or {})


def _shape_problems(items, where):
    if not isinstance(items, list) or not items:
        yield f"{where} must be a list with at least one item"
        return
    for number, item in enumerate(items, 1):
        here = f"item {number} of {where}"
        kinds = [kind for kind in KINDS if isinstance(item, dict) and kind in item]
        if len(kinds) != 1:
            yield f"{here} must have one of {', '.join(KINDS)}"
        elif kinds == ["flow"]:
            yield from _step_problems(item, here)
        elif kinds == ["parallel"]:
            yield from _unknown(item, ("parallel",), here)
            yield from _branch_problems(item["parallel"], here)
        else:
            yield from _unknown(item, ("choice",), here)
            yield from _choice_problems(item["choice"], here)


def _branch_problems(branches, here):
    if not isinstance(branches, list) or len(branches) < 2:
        yield f"parallel in {here} must be a list with two branches or more"
        return
    for branch in branches:
        yield from _shape_problems(branch if isinstance(branch, list) else [branch], f"parallel in {here}")


def _choice_problems(choice, here):
    if not isinstance(choice, dict):
        yield f"choice in {here} must be a map"
        return
    yield from _unknown(choice, CHOICE_OPTIONS, f"choice in {here}")
    if ("parameter" in choice) == ("result" in choice):
        yield f"choice in {here} must have either parameter or result"
    elif not isinstance(choice.get("parameter", choice.get("result")), str):
        yield f"choice in {here} must have one name as parameter or result"
    if "parameter" in choice and "equals" not in choice:
        yield f"choice in {here} must say what the parameter equals"
    if not equals(choice) or any(value is None or isinstance(value, (dict, list)) for value in equals(choice)):
        yield f"equals in choice in {here} must be a value, or a list of values of which any will do"
    elif "result" in choice and (wrong := [value for value in equals(choice) if value not in STATUSES]):
        yield f"choice in {here}: a result equals one of {', '.join(STATUSES)}, not '{wrong[0]}'"
    yield from _shape_problems(choice.get("then"), f"then in {here}")
    if "otherwise" in choice:
        yield from _shape_problems(choice["otherwise"], f"otherwise in {here}")


def _step_problems(item, here):
    yield from _unknown(item, ("flow", *STEP_OPTIONS), here)
    for key in ("flow", "on_failure"):
        value = item.get(key)
        if value is not None and not (isinstance(value, str) and _FLOW.fullmatch(value)):
            yield f"{key} in {here} has '{value}', which is neither a flow's name nor a state machine's ARN"
            return
    name = str(step_name(item))
    if not _NAME.fullmatch(name):
        yield f"step in {here} must be letters, digits and underscores, beginning with a letter; it is '{name}'"
    yield from (f"{problem} in {here}" for problem in _positive(item, ("timeout",)))
    retry, parameters = item.get("retry") or {}, item.get("parameters") or {}
    if not isinstance(retry, dict) or not isinstance(parameters, dict):
        yield f"retry and parameters in {here} must be maps"
        return
    yield from _unknown(retry, RETRY_OPTIONS, f"retry in {here}")
    yield from (f"{problem} in retry in {here}" for problem in _positive(retry, ("max_attempts", "interval")))
    if not _is_number(retry.get("backoff", 2)) or float(retry.get("backoff", 2)) < 1:
        yield f"backoff in retry in {here} must be a number of 1 or more"
    yield from (f"{problem} in {here}" for problem in value_problems(parameters))
    for key, value in parameters.items():
        if isinstance(value, dict) and not (value.keys() == {"parameter"} and isinstance(value["parameter"], str)):
            yield f"parameter '{key}' in {here} must be a value, or {{parameter: name of a parameter of the chain}}"


def _reference_problems(items, known, parameters):
    """Yield references to what isn't there; adds to ``known`` the steps that come before what follows."""
    for item in items:
        if "flow" in item:
            for value in (item.get("parameters") or {}).values():
                if isinstance(value, dict) and value["parameter"] not in parameters:
                    yield f"'{value['parameter']}' is no parameter of the chain"
            known.add(step_name(item))
        elif "choice" in item:
            choice = item["choice"]
            if "parameter" in choice and choice["parameter"] not in parameters:
                yield f"choice on '{choice['parameter']}', which is no parameter of the chain"
            if "result" in choice and choice["result"] not in known:
                yield f"choice on the result of '{choice['result']}', which is no step before it"
        branches = [set(known) for _ in lists_in(item)]
        for inner, before in zip(lists_in(item), branches, strict=True):
            yield from _reference_problems(inner, before, parameters)
        known.update(*branches)


def _unknown(given, allowed, where):
    for key in given:
        if key not in allowed:
            yield f"{where} has '{key}', which is none of {', '.join(allowed)}"


def _positive(given, keys):
    for key in keys:
        value = given.get(key)
        if value is not None and not (_is_number(value) and int(value) == float(value) and int(value) >= 1):
            yield f"{key} '{value}' must be a whole number of 1 or more"


def _is_number(value):
    try:
        return not isinstance(value, bool) and float(value) == float(value)
    except (TypeError, ValueError):
        return False
