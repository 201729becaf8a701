# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters on what the image of flows is made of."""

from __future__ import annotations

from ansible_collections.mlops.metaflow.plugins.module_utils.image_source import source_problems


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"image_problems": source_problems}
