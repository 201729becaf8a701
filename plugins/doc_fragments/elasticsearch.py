# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is documented alike for every module on plugins/module_utils/elasticsearch.py."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of ``elasticsearch.OPTIONS``."""

    DOCUMENTATION = r"""
options:
  url:
    description: The address of one node, with C(https). It is never spoken to without TLS.
    type: str
    required: true
  ca_path:
    description: The certificate of the authority that signed the node's. Without it, this machine's authorities count.
    type: path
  username:
    description: The user to sign in as.
    type: str
    default: elastic
  password_file:
    description: A file of the machine where the module runs, whose first line is this user's password.
    type: path
    required: true
  previous_password_file:
    description: The same, with the password before. It is tried where the one in O(password_file) is refused.
    type: path
  request_timeout:
    description: Longest time in seconds for one request.
    type: int
    default: 60
notes:
  - Uses nothing but Python's own library. Passwords are in no argument, result, diff or log.
"""
