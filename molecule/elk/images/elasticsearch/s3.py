# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""S3, as far as a repository of snapshots needs it: signed requests for single objects.

Credentials are looked for where Elasticsearch's client looks: the environment, then the instance's profile. An endpoint
without TLS is taken for an emulator, which takes any.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

from errors import ApiError
from settings import Settings

METADATA = "http://169.254.169.254"


def credentials(emulated: bool) -> dict[str, str]:
    """Return the access key, the secret key and perhaps a token.

    :param emulated: whether it is no AWS that is called: then any keys will do where there are none.
    """
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return {
            "AccessKeyId": os.environ["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": os.environ["AWS_SECRET_ACCESS_KEY"],
            "Token": os.environ.get("AWS_SESSION_TOKEN", ""),
        }
    if emulated and "AWS_EC2_METADATA_SERVICE_ENDPOINT" not in os.environ:
        return {"AccessKeyId": "stand-in", "SecretAccessKey": "stand-in"}
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA).rstrip("/")
    path = f"{base}/latest/meta-data/iam/security-credentials/"
    token = fetch(f"{base}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "300"})
    role = fetch(path, "GET", {"X-aws-ec2-metadata-token": token}).split()[0]
    return json.loads(fetch(path + role, "GET", {"X-aws-ec2-metadata-token": token}))


def fetch(url: str, method: str, headers: dict[str, str]) -> str:
    """Ask the instance's metadata."""
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - the address is the instance's own
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return answer.read().decode()


class Bucket:
    """A bucket, and the path in it that a repository has."""

    def __init__(self, settings: Settings, repository: dict[str, Any]) -> None:
        client = f"s3.client.{repository.get('client', 'default')}"
        self.bucket, self.base = repository["bucket"], repository.get("base_path", "").strip("/")
        self.region = settings.get(f"{client}.region") or os.environ.get("AWS_REGION", "us-east-1")
        endpoint = settings.get(f"{client}.endpoint") or f"s3.{self.region}.amazonaws.com"
        if "//" not in endpoint:
            endpoint = f"{settings.get(f'{client}.protocol') or 'https'}://{endpoint}"
        self._endpoint = urlsplit(endpoint)

    def read(self, name: str) -> bytes | None:
        """Return an object's content, or None."""
        return self._call("GET", name)

    def write(self, name: str, content: bytes) -> None:
        """Write an object."""
        self._call("PUT", name, content)

    def delete(self, name: str) -> None:
        """Take an object away."""
        self._call("DELETE", name)

    def _call(self, method: str, name: str, content: bytes = b"") -> bytes | None:
        path = quote("/" + "/".join(part for part in (self.bucket, self.base, name) if part))
        kind = http.client.HTTPSConnection if self._endpoint.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._endpoint.netloc, timeout=30)
        try:
            connection.request(method, path, content, self._signed(method, path, content))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException, urllib.error.URLError, KeyError, IndexError) as error:
            raise ApiError(
                500, "repository_exception", f"Unable to reach S3 as [{self._endpoint.netloc}]: {error}"
            ) from error
        finally:
            connection.close()
        if answer.status == 404 and method != "PUT" and b"NoSuchBucket" not in body:
            return None
        if answer.status >= 300:
            text = " ".join(body.decode(errors="replace").split())[:300]
            raise ApiError(500, "repository_exception", f"S3 answered {answer.status} to {method} {path}: {text}")
        return body

    def _signed(self, method: str, path: str, content: bytes) -> dict[str, str]:
        keys = credentials(emulated=self._endpoint.scheme == "http")
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(content).hexdigest()
        headers = {"host": self._endpoint.netloc, "x-amz-content-sha256": digest, "x-amz-date": now}
        if keys.get("Token"):
            headers["x-amz-security-token"] = keys["Token"]
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{keys['SecretAccessKey']}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        by = f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**headers, "Authorization": by}
