# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the fork server has in memory before it forks: module_utils, imported from payloads themselves, and botocore.

A module finds in memory exactly the code that its own payload carries: every preloaded file is compared with the
payload's (checksum and size); if one differs, the module imports all of its own.
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
from collections.abc import Callable, Iterator
from pathlib import Path

# Importing these has no effect but definitions. Others are left to the module that wants them.
_PRELOADED = (
    "ansible.module_utils.",
    "ansible_collections.amazon.aws.plugins.module_utils.",
    "ansible_collections.community.aws.plugins.module_utils.",
    "ansible_collections.mlops.metaflow.plugins.module_utils.",
)
# facts finds its collectors through the subclasses that are in memory; an extension acts on being imported.
_NOT_PRELOADED = ("ansible.module_utils.facts.", "ansible.module_utils._internal._ansiballz._extensions.")
_LOADER = "ansible.module_utils._internal._ansiballz._loader"
_ROOTS = ("ansible", "ansible_collections")
# What a client imports when it is made, and an operation when it is called.
_BOTOCORE_LATE_IMPORTS = (
    "boto3.dynamodb.transform",
    "boto3.ec2.createtags",
    "boto3.ec2.deletetags",
    "boto3.s3.inject",
    "botocore.client",
    "botocore.httpsession",
    "botocore.paginate",
    "botocore.retries.adaptive",
    "botocore.retries.standard",
    "botocore.signers",
    "botocore.waiter",
)
_BOTOCORE_COMMON_DATA = ("endpoints", "sdk-default-configuration", "partitions", "_retry")


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Archive:
    """The zip archive of one payload: the names of its modules with checksum and size of each."""

    def __init__(self, encoded: bytes) -> None:
        self.data = base64.b64decode(encoded)
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            self.modules = {
                _module_name(entry.filename): (entry.CRC, entry.file_size)
                for entry in archive.infolist()
                if entry.filename.endswith(".py")
            }


class Library:
    """The module_utils in memory, each with the checksum and size of the source it was imported from."""

    def __init__(self, directory: Path) -> None:
        """directory: private; keeps the archives that modules were imported from (their tracebacks quote them)."""
        self._directory = directory
        self._known: dict[str, tuple[int, int]] = {}
        self._elsewhere: dict[str, list[str]] = {}  # package → its directories outside of payloads

    def fits(self, archive: Archive) -> bool:
        """Whether no module in memory differs from the one in the archive."""
        return all(archive.modules.get(name, source) == source for name, source in self._known.items())

    def learn(self, archive: Archive) -> None:
        """Import, before the fork, what the archive's module would import first after it."""
        new = [name for name in archive.modules if name not in self._known and _may_preload(name)]
        if not new or not self.fits(archive):
            return
        path = self._directory / f"{len(self._known)}.zip"
        path.write_bytes(archive.data)
        self.show(str(path))
        sys.path.insert(0, str(path))
        try:
            for name in new:
                _try_import(name)
        finally:
            sys.path.remove(str(path))
        for name in archive.modules.keys() & sys.modules.keys():
            self._known.setdefault(name, archive.modules[name])
            package_path = getattr(sys.modules[name], "__path__", [])
            self._elsewhere[name] = [entry for entry in package_path if not entry.startswith(str(self._directory))]
        gc.freeze()

    def show(self, archive_path: str) -> None:
        """Let the packages in memory find their other modules in this archive and no other."""
        for name, elsewhere in self._elsewhere.items():
            if hasattr(sys.modules[name], "__path__"):
                sys.modules[name].__path__ = [f"{archive_path}/{name.replace('.', '/')}", *elsewhere]

    def adopt(self, archive: Archive) -> None:
        """In a fork: leave in memory only what belongs to this archive, and find the rest in it."""
        if not self.fits(archive):
            for name in [name for name in sys.modules if name.partition(".")[0] in _ROOTS]:
                del sys.modules[name]
            return
        for name in self._known.keys() - archive.modules.keys():
            _forget(name)
            self._elsewhere.pop(name, None)
        if loader := sys.modules.get(_LOADER):
            loader.run_module = self._shown_first(loader.run_module)

    def _shown_first(self, run_module: Callable[..., None]) -> Callable[..., None]:
        """The wrapper passes the path at which it unpacked the archive here, right before the module is imported."""

        @functools.wraps(run_module)
        def run(**arguments: object) -> None:
            self.show(str(arguments["modlib_path"]))
            run_module(**arguments)

        return run


def _may_preload(name: str) -> bool:
    return name.startswith(_PRELOADED) and not name.startswith(_NOT_PRELOADED)


def _try_import(name: str) -> None:
    """Import a module; one that cannot be imported here fails again in the fork, if its module really needs it."""
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(name)


def _forget(name: str) -> None:
    """Remove a module, and what it put below itself, from memory."""
    for loaded in [loaded for loaded in sys.modules if loaded == name or loaded.startswith(f"{name}.")]:
        del sys.modules[loaded]
    parent, _, child = name.rpartition(".")
    if hasattr(sys.modules.get(parent), child):
        delattr(sys.modules[parent], child)


def fingerprint() -> dict[str, int]:
    """When each directory of sys.path was last changed (ns): installing or upgrading a package changes one."""
    times = {}
    for entry in sys.path:
        try:
            times[entry] = Path(entry).stat().st_mtime_ns
        except OSError:
            times[entry] = 0
    return times


def warm_botocore(services: list[str]) -> Iterator[None]:
    """Import botocore's parts and read its models, a little at each step; touches no session and no credentials."""
    for name in _BOTOCORE_LATE_IMPORTS:
        _try_import(name)
    yield
    loaders = importlib.import_module("botocore.loaders")
    _share_loader_cache(loaders)
    loader = loaders.create_loader()
    for name in _BOTOCORE_COMMON_DATA:
        loader.load_data_with_path(name)
        yield
    known = set(loader.list_available_services("service-2"))
    for service in filter(known.__contains__, services):
        _read_models(loader, service)
        gc.freeze()
        yield


def _read_models(loader, service: str) -> None:
    """Read what a client, its paginators and its waiters need, asked for as botocore does, for equal cache keys."""
    loader.load_service_model(service, "service-2", api_version=None)
    loader.load_service_model(service, "endpoint-rule-set-1", api_version=None)
    version = loader.determine_latest_version(service, "service-2")
    for kind in ("paginators-1", "waiters-2"):
        if service in loader.list_available_services(kind):
            loader.load_service_model(service, kind, version)


def _share_loader_cache(loaders) -> None:
    """Let all loaders that search the same directories in the same way share what was read.

    botocore gives every session a loader of its own with an empty cache. The data is read-only, and a fork has a copy.
    """
    caches: dict[tuple[object, ...], dict] = {}
    original = loaders.Loader.__init__

    @functools.wraps(original)
    def init(self, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        self._cache = caches.setdefault((*self.search_paths, *self.extras_types), {})

    loaders.Loader.__init__ = init
