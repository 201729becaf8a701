"""The stand-in of Docker, and the script that a buildspec becomes: their pure parts."""

import subprocess

import pytest

from emulator.runtime.build_tools import instructions, pip_install
from emulator.runtime.codebuild import script


def test_the_instructions_are_those_of_the_last_stage():
    dockerfile = "FROM a AS b\nRUN make\n# a comment\nfrom c\n\nRUN one \\\n  # inside\n  two\nUSER 1000\n"
    assert [(name, " ".join(text.split())) for name, text in instructions(dockerfile)] == [
        ("FROM", "c"),
        ("RUN", "one two"),
        ("USER", "1000"),
    ]


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["pip", "install", "a"], ["a"]),
        (["python", "-m", "pip", "install", "-r", "f"], ["-r", "f"]),
        (["apt-get", "install", "a"], None),
        (["python", "-m", "this"], None),
        ([], None),
    ],
)
def test_what_a_run_runs(words, arguments):
    assert pip_install(words) == arguments


@pytest.mark.parametrize(
    ("failing", "status", "said"),
    [
        (None, 0, ["pre_build", "build", "post_build 1"]),
        ("pre_build", 12, []),
        ("build", 13, ["pre_build", "post_build 0"]),
        ("post_build", 14, ["pre_build", "build"]),
    ],
)
def test_a_buildspec_as_a_script(tmp_path, failing, status, said):
    """What comes after a phase that fails, as CodeBuild has it."""
    phases = {name: f"echo {name}" for name in ("pre_build", "build")} | {
        "post_build": "echo post_build $CODEBUILD_BUILD_SUCCEEDING"
    }
    lines = "".join(
        f"  {name}: {{commands: ['{'false' if name == failing else command}']}}\n" for name, command in phases.items()
    )
    (tmp_path / "download-source").write_text("#!/bin/sh\n")
    (tmp_path / "download-source").chmod(0o700)
    text = script({"buildspec": f"version: 0.2\nphases:\n{lines}", "location": "bucket/key"})
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CODEBUILD_BUILD_SUCCEEDING": "1"}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True)
    assert done.returncode == status
    assert [line for line in done.stdout.splitlines() if not line.startswith("[Container]")] == said
