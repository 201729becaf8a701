"""The values behind ``valueFrom``: secrets of Secrets Manager and parameters of SSM, read as the execution role.

The messages are those that ECS shows for a task that cannot read its secrets:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/resource-initialization-error.html
"""

import json

from moto.core.exceptions import JsonRESTError

from .errors import ResourceInitializationError
from .place import Place
from .policies import Context, allows, role_documents

PULL = "unable to pull secrets or registry auth: execution resource retrieval failed: "


def resolve(place: Place, value_from: str, role: str) -> str:
    """The value that ``valueFrom`` names, or ResourceInitializationError.

    ``role`` is the name of the execution role. ``value_from`` is the ARN of a secret, optionally followed by
    ``:json-key:version-stage:version-id``, or the name or ARN of a parameter.
    """
    if ":secretsmanager:" in value_from:
        return _secret(_place_of(value_from, place), value_from, role)
    return _parameter(_place_of(value_from, place), value_from, role)


def _secret(place: Place, value_from: str, role: str) -> str:
    fields = value_from.split(":")
    arn, (key, stage, version) = ":".join(fields[:7]), [*fields[7:], "", "", ""][:3]
    failed = (
        f"{PULL}unable to retrieve secret from asm: service call has been retried 1 time(s): "
        f"failed to fetch secret {arn} from secrets manager: "
    )
    manager = place.backend("secretsmanager")
    secret = manager.secrets.get(arn)
    if secret is None:
        raise ResourceInitializationError(
            failed + "ResourceNotFoundException: Secrets Manager can't find the specified secret."
        )
    tags = {f"secretsmanager:ResourceTag/{tag['Key']}": tag["Value"] for tag in secret.tags or []}
    _check(place, role, "secretsmanager:GetSecretValue", secret.arn, tags, failed)
    _check_key(place, role, secret.kms_key_id, "secretsmanager", failed)
    try:
        answer = manager.get_secret_value(arn, version or None, stage or None)
    except JsonRESTError as error:
        raise ResourceInitializationError(f"{failed}{error.error_type}: {error.message}") from error
    text = answer.get("SecretString", "")
    return _json_value(text, key, arn) if key else text


def _json_value(text: str, key: str, arn: str) -> str:
    try:
        document = json.loads(text)
        value = document[key]
    except (ValueError, KeyError, TypeError) as error:
        message = f"retrieved secret from Secrets Manager did not contain json key {key}"
        raise ResourceInitializationError(PULL + f"unable to retrieve secret from asm: {arn}: {message}") from error
    return value if isinstance(value, str) else json.dumps(value)


def _parameter(place: Place, value_from: str, role: str) -> str:
    failed = PULL + "unable to retrieve secrets from ssm: service call has been retried 1 time(s): "
    name = value_from.partition(":parameter/")[2] or value_from.removeprefix("/")
    _check(place, role, "ssm:GetParameters", place.arn("ssm", f"parameter/{name}"), {}, failed)
    try:
        parameter = place.backend("ssm").get_parameter(value_from)
    except JsonRESTError as error:
        raise ResourceInitializationError(f"{failed}{error.error_type}: {error.message}") from error
    if parameter is None:
        raise ResourceInitializationError(f"{failed}invalid ssm parameters: {value_from}")
    if parameter.parameter_type == "SecureString":
        _check_key(place, role, parameter.keyid, "ssm", failed)
    return parameter.response_object(decrypt=True)["Value"]


def _check(place: Place, role: str, action: str, resource: str, context: Context, failed: str) -> None:
    """Raise unless the role's own policies allow the action."""
    if not allows(role_documents(place, role), action, resource, context):
        raise ResourceInitializationError(
            f"{failed}AccessDeniedException: User: arn:{place.partition}:sts::{place.account}:assumed-role/{role} "
            f"is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows "
            f"the {action} action"
        )


def _check_key(place: Place, role: str, key_id: str | None, service: str, failed: str) -> None:
    """Raise unless the role may decrypt with the customer's key; AWS-managed keys admit every user of the service."""
    if not key_id or key_id.startswith("alias/aws/"):
        return
    key = place.backend("kms").describe_key(key_id)
    context = {
        "kms:ViaService": f"{service}.{place.region}.amazonaws.com",
        "kms:CallerAccount": place.account,
        "kms:ResourceAliases": sorted(key.aliases),
    }
    _check(place, role, "kms:Decrypt", key.arn, context, failed)


def _place_of(value_from: str, default: Place) -> Place:
    """The region that an ARN names."""
    if not value_from.startswith("arn:"):
        return default
    _, _, _, region, account, _ = value_from.split(":", 5)
    return Place(account, region)
