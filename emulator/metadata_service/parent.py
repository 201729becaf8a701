"""The process that started this one, whose end is this one's too.

Imported before anything slow, so that a parent which ends early is noted all the same. prctl's PR_SET_PDEATHSIG would
not do for a parent with threads: its signal comes when the *thread* that started this process ends (prctl(2)).
"""

import asyncio
import os

CHECK_INTERVAL = 0.5  # seconds
PARENT = os.getppid()


async def parent_ends() -> None:
    """Return once another process has become the parent."""
    while os.getppid() == PARENT:
        await asyncio.sleep(CHECK_INTERVAL)
