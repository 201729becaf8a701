# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an image is made of: what is refused, and what its tag depends on."""

from __future__ import annotations

import io
import os

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils.image_source import (
    Source,
    content_tags,
    dockerfile_problems,
    requirement_problems,
    source_problems,
)

DOCKERFILE = "FROM python:3.12\nUSER 1000\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing but a comment\n\n",
        "pandas\nnumpy==2.1.0  # pinned\nboto3>=1.35,<2 ; python_version >= '3.11'\nrequests[socks]\n",
        "--index-url https://packages.example.org/simple\n--extra-index-url=https://other.example.org\npandas\n",
        "pandas==2.2.3 \\\n    --hash=sha256:0123 \\\n    --hash=sha256:4567\n",
        "tool @ https://example.org/tool-1.0-py3-none-any.whl\n",
    ],
)
def test_requirements_that_are_taken(text):
    assert requirement_problems(text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pandas\nnumpy=2.1\n", "line 2 'numpy=2.1' is no requirement, such as pandas==2.2.3"),
        ("not a requirement", "line 1 'not a requirement' is no requirement"),
        ("-r more.txt", "line 1 '-r more.txt' needs more than this file; write a Dockerfile for that"),
        ("-e .", "needs more than this file"),
        ("--find-links=./wheels", "needs more than this file"),
        ("./wheels/tool.whl", "is no requirement"),
        ("a\\\n  b==\n", "line 1 'a   b==' is no requirement"),
        ("--index-url https://me:secret@packages.example.org/simple", "line 1 has a password in its URL"),
    ],
)
def test_requirements_that_are_refused(text, said):
    (problem,) = requirement_problems(text)
    assert said in problem and "me:secret" not in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DOCKERFILE, None),
        ("# syntax\nFROM a AS build\nUSER root\nRUN \\\n  make\nFROM b\nUSER flows:flows\n", None),
        ("", "it has no FROM"),
        ("RUN true\n", "it has no FROM"),
        ("FROM python:3.12\nRUN true\n", "its last stage has no USER"),
        ("FROM a\nUSER 1000\nFROM b\nRUN true\n", "its last stage has no USER"),
        ("FROM a\nUSER 1000\nUSER root\n", "its last USER is root; jobs must not run as root"),
        ("FROM a\nuser 0:0\n", "its last USER is 0:0"),
    ],
)
def test_dockerfiles(text, said):
    problems = dockerfile_problems(text)
    assert problems == [] if said is None else (len(problems) == 1 and said in problems[0])


def test_sources_that_are_refused(tmp_path):
    requirements, dockerfile = tmp_path / "requirements.txt", tmp_path / "context" / "Dockerfile"
    requirements.write_text("=\n")
    dockerfile.parent.mkdir()
    dockerfile.write_text(DOCKERFILE)
    given, context = str(dockerfile), str(dockerfile.parent)
    assert source_problems("", "", "") == []
    assert source_problems("", given, context) == []
    for arguments, said in [
        ((str(requirements), given, context), "give either flow_image_requirements or flow_image_dockerfile, not both"),
        ((str(tmp_path / "none"), "", ""), f"there is no file {tmp_path}/none on this machine"),
        ((str(tmp_path), "", ""), "there is no file"),
        ((str(requirements), "", ""), f"{requirements}: line 1 '=' is no requirement"),
        (("", given, str(tmp_path / "none")), "there is no folder"),
        (("", str(requirements), context), "must lie in the context"),
    ]:
        (problem,) = source_problems(*arguments)
        assert said in problem


def tag(source, **settings):
    with io.BytesIO() as archive:
        source.write(archive)
        return source.tag(archive, **settings)


@pytest.fixture
def context(tmp_path):
    """A folder with a Dockerfile, a program, and what the image doesn't get."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "program").write_text("one")
    (tmp_path / "ignored").mkdir()
    (tmp_path / "ignored" / "file").write_text("one")
    (tmp_path / ".dockerignore").write_text("# a comment\nignored\n")
    return tmp_path


def tag_of(context, **settings):
    return tag(Source.of_dockerfile(str(context / "Dockerfile"), str(context)), **settings)


def test_a_tag_depends_on_the_content_alone(context):
    first = tag_of(context, platform="linux/amd64")
    assert content_tags(["current", first]) == [first]
    os.utime(context / "program", (0, 0))
    (context / "ignored" / "file").write_text("two")
    assert tag_of(context, platform="linux/amd64") == first


def test_a_tag_depends_on_all_of_the_content(context):
    tags = [tag_of(context), tag_of(context, revision="2")]
    (context / "program").write_text("two")
    tags.append(tag_of(context))
    (context / "program").chmod(0o755)
    tags.append(tag_of(context))
    (context / "program").rename(context / "other")
    tags.append(tag_of(context))
    (context / "link").symlink_to("other")
    tags.append(tag_of(context))
    (context / "Dockerfile").write_text(DOCKERFILE + "CMD true\n")
    tags.append(tag_of(context))
    assert len(set(tags)) == len(tags)


def test_a_tag_of_requirements_depends_on_both_texts(tmp_path):
    requirements = tmp_path / "requirements.txt"
    tags = set()
    for text in ("a", "b"):
        requirements.write_text(text)
        tags |= {tag(Source.of_requirements(str(requirements), dockerfile)) for dockerfile in ("FROM a", "FROM b")}
    assert len(tags) == 4
