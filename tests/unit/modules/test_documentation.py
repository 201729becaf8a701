"""What ansible-doc says of a module's options is what the module takes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule, aws_argument_spec

ROOT = Path(__file__).parents[3]
#: What begins a module -> the class that gets its argument spec.
BASES = {"AnsibleAWSModule(": AnsibleAWSModule, "elasticsearch import": AnsibleModule}
MODULES = {
    path.stem: base
    for path in sorted((ROOT / "plugins" / "modules").glob("*.py"))
    for begin, base in BASES.items()
    if begin in path.read_text()
}


class Spec(BaseException):
    """Carries the argument spec out of a module's main()."""


@pytest.fixture(scope="module")
def documentation():
    """What ansible-doc says, doc fragments included: module's name -> its documentation, examples and return values."""
    command = [Path(sys.executable).with_name("ansible-doc"), "--json", "-t", "module"]
    names = [f"mlops.metaflow.{name}" for name in MODULES]
    done = subprocess.run([*command, *names], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.rsplit(".", 1)[1]: said for name, said in json.loads(done.stdout).items()}


def argument_spec(name, monkeypatch):
    """Return the argument spec that a module gives to its base."""

    def capture(_self, argument_spec, **_rest):
        raise Spec(argument_spec)

    monkeypatch.setattr(MODULES[name], "__init__", capture)
    module = importlib.import_module(f"ansible_collections.mlops.metaflow.plugins.modules.{name}")
    with patch_module_args({}), pytest.raises(Spec) as caught:
        module.main()
    return caught.value.args[0]


def summary(options, nested):
    """Return of options what specs and documentation both say, in one form."""
    return {
        name: {
            "type": option.get("type", "str"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": sorted(option.get("choices") or []),
            "elements": option.get("elements"),
            "aliases": sorted(option.get("aliases") or []),
            "options": summary(option.get(nested) or {}, nested),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_options_are_documented_as_they_are(name, documentation, monkeypatch):
    documented = documentation[name]["doc"]["options"]
    shared = aws_argument_spec() if MODULES[name] is AnsibleAWSModule else {}
    own = {key: option for key, option in documented.items() if key not in shared}
    assert summary(own, "suboptions") == summary(argument_spec(name, monkeypatch), "options")


@pytest.mark.parametrize("name", MODULES)
def test_everything_is_documented(name, documentation):
    said = documentation[name]
    assert said["examples"].strip()
    assert said["return"], "what the module returns"
    assert {"check_mode", "diff_mode"} <= said["doc"].get("attributes", {}).keys()
