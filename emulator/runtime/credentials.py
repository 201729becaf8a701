"""Credentials of a task role, handed out as on ECS: over HTTP, to a container that has the address.

The container finds the address in AWS_CONTAINER_CREDENTIALS_FULL_URI, which every AWS SDK reads; no key stands in its
environment. https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from moto.core.utils import utcnow

from .place import Place

ROUTE = "/_runtime/credentials/"
LIFETIME = timedelta(hours=6)
RENEWAL = timedelta(minutes=30)
"""Credentials that expire sooner are replaced; the SDKs ask again 15 minutes before they expire."""


@dataclass
class Session:
    """What one container acts as, and its latest credentials."""

    place: Place
    role_arn: str
    name: str
    assumed: Any = None


_sessions: dict[str, Session] = {}


def open_session(place: Place, role_arn: str, name: str) -> str:
    """Let a container act as the role; the path under which it fetches its credentials."""
    token = str(uuid.uuid4())
    _sessions[token] = Session(place, role_arn, name[:64])
    return ROUTE + token


def close_session(path: str) -> None:
    """Hand out no more credentials under the path."""
    _sessions.pop(path.removeprefix(ROUTE), None)


def fetch(path: str) -> dict[str, str] | None:
    """Credentials for the session with that path, in the form that the SDKs expect; None for an unknown one."""
    session = _sessions.get(path.removeprefix(ROUTE))
    if session is None:
        return None
    if session.assumed is None or session.assumed.expiration - utcnow() < RENEWAL:
        session.assumed = _assume(session)
    return {
        "RoleArn": session.role_arn,
        "AccessKeyId": session.assumed.access_key_id,
        "SecretAccessKey": session.assumed.secret_access_key,
        "Token": session.assumed.session_token,
        "Expiration": session.assumed.expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _assume(session: Session) -> Any:
    """moto's assumed role: its key is known to the emulator, and GetCallerIdentity says the role's name."""
    return session.place.backend("sts").assume_role(
        region_name=session.place.region,
        role_session_name=session.name,
        role_arn=session.role_arn,
        policy="",
        duration=int(LIFETIME.total_seconds()),
        external_id="",
    )
