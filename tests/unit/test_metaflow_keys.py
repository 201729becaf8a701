"""The list of keys that we know is the list of the Metaflow that is pinned."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import metaflow

COLLECTIONS = Path(__file__).parents[2] / "collections"
if str(COLLECTIONS) not in sys.path:
    sys.path.append(str(COLLECTIONS))

conf = importlib.import_module("ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_config")

#: Keys whose names Metaflow puts together, so that its source doesn't show them.
COMPOSED = re.compile(r"(DEBUG|ENABLED)_[A-Z0-9_]+")


def test_known_keys_are_those_in_metaflows_source():
    source = Path(metaflow.__file__).parent
    files = [source / "metaflow_config.py", *(source / "extension_support").glob("*.py")]
    read = {key for file in files for key in re.findall(r'from_conf\(\s*"([A-Z0-9_]+)"', file.read_text())}
    composed = {key for key in conf.KNOWN_KEYS if COMPOSED.fullmatch(key)}
    assert len(read) > 140
    assert conf.KNOWN_KEYS - composed == {key for key in read if not COMPOSED.fullmatch(key)}
    assert composed >= {key for key in read if COMPOSED.fullmatch(key)}


def test_forms_are_of_known_keys():
    assert {key.removeprefix(conf.PREFIX) for key in conf._FORM_OF} <= conf.KNOWN_KEYS
