"""Gaps of SSM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ssm.models import Parameter, ParameterDict

from emulator.gaps import gap, wrap

#: Debian 13 as Debian publishes it, and an image that moto's account has.
DEBIAN = "/aws/service/debian/release/13/latest/amd64"
IMAGE = "ami-04681a1dbd79675a5"


@gap("ssm", "debian-images", "A public parameter names Debian's newest image.")
def debian_images() -> None:
    @wrap(ParameterDict, "_check_loading_status")
    def load(original: Callable[..., Any], self: Any, key: str) -> None:
        original(self, key)
        if key == DEBIAN and not dict.__contains__(self, DEBIAN):
            dict.__setitem__(self, DEBIAN, [_parameter(self.account_id, IMAGE)])


def _parameter(account: str, image: str) -> Parameter:
    return Parameter(
        account_id=account,
        name=DEBIAN,
        value=image,
        parameter_type="String",
        description=None,
        allowed_pattern=None,
        keyid=None,
        last_modified_date=0,
        version=1,
        data_type="aws:ec2:image",
    )
