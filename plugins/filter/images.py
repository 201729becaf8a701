# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters on images that are built."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible_collections.mlops.metaflow.plugins.module_utils.image_source import DOCKERFILE, Source


def files_below(folder, parts):
    """Yield the names of all files that some parts of a folder hold, without what Python leaves behind."""
    for part in parts:
        path = Path(folder) / part
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(folder))


def content_tag(folder, parts, **settings):
    """Return the tag by content of the image that parts of a folder make.

    :param str folder: where the Dockerfile is.
    :param list parts: the files and directories that go into the build.
    :param settings: what else the image depends on, such as the arguments of its build.
    """
    folder = str(Path(folder).resolve())
    source = Source(folder, list(files_below(folder, parts)), DOCKERFILE)
    with tempfile.TemporaryFile() as archive:
        source.write(archive)
        return source.tag(archive, **settings)


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"content_tag": content_tag}
