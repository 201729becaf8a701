"""How fast the emulator's clock runs where AWS would only wait.

Health-check intervals and grace periods are divided by SPEED: a group that is checked every 30 seconds is checked
every 0.75. Time-outs of a program (stopTimeout, a job's attemptDurationSeconds) are real seconds: the program is real.
"""

SPEED = 40
SHORTEST = 0.2
"""Seconds below which nothing is scaled, so that checks leave the machine its cores."""


def scaled(seconds: float) -> float:
    """The emulator's seconds for an interval that AWS would wait."""
    return max(seconds / SPEED, SHORTEST)
