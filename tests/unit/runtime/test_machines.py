"""What fits on which machine."""

import pytest

from emulator.runtime.machines import Resources, fits_fargate, fits_instances, usable


@pytest.mark.parametrize(
    ("asked", "types", "expected"),
    [
        (Resources(2, 7000), ["m5.large"], True),
        (Resources(2, 8192), ["m5.large"], False),
        (Resources(3, 1000), ["m5.large"], False),
        (Resources(3, 1000), ["m5.large", "m5.xlarge"], True),
        (Resources(90, 300_000), ["m5"], True),
        (Resources(100, 1000), ["m5"], False),
        (Resources(4, 15_000), ["optimal"], True),
        (Resources(4, 15_000, gpus=1), ["m5"], False),
        (Resources(4, 15_000, gpus=1), ["g4dn.xlarge"], True),
        (Resources(1, 128), ["no.such"], False),
    ],
)
def test_instances(asked, types, expected):
    assert fits_instances(asked, types) is expected


@pytest.mark.parametrize(
    ("vcpus", "memory", "expected"),
    [(0.25, 512, True), (0.25, 1536, False), (1, 2048, True), (1, 9216, False), (4, 30720, True), (3, 8192, False)],
)
def test_fargate(vcpus, memory, expected):
    assert fits_fargate(Resources(vcpus, memory)) is expected


def test_a_machine_keeps_part_of_its_memory():
    assert 7000 < usable("m5.large").memory < 8192
