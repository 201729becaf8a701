"""What the account is asked to run, runs: tasks, jobs and state machines as local processes, stages that forward.

``install`` hooks into moto's models once per process; ``middleware`` answers what is not AWS's API: stages, load
balancers and task credentials; ``reset`` ends everything that runs, ``shutdown`` for good.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assembly import Runtime

_runtime: Runtime | None = None


def install(state_dir: Path, endpoint: str) -> None:
    """Let the account run things: state below ``state_dir``, AWS at ``endpoint``."""
    from .assembly import Runtime  # here: it imports all of moto that the runtime hooks into, which takes seconds

    global _runtime
    if _runtime:
        raise RuntimeError("the runtime is installed already")
    _runtime = Runtime(state_dir, endpoint)


def middleware(app: Any) -> Any:
    """The WSGI application that answers for what runs, and hands everything else on to ``app``."""
    return _installed().middleware(app)


def reset() -> None:
    """End everything that runs and forget it, as moto forgets its models."""
    _installed().reset()


def shutdown() -> None:
    """End everything that runs, for good."""
    global _runtime
    if _runtime:
        _runtime.shutdown()
        _runtime = None


def _installed() -> Runtime:
    if _runtime is None:
        raise RuntimeError("install the runtime first")
    return _runtime
