"""Where a thing is: an account and a region, and moto's backends there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moto.backends import get_backend
from moto.utilities.utils import get_partition

GLOBAL_SERVICES = {"iam", "sts"}
"""Services that moto keeps per partition instead of per region."""


@dataclass(frozen=True)
class Place:
    """A region of an account."""

    account: str
    region: str

    @property
    def partition(self) -> str:
        """The ARN partition, for example ``aws``."""
        return get_partition(self.region)

    def backend(self, service: str) -> Any:
        """moto's backend of the service here."""
        key = self.partition if service in GLOBAL_SERVICES else self.region
        return get_backend(service)[self.account][key]

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource here."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def backends(service: str) -> Iterator[tuple[Place, Any]]:
    """Every backend of the service that exists so far, with its place."""
    for account, regions in list(get_backend(service).items()):
        for region, backend in list(regions.items()):
            yield Place(account, region), backend
