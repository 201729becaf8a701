# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of images share: the role's Dockerfile, a package to install, all that is in an image."""

from __future__ import annotations

import gzip
import zipfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import jinja2
import requests
from emulated_aws import ROOT

ROLE = ROOT / "roles" / "flow_image"
TIMEOUT = 60


def dockerfile(base: str, *secrets: str) -> str:
    """The Dockerfile that the role makes for requirements."""
    template = jinja2.Template((ROLE / "templates" / "Dockerfile.j2").read_text(), trim_blocks=True)
    return template.render(flow_image_base=base, flow_image_build_secrets=list(secrets))


def write_package(folder: Path, name: str = "tinyflow", version: str = "1.0") -> None:
    """Write a package of one module, as pip finds it with PIP_FIND_LINKS."""
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f'VERSION = "{version}"\n')
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


def password(emulator: Any) -> str:
    """The password of the registry."""
    (data,) = emulator.client("ecr").get_authorization_token()["authorizationData"]
    return b64decode(data["authorizationToken"]).decode().partition(":")[2]


def everything_in(emulator: Any, repository: str, tag: str) -> bytes:
    """Manifest, configuration and all layers of an image, as the registry hands them out, unpacked."""
    get = requests.Session()
    get.auth = ("AWS", password(emulator))
    url = f"{emulator.endpoint}/v2/{repository}"
    answer = get.get(f"{url}/manifests/{tag}", timeout=TIMEOUT)
    answer.raise_for_status()
    manifest = answer.json()
    parts = [answer.content]
    for blob in [manifest["config"], *manifest["layers"]]:
        content = get.get(f"{url}/blobs/{blob['digest']}", timeout=TIMEOUT).content
        assert len(content) == blob["size"]
        parts.append(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    return b"".join(parts)
