# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is asked of an installed Metaflow before flows are deployed."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_command import Metaflow


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return ``installed(name, version, file)``, which installs a package of one file beside Metaflow."""

    def install(name, version, file):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "RECORD").write_text(f"{file},,\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return install


def test_extensions_of_metaflow_are_versions_that_count(installed, tmp_path):
    metaflow = Metaflow(python=sys.executable, home=str(tmp_path), profile=None, owner="tester")
    plain = f"{metadata.version('metaflow')} {sys.version_info.major}.{sys.version_info.minor}"
    installed("something-else", "2.0", "something_else/__init__.py")
    assert metaflow.versions() == plain
    installed("metaflow-card-x", "1.0.3", "metaflow_extensions/card_x/plugins/cards/x/__init__.py")
    assert metaflow.versions() == f"{plain} metaflow-card-x==1.0.3"
