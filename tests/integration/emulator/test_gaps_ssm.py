"""Gaps of SSM."""

from __future__ import annotations

import pytest
from emulated_aws import Emulator


@pytest.mark.gap("ssm/debian-images")
def test_a_public_parameter_names_an_image_of_debian(emulator: Emulator) -> None:
    name = "/aws/service/debian/release/13/latest/amd64"
    image = emulator.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    assert emulator.client("ec2").describe_images(ImageIds=[image])["Images"]
