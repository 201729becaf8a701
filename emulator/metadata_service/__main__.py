"""Start the stand-in: `python -m emulator.metadata_service`. The environment is described in README.md."""

import asyncio
import logging
import os
import sqlite3
import sys

from . import parent  # noqa: F401 - first of all: see there
from .server import serve
from .settings import DatabaseUnavailable, Settings, SettingsError


def main() -> int:
    """Serve; the exit status is 1 where that is not possible."""
    try:
        settings = Settings.from_environment(os.environ)
    except (SettingsError, DatabaseUnavailable) as error:
        print(f"metadata service: {error}", file=sys.stderr)
        return 1
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(settings))
    except (OSError, sqlite3.Error) as error:
        print(f"metadata service: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
