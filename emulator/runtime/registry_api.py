"""ECR as ``docker push`` and ``docker pull`` see it: the routes of a registry below /v2/, whose images are moto's.

https://distribution.github.io/distribution/spec/api/ as far as Docker uses it. Who pushes signs in with the token of
GetAuthorizationToken, which says for whom it was made (gap ecr/authorization-token), and needs ecr:PutImage.
"""

import base64
import binascii
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.sts.models import sts_backends
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from .built_images import blob_path
from .place import Place
from .policies import allows, role_documents

CHUNK = 1 << 20
DIGEST = "Docker-Content-Digest"


class Registry:
    """The registry of an emulator; its blobs are files."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._uploads = state_dir / "registry" / "uploads"
        name = "<path:name>"
        self._routes = Map(
            [
                Rule("/v2/", endpoint=self._base),
                Rule(f"/v2/{name}/blobs/<digest>", methods=["GET", "HEAD"], endpoint=self._blob),
                Rule(f"/v2/{name}/blobs/uploads/", methods=["POST"], endpoint=self._begin),
                Rule(f"/v2/{name}/blobs/uploads/<upload>", methods=["PATCH"], endpoint=self._append),
                Rule(f"/v2/{name}/blobs/uploads/<upload>", methods=["PUT"], endpoint=self._finish),
                Rule(f"/v2/{name}/manifests/<reference>", methods=["GET", "HEAD"], endpoint=self._manifest),
                Rule(f"/v2/{name}/manifests/<reference>", methods=["PUT"], endpoint=self._put_manifest),
            ],
            strict_slashes=False,
        )

    def middleware(self, app: Any) -> Any:
        """The application that answers the registry's routes and hands on all others."""

        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if not environ.get("PATH_INFO", "").startswith("/v2/"):
                return app(environ, start_response)
            return self._answer(Request(environ))(environ, start_response)

        return answer

    def reset(self) -> None:
        """Forget all blobs, and what was unpacked of them."""
        for directory in (self._state_dir / "registry", self._state_dir / "images" / "built"):
            shutil.rmtree(directory, ignore_errors=True)

    def _answer(self, request: Request) -> Response:
        try:
            endpoint, arguments = self._routes.bind_to_environ(request.environ).match()
        except HTTPException as error:
            return error.get_response(request.environ)
        caller = _caller(request)
        if caller is None:
            refused = _error(401, "UNAUTHORIZED", "sign in with the token of GetAuthorizationToken")
            refused.headers["WWW-Authenticate"] = 'Basic realm="emulated account"'
            return refused
        return endpoint(request, *caller, **arguments)

    def _base(self, request: Request, place: Place, key_id: str) -> Response:
        return Response(status=200, headers={"Docker-Distribution-API-Version": "registry/2.0"})

    def _blob(self, request: Request, place: Place, key_id: str, name: str, digest: str) -> Response:
        path = blob_path(self._state_dir, digest)
        if not path.exists():
            return _error(404, "BLOB_UNKNOWN", digest)
        body = path.read_bytes()
        return Response(body, headers={DIGEST: digest}, mimetype="application/octet-stream")

    def _begin(self, request: Request, place: Place, key_id: str, name: str) -> Response:
        self._uploads.mkdir(parents=True, exist_ok=True)
        upload = str(uuid.uuid4())
        (self._uploads / upload).touch()
        return self._under_way(name, upload)

    def _append(self, request: Request, place: Place, key_id: str, name: str, upload: str) -> Response:
        if not (self._uploads / upload).exists():
            return _error(404, "BLOB_UPLOAD_UNKNOWN", upload)
        with (self._uploads / upload).open("ab") as file:
            shutil.copyfileobj(request.stream, file, CHUNK)
        return self._under_way(name, upload)

    def _under_way(self, name: str, upload: str) -> Response:
        size = (self._uploads / upload).stat().st_size
        headers = {"Location": f"/v2/{name}/blobs/uploads/{upload}", "Range": f"0-{max(size - 1, 0)}"}
        return Response(status=202, headers=headers | {"Docker-Upload-UUID": upload})

    def _finish(self, request: Request, place: Place, key_id: str, name: str, upload: str) -> Response:
        if self._append(request, place, key_id, name, upload).status_code != 202:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", upload)
        path, digest = self._uploads / upload, request.args["digest"]
        with path.open("rb") as file:
            if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" != digest:
                return _error(400, "DIGEST_INVALID", digest)
        path.replace(blob_path(self._state_dir, digest))
        return Response(status=201, headers={DIGEST: digest, "Location": f"/v2/{name}/blobs/{digest}"})

    def _manifest(self, request: Request, place: Place, key_id: str, name: str, reference: str) -> Response:
        wanted = {"imageDigest" if ":" in reference else "imageTag": reference}
        try:
            (image,) = place.backend("ecr").describe_images(name, None, [wanted])
        except JsonRESTError as error:
            return _error(404, "MANIFEST_UNKNOWN", error.message)
        headers = {DIGEST: image.image_digest}
        return Response(image.image_manifest, headers=headers, content_type=image.image_manifest_media_type)

    def _put_manifest(self, request: Request, place: Place, key_id: str, name: str, reference: str) -> Response:
        if not _may_push(place, key_id, name):
            return _error(403, "DENIED", f"not authorized to perform: ecr:PutImage on repository {name}")
        backend = place.backend("ecr")
        if name not in backend.repositories:
            return _error(404, "NAME_UNKNOWN", f"The repository with name '{name}' does not exist")
        text = request.get_data(as_text=True)
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        layers = [json.loads(text).get("config"), *json.loads(text).get("layers", [])]
        missing = [one["digest"] for one in layers if one and not blob_path(self._state_dir, one["digest"]).exists()]
        if missing:
            return _error(400, "MANIFEST_BLOB_UNKNOWN", missing[0])
        try:
            backend.put_image(name, text, reference, request.mimetype, digest)
        except JsonRESTError as error:
            return _error(400, "TAG_INVALID", error.message)
        return Response(status=201, headers={DIGEST: digest, "Location": f"/v2/{name}/manifests/{digest}"})


def _caller(request: Request) -> tuple[Place, str] | None:
    """Where and with which key the token was asked for, with which somebody signs in."""
    kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(encoded).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    fields = password.split("/")
    if kind != "Basic" or user != "AWS" or len(fields) != 4:
        return None
    return Place(fields[0], fields[1]), fields[2]


def _may_push(place: Place, key_id: str, name: str) -> bool:
    """Whether the caller's role allows it. Who has no role is not looked at, as anywhere in the account."""
    role = sts_backends[place.account][place.partition].get_assumed_role_from_access_key(key_id)
    if role is None:
        return True
    documents = role_documents(place, role.role_arn.split("/")[-1])
    return allows(documents, "ecr:PutImage", place.arn("ecr", f"repository/{name}"))


def _error(status: int, code: str, message: str) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]})
    return Response(body, status=status, mimetype="application/json")
