# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters on what the image of flows is made of."""

from __future__ import annotations

from ansible_collections.mlops.metaflow.plugins.module_utils.image_source import source_problems


def image_problems(requirements, dockerfile, context):
    """Return a sentence for each thing that is wrong with a requirements file or a Dockerfile on this machine."""
    return source_problems(requirements, dockerfile, context)


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"image_problems": image_problems}
