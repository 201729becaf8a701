"""The models' files in S3, and their copies on this machine.

    <prefix>/<model>/<version>.joblib           the model
    <prefix>/<model>/<version>.reference.csv    rows with score and predictions, that reports compare with
    <prefix>/<model>/<version>.json             the manifest: {"sha256": …, "reference_sha256": …}, written last

A version never changes. Copies are named by their checksums: they serve all workers, and a restart without S3.
"""

import hashlib
import json
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .failure import Failure
from .settings import StoreSettings

CHUNK = 1 << 20
#: A manifest is two checksums; what is larger is something else.
LARGEST_MANIFEST = 1 << 16
SHA256 = re.compile(r"[0-9a-f]{64}")


class StoreError(Failure):
    """S3 does not answer, or not as it should."""


class MissingFile(StoreError):
    """S3 answers that there is no such file."""


class WrongFile(StoreError):
    """A file is not what its checksum says, or no manifest."""


@dataclass(frozen=True)
class Manifest:
    """The checksums of a version's files."""

    sha256: str
    reference_sha256: str

    @classmethod
    def parse(cls, content: bytes, key: str) -> "Manifest":
        """Return the manifest in a file; members that it doesn't know are left out."""
        try:
            members = json.loads(content)
            sums = {name: members[name] for name in ("sha256", "reference_sha256")}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise WrongFile(f"{key} is no manifest: it must have sha256 and reference_sha256") from None
        for name, value in sums.items():
            if not isinstance(value, str) or not SHA256.fullmatch(value):
                raise WrongFile(f"{key}: {name} must be 64 hexadecimal digits in lower case")
        return cls(**sums)


class Store:
    """Reads and writes the files of versions."""

    def __init__(self, settings: StoreSettings):
        self._settings = settings
        settings.cache.mkdir(parents=True, exist_ok=True)
        retries = {"mode": "standard", "max_attempts": 3}
        self._s3 = boto3.client("s3", config=Config(connect_timeout=5, read_timeout=10, retries=retries))

    def manifest(self, model: str, version: str) -> Manifest:
        """Return what S3 has for a version."""
        key = self._key(model, version, "json")
        return Manifest.parse(self._body(key).read(LARGEST_MANIFEST), key)

    def model_file(self, model: str, version: str, sha256: str) -> Path:
        """Return the local copy of a version's model."""
        return self._copy(self._key(model, version, "joblib"), sha256)

    def reference_file(self, model: str, version: str, sha256: str) -> Path:
        """Return the local copy of a version's reference data."""
        return self._copy(self._key(model, version, "reference.csv"), sha256)

    def publish(self, model: str, version: str, content: bytes, reference: bytes) -> bool:
        """Write the files of a version; return False where it is there already. What is there is never overwritten."""
        try:
            self.manifest(model, version)
        except MissingFile:
            pass
        else:
            return False
        manifest = Manifest(hashlib.sha256(content).hexdigest(), hashlib.sha256(reference).hexdigest())
        self._put(self._key(model, version, "joblib"), content)
        self._put(self._key(model, version, "reference.csv"), reference)
        self._put(self._key(model, version, "json"), json.dumps(asdict(manifest)).encode(), IfNoneMatch="*")
        return True

    def _key(self, model: str, version: str, ending: str) -> str:
        return "/".join(part for part in (self._settings.prefix, model, f"{version}.{ending}") if part)

    def _put(self, key: str, content: bytes, **conditions: str) -> None:
        try:
            self._s3.put_object(Bucket=self._settings.bucket, Key=key, Body=content, **conditions)
        except (BotoCoreError, ClientError) as error:
            raise StoreError(f"cannot write s3://{self._settings.bucket}/{key}: {_reason(error)}") from error

    def _body(self, key: str):
        place = f"s3://{self._settings.bucket}/{key}"
        try:
            answer = self._s3.get_object(Bucket=self._settings.bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            missing = isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchKey"
            raise (MissingFile if missing else StoreError)(f"cannot read {place}: {_reason(error)}") from error
        if answer["ContentLength"] > self._settings.largest_file:
            raise WrongFile(f"{place} has more than {self._settings.largest_file} bytes (MODELS_LARGEST_BYTES)")
        return answer["Body"]

    def _copy(self, key: str, sha256: str) -> Path:
        path = self._settings.cache / sha256
        if path.exists():
            if _sum_of(path) == sha256:
                return path
            path.unlink(missing_ok=True)
        return self._download(key, sha256, path)

    def _download(self, key: str, sha256: str, path: Path) -> Path:
        body = self._body(key)
        digest = hashlib.sha256()
        try:
            # A file of its own, renamed when it is right: another worker never sees half a copy.
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as directory:
                part = Path(directory) / "part"
                with part.open("wb") as file:
                    for chunk in body.iter_chunks(CHUNK):
                        digest.update(chunk)
                        file.write(chunk)
                if digest.hexdigest() != sha256:
                    raise WrongFile(f"{key} has the checksum {digest.hexdigest()}, and should have {sha256}")
                part.replace(path)
        except (BotoCoreError, OSError) as error:
            raise StoreError(f"cannot copy {key}: {_reason(error)}") from error
        return path


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    """Return what went wrong in a few words: S3's code, or the kind of the error."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else error.__class__.__name__
