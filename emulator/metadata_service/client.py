"""What the service knows of a client: the version of Metaflow in the system tags of what it registers."""

import re
from typing import Any

VERSION_TAG = "metaflow_version:"


def sends_heartbeats(system_tags: Any) -> bool:
    """Whether a client of this version sends heartbeats: Metaflow from 2.2.12 on, and Netflix's own from 1.14.0 on."""
    if not isinstance(system_tags, list) or not all(isinstance(tag, str) for tag in system_tags):
        return False
    version = next((tag.removeprefix(VERSION_TAG) for tag in system_tags if tag.startswith(VERSION_TAG)), "")
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    if not numbers:
        return False
    parts = [int(part) for part in numbers[0].split(".")]
    return parts >= ([1, 14, 0] if parts[0] == 1 else [2, 2, 12])
