# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A container engine for tests: the one that answers, or one that is started; and a base image made of this machine.

No image can be pulled where tests run, so the base image has this machine's Python with pip, a shell and ``useradd``.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

LIBRARY = re.compile(r"(/\S+) \(0x")
PROGRAMS = ("sh", "cat", "useradd")
#: What neither Python nor pip needs of the standard library.
LEFT_OUT = {"__pycache__", "config", "idlelib", "lib2to3", "site-packages", "test", "tkinter", "turtledemo"}
START_LIMIT = 60

BRIDGE = "mlops-test0"
BRIDGE_ADDRESS = "192.0.2.1/24"  # RFC 5737: for documentation, so that nobody's network is hidden


@contextmanager
def running_engine(directory: Path) -> Iterator[docker.DockerClient]:
    """A client of an engine whose command has buildx; without either the test is skipped, and pytest says so."""
    try:
        client = docker.from_env(timeout=5)
        client.ping()
    except DockerException:
        with started_engine(directory) as client:
            check_buildx()
            yield client
    else:
        check_buildx()
        yield client


def check_buildx() -> None:
    if subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode:
        pytest.skip("Docker's command has no buildx (Debian: apt-get install docker-buildx)")


@contextmanager
def started_engine(directory: Path) -> Iterator[docker.DockerClient]:
    """An engine of our own that leaves the machine's network alone, ended at the end."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        pytest.skip("no container engine answers, and there is no dockerd to start one")
    if os.geteuid() != 0:
        pytest.skip("no container engine answers, and only root could start one")
    address = f"unix://{directory}/docker.sock"
    options = [
        "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid",
        "--host", address, f"--bridge={BRIDGE}", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
        "--ip-masq=false",
    ]  # fmt: skip
    with bridge(), (directory / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", address)
        engine = subprocess.Popen(["dockerd", *options], stdout=log, stderr=log)
        try:
            client = docker.DockerClient(base_url=address, version="1.41", timeout=300)
            if not answers(client, engine):
                said = (directory / "log").read_text().splitlines()[-1:]
                pytest.skip(f"no container engine answers, and dockerd does not start here: {said}")
            yield client
        finally:
            engine.terminate()
            engine.wait(30)
            # The engine leaves its network namespace mounted.
            subprocess.run(["umount", f"{directory}/exec/netns/default"], capture_output=True)


@contextmanager
def bridge() -> Iterator[None]:
    """The interface that containers are connected to. Nothing is forwarded, so that it leads nowhere."""
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", BRIDGE_ADDRESS, "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        yield
    finally:
        ip("link", "delete", BRIDGE)


def ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no container engine answers, and none can be started: ip {' '.join(arguments)}: {error}")


def answers(client: docker.DockerClient, engine: subprocess.Popen[bytes]) -> bool:
    """Ask until the engine answers, has ended, or has had its time."""
    limit = time.monotonic() + START_LIMIT
    ended = threading.Event()
    threading.Thread(target=lambda: (engine.wait(), ended.set()), daemon=True).start()
    while time.monotonic() < limit and not ended.wait(0.1):
        with suppress(DockerException, OSError):
            return client.ping()
    return False


def base_image(packages: Path) -> bytes:
    """An archive of files in which this machine's Python runs, with a folder of packages as /packages."""
    prefix = Path(sys.base_prefix)
    python = Path(os.path.realpath(sys.executable))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = prefix / "lib" / version
    pip = Path(__import__("pip").__file__).parent
    programs = [Path(os.path.realpath(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin"))) for name in PROGRAMS]
    extensions = list((library / "lib-dynload").glob("*.so"))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for path in (*programs, python, *libraries([*programs, python, *extensions])):
            tar.add(path, str(path).lstrip("/"))
        tar.add(library, str(library).lstrip("/"), filter=_needed)
        tar.add(pip, str(library / "site-packages" / "pip").lstrip("/"), filter=_needed)
        for name, program in zip(PROGRAMS, programs, strict=True):
            add_link(tar, f"usr/local/bin/{name}", str(program))
        add_link(tar, "usr/local/bin/python", str(python))
        if not Path("/bin/sh").samefile(programs[0]) or "bin/sh" not in tar.getnames():
            add_link(tar, "bin/sh", str(programs[0]))
        tar.add(packages, "packages")
        add_file(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        add_file(tar, "etc/group", "root:x:0:\n")
        for folder in ("tmp", "home", "root", "var/tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
    return archive.getvalue()


def libraries(programs: list[Path]) -> set[Path]:
    """The shared libraries of programs, by the paths under which they are looked for."""
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in LIBRARY.findall(said)}


def _needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(member.name).parts
    name = parts[-1]
    return None if name in LEFT_OUT or name.startswith("config-") else member


def add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    tar.addfile(link)


def add_file(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    tar.addfile(entry, io.BytesIO(text.encode()))
