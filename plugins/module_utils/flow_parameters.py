# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values of flows' parameters, as an execution's input has them.

A job writes them as ``export METAFLOW_INIT_<NAME>=<value as JSON>`` into a file that bash reads (Metaflow 2.19,
``set_batch_environment``): bash knows no \\u00e9 and no \\n in double quotes, and expands what $ and ` begin.
"""

from __future__ import annotations

import json
import re

_LOST = re.compile(r"[^ -~]|[$`]")


def text(value):
    """Return a value as Metaflow takes it from an execution's input; JSON in a form that comes through bash."""
    if isinstance(value, str):
        return value
    return json.dumps(value).replace("$", r"\u0024").replace("`", r"\u0060")


def texts(parameters):
    """Return parameters with their values as :func:`text`."""
    return {name: text(value) for name, value in parameters.items()}


def value_problems(parameters):
    """Yield a sentence for each value that would reach a flow as another one."""
    for name, value in (parameters or {}).items():
        lost = _LOST.search(value) if isinstance(value, str) else None
        if lost:
            yield (
                f"the value of the parameter '{name}' has {lost[0]!r}; on Step Functions Metaflow can hand on only "
                "texts of one line of ASCII without $ and `"
            )
