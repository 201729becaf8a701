# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# ansible.builtin.validate_argument_spec knows types and choices; it quotes secrets in its errors, passes over
# misspelt variables, and leaves the meaning of values to one assert a rule. This does all of it in one task.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: preflight
short_description: Check the variables of components before anything is touched
version_added: 0.1.0
description:
  - Checks the variables of roles of this collection against their argument specifications, names variables with a
    role's prefix that the role doesn't have, and evaluates the conditions in the role's C(meta/preflight.yml).
  - Runs on the controller and calls nothing. All problems are told at once, one sentence each.
  - On success the fact C(ansible_facts.stack_preflight_passed) is set for the host, and facts by which
    M(mlops.metaflow.stack_record) sees whether anything has changed since the last converge.
  - C(meta/preflight.yml) has three keys. C(checks) is a list of C(variable), C(that) (a condition as in C(when),
    evaluated where the types of all variables are right) and C(allowed) (what completes the sentence "it must be …");
    in place of the latter two, C(problems) is an expression that gives a list of sentences, one a problem. C(files)
    are the files and folders on this machine that the component writes or deploys. C(recorded), true by default, says
    whether variables, code, files and account tell all that the component depends on, so that it may be found
    unchanged.
author:
  - The metaflow-ansible authors
options:
  components:
    description: Names of the roles.
    type: list
    elements: str
    required: true
  by_host:
    description:
      - Take a component's variables from the inventory host of its name, where there is one, so that one task checks
        all of them.
    type: bool
    default: false
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
    components: [network]

- name: Check the variables of the stack and of all its components
  mlops.metaflow.preflight:
    components: "{{ ['stack'] + groups['stack'] }}"
    by_host: true
  run_once: true
"""

RETURN = r"""
problems:
  description: What is wrong, one sentence a problem.
  returned: failure
  type: list
  elements: str
  sample: ["network_vpc_cidr '10.0.0.0/29' is not allowed: it must be an IPv4 block from /16 to /24"]
"""
