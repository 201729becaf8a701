"""The table image → local command, read from ``images.toml``."""

import fnmatch
import socket
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .errors import CannotPullContainerError

TABLE = Path(__file__).with_name("images.toml")
ROOT = Path(__file__).parents[2]
"""Where the package ``emulator`` is imported from."""


@dataclass(frozen=True)
class Image:
    """What runs in place of an image."""

    name: str
    patterns: tuple[str, ...]
    command: tuple[str, ...]
    ports: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    needs_database: bool = False

    def listening(self, environment: Mapping[str, str]) -> dict[str, int]:
        """Variable → container port on which the program would listen with this environment."""
        return {variable: int(environment.get(variable) or default) for variable, default in self.ports.items()}


@cache
def table(path: Path = TABLE) -> tuple[Image, ...]:
    """The images of the table, in its order."""
    text = path.read_text(encoding="utf-8")
    for name, value in {"{python}": sys.executable, "{root}": str(ROOT)}.items():
        text = text.replace(name, value)
    entries = tomllib.loads(text)["image"]
    return tuple(
        Image(**{**entry, "patterns": tuple(entry["patterns"]), "command": tuple(entry["command"])})
        for entry in entries
    )


def find(reference: str) -> Image:
    """The entry for an image reference; CannotPullContainerError where there is none."""
    image = _entry(reference)
    if image:
        return image
    full = canonical(reference)
    raise CannotPullContainerError(
        f"pull image manifest has been retried 1 time(s): failed to resolve ref {full}: {full}: not found"
    )


def of_engine(reference: str) -> Image:
    """What the table knows of an image that an engine has: the ports on which it can be told to listen."""
    entry = _entry(reference)
    return Image(name="engine", patterns=(), command=(), ports=entry.ports if entry else {})


def needs_database(reference: str) -> bool:
    """Whether the image's own program needs a PostgreSQL, which no engine gives it here; its stand-in does not."""
    entry = _entry(reference)
    return entry is not None and entry.needs_database


def _entry(reference: str) -> Image | None:
    for image in table():
        if any(fnmatch.fnmatchcase(reference, pattern) for pattern in image.patterns):
            return image
    return None


def programs(state_dir: Path, image: Image) -> Path:
    """The directory that goes in front of the image's PATH."""
    return state_dir / "images" / image.name


def install_programs(state_dir: Path) -> None:
    """Write the images' own programs. They are scripts: Python would not find its environment through a link."""
    for image in table():
        directory = programs(state_dir, image)
        directory.mkdir(parents=True, exist_ok=True)
        for name, target in image.programs.items():
            script = directory / name
            script.write_text(f'#!/bin/sh\nexec {target} "$@"\n', encoding="utf-8")
            script.chmod(0o700)


def canonical(reference: str) -> str:
    """The reference with the registry and tag that a container engine would add."""
    first = reference.split("/")[0]
    if "/" not in reference:
        reference = f"docker.io/library/{reference}"
    elif not {".", ":"} & set(first) and first != "localhost":
        reference = f"docker.io/{reference}"
    return reference if ":" in reference.rsplit("/", 1)[-1] or "@" in reference else f"{reference}:latest"


def free_ports(count: int) -> list[int]:
    """That many free ports of the loopback interface, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
