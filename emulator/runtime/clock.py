"""How fast the emulator's clock runs where AWS would only wait.

The pauses between two health checks are divided by SPEED (30 seconds become 0.75), so that what works is seen at once.
What a program needs time for is real: the time that it has to start before failed checks count, stopTimeout, a job's
attemptDurationSeconds.
"""

SPEED = 40
SHORTEST = 0.2
"""Seconds below which nothing is scaled, so that checks leave the machine its cores."""


def scaled(seconds: float) -> float:
    """The emulator's pause for an interval that AWS would wait."""
    return max(seconds / SPEED, SHORTEST)
