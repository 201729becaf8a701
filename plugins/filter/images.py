# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters on images that are built."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible_collections.mlops.metaflow.plugins.module_utils.image_source import DOCKERFILE, Source


def content_tag(folder, **settings):
    """Return the tag by content of the image that a folder with a Dockerfile makes.

    :param str folder: the build's context.
    :param settings: what else the image depends on, such as the arguments of its build.
    """
    source = Source.of_dockerfile(Path(folder) / DOCKERFILE, folder)
    with tempfile.TemporaryFile() as archive:
        source.write(archive)
        return source.tag(archive, **settings)


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"content_tag": content_tag}
