"""The filters on flows_list: what is wrong with a list is said before anything is called."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.metaflow.plugins.filter.flows import flow_problems, git_address, with_secret_ids


def flow(**options):
    return {"name": "train", "file": "train.py"} | options


GOOD = [
    flow(),
    flow(state="absent", file=None),
    flow(schedule="0 6 * * ? *"),
    flow(schedule="0/15 8-18 ? * MON-FRI 2026"),
    flow(schedule="none"),
    flow(environment={"MODE": "a, b", "EMPTY": "", "N": 3}),
    flow(secrets=["OPENAI_API_KEY", "other/secret"]),
    flow(project={"name": "shop", "branch": "main_2", "production": True}),
    flow(options=["--environment=pypi"], max_workers=1, workflow_timeout=60),
    flow(file="pipelines/train.py"),
    flow(tags=["team:a", "été"], parameters={"limit": 3, "names": ["é", "$x"], "text": "a 'b' \"c\" \\d & e"}),
]

BAD = [
    (flow(name="a b"), "a b: the name has at most 64 letters"),
    (flow(name="x" * 65), "the name has at most 64 letters"),
    (flow(file=None), "train: file is missing"),
    (flow(file="/srv/train.py"), "file '/srv/train.py' must lie in the source"),
    (flow(file="../train.py"), "file '../train.py' must lie in the source"),
    (flow(schedule="0 6 * * *"), "schedule '0 6 * * *' must have six fields"),
    (flow(schedule="cron(0 6 * * ? *)"), "has a character that no cron expression has"),
    (flow(schedule="0 6 * * * *"), "must have a ? either for the day of month or for the day of week"),
    (flow(schedule="0 6 ? * ? *"), "must have a ? either"),
    (flow(schedule=""), "must have six fields"),
    (flow(schedule="61 6 * * ? *"), "has 61 for minutes; it goes from 0 to 59"),
    (flow(schedule="0/90 6 ? * 1-8 *"), "has 8 for day of week; it goes from 1 to 7"),
    (flow(environment={"A": {"b": 1}}), "environment has a map or a list as 'A'"),
    (flow(**{"with": ["{'resources': {'memory': 4}}"]}), "write it as in --with, e.g. retry"),
    (flow(secrets=["a b"]), "secrets has 'a b', which is neither a key"),
    (flow(options=["--with retry"]), "options has '--with retry'; options begin with a hyphen"),
    (flow(environment={"A-B": "1"}), "environment has 'A-B', which is no name"),
    (flow(environment={"A": "x, y=1"}), "can't take a comma that a word and an equals sign follow"),
    (flow(project={"name": "Shop"}), "project has the name 'Shop'; Metaflow takes lower-case"),
    (flow(project={"branch": "a-b"}), "project has the branch 'a-b'"),
    (flow(options=["environment=pypi"]), "options has 'environment=pypi'; options begin with a hyphen"),
    (flow(max_workers=0), "max_workers must be 1 or more"),
    (flow(tags=["a b"]), "tags has 'a b', but a shell reads tags"),
    (flow(parameters={"text": "$HOME"}), "the value of the parameter 'text' has '$'; on Step Functions"),
    (flow(parameters={"text": "Größe"}), "the value of the parameter 'text' has 'ö'"),
    (flow(parameters={"text": "two\nlines"}), "the value of the parameter 'text' has '\\n'"),
    (flow(workflow_timeout=0), "workflow_timeout must be 1 or more"),
]


@pytest.mark.parametrize("good", GOOD)
def test_a_sound_flow(good):
    assert flow_problems([good]) == []


@pytest.mark.parametrize(("bad", "said"), BAD)
def test_what_is_wrong_is_said(bad, said):
    (problem,) = flow_problems([bad])
    assert said in problem


def test_a_file_that_is_not_there_is_said_where_the_folder_is_known(tmp_path):
    (tmp_path / "train.py").touch()
    assert flow_problems([flow()], str(tmp_path)) == []
    assert flow_problems([flow(file="tain.py")], str(tmp_path)) == [f"train: there is no file 'tain.py' in {tmp_path}"]


def test_all_problems_are_said_at_once():
    problems = flow_problems([flow(), flow(), flow(name="b", file=None, schedule="x")])
    assert problems[0] == "2 flows have the name 'train'"
    assert [problem.split(":")[0] for problem in problems[1:]] == ["b", "b"]


@pytest.mark.parametrize(
    ("source", "is_git"),
    [
        ("https://github.com/example/flows", True),
        ("git@github.com:example/flows.git", True),
        ("ssh://git@host/flows", True),
        ("file:///srv/flows", True),
        ("/srv/flows.git", True),
        ("/srv/flows", False),
        ("flows", False),
        ("~/flows", False),
        ("", False),
    ],
)
def test_git_address(source, is_git):
    assert git_address(source) is is_git


def test_a_bare_key_is_a_secret_of_the_stack():
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x"
    flows = [flow(secrets=["KEY", "team/other", arn]), flow(name="plain")]
    resolved = with_secret_ids(flows, "metaflow-prod/flows")
    assert resolved[0]["secrets"] == ["metaflow-prod/flows/KEY", "team/other", arn]
    assert resolved[1] == flow(name="plain")
    assert flows[0]["secrets"][0] == "KEY"
