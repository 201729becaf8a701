"""Images of the account's own registry (ECR): whether they are there, and whether the role that pulls may."""

import re
from typing import Any

from moto.core.exceptions import JsonRESTError

from .errors import CannotPullContainerError
from .place import Place
from .policies import allows, role_documents

REFERENCE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[\w-]+)\.amazonaws\.com(?:\.cn)?"
    r"/(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:\w+))?"
)


def find(place: Place, reference: str, execution_role: str | None) -> Any | None:
    """moto's image, None for one of another registry; CannotPullContainerError where ECR would not hand it out.

    Instances pull by their own role when there is no execution role; that is not looked at.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None or match["account"] != place.account:
        return None
    try:
        backend = Place(match["account"], match["region"]).backend("ecr")
        wanted = {"imageTag": None if match["digest"] else match["tag"] or "latest", "imageDigest": match["digest"]}
        (image,) = backend.describe_images(match["repository"], None, [wanted])
    except JsonRESTError as error:
        raise CannotPullContainerError(
            f"pull image manifest has been retried 1 time(s): failed to resolve ref {reference}: {reference}: not found"
        ) from error
    if execution_role is None:
        return image
    arn = place.arn("ecr", f"repository/{match['repository']}")
    role = execution_role.split("/")[-1]
    if not allows(role_documents(place, role), "ecr:BatchGetImage", arn):
        raise CannotPullContainerError(
            f"pull image manifest has been retried 1 time(s): unexpected status from HEAD request to {reference}: "
            f"403 Forbidden: assumed-role/{role} is not authorized to perform: ecr:BatchGetImage on resource: {arn}"
        )
    return image
