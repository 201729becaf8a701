# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep from one run to the next what ansible-core builds of a module: the archive of its code and of all it imports.

ansible-core parses some eighty files for each AWS module, 0.2 s of CPU, and keeps the archive for one run, in its
temporary directory. Here these are copied to a directory of the user's, and the next run finds links to them where it
looks.
Source: `ansiballz_cache` in ansible/executor/module_common.py, the same in ansible-core 2.19, 2.20 and 2.21; a version
that looks elsewhere builds what it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ansible.plugins.loader import module_utils_loader
from ansible.release import __version__
from ansible_collections.mlops.metaflow.plugins.plugin_utils.warm_client import open_private_directory

#: Whose modules are kept: those that the components run. Of these all code is known that an archive can hold.
COLLECTIONS = ("amazon.aws", "community.aws", "mlops.metaflow")
#: Days after which archives of code that no run had any more are removed.
UNUSED_DAYS = 30

_KEPT = ".kept"  # a link to the directory that the run was offered
_PLAIN = "-none"  # ends the name of an archive without a debugger or a coverage measurement in it


def offer(root: Path, temporary: Path) -> None:
    """Let a run find the archives that earlier ones have kept of the same code.

    :param root: where archives are kept, a directory of this user alone.
    :param temporary: the temporary directory of the run's controller.
    :raises OSError: they can't be read; the run then builds its own.
    :raises UnavailableError: the directory isn't this user's alone.
    """
    try:
        (temporary / "ansiballz_cache").mkdir()
    except FileExistsError:  # another worker has, or ansible-core itself
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with open_private_directory(root):
        place = root / _code_in_use()
        new = not place.exists()
        with open_private_directory(place):
            os.utime(place)
            for archive in place.iterdir():
                with contextlib.suppress(FileExistsError):  # ansible-core has built it meanwhile
                    (temporary / "ansiballz_cache" / archive.name).symlink_to(archive)
            (temporary / "ansiballz_cache" / _KEPT).symlink_to(place)
        if new:
            _remove_unused(root)


def keep(temporary: Path, module: str) -> None:
    """Keep the archive that ansible-core has built of a module, unless it is kept already.

    :param module: its full name, e.g. ``ansible_collections.amazon.aws.plugins.modules.ec2_vpc_net``.
    :raises OSError: it can't be written.
    """
    if not module.startswith(tuple(f"ansible_collections.{name}.plugins.modules." for name in COLLECTIONS)):
        return
    built = temporary / "ansiballz_cache"
    for archive in built.glob(f"{module}-*{_PLAIN}"):
        if archive.is_symlink() or not (built / _KEPT).is_symlink():
            continue
        kept = (built / _KEPT).readlink() / archive.name
        # Whoever edits the code during a run has an archive of other code than the directory is for.
        if not kept.exists() and kept.parent.name == _code_in_use():
            _copy(archive, kept)


def _copy(archive: Path, kept: Path) -> None:
    """Copy a file so that whoever sees the copy sees all of it, also after a loss of power."""
    part = kept.with_name(f".{kept.name}.{os.getpid()}")
    with archive.open("rb") as source, part.open("xb") as target:
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(target.fileno())
    part.rename(kept)


def _code_in_use() -> str:
    """Return a digest of when each file was last changed that an archive may hold."""
    digest = hashlib.sha256(f"{__version__} {sys.version}".encode())
    for directory in _directories():
        for path, status in sorted(_files(directory), key=lambda file: file[0]):
            digest.update(f"{path} {status.st_mtime_ns} {status.st_size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _directories() -> Iterator[Path]:
    # ansible-core's own, and those of the person and of the playbooks, which go before them.
    yield from map(Path, module_utils_loader.print_paths().split(os.pathsep))
    for name in COLLECTIONS:
        with contextlib.suppress(ImportError):  # not each of them need be installed
            for path in importlib.import_module(f"ansible_collections.{name}").__path__:
                yield from (Path(path, part) for part in ("meta", "plugins/modules", "plugins/module_utils"))


def _files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(Path(entry.path))
            elif entry.name.endswith((".py", ".yml")):
                yield entry.path, entry.stat()


def _remove_unused(root: Path) -> None:
    limit = time.time() - UNUSED_DAYS * 24 * 3600
    for place in root.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another run removes it too
            if place.stat().st_mtime < limit:
                shutil.rmtree(place)
