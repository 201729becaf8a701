# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a node is set up, from its environment and its files, and what it refuses to start with.

The messages are Elasticsearch's own where it has one.
"""

from __future__ import annotations

import os
import re
import resource
import stat
from dataclasses import dataclass, field
from pathlib import Path

import flat
from flat import refuse
from known import known

SETTING = re.compile(r"[a-z0-9_]+(\.[a-z0-9_*]+)+")
KNOWN = known("settings")
KNOWN |= {
    f"xpack.security.{layer}.ssl.{name}"
    for layer in ("http", "transport")
    for name in [
        "certificate",
        "certificate_authorities",
        "client_authentication",
        "enabled",
        "key",
        "supported_protocols",
        "verification_mode",
    ]
}
#: Settings of which a part is free.
KNOWN_PARTS = re.compile(
    r"node\.attr\.[a-z_]+|cluster\.routing\.allocation\.[a-z_.]+|thread_pool\.[a-z_.]+|logger\.[a-z_.]+"
    r"|s3\.client\.[a-z_]+\.(endpoint|protocol|region|path_style_access|max_retries|read_timeout|max_connections)"
)
#: They belong into the keystore.
SECURE = re.compile(r"s3\.client\.[a-z_]+\.(access_key|secret_key|session_token)|bootstrap\.password")
VARIABLES = known("variables")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - as in the image, which its container shields
LOOPBACK = {"127.0.0.1", "localhost", "_local_", "::1"}
LEAST_MAP_COUNT = 262144


@dataclass
class Settings:
    """The settings of a node, and where its files are."""

    home: Path
    version: str
    password: str
    heap: dict[str, int]
    enforced: bool
    values: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def get(self, name: str, default: str = "") -> str:
        """Return a setting, or what it is without being set."""
        return self.values.get(name, default)

    def items(self, name: str) -> list[str]:
        """Return a setting that is a list."""
        return [item.strip("\"' ") for item in self.get(name).strip("[]").split(",") if item.strip()]

    @property
    def single(self) -> bool:
        """Whether the node stays alone."""
        return self.get("discovery.type") == "single-node"

    @property
    def transport_host(self) -> str:
        """The address on which other nodes reach this one."""
        return self.get("transport.host") or self.get("network.host", EVERYWHERE)

    def file(self, name: str) -> Path:
        """Return a file of TLS: it must be below the configuration, and be readable."""
        config = (self.home / "config").resolve()
        path = (config / self[name]).resolve()
        if config not in path.parents:
            refuse(
                f"cannot read configured PEM file [{path}] for [{name}] because access to read the file is blocked; SSL"
                f" resources should be placed in the [{config}] directory"
            )
        if not os.access(path, os.R_OK):
            refuse(
                f"cannot read configured PEM file [{path}] for [{name}] because the file does not exist or is not"
                " readable"
            )
        return path


def read(environment: dict[str, str]) -> Settings:
    """Return the settings, or refuse them."""
    home = Path(environment.get("STANDIN_HOME", "/usr/share/elasticsearch"))
    settings = Settings(
        home=home,
        version=environment["STANDIN_VERSION"],
        password=password(environment),
        heap=heap(environment.get("ES_JAVA_OPTS", "")),
        enforced="-Des.enforce.bootstrap.checks=true" in environment.get("ES_JAVA_OPTS", "").split(),
        values={"cluster.name": "docker-cluster", **flat.settings(home / "config" / "elasticsearch.yml")},
    )
    settings.values.update(from_environment(environment))
    for name in settings.values:
        if SECURE.fullmatch(name):
            refuse(
                f"Setting [{name}] is a secure setting and must be stored inside the Elasticsearch keystore, but was"
                " found inside elasticsearch.yml"
            )
        if name not in KNOWN and not KNOWN_PARTS.fullmatch(name):
            refuse(
                f"java.lang.IllegalArgumentException: unknown setting [{name}] please check that any required plugins"
                " are installed, or check the breaking changes documentation for removed settings"
            )
    check(settings, environment)
    return settings


def from_environment(environment: dict[str, str]) -> dict[str, str]:
    """Return the settings that the environment has. What only looks like one is refused: no image does that."""
    found = {}
    for name, value in environment.items():
        if name.startswith("ES_SETTING_"):
            name = name.removeprefix("ES_SETTING_").replace("__", "\0").replace("_", ".").replace("\0", "_").lower()
            found[name] = value
        elif SETTING.fullmatch(name):
            found[name] = value
        elif "." in name or (name.startswith(("ES_", "ELASTIC", "KEYSTORE")) and name not in VARIABLES):
            refuse(f"{name} in the environment is neither a setting nor a variable of the image")
    return {name: value for name, value in found.items() if value}


def password(environment: dict[str, str]) -> str:
    """Return the first password of elastic, as the image takes it from a file or from the environment."""
    named = environment.get("ELASTIC_PASSWORD_FILE")
    if not named:
        return environment.get("ELASTIC_PASSWORD", "")
    path = Path(named)
    if "ELASTIC_PASSWORD" in environment:
        refuse("Both ELASTIC_PASSWORD_FILE and ELASTIC_PASSWORD are set. These are mutually exclusive.")
    if not path.exists():
        refuse(f"File {path} from ELASTIC_PASSWORD_FILE does not exist")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode not in (0o400, 0o600):
        refuse(
            f"File {path} from ELASTIC_PASSWORD_FILE must have file permissions 400 or 600, but actually has: {mode:o}"
        )
    if not os.access(path, os.R_OK):
        refuse(f"File {path} from ELASTIC_PASSWORD_FILE is not readable")
    return path.read_text().rstrip("\n")


def heap(options: str) -> dict[str, int]:
    """Return what the JVM's options say of the heap, in bytes."""
    units = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
    found = {}
    for option in options.split():
        if not option.startswith("-"):
            refuse(f"Could not find or load main class {option}: ES_JAVA_OPTS has options of the JVM")
        if option.startswith(("-Xms", "-Xmx")):
            size = re.fullmatch(r"(\d+)([kmg]?)", option[4:].lower())
            if not size:
                refuse(f"Invalid heap size in ES_JAVA_OPTS: {option}")
            found[option[:4]] = int(size[1]) * units[size[2]]
    return found


def check(settings: Settings, environment: dict[str, str]) -> None:
    """Refuse what the real program refuses: always, and where a node could be one of several."""
    if settings.single and "cluster.initial_master_nodes" in settings.values:
        refuse("setting [cluster.initial_master_nodes] is not allowed when [discovery.type] is set to [single-node]")
    if (
        settings.get("xpack.security.enabled", "true") != "true"
        or settings.get("xpack.security.http.ssl.enabled") != "true"
    ):
        refuse("this stand-in serves nothing without xpack.security.enabled and xpack.security.http.ssl.enabled")
    for layer in ("http", "transport"):
        prefix = f"xpack.security.{layer}.ssl"
        if settings.get(f"{prefix}.enabled") != "true":
            continue
        for name in ("key", "certificate"):
            if f"{prefix}.{name}" not in settings.values:
                refuse(
                    f"invalid SSL configuration for {prefix} - server ssl configuration requires a key and certificate,"
                    f" but these have not been configured; you must set either [{prefix}.keystore.path], or both"
                    f" [{prefix}.key] and [{prefix}.certificate]"
                )
            settings.file(f"{prefix}.{name}")
    production = not settings.single and settings.transport_host not in LOOPBACK
    failures = list(bootstrap_failures(settings, environment))
    if failures and (production or settings.enforced):
        numbered = (
            f"bootstrap check failure [{number}] of [{len(failures)}]: {failure}"
            for number, failure in enumerate(failures, 1)
        )
        refuse(
            f"[{len(failures)}] bootstrap checks failed. You must address the points described in the following"
            f" [{len(failures)}] lines before starting Elasticsearch.\n" + "\n".join(numbered)
        )
    for failure in failures:
        print(f"WARN {failure}", flush=True)


def bootstrap_failures(settings: Settings, environment: dict[str, str]):
    """Yield what a node in production must not have."""
    least, most = settings.heap.get("-Xms"), settings.heap.get("-Xmx")
    if settings.get("bootstrap.memory_lock") == "true" and resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != -1:
        yield "memory locking requested for elasticsearch process but memory is not locked"
    if least != most:
        yield f"initial heap size [{least}] not equal to maximum heap size [{most}]; this can cause resize pauses"
    areas = int(Path(environment.get("STANDIN_MAX_MAP_COUNT", "/proc/sys/vm/max_map_count")).read_text())
    if areas < LEAST_MAP_COUNT:
        yield (
            f"max virtual memory areas vm.max_map_count [{areas}] is too low, increase to at least [{LEAST_MAP_COUNT}]"
        )
    if (
        not settings.single
        and not settings.items("discovery.seed_hosts")
        and not settings.items("cluster.initial_master_nodes")
    ):
        yield (
            "the default discovery settings are unsuitable for production use; at least one of [discovery.seed_hosts,"
            " discovery.seed_providers, cluster.initial_master_nodes] must be configured"
        )
    if not settings.single and settings.get("xpack.security.transport.ssl.enabled") != "true":
        yield (
            "Transport SSL must be enabled if security is enabled. Please set [xpack.security.transport.ssl.enabled] to"
            " [true] or disable security by setting [xpack.security.enabled] to [false]"
        )
