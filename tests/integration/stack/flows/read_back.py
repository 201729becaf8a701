"""Prints, as JSON, what Metaflow's client API reads of the run that the argument names."""

import base64
import json
import re
import sys

from metaflow import Run, namespace
from metaflow.cards import get_cards

namespace(None)
run = Run(sys.argv[1])
# What a card shows stands in its page as data.
(data,) = re.findall(r'__MF_DATA__\["[^"]+"\] = "([^"]+)"', get_cards(run["both"].task)[0].get())
print(
    json.dumps(
        {
            "successful": run.successful,
            "steps": {step.id: len(list(step)) for step in run},
            "total": run.data.total,
            "letters": run["both"].task.data.letters,
            "block": len(run["count"].task.data.block),
            "card": base64.b64decode(data).decode(),
        }
    )
)
