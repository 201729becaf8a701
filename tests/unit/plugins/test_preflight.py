# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action that checks a component's variables: its parts, and what it says of a component's values."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.template import Templar, trust_as_template
from ansible_collections.mlops.metaflow.plugins.action import preflight

OPTIONS = """
argument_specs:
  main:
    options:
      shop_state: {type: str, choices: [present, absent]}
      shop_size: {type: int, description: How large it is.}
      shop_open: {type: bool}
      shop_owner: {type: str, required: true, description: [Who owns it., "E.g. ann."]}
      shop_key: {type: str, no_log: true, choices: [gold, silver]}
      shop_parts: {type: list, elements: dict, options: {
        name: {type: str, required: true, description: Its name.}, size: {type: int}, colour: {type: str}}}
"""

#: The action asks its connection for nothing; Ansible's base class looks whether it has a directory.
NO_CONNECTION = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nonexistent"))

SOUND = {"shop_state": "present", "shop_size": 3, "shop_owner": "ann"}


@pytest.fixture
def roles(tmp_path, monkeypatch):
    """Two roles of a collection, `shop` and `shop_window`."""
    for name in ("shop", "shop_window"):
        (tmp_path / name / "meta").mkdir(parents=True)
    (tmp_path / "shop" / "meta" / "argument_specs.yml").write_text(OPTIONS)
    monkeypatch.setattr(preflight, "ROLES", tmp_path)


@pytest.fixture
def check(roles, tmp_path):
    """Return ``check(*checks, **variables)``, which gives the action's result for the component `shop`."""

    def check(*checks, **variables):
        (tmp_path / "shop" / "meta" / "preflight.yml").write_text(yaml.safe_dump({"checks": list(checks)}))
        templar = Templar(loader=DataLoader(), variables=variables)
        task = Task()
        task.args = {"components": ["shop"]}
        action = preflight.ActionModule(
            task=task, connection=NO_CONNECTION, play_context=None, loader=templar._loader, templar=templar,
            shared_loader_obj=None,
        )  # fmt: skip
        return action.run(task_vars=variables)

    return check


def test_sound_variables_pass(check):
    size = {"variable": "shop_size", "that": "shop_size < 5", "allowed": "less than 5"}
    result = check(size, **SOUND)
    assert not result.get("failed")
    facts = result["ansible_facts"]
    assert facts["stack_preflight_passed"] and facts["stack_files_shop"] == []
    # The digest by which a later run sees that a value has changed.
    assert facts["stack_inputs_shop"] != check(size, **SOUND | {"shop_size": 4})["ansible_facts"]["stack_inputs_shop"]


def test_all_problems_are_told_at_once(check):
    checks = [
        {"variable": "shop_size", "that": "shop_size < 5", "allowed": "less than 5"},
        {"variable": "shop_owner", "that": "shop_owner != 'eve'", "allowed": "somebody else"},
    ]
    result = check(*checks, shop_size=9, shop_owner="eve", shop_sise=1)
    assert result["failed"]
    assert result["problems"] == [
        "'shop_sise' is no variable of shop; did you mean 'shop_size'?",
        "shop_size '9' is not allowed: it must be less than 5",
        "shop_owner 'eve' is not allowed: it must be somebody else",
    ]


def test_a_wrong_type_is_told_and_no_condition_is_asked_about_it(check):
    size = {"variable": "shop_size", "that": "shop_size < 5", "allowed": "less than 5"}
    (problem,) = check(size, **SOUND | {"shop_size": "large"})["problems"]
    assert "'shop_size'" in problem and "large" in problem and "int" in problem


@pytest.mark.parametrize(("size", "told"), [("3", []), ("9", ["shop_size '9' is not allowed: it must be less than 5"])])
def test_a_number_in_text_is_a_number_for_the_conditions(check, size, told):
    """`-e shop_size=3` of the command line gives a text."""
    condition = {"variable": "shop_size", "that": "shop_size < 5", "allowed": "less than 5"}
    assert check(condition, **SOUND | {"shop_size": size}).get("problems", []) == told


@pytest.mark.parametrize(("text", "told"), [("false", []), ("yes", ["shop_open 'True' is not allowed: it must be no"])])
def test_a_truth_in_text_is_one_for_the_conditions(check, text, told):
    closed = {"variable": "shop_open", "that": "not shop_open", "allowed": "no"}
    assert check(closed, **SOUND, shop_open=text).get("problems", []) == told


def test_what_the_conditions_see_of_a_list_is_typed_and_has_no_parts_that_nobody_set(check):
    sizes = {
        "variable": "shop_parts",
        "that": "shop_parts | map(attribute='size') | max < 5 and shop_parts | selectattr('colour', 'defined') == []",
        "allowed": "small and colourless",
    }
    assert not check(sizes, **SOUND, shop_parts=[{"name": "a", "size": "4"}]).get("failed")


def test_a_variable_made_of_a_number_sees_the_number(check):
    made = {"variable": "shop_size", "that": "__shop_area < 5", "allowed": "less than 5"}
    area = trust_as_template("{{ shop_size * 1 }}")
    assert not check(made, **SOUND | {"shop_size": "3", "__shop_area": area}).get("failed")


def test_a_choice_is_told_with_what_is_allowed(check):
    (problem,) = check(**SOUND | {"shop_state": "gone"})["problems"]
    assert "shop_state" in problem and "present, absent" in problem and "gone" in problem


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"name": "a"}, "'shop_parts' must be a list, and is a map"),
        (["a"], "an element of 'shop_parts' must be a map, and is a text"),
        ("a, b", "an element of 'shop_parts' must be a map, and is a text"),
        ([{"name": "a", "sise": 1}], "shop_parts.sise is unknown; known are colour, name, size"),
        (
            [{"name": "a", "size": "big"}],
            "'size' in 'shop_parts' must be a whole number, and is a text: \"'big'\" cannot be converted to an int",
        ),
    ],
)
def test_a_list_of_the_wrong_form_is_one_sentence(check, parts, told):
    assert check(**SOUND, shop_parts=parts)["problems"] == [told]


@pytest.mark.parametrize("owner", [{}, {"shop_owner": ""}, {"shop_owner": None}])
def test_what_is_required_is_named_with_its_description(check, owner):
    given = {key: value for key, value in SOUND.items() if key != "shop_owner"} | owner
    assert check(**given)["problems"] == ["shop_owner is required and not set: Who owns it. E.g. ann."]


def test_a_missing_part_of_a_list_is_told(check):
    (problem,) = check(**SOUND, shop_parts=[{"name": "a"}, {}])["problems"]
    assert "name" in problem and "shop_parts" in problem


def test_a_variable_that_fails_is_told_by_its_name(check):
    template = trust_as_template("{{ unheard_of }}")
    (problem,) = check(**SOUND | {"shop_size": template})["problems"]
    assert problem.startswith("shop_size can't be evaluated: ") and "unheard_of" in problem


def test_a_secret_is_never_quoted(check):
    key = {"variable": "shop_key", "that": "shop_key | length > 99", "allowed": "a longer key"}
    assert check(key, **SOUND, shop_key="hunter2")["problems"] == [
        "shop_key '(hidden)' is not allowed: it must be a longer key"
    ]
    template = trust_as_template("{{ {}['hunter2'] }}")
    assert check(**SOUND, shop_key=template)["problems"] == ["shop_key can't be evaluated: (hidden)"]


def test_conditions_are_not_templates_of_the_user(check):
    """What a user's variable holds is data, also where it looks like a template."""
    size = {"variable": "shop_owner", "that": "shop_owner == 'ann'", "allowed": "ann"}
    assert check(size, **SOUND | {"shop_owner": "{{ 'ann' }}"})["problems"] == [
        "shop_owner '{{ 'ann' }}' is not allowed: it must be ann"
    ]


def test_the_prefix_of_a_longer_component_is_its_own(roles):
    options = preflight.load_options("shop")
    variables = ["shop_window_size", "shop_windw", "shop_size", "other_size", "__shop_made"]
    assert preflight.unknown_variables("shop", options, variables) == ["shop_windw"]


def test_a_name_like_no_other_gets_no_suggestion(check):
    (problem,) = check(**SOUND, shop_zzzzzz=1)["problems"]
    assert problem == "'shop_zzzzzz' is no variable of shop; ansible-doc -t role mlops.metaflow.shop"


def test_a_role_without_specification_is_refused(roles):
    with pytest.raises(AnsibleError, match="The role 'shop_window' has no argument specification"):
        preflight.load_options("shop_window")


def test_choices_of_secrets_are_left_to_the_role(roles):
    spec = preflight.as_argument_spec(preflight.load_options("shop"))
    assert spec["shop_key"] == {"type": "str", "no_log": True}
    assert spec["shop_state"]["choices"] == ["present", "absent"]
    assert spec["shop_parts"]["options"]["name"] == {"type": "str", "required": True}
