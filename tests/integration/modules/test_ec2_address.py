# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module ec2_address against the emulator."""

from __future__ import annotations

import pytest
from steps import Module

NAME = "metaflow-staging-nat-1"
OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}
PRESENT = {"name": NAME, "tags": OURS, "wait_timeout": 20}
ABSENT = {"name": NAME, "state": "absent", "wait_timeout": 20}


@pytest.fixture
def ec2(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("ec2")


@pytest.fixture
def address(ec2, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "ec2_address")


def allocate(ec2, name=NAME):
    tags = [{"Key": "Name", "Value": name}]
    specification = {"ResourceType": "elastic-ip", "Tags": tags}
    return ec2.allocate_address(Domain="vpc", TagSpecifications=[specification])["AllocationId"]


def associate(ec2, allocation_id):
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
    interface = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    ec2.associate_address(AllocationId=allocation_id, NetworkInterfaceId=interface)
    return interface


def all_tags(ec2):
    """Return the tags of every address."""
    addresses = ec2.describe_addresses()["Addresses"]
    return [{tag["Key"]: tag["Value"] for tag in one.get("Tags", [])} for one in addresses]


def test_twelve_steps(address, ec2):
    made = address.change(PRESENT)["address"]
    (live,) = ec2.describe_addresses()["Addresses"]
    assert (made["allocation_id"], made["public_ip"]) == (live["AllocationId"], live["PublicIp"])
    assert all_tags(ec2) == [OURS | {"Name": NAME}]

    changed = address.change(PRESENT | {"tags": OURS | {"team": "ml"}})["address"]
    assert changed["allocation_id"] == made["allocation_id"]
    assert all_tags(ec2) == [OURS | {"Name": NAME, "team": "ml"}]

    assert address.change(ABSENT)["address"] == {}
    assert all_tags(ec2) == []


def test_the_tags_come_with_the_address_in_one_call(address, ec2, emulator):
    address.run(PRESENT)
    assert [call["action"] for call in emulator.mutations()] == ["AllocateAddress"]


def test_check_mode_predicts_on_an_empty_account(address):
    predicted = address.run(PRESENT, check=True)["address"]
    assert predicted == {
        "allocation_id": "eipalloc-predicted",
        "public_ip": "(predicted)",
        "domain": "vpc",
        "tags": OURS | {"Name": NAME},
    }


def test_tags_changed_by_hand_are_mended(address, ec2):
    made = address.run(PRESENT)["address"]["allocation_id"]
    ec2.create_tags(Resources=[made], Tags=[{"Key": "x", "Value": "y"}])
    ec2.delete_tags(Resources=[made], Tags=[{"Key": "mlops.metaflow/stack"}])
    address.run(PRESENT)
    assert all_tags(ec2) == [OURS | {"Name": NAME}]


def test_without_tags_only_the_name_is_written(address, ec2):
    address.run({"name": NAME})
    ec2.create_tags(
        Resources=[ec2.describe_addresses()["Addresses"][0]["AllocationId"]], Tags=[{"Key": "x", "Value": "y"}]
    )
    address.run({"name": NAME}, changes=False)
    assert all_tags(ec2) == [{"Name": NAME, "x": "y"}]


def test_a_run_that_was_killed_anywhere_is_completed(address, ec2):
    address.survives_kills(lambda: PRESENT, lambda: all_tags(ec2))


def test_of_several_the_one_in_use_is_taken_and_the_others_are_named(address, ec2):
    allocate(ec2, "other")
    first, second, third = sorted(allocate(ec2) for _ in range(3))
    assert address.run(PRESENT | {"tags": {}}, changes=False)["address"]["allocation_id"] == first

    associate(ec2, second)
    result = address.run(PRESENT | {"tags": {}}, changes=False)
    assert result["address"]["allocation_id"] == second
    assert result["address"]["association_id"].startswith("eipassoc-")
    (warning,) = [str(one) for one in result["warnings"] if f"{second} is used" in str(one)]
    assert first in warning
    assert third in warning


def test_one_in_use_is_not_released(address, ec2):
    interface = associate(ec2, allocate(ec2))
    assert f"still associated with {interface}" in address.refused(ABSENT)


def test_all_of_the_name_are_released_and_no_other(address, ec2):
    allocate(ec2, "other")
    for _ in range(2):
        allocate(ec2)
    address.change(ABSENT)
    assert all_tags(ec2) == [{"Name": "other"}]


def test_it_goes_with_the_instance_that_it_is_for(address, ec2):
    image = ec2.describe_images()["Images"][0]["ImageId"]
    instances = [
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"] for _ in range(2)
    ]
    made = address.change(PRESENT | {"instance_id": instances[0]})["address"]
    moved = address.change(PRESENT | {"instance_id": instances[1]})["address"]
    assert (moved["instance_id"], moved["public_ip"]) == (instances[1], made["public_ip"])
    assert "still associated with eni-" in address.refused(ABSENT | {"instance_id": instances[0]})
    assert address.change(ABSENT | {"instance_id": instances[1]})["address"] == {}
    assert all_tags(ec2) == []
