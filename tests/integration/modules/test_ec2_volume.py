# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module ec2_volume against the emulator."""

from __future__ import annotations

import pytest
from steps import Module

NAME = "metaflow-staging-elk-1-data"
OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}
PRESENT = {"name": NAME, "availability_zone": "us-east-1a", "size": 20, "tags": OURS, "wait_timeout": 1}
ABSENT = {"name": NAME, "state": "absent", "wait_timeout": 1}


@pytest.fixture
def ec2(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("ec2")


@pytest.fixture
def volume(ec2, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "ec2_volume")


def instance(ec2):
    """Run an instance in zone a, and return its id."""
    image = ec2.describe_images()["Images"][0]["ImageId"]
    place = {"AvailabilityZone": "us-east-1a"}
    return ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, Placement=place)["Instances"][0]["InstanceId"]


def named(ec2):
    """Return the volumes of the name."""
    return ec2.describe_volumes(Filters=[{"Name": "tag:Name", "Values": [NAME]}])["Volumes"]


def test_twelve_steps(volume, ec2):
    host = instance(ec2)
    made = volume.change(PRESENT | {"instance_id": host})["volume"]
    (live,) = named(ec2)
    assert (live["Size"], live["VolumeType"], live["Encrypted"], live["State"]) == (20, "gp3", True, "in-use")
    assert (made["volume_id"], made["instance_id"], made["device"]) == (live["VolumeId"], host, "/dev/sdf")

    larger = PRESENT | {"instance_id": host, "size": 30, "tags": OURS | {"team": "ml"}}
    assert volume.change(larger)["volume"]["volume_id"] == made["volume_id"]
    assert named(ec2)[0]["Size"] == 30

    assert f"it is attached to {host}" in volume.refused(ABSENT)
    ec2.terminate_instances(InstanceIds=[host])
    assert volume.change(ABSENT)["volume"] == {}
    assert named(ec2) == []


def test_it_survives_its_instance_and_goes_to_the_next_one(volume, ec2):
    first = instance(ec2)
    made = volume.run(PRESENT | {"instance_id": first})["volume"]
    ec2.detach_volume(VolumeId=made["volume_id"], InstanceId=first)
    assert volume.run(PRESENT | {"instance_id": first})["volume"]["instance_id"] == first
    ec2.terminate_instances(InstanceIds=[first])
    second = instance(ec2)
    moved = volume.change(PRESENT | {"instance_id": second})["volume"]
    assert (moved["volume_id"], moved["instance_id"]) == (made["volume_id"], second)


def test_one_that_would_end_with_its_instance_is_kept(volume, ec2):
    host = instance(ec2)
    volume.run(PRESENT | {"instance_id": host})
    mapping = {"DeviceName": "/dev/sdf", "Ebs": {"DeleteOnTermination": True}}
    ec2.modify_instance_attribute(InstanceId=host, BlockDeviceMappings=[mapping])
    volume.change(PRESENT | {"instance_id": host})
    ec2.terminate_instances(InstanceIds=[host])
    assert len(named(ec2)) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 10}, "it has 20 GiB, and volumes can't shrink"),
        ({"availability_zone": "us-east-1b"}, "it lies in us-east-1a, and volumes don't move"),
        ({"kms_key": "arn:aws:kms:us-east-1:123456789012:key/other"}, "it is encrypted with alias/aws/ebs"),
    ],
)
def test_what_cannot_be_changed_is_refused(volume, ec2, change, reason):
    made = volume.run(PRESENT)["volume"]
    expected = reason.replace("alias/aws/ebs", made["kms_key_id"])
    assert expected in volume.refused(PRESENT | change)


def test_a_volume_of_another_living_instance_is_refused(volume, ec2):
    first, second = instance(ec2), instance(ec2)
    volume.run(PRESENT | {"instance_id": first})
    assert f"it is attached to {first}" in volume.refused(PRESENT | {"instance_id": second})


def test_two_of_a_name_are_named(volume, ec2):
    volume.run(PRESENT)
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": NAME}]}]
    ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=tags)
    assert "2 volumes have this name: vol-" in volume.refused(PRESENT)


def test_a_killed_run_leaves_no_second_volume(volume, ec2):
    def state():
        return [(one["Size"], one["State"], one["Attachments"][0]["Device"]) for one in named(ec2)]

    volume.survives_kills(lambda: PRESENT | {"instance_id": instance(ec2)}, state)
