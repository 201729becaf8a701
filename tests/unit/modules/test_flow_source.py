"""Which files count for a flow, so that a change deploys the flows that it touches and no others."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_source import Source

FLOW = "from metaflow import FlowSpec\nclass {name}(FlowSpec):\n    pass\n"

FILES = {
    "a.py": FLOW.format(name="A") + "import common\n",
    "b.py": FLOW.format(name="B") + "from helpers.words import count\n",
    "c.py": "import metaflow\nclass C(metaflow.FlowSpec):\n    pass\nimport b\n",
    "d.py": FLOW.format(name="D") + "runner = Runner('a.py')\nconfig = Config('c', default='d.json')\n",
    "e.py": FLOW.format(name="E") + "from helpers.flows import sub\nother = Config('x', default='../outside.json')\n",
    "common.py": "VALUE = 1\n",
    "broken.py": "def (:\n",
    "helpers/__init__.py": "",
    "helpers/words.py": "def count(): pass\n",
    "helpers/flows/__init__.py": "",
    "helpers/flows/sub.py": FLOW.format(name="Sub") + "from ... import nothing\nfrom . import near\n",
    "helpers/flows/near.py": FLOW.format(name="Near"),
    "model.R": "x <- 1\n",
    "d.json": "{}",
    "README.md": "what it is",
    ".hidden/secret.py": "x = 1\n",
    "data.csv": "1,2\n",
}
#: What every flow of the folder is packaged with.
SHARED = {
    "common.py", "broken.py", "helpers/__init__.py", "helpers/words.py", "helpers/flows/__init__.py", "model.R",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "flows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "outside.json").write_text("{}")
    return tmp_path / "flows"


@pytest.mark.parametrize(
    ("flow", "own"),
    [
        ("a.py", {"a.py"}),
        ("b.py", {"b.py"}),
        ("c.py", {"c.py", "b.py"}),
        ("d.py", {"d.py", "a.py", "d.json"}),
        ("e.py", {"e.py", "helpers/flows/sub.py", "helpers/flows/near.py"}),
    ],
)
def test_the_files_that_count(folder, flow, own):
    assert set(Source(folder).digests(flow)) == SHARED | own


def test_a_flow_in_a_folder_of_its_own_has_the_files_of_that_folder(folder):
    assert set(Source(folder).digests("helpers/flows/near.py")) == {"near.py", "__init__.py"}


@pytest.mark.parametrize(
    ("changed", "flows"),
    [
        ("a.py", {"a.py", "d.py"}),
        ("b.py", {"b.py", "c.py"}),
        ("d.json", {"d.py"}),
        ("common.py", {"a.py", "b.py", "c.py", "d.py", "e.py"}),
        ("README.md", set()),
        ("data.csv", set()),
        (".hidden/secret.py", set()),
    ],
)
def test_a_changed_line_touches_the_flows_that_depend_on_it(folder, changed, flows):
    before = {flow: Source(folder).digests(flow) for flow in ("a.py", "b.py", "c.py", "d.py", "e.py")}
    (folder / changed).write_text((folder / changed).read_text() + "\n# another line\n")
    after = {flow: Source(folder).digests(flow) for flow in before}
    assert {flow for flow in before if before[flow] != after[flow]} == flows


def test_other_suffixes_count_where_they_are_configured(folder):
    assert "data.csv" in Source(folder, (".py", ".csv")).digests("a.py")


def test_links_are_followed_once(folder):
    (folder / "linked").symlink_to(folder / "helpers")
    (folder / "helpers" / "loop").symlink_to(folder)
    assert "helpers/words.py" in Source(folder).digests("a.py")


def test_a_copy_of_the_folder_has_the_same_digests(folder, tmp_path):
    copy = tmp_path / "copy"
    for name in reversed(FILES):
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / name).read_bytes())
    assert Source(copy).digests("d.py") == Source(folder).digests("d.py")


def test_lines_of_what_is_no_text_are_its_digest(folder):
    (folder / "model.R").write_bytes(b"\xff\xfe\x00")
    (line,) = Source(folder).texts("a.py")["model.R"]
    assert line.startswith("sha256 ")
