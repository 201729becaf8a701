# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a container image is made of: the context of its build as one archive, and a tag by its content.

The archive that is hashed is the one that is built, by Docker as by CodeBuild: both read it from their standard input.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from pathlib import Path

#: How tags by content begin.
TAG_PREFIX = "content-"

DOCKERFILE = "Dockerfile"
REQUIREMENTS = "requirements.txt"

_LONGEST_HASH = 20
_SECRET_IN_URL = re.compile(r"://[^/\s@]+@")
#: Options of a requirements file that need nothing beside it.
_OPTIONS = (
    "-i", "--index-url", "--extra-index-url", "--no-index", "--no-binary", "--only-binary", "--prefer-binary", "--pre",
    "--require-hashes", "--trusted-host", "--use-feature",
)  # fmt: skip


class Source:
    """The context of a build, and where in it the Dockerfile is."""

    def __init__(self, folder, names, dockerfile, extra=()):
        self.dockerfile = dockerfile
        self._folder = folder
        self._names = names
        self._extra = list(extra)

    @classmethod
    def of_requirements(cls, requirements, dockerfile_content):
        """The context that is a requirements file and the Dockerfile that installs it."""
        extra = [(DOCKERFILE, dockerfile_content), (REQUIREMENTS, Path(requirements).expanduser().read_text())]
        return cls("/", [], DOCKERFILE, extra)

    @classmethod
    def of_dockerfile(cls, dockerfile, context):
        """The context that is a folder, without what its .dockerignore leaves out."""
        from docker.utils.build import exclude_paths  # here: discovery and the controller need only what is light

        folder = Path(context).expanduser().resolve()
        name = str(Path(dockerfile).expanduser().resolve().relative_to(folder))
        ignore = folder / ".dockerignore"
        lines = ignore.read_text().splitlines() if ignore.exists() else []
        patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return cls(str(folder), sorted(exclude_paths(str(folder), patterns, name)), name)

    def write(self, file):
        """Write the context as a tar archive; packed, because buildx doesn't know every other one when it sees it."""
        from docker.utils.build import create_archive

        create_archive(self._folder, files=self._names, fileobj=file, gzip=True, extra_files=self._extra)

    def tag(self, file, **settings):
        """Return the tag of an archive's content and of all else that the image depends on.

        Names, modes, links and contents count; who owns a file and when it was written do not.
        """
        file.seek(0)
        digest = hashlib.sha256(json.dumps({"dockerfile": self.dockerfile, **settings}, sort_keys=True).encode())
        with tarfile.open(fileobj=file) as archive:
            for member in sorted(archive.getmembers(), key=lambda item: item.name):
                content = hashlib.sha256(archive.extractfile(member).read()).hexdigest() if member.isfile() else ""
                mode = member.mode & 0o777
                digest.update(json.dumps([member.name, mode, member.linkname, content]).encode())
        file.seek(0)
        return TAG_PREFIX + digest.hexdigest()[:_LONGEST_HASH]


def content_tags(tags):
    """Return those of an image's tags that say its content."""
    return sorted(tag for tag in tags or [] if tag.startswith(TAG_PREFIX))


def requirement_problems(text):
    """Return a sentence for each line of a requirements file that an image can't be made of."""
    from packaging.requirements import InvalidRequirement, Requirement  # Ansible brings it to the controller

    problems = []
    for number, line in _logical_lines(text):
        if _SECRET_IN_URL.search(line):
            problems.append(
                f"line {number} has a password in its URL, which would be seen in the image's history; give the "
                "index's URL by flow_image_build_secrets, e.g. [PIP_INDEX_URL]"
            )
        elif line.startswith("-"):
            if re.split(r"[ =]", line)[0] not in _OPTIONS:
                problems.append(f"line {number} '{line}' needs more than this file; write a Dockerfile for that")
        else:
            try:
                Requirement(re.split(r"\s--", line)[0])
            except InvalidRequirement:
                problems.append(f"line {number} '{line}' is no requirement, such as pandas==2.2.3")
    return problems


def _logical_lines(text):
    """Yield the number and the text of what is said, as pip reads it: without comments, continued lines joined."""
    said, begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun if said else number
        said += line
        if line.endswith("\\"):
            said = said[:-1] + " "
            continue
        said = re.sub(r"(^|\s)#.*$", "", said).strip()
        if said:
            yield begun, said
        said = ""
    if said.strip():
        yield begun, said.strip()


def dockerfile_problems(text):
    """Return what is wrong with a Dockerfile: the image that it describes must not run as root."""
    instructions = [line.split(maxsplit=1) for _, line in _logical_lines(text)]
    last_stage = []
    for words in instructions:
        name = words[0].upper()
        last_stage = [words] if name == "FROM" else [*last_stage, words]
    if not last_stage or last_stage[0][0].upper() != "FROM":
        return ["it has no FROM"]
    users = [words[1].strip() for words in last_stage if words[0].upper() == "USER" and len(words) == 2]
    if not users:
        return ["its last stage has no USER, so that jobs would run as root; end it with e.g. USER 1000"]
    if users[-1].split(":")[0] in ("root", "0"):
        return [f"its last USER is {users[-1]}; jobs must not run as root"]
    return []


def source_problems(requirements, dockerfile, context):
    """Return a sentence for each thing that is wrong with what an image is to be made of, which the controller has."""
    if requirements and dockerfile:
        return ["give either flow_image_requirements or flow_image_dockerfile, not both"]
    if not requirements and not dockerfile:
        return []
    path = Path(requirements or dockerfile).expanduser()
    if not path.is_file():
        return [f"there is no file {path} on this machine"]
    text = path.read_text()
    if requirements:
        return [f"{path}: {problem}" for problem in requirement_problems(text)]
    folder = Path(context).expanduser()
    if not folder.is_dir():
        return [f"there is no folder {folder} on this machine for the context"]
    if not path.resolve().is_relative_to(folder.resolve()):
        return [f"the Dockerfile {path} must lie in the context {folder}"]
    return [f"{path}: {problem}" for problem in dockerfile_problems(text)]
