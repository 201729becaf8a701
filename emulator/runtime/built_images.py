"""Images that CodeBuild's stand-in has built: their layers, unpacked, become the environment of local processes."""

import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LABEL = "mlops.metaflow.emulator.stand-in"
"""Label of images without the layers of their base, which only a local process can run."""

PACKAGES = "usr/local/lib/python*/site-packages"
PROGRAMS = "usr/local/bin"


@dataclass(frozen=True)
class Built:
    """What an image brings to the local command that stands for its base."""

    programs: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


NOT_BUILT = Built()


def blob_path(state_dir: Path, digest: str) -> Path:
    """Where the registry keeps a blob."""
    return state_dir / "registry" / digest.replace(":", "-")


def unpack(state_dir: Path, image: Any) -> Built:
    """What is in an image of ECR (moto's model); nothing for one that the stand-in has not built."""
    manifest = json.loads(image.image_manifest)
    config_path = blob_path(state_dir, manifest.get("config", {}).get("digest", "none"))
    if not config_path.exists():
        return NOT_BUILT
    config = json.loads(config_path.read_text(encoding="utf-8"))["config"]
    if LABEL not in config.get("Labels", {}):
        return NOT_BUILT
    root = state_dir / "images" / "built" / image.image_digest.replace(":", "-")
    if not root.exists():
        _extract(state_dir, manifest, root)
    variables = dict(entry.split("=", 1) for entry in config.get("Env", []))
    variables.pop("PATH", None)
    packages = ":".join(str(path) for path in sorted(root.glob(PACKAGES)))
    return Built((root / PROGRAMS,), variables | ({"PYTHONPATH": packages} if packages else {}))


def _extract(state_dir: Path, manifest: Mapping[str, Any], root: Path) -> None:
    draft = root.with_name(f"{root.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for layer in manifest["layers"]:
        with tarfile.open(blob_path(state_dir, layer["digest"])) as archive:
            archive.extractall(draft, filter="data")
    try:
        draft.rename(root)
    except OSError:  # another job was faster
        shutil.rmtree(draft)
