# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether images can be built on this machine. The controller asks too, in every run: so nothing large is imported."""

from __future__ import annotations

import os
import subprocess


def docker_builds(environment=None):
    """Tell whether a container engine answers here, and Docker's command has BuildKit (its plug-in buildx)."""
    given = {**os.environ, **(environment or {})}
    for command in (["docker", "buildx", "version"], ["docker", "version", "--format", "{{.Server.Version}}"]):
        try:
            done = subprocess.run(command, capture_output=True, env=given, timeout=20)  # noqa: S603 - constants
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode:
            return False
    return True
