# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""botocore's models in the fork server's memory: what describes a service, no session and no credentials.

While no module asks for anything the models are read one after the other, while the controller reads its playbooks. A
module that comes earlier has those read that its own code makes clients of: it would read them itself, so nothing waits
longer, and those that follow find them.
"""

from __future__ import annotations

import functools
import gc
import importlib
import re
import sys
import warnings

from warm_library import Archive

# How modules name the service they want: client("ec2"), client(module, "ec2"), or an attribute of the class that asks.
_CLIENT = re.compile(rb"""(?:client\(\s*(?:[\w.]+,\s*)?|\bservice = )["']([a-z0-9-]+)["']""")
# The code that is a module's own: itself, and what its collection has for it alone.
_OWN_CODE = re.compile(
    r"\.plugins\.modules\.|^ansible\.legacy\.|^ansible_collections\.mlops\.metaflow\.plugins\.module_utils\."
)
# What a client imports when it is made, and an operation when it is called.
_LATE_IMPORTS = (
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
# What imports the SDK for all modules of amazon.aws and of those that build on it, and how others do.
_SDK = "ansible_collections.amazon.aws.plugins.module_utils.botocore"
_IMPORT = re.compile(rb"^\s*(?:import|from) boto", re.MULTILINE)
_COMMON_DATA = ("endpoints", "sdk-default-configuration", "partitions", "_retry")


class Models:
    """The models in memory, of the services that are allowed to be there."""

    def __init__(self, services: list[str]) -> None:
        """services: names of botocore's; each costs memory, ec2's most."""
        self._wanted = dict.fromkeys(services)  # in their order
        self._scanned: set[tuple[str, int, int]] = set()
        self._loader = None
        # What the SDK adds to the interpreter when it is imported, held back until a module comes that imports it too.
        self._filters: list[tuple] = []
        self._importers: list[object] = []

    @property
    def complete(self) -> bool:
        """Whether there is nothing to read ahead."""
        return not self._wanted

    def read_ahead(self) -> None:
        """Read the next model. A module that has nothing to do with AWS notices nothing of it.

        Raises whatever the SDK raises where it is missing or broken. A module that needs it will say so itself.
        """
        self._import_ahead()
        if self._wanted:
            self._read(next(iter(self._wanted)))

    def _import_ahead(self) -> None:
        if self._loader is not None:
            return
        importers = list(sys.meta_path)
        with warnings.catch_warnings():
            filters = list(warnings.filters)
            try:
                importlib.import_module("boto3")
                self._prepare()
            finally:
                self._filters = [added for added in warnings.filters if added not in filters]
                self._importers = [added for added in sys.meta_path if added not in importers]
                sys.meta_path[:] = importers

    def learn(self, archive: Archive) -> None:
        """Read the models of the services that the archive's module makes clients of."""
        sources = self._new_sources(archive)
        if _SDK in archive.modules or any(map(_IMPORT.search, sources)):
            self._show_sdk()
        if "boto3" not in sys.modules:
            return
        self._prepare()
        named = {service.decode() for source in sources for service in _CLIENT.findall(source)}
        for service in named & self._wanted.keys():
            self._read(service)

    def _show_sdk(self) -> None:
        """Add what importing the SDK adds, if it was imported ahead."""
        sys.meta_path += self._importers
        self._importers.clear()
        for action, message, category, module, line in reversed(self._filters):
            patterns = [pattern.pattern if pattern else "" for pattern in (message, module)]
            warnings.filterwarnings(action, patterns[0], category, patterns[1], line)
        self._filters.clear()

    def _prepare(self) -> None:
        if self._loader is None:
            self._loader = _prepare()
            known = self._loader.list_available_services("service-2")
            self._wanted = {service: None for service in self._wanted if service in known}

    def _read(self, service: str) -> None:
        _read(self._loader, service)
        del self._wanted[service]
        gc.freeze()

    def _new_sources(self, archive: Archive) -> list[bytes]:
        own = {(name, *source) for name, source in archive.modules.items() if _OWN_CODE.search(name)}
        new = own - self._scanned
        self._scanned |= new
        return [archive.source(name) for name, *_ in new]


def _prepare():
    """Import what clients import late, share what sessions work out anew, return a loader of what all services need."""
    for name in _LATE_IMPORTS:
        importlib.import_module(name)
    _share_handlers(importlib.import_module("botocore.hooks"), importlib.import_module("botocore.handlers"))
    loaders = importlib.import_module("botocore.loaders")
    _share_cache(loaders)
    loader = loaders.create_loader()
    for name in _COMMON_DATA:
        loader.load_data_with_path(name)
    return loader


def _read(loader, service: str) -> None:
    """Read what a client, its paginators and its waiters need, asked for as botocore does, for equal cache keys."""
    botocore = importlib.import_module("botocore")
    model = loader.load_service_model(service, "service-2", api_version=None)
    for operation in model["operations"]:
        botocore.xform_name(operation)  # a client asks for the Python name of each, and botocore remembers it
    loader.load_service_model(service, "endpoint-rule-set-1", api_version=None)
    version = loader.determine_latest_version(service, "service-2")
    for kind in ("paginators-1", "waiters-2"):
        if service in loader.list_available_services(kind):
            loader.load_service_model(service, kind, version)


def _share_cache(loaders) -> None:
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


def _share_handlers(hooks, handlers) -> None:
    """Let all sessions share what they find out about botocore's own handlers.

    Each session registers some 130 of them. What an event's name is an alias of, and whether a function takes keywords,
    is worked out each time, in a fifth of a module's time; it follows from the code alone.
    """
    if not {"EVENT_ALIASES", "EventAliaser", "accepts_kwargs"} <= vars(hooks).keys():
        return  # a botocore that does it in another way
    names: dict[str, str] = {}
    original = hooks.EventAliaser.__init__

    @functools.wraps(original)
    def init(self, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        if self._event_aliases == hooks.EVENT_ALIASES:
            self._alias_name_cache = names

    hooks.EventAliaser.__init__ = init
    accepts_kwargs = hooks.accepts_kwargs
    # By identity: they live as long as their module, and not every callable can be hashed.
    accepting = {id(handler): accepts_kwargs(handler) for _, handler, *_ in handlers.BUILTIN_HANDLERS}
    hooks.accepts_kwargs = lambda function: accepting.get(id(function)) or accepts_kwargs(function)
    events = hooks.EventAliaser(hooks.HierarchicalEmitter())
    for event, handler, *_ in handlers.BUILTIN_HANDLERS:
        events.register(event, handler)
