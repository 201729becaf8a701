"""Gaps of KMS."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms import kms_backends
from moto.kms.responses import KmsResponse
from moto.rds.exceptions import KMSKeyNotAccessibleFault
from moto.rds.responses import RDSResponse
from moto.s3.exceptions import S3ClientError
from moto.s3.models import S3Backend

from emulator.gaps import before, gap, wrap

# What is refused in which state: https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html
KEY_ID_LENGTH = 36
USING = (
    "encrypt",
    "decrypt",
    "re_encrypt",
    "generate_data_key",
    "generate_data_key_without_plaintext",
    "sign",
    "verify",
)
CHANGING = (
    "create_alias", "create_grant", "disable_key", "disable_key_rotation", "enable_key", "enable_key_rotation",
    "schedule_key_deletion", "tag_resource", "untag_resource", "update_alias", "update_key_description",
)  # fmt: skip


@gap("kms", "key-identifiers", "Operations on a key take its id or its ARN; an unknown one is not found.")
def key_identifiers() -> None:
    # moto's backend looks these up by the bare id.
    for operation in ("schedule_key_deletion", "cancel_key_deletion", "enable_key", "disable_key"):

        @before(KmsResponse, operation)
        def normalise(self: Any) -> None:
            given = self._get_param("KeyId")
            self._validate_cmk_id(given)
            self.body = self.body.replace(given, self.kms_backend.get_key_id(given))

    for operation in ("schedule_key_deletion", "cancel_key_deletion"):

        @wrap(KmsResponse, operation)
        def answer_with_arn(original: Callable[..., str], self: Any) -> str:
            return json.dumps(json.loads(original(self)) | {"KeyId": self._display_arn(self._get_param("KeyId"))})


@gap(
    "kms", "key-states", "A key that is pending deletion or disabled cannot be used, one pending deletion not changed."
)
def key_states() -> None:
    for operation in (*USING, *CHANGING):

        @before(KmsResponse, operation)
        def check(self: Any, uses: bool = operation in USING) -> None:
            for key in _keys(self):
                if key.key_state == "PendingDeletion":
                    raise JsonRESTError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
                if key.key_state == "Disabled" and uses:
                    raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")


@gap("kms", "keys-of-objects", "S3 writes no object under a key that is pending deletion or disabled.")
def keys_of_objects() -> None:
    @wrap(S3Backend, "put_object")
    def put(original: Callable[..., Any], self: Any, bucket_name: str, *args: Any, **kwargs: Any) -> Any:
        bucket = self.get_bucket(bucket_name)
        default = ((bucket.encryption or {}).get("Rule") or {}).get("ApplyServerSideEncryptionByDefault") or {}
        key = _key(self.account_id, bucket.region_name, kwargs.get("kms_key_id") or default.get("KMSMasterKeyID"))
        if key and key.key_state == "PendingDeletion":
            raise S3ClientError("KMS.KMSInvalidStateException", f"{key.arn} is pending deletion.")
        if key and key.key_state == "Disabled":
            raise S3ClientError("KMS.DisabledException", f"{key.arn} is disabled.")
        return original(self, bucket_name, *args, **kwargs)


@gap("kms", "keys-of-databases", "RDS makes no database under a key that is pending deletion or disabled.")
def keys_of_databases() -> None:
    @before(RDSResponse, "create_db_instance")
    def check(self: Any) -> None:
        name = self.params.get("kms_key_id")
        key = _key(self.current_account, self.region, name)
        if key and key.key_state != "Enabled":
            raise KMSKeyNotAccessibleFault(name)


def _key(account: str, region: str, name: str | None) -> Any | None:
    """Return the key of an id, ARN or alias; None where there is none (AWS's own keys are not in moto)."""
    backend = kms_backends[account][region]
    return backend.keys.get(backend.any_id_to_key_id(name)) if name else None


def _keys(response: Any) -> list[Any]:
    """Return the keys that a request names, or that its ciphertext was made with."""
    backend = response.kms_backend
    names = [response._get_param(p) for p in ("KeyId", "TargetKeyId", "SourceKeyId", "DestinationKeyId")]
    ids = [backend.any_id_to_key_id(name) for name in names if name]
    blob = response._get_param("CiphertextBlob")
    if blob:  # moto's ciphertext begins with the key's id
        ids.append(blob[:KEY_ID_LENGTH].decode("ascii", "replace"))
    return [backend.keys[one] for one in ids if one in backend.keys]
