# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a flow gets of the values in an execution's input: by Metaflow's own code, and bash."""

from __future__ import annotations

import json
import subprocess

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_parameters import text, value_problems
from metaflow.plugins.aws.step_functions.set_batch_environment import export_parameters


@pytest.fixture
def received(tmp_path, monkeypatch):
    """Return ``received(value)``: the text that a step gets for the parameter's value."""

    def receive(value):
        monkeypatch.setenv("METAFLOW_PARAMETERS", json.dumps({"a-value": text(value)}))
        export_parameters(tmp_path / "exported")
        script = f'. {tmp_path}/exported && printf %s "$METAFLOW_INIT_A_VALUE"'
        return subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout

    return receive


@pytest.mark.parametrize("value", ["", "plain", "a 'b' \"c\" \\d & e; f!", "100% {x} [y] *"])
def test_a_text_arrives_as_it_is(received, value):
    assert list(value_problems({"a": value})) == []
    assert received(value) == value


@pytest.mark.parametrize("value", [3, 0.5, True, [1, "é"], {"a": "$HOME `id`", "b": "two\nlines", "c": 'q"\\'}])
def test_other_values_arrive_as_json(received, value):
    assert list(value_problems({"a": value})) == []
    assert json.loads(received(value)) == value


@pytest.mark.parametrize(
    ("value", "character"),
    [("$HOME", "'$'"), ("`id`", "'`'"), ("é", "'é'"), ("two\nlines", r"'\n'"), ("a\tb", r"'\t'")],
)
def test_a_text_that_would_arrive_as_another_one_is_told(received, value, character):
    assert received(value) != value
    (problem,) = value_problems({"a": value})
    assert problem.startswith(f"the value of the parameter 'a' has {character}; ")
