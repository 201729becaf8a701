# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a module's real code against the emulator, without the second that an Ansible process costs per call.

``main()`` runs in this process with the arguments that Ansible would hand it; its argument spec, exit and JSON are the
real ones. What Ansible itself adds (FQCN, action group, AnsiballZ) is tested once a module file, by a real playbook.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import sys
from pathlib import Path

import botocore.session
import pytest
from ansible.module_utils.testing import patch_module_args
from steps import Module

COLLECTIONS = Path(__file__).parents[3] / "collections"

# `ansible_collections` is a namespace package: ours is found beside those of site-packages.
if str(COLLECTIONS) not in sys.path:
    sys.path.append(str(COLLECTIONS))

#: botocore's models, parsed once for all modules of the session.
shared_loader = functools.cache(botocore.session.create_loader)


@pytest.fixture
def aws_environment(emulator, monkeypatch):
    """Point boto3, and with it every module, at the emulator and at nothing else."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(botocore.session, "create_loader", shared_loader)
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.endpoint)
    # Ansible masks these values wherever it finds them in a result: "test" would be masked in "$Latest".
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEMULATED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated-secret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return emulator


@pytest.fixture
def run_module(aws_environment, module_process):
    """Return ``run(fqcn, args, check=False, diff=True, fails=False)``, which gives the module's result.

    ``fqcn`` may name any installed module (``amazon.aws.iam_role``). A module that fails fails the test with its
    message; with ``fails=True`` it must fail, and its result is returned.
    """

    def run(fqcn, args, check=False, diff=True, fails=False):
        namespace, collection, name = fqcn.split(".")
        module = importlib.import_module(f"ansible_collections.{namespace}.{collection}.plugins.modules.{name}")
        output = io.StringIO()
        arguments = {**args, "_ansible_check_mode": check, "_ansible_diff": diff}
        with (
            patch_module_args(arguments),
            contextlib.redirect_stdout(output),
            pytest.raises(SystemExit),
        ):
            module.main()
        result = json.loads(output.getvalue())
        failed = result.get("failed", False)
        if failed and not fails:
            pytest.fail(f"{fqcn} failed: {result['msg']}\n{result.get('exception', '')}")
        assert failed == fails, f"{fqcn} was to fail and returned {result}"
        return result

    return run


@pytest.fixture
def converge(run_module, emulator):
    """Return ``converge(fqcn, args)``, which takes the four steps of ``steps.Module.change``.

    It returns ``(predicted, made)``: the results of a run in check mode and of the real one.
    """

    def converge(fqcn, args):
        module = Module(run_module, emulator, fqcn.rsplit(".", 1)[1])
        predicted = module.run(args, check=True)
        return predicted, module.change(args)

    return converge
