# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A file of Metaflow's client configuration on the disk: read, lock, back up, replace in one step, repair."""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.mlops.metaflow.plugins.module_utils import metaflow_config as conf


def owner_problems(owner, group):
    """Return a sentence for each that this host doesn't know; numbers need no name."""
    problems = []
    for option, name, look_up in (("owner", owner, pwd.getpwnam), ("group", group, grp.getgrnam)):
        if name is not None and not name.isdigit():
            try:
                look_up(name)
            except KeyError:
                problems.append(f"{option} is '{name}', which this host does not know.")
    return problems


class ConfigFile:
    """The file of one profile. Its methods raise ``OSError`` for what the file system refuses."""

    def __init__(self, module, home, file_name):
        """:param module: an AnsibleModule with the options ``owner`` and ``group``."""
        self.module = module
        self.directory = Path(home)
        self.name = str(self.directory / file_name)
        # Some people keep their configuration elsewhere and link to it: the link stays, its target is replaced.
        self.path = Path(os.path.realpath(self.name))

    def read(self):
        """Return the parsed file, or None where there is none; raise ``ConfigError`` where it is no JSON object."""
        try:
            return conf.parse(self.path.read_bytes(), self.name)
        except FileNotFoundError:
            return None

    @contextmanager
    def locked(self):
        """Hold the directory, made if needed, against other runs of ours."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A lock on the directory leaves no lock file behind, and the kernel lets go of it when a run dies.
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def back_up(self):
        """Copy the file beside itself and return the copy's path."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        copy = f"{self.name}.{now}.bak"
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            self._keep_owner(descriptor)
            stream.write(self.path.read_bytes())
        return copy

    def replace(self, config):
        """Put a file with ``config`` in the place of the present one; None removes it.

        Readers see the old file or the new one, whole.
        """
        if config is None:
            self.path.unlink()
            return
        descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        self.module.add_cleanup_file(temporary)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            self._keep_owner(descriptor)
            stream.write(conf.serialised(config))
            stream.flush()
            os.fsync(descriptor)
        self._set_owner(temporary, False)
        Path(temporary).replace(self.path)

    def repair(self, diff):
        """Set mode, owner and group of file and directory; return whether any was wrong, and note it in ``diff``."""
        changed = False
        for path, mode in ((self.directory, 0o700), (self.path, 0o600)):
            if path.exists():
                found = {"before": {}, "after": {}}
                changed = self.module.set_mode_if_different(str(path), mode, changed, found)
                changed = self._set_owner(str(path), changed, found)
                for side in ("before", "after"):
                    diff[side].update({f"{path} {name}": value for name, value in found[side].items()})
        return changed

    def _set_owner(self, path, changed, diff=None):
        changed = self.module.set_owner_if_different(path, self.module.params["owner"], changed, diff)
        return self.module.set_group_if_different(path, self.module.params["group"], changed, diff)

    def _keep_owner(self, descriptor):
        """Give a new file the owner of the one it stands for; only root makes files for others."""
        if os.geteuid() == 0 and self.path.exists():
            present = self.path.stat()
            os.fchown(descriptor, present.st_uid, present.st_gid)
