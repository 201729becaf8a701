# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""EventBridge's rules for the six fields of a cron expression (Amazon EventBridge user guide)."""

from __future__ import annotations

import re

#: The fields with their lowest and highest number.
FIELDS = {
    "minutes": (0, 59),
    "hours": (0, 23),
    "day of month": (1, 31),
    "month": (1, 12),
    "day of week": (1, 7),
    "year": (1970, 2199),
}


def cron_problems(expression):
    """Yield a sentence for what is wrong with a cron expression without ``cron()``."""
    fields = expression.split()
    if len(fields) != len(FIELDS):
        yield f"schedule '{expression}' must have six fields ({', '.join(FIELDS)}), without cron(), or be none"
    elif (fields[2] == "?") == (fields[4] == "?"):
        yield f"schedule '{expression}' must have a ? either for the day of month or for the day of week"
    elif not all(re.fullmatch(r"[A-Za-z0-9*?,/#-]+", field) for field in fields):
        yield f"schedule '{expression}' has a character that no cron expression has"
    else:
        for field, (name, (lowest, highest)) in zip(fields, FIELDS.items(), strict=True):
            # What follows / and # is a step or a week, and is no value of the field.
            for number in re.findall(r"(?<![/#\d])\d+", field):
                if not lowest <= int(number) <= highest:
                    yield f"schedule '{expression}' has {number} for {name}; it goes from {lowest} to {highest}"
