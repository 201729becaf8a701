# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What must hold for every module and every role, also for those that are added later."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))


def load(*parts):
    """Return a YAML file of the repository, or an empty map where there is none."""
    path = ROOT.joinpath(*parts)
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def inventory_hosts(group):
    """Yield the hosts of a group of an inventory and of its children."""
    yield from group.get("hosts") or {}
    for child in (group.get("children") or {}).values():
        yield from inventory_hosts(child)


def components():
    """Return the inventory hosts of the group `stack`."""
    return list(inventory_hosts(load("inventories", "local", "stack.yml")["all"]["children"]["stack"]))


def test_module_defaults_reach_exactly_the_modules_that_call_aws():
    listed = [entry for entry in load("meta", "runtime.yml")["action_groups"]["stack"] if "." not in entry]
    calling = [path.stem for path in MODULES if re.search(r"\bAnsibleAWSModule\(", path.read_text())]
    assert listed == calling


def test_module_defaults_reach_exactly_the_stock_modules_that_the_roles_use():
    listed = [entry for entry in load("meta", "runtime.yml")["action_groups"]["stack"] if "." in entry]
    texts = [path.read_text() for folder in ("roles", "playbooks") for path in sorted(ROOT.glob(f"{folder}/**/*.yml"))]
    used = {name for text in texts for name in re.findall(r"^ +(?:- )?((?:amazon|community)\.aws\.\w+):", text, re.M)}
    assert listed == sorted(used)


def test_the_other_action_group_reaches_all():
    (metadata,) = load("meta", "runtime.yml")["action_groups"]["aws"]
    assert metadata == {"metadata": {"extend_group": ["mlops.metaflow.stack", "amazon.aws.aws", "community.aws.aws"]}}


def test_each_component_is_a_host_and_a_role_of_one_name():
    assert set(components()) <= set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_each_default_is_specified_and_each_option_has_a_default_or_is_required(role):
    entry_points = load("roles", role, "meta", "argument_specs.yml")["argument_specs"]
    options = next(iter(entry_points.values()))["options"]
    defaults = load("roles", role, "defaults", "main.yml")
    required = {name for name, option in options.items() if option.get("required")}
    assert set(options) - required == set(defaults)
    assert not required & set(defaults)


@pytest.mark.parametrize("role", ROLES)
def test_a_specified_default_is_the_default(role):
    entry_points = load("roles", role, "meta", "argument_specs.yml")["argument_specs"]
    options = next(iter(entry_points.values()))["options"]
    defaults = load("roles", role, "defaults", "main.yml")
    specified = {name: option["default"] for name, option in options.items() if "default" in option}
    assert specified == {name: defaults[name] for name in specified}


@pytest.mark.parametrize("role", ROLES)
def test_the_variables_of_a_role_begin_with_its_name(role):
    public = load("roles", role, "defaults", "main.yml")
    internal = load("roles", role, "vars", "main.yml")
    assert [name for name in public if not name.startswith(f"{role}_")] == []
    assert [name for name in internal if not name.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_registers_begins_with_its_name(role):
    tasks = "\n".join(path.read_text() for path in (ROOT / "roles" / role / "tasks").rglob("*.yml"))
    registered = re.findall(r"^\s*(?:register|index_var|loop_var): (\w+)", tasks, re.MULTILINE)
    assert [name for name in registered if not name.startswith(f"__{role}_") and name != "index"] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_no_internal_variable_of_another(role):
    files = [path for path in (ROOT / "roles" / role).rglob("*") if path.suffix in (".yml", ".j2")]
    others = "|".join(sorted(set(ROLES) - {role}, key=len, reverse=True))
    foreign = re.compile(rf"\b__(?:{others})_\w+")
    # `__stack_…` of the role stack is no prefix of another role's, and so on: the longest name decides.
    assert [name for path in files for name in foreign.findall(path.read_text())] == []


def typed_variables():
    """Return the names of all options of roles that are numbers or truths."""
    specifications = [load("roles", role, "meta", "argument_specs.yml")["argument_specs"] for role in ROLES]
    options = [option for spec in specifications for option in next(iter(spec.values()))["options"].items()]
    return {name for name, option in options if option.get("type") in ("int", "bool")}


@pytest.mark.parametrize("role", ROLES)
def test_a_number_or_truth_may_be_given_as_text(role):
    """`-e network_nat_gateways=2` is a text, and no fact of a role is stronger: where it counts it says its type.

    A variable that is a module's whole option gets the option's type; in a preflight it has that of the role's option.
    """
    used = re.compile(
        rf"\b({'|'.join(sorted(typed_variables()))})\b(?! \| (?:default\(\w+\) \| )?(?:int|bool|string)\b)"
    )
    untyped = []
    for path in (ROOT / "roles" / role).rglob("*"):
        if path.suffix not in (".yml", ".j2") or path.parent.name in ("meta", "defaults"):
            continue
        text = path.read_text()
        expressions = re.findall(r"^\s*(?:- )?(?:when|that|until|failed_when|changed_when): (.*)$", text, re.MULTILINE)
        expressions += [inner for inner in re.findall(r"{{(.*?)}}", text, re.DOTALL) if " " in inner.strip()]
        untyped += [f"{path.name}: {name}" for expression in expressions for name in used.findall(expression)]
    assert untyped == []


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_explained(role):
    text = (ROOT / "roles" / role / "defaults" / "main.yml").read_text()
    section_is_explained = role == "stack"  # the names of resources stand below a heading for each component
    unexplained, explained = [], False
    for line in text.splitlines():
        if re.match(r"\w+:", line):
            if not explained and not section_is_explained:
                unexplained.append(line)
        elif not line.startswith((" ", "-")):
            explained = line.startswith("#")
    assert unexplained == []


@pytest.mark.parametrize("role", ROLES)
def test_task_files_are_short_and_their_entry_shorter(role):
    lengths = {
        path.name: len(path.read_text().splitlines()) for path in (ROOT / "roles" / role / "tasks").glob("*.yml")
    }
    assert lengths.get("main.yml", 0) <= 30
    assert {name: length for name, length in lengths.items() if length > 120} == {}


def test_flows_run_on_machines_with_the_versions_that_are_tested():
    pinned = (ROOT / "requirements.txt").read_text().splitlines()
    assert set(load("roles", "flow_client", "defaults", "main.yml")["flow_client_packages"]) <= set(pinned)
