# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# ansible.builtin.validate_argument_spec knows types and choices; it quotes secrets in its errors, passes over
# misspelt variables, and leaves the meaning of values to one assert a rule. This does all of it in one task.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: preflight
short_description: Check a component's variables before anything is touched
version_added: 0.1.0
description:
  - Checks the variables of one role of this collection against its argument specification, names variables with the
    role's prefix that the role doesn't have, and evaluates the role's own conditions.
  - Runs on the controller and calls nothing. All problems are told at once, one sentence each.
  - On success the fact C(ansible_facts.stack_preflight_passed) is set for the host, and facts by which
    M(mlops.metaflow.stack_record) sees whether anything has changed since the last converge.
author:
  - The metaflow-ansible authors
options:
  component:
    description: Name of the role.
    type: str
    required: true
  checks:
    description: Conditions that the variables must meet.
    type: list
    elements: dict
    default: []
    suboptions:
      variable:
        description: The variable that the condition is about.
        type: str
        required: true
      that:
        description: A condition as in C(when). It is evaluated where the types of all variables are right.
        type: str
      allowed:
        description: What is allowed, to complete the sentence "it must be …". With O(checks[].that).
        type: str
      problems:
        description: In place of O(checks[].that), an expression that gives a list of sentences, one a problem.
        type: str
  files:
    description: Files and folders on this machine that it writes or deploys, for M(mlops.metaflow.stack_record).
    type: list
    elements: path
    default: []
  recorded:
    description:
      - Whether variables, code, files and account tell all that the component depends on, so that
        M(mlops.metaflow.stack_record) may find it unchanged.
    type: bool
    default: true
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Check the network's variables
  mlops.metaflow.preflight:
    component: network
    checks:
      - variable: network_vpc_cidr
        that: network_vpc_cidr is mlops.metaflow.ipv4_block(16, 24)
        allowed: an IPv4 block from /16 to /24, e.g. 10.20.0.0/16
"""

RETURN = r"""
problems:
  description: What is wrong, one sentence a problem.
  returned: failure
  type: list
  elements: str
  sample: ["network_vpc_cidr '10.0.0.0/29' is not allowed: it must be an IPv4 block from /16 to /24"]
"""
