# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is documented alike for every module on plugins/module_utils/resource.py."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of ``resource.COMMON_OPTIONS``, and what the core keeps for all modules."""

    DOCUMENTATION = r"""
options:
  state:
    description: Whether the resource should exist.
    type: str
    choices: [present, absent]
    default: present
  wait:
    description: Whether to wait until AWS has finished, with an error where it ends in failure.
    type: bool
    default: true
  wait_timeout:
    description: Longest time in seconds for each wait.
    type: int
    default: 600
attributes:
  check_mode:
    description: Predicts the change and the resource, with the ARNs that follow from names, and changes nothing.
    support: full
  diff_mode:
    description: Shows what is declared before and after, in the terms of the API and without secrets.
    support: full
  idempotent:
    description: Makes no changing call where the resource is as declared.
    support: full
"""
