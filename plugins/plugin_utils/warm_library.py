# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module_utils that the fork server holds in memory, imported from the payloads of the modules themselves.

A module finds in memory exactly the code that its own payload carries: each file in memory is compared with the
payload's (checksum and size). If one differs, as after an edit during the run, the module imports all of its own.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import gc
import importlib
import io
import sys
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

# Whose module_utils are imported ahead. Those of other collections are left to the modules that want them.
_PRELOADED = (
    "ansible.module_utils.",
    "ansible_collections.amazon.aws.plugins.module_utils.",
    "ansible_collections.community.aws.plugins.module_utils.",
    "ansible_collections.mlops.metaflow.plugins.module_utils.",
)
# facts finds its collectors through the subclasses that are in memory; an extension acts on being imported.
_LEFT_TO_MODULES = ("ansible.module_utils.facts.", "ansible.module_utils._internal._ansiballz._extensions.")
_PAYLOAD_PACKAGES = ("ansible", "ansible_collections")
_LOADER = "ansible.module_utils._internal._ansiballz._loader"
_WARNINGS = "ansible.module_utils.common.warnings"


class Archive:
    """The zip archive of one payload: its modules by name, each with checksum and size of its source."""

    def __init__(self, encoded: bytes) -> None:
        """encoded: base64, as it stands in the payload."""
        self.data = base64.b64decode(encoded)
        self._zip = zipfile.ZipFile(io.BytesIO(self.data))
        self._entries = {
            _module_name(entry.filename): entry for entry in self._zip.infolist() if entry.filename.endswith(".py")
        }
        self.modules = {name: (entry.CRC, entry.file_size) for name, entry in self._entries.items()}

    def source(self, module: str) -> bytes:
        """The source of one of its modules."""
        return self._zip.read(self._entries[module])


class Library:
    """The module_utils in memory, and what they were imported from."""

    def __init__(self, directory: Path) -> None:
        """directory: private; keeps the archives that modules were imported from (tracebacks quote their lines)."""
        self._directory = directory
        self._known: dict[str, tuple[int, int]] = {}
        self._elsewhere: dict[str, list[str]] = {}  # package → its directories outside of payloads
        self._left_out: set[str] = set()

    def fits(self, archive: Archive) -> bool:
        """Whether no module in memory differs from the one in the archive."""
        return all(archive.modules.get(name, source) == source for name, source in self._known.items())

    def learn(self, archive: Archive) -> None:
        """Import, before the fork, what the archive's module would import first after it."""
        while self.fits(archive) and (names := self._unknown(archive)):
            acting = self._import(archive, names)
            if acting is None:
                break
            self._left_out.add(acting)
            self._known.clear()
            self._elsewhere.clear()
            _forget_all()
        gc.freeze()

    def _unknown(self, archive: Archive) -> list[str]:
        return [
            name
            for name in archive.modules
            if name.startswith(_PRELOADED)
            and not name.startswith(_LEFT_TO_MODULES)
            and name not in self._known
            and name not in self._left_out
        ]

    def _import(self, archive: Archive, names: list[str]) -> str | None:
        """Import these modules; returns the first, if any, whose import does more than define: it left a warning that
        a module's result would show. (ansible-core deprecates some of its module_utils in this way.)"""
        path = self._directory / f"{len(list(self._directory.glob('*.zip')))}.zip"
        path.write_bytes(archive.data)
        self.show(str(path))
        sys.path.insert(0, str(path))
        try:
            for name in names:
                _try_import(name)
                if _has_warned():
                    return name
        finally:
            sys.path.remove(str(path))
        self._record(archive)
        return None

    def _record(self, archive: Archive) -> None:
        """Note what is in memory now; forget what came from another place than a payload."""
        directory = str(self._directory)
        foreign = []
        for name in [name for name in sys.modules if name.partition(".")[0] in _PAYLOAD_PACKAGES]:
            module = sys.modules[name]
            if module.__name__ != name or not getattr(module, "__file__", None):
                continue  # another name for a module, or one made by a module (six.moves)
            if not module.__file__.startswith(directory):
                foreign.append(name)
            elif name in archive.modules and name not in self._known:
                self._known[name] = archive.modules[name]
                if hasattr(module, "__path__"):
                    self._elsewhere[name] = [entry for entry in module.__path__ if not entry.startswith(directory)]
        _forget(foreign)

    def show(self, archive_path: str) -> None:
        """Let the packages in memory find their other modules in this archive."""
        for name, elsewhere in self._elsewhere.items():
            sys.modules[name].__path__ = [f"{archive_path}/{name.replace('.', '/')}", *elsewhere]

    def adopt(self, archive: Archive) -> None:
        """In a fork: leave in memory only what this archive holds too, and let the rest be found in it."""
        if not self.fits(archive):
            _forget_all()
            return
        missing = self._known.keys() - archive.modules.keys()
        _forget(missing)
        for name in missing:
            self._elsewhere.pop(name, None)
        if loader := sys.modules.get(_LOADER):
            loader.run_module = self._shown_first(loader.run_module)

    def _shown_first(self, run_module: Callable[..., None]) -> Callable[..., None]:
        """Here the payload's wrapper says where it unpacked the archive, right before the module is imported."""

        @functools.wraps(run_module)
        def run(**arguments: object) -> None:
            self.show(str(arguments["modlib_path"]))
            run_module(**arguments)

        return run


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _try_import(name: str) -> None:
    """Import a module; one that cannot be imported here fails again in the fork, if its module really needs it."""
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(name)


def _has_warned() -> bool:
    warnings = sys.modules.get(_WARNINGS)
    return bool(warnings and (warnings.get_warning_messages() or warnings.get_deprecation_messages()))


def _forget(names: Collection[str]) -> None:
    """Remove modules, and what they put below themselves, from memory."""
    below = tuple(f"{name}." for name in names)
    for loaded in [loaded for loaded in sys.modules if loaded in names or loaded.startswith(below)]:
        del sys.modules[loaded]
    for name in names:
        parent, _, child = name.rpartition(".")
        if hasattr(sys.modules.get(parent), child):
            delattr(sys.modules[parent], child)


def _forget_all() -> None:
    _forget(_PAYLOAD_PACKAGES)


def installed_packages() -> dict[str, int]:
    """When each directory of sys.path was last changed (ns): a package installed or removed changes one."""
    times = {}
    for entry in sys.path:
        with contextlib.suppress(OSError):
            times[entry] = Path(entry).stat().st_mtime_ns
    return times
