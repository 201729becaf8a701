"""Removes the containers with a label once its standard input closes: once the emulator is gone, however it ended.

Run as ``python engine_reaper.py LABEL=VALUE``.
"""

import sys

import docker


def main() -> None:
    """Wait for the end of the emulator, then remove what it left."""
    sys.stdin.read()
    for container in docker.from_env().containers.list(all=True, filters={"label": sys.argv[1]}):
        container.remove(force=True)


if __name__ == "__main__":
    main()
