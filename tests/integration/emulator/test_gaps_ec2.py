"""Gaps of EC2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def ec2(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("ec2")


def tags_of(ec2: Any, resource: str) -> list[tuple[str, str, str]]:
    found = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [resource]}])["Tags"]
    return [(t["ResourceType"], t["Key"], t["Value"]) for t in found]


@pytest.mark.gap("ec2/elastic-ip-and-natgateway-tags")
def test_tags_of_addresses_and_nat_gateways_have_their_resource_types(ec2: Any, network: Any) -> None:
    def spec(kind: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": [{"Key": "k", "Value": kind}]}]

    address = ec2.allocate_address(Domain="vpc", TagSpecifications=spec("elastic-ip"))["AllocationId"]
    gateway = ec2.create_nat_gateway(
        SubnetId=network.subnets[0], AllocationId=address, TagSpecifications=spec("natgateway")
    )["NatGateway"]["NatGatewayId"]
    assert tags_of(ec2, address) == [("elastic-ip", "k", "elastic-ip")]
    assert tags_of(ec2, gateway) == [("natgateway", "k", "natgateway")]


@pytest.mark.gap("ec2/rule-description-answer")
def test_update_of_rule_descriptions_answers_true(ec2: Any, network: Any) -> None:
    rule = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    ec2.authorize_security_group_ingress(GroupId=network.group, IpPermissions=[rule])
    described = rule | {"IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "inside"}]}
    answer = ec2.update_security_group_rule_descriptions_ingress(GroupId=network.group, IpPermissions=[described])
    assert answer["Return"] is True


@pytest.mark.gap("ec2/rule-of-a-group")
def test_the_rule_of_a_group_gets_another_description(ec2: Any, network: Any) -> None:
    pair = {"GroupId": network.group}
    rule = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [pair | {"Description": "first"}]}
    ec2.authorize_security_group_ingress(GroupId=network.group, IpPermissions=[rule])
    again = rule | {"UserIdGroupPairs": [pair | {"Description": "second"}]}
    ec2.update_security_group_rule_descriptions_ingress(GroupId=network.group, IpPermissions=[again])
    (group,) = ec2.describe_security_groups(GroupIds=[network.group])["SecurityGroups"]
    assert [one["Description"] for p in group["IpPermissions"] for one in p["UserIdGroupPairs"]] == ["second"]


def gateway_routes(ec2: Any, table: str) -> list[str]:
    routes = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"][0]["Routes"]
    return [r["GatewayId"] for r in routes if r.get("GatewayId", "").startswith("vpce-")]


@pytest.mark.gap("ec2/vpc-endpoint-route-tables")
def test_a_gateway_endpoint_keeps_the_routes_of_its_route_tables(ec2: Any, network: Any) -> None:
    tables = [ec2.create_route_table(VpcId=network.vpc)["RouteTable"]["RouteTableId"] for _ in range(2)]
    endpoint = ec2.create_vpc_endpoint(VpcId=network.vpc, ServiceName="com.amazonaws.us-east-1.s3")["VpcEndpoint"]
    endpoint_id = endpoint["VpcEndpointId"]
    assert endpoint["VpcEndpointType"] == "Gateway"
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, AddRouteTableIds=tables)
    assert [gateway_routes(ec2, t) for t in tables] == [[endpoint_id], [endpoint_id]]
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint_id, RemoveRouteTableIds=tables[:1])
    assert [gateway_routes(ec2, t) for t in tables] == [[], [endpoint_id]]
    assert ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id])["Unsuccessful"] == []
    assert [gateway_routes(ec2, t) for t in tables] == [[], []]


@pytest.mark.gap("ec2/vpc-endpoint-id-filter")
def test_an_endpoint_is_found_by_its_id(ec2: Any, network: Any) -> None:
    for service in ("s3", "dynamodb"):
        ec2.create_vpc_endpoint(VpcId=network.vpc, ServiceName=f"com.amazonaws.us-east-1.{service}")
    mine = [{"Name": "vpc-id", "Values": [network.vpc]}]
    wanted = ec2.describe_vpc_endpoints(Filters=mine)["VpcEndpoints"][1]["VpcEndpointId"]
    by_id = [*mine, {"Name": "vpc-endpoint-id", "Values": [wanted]}]
    assert [one["VpcEndpointId"] for one in ec2.describe_vpc_endpoints(Filters=by_id)["VpcEndpoints"]] == [wanted]


@pytest.mark.gap("ec2/vpc-endpoint-deletion")
def test_a_deleted_endpoint_is_gone_and_a_missing_one_is_reported(ec2: Any, network: Any, refused: Refused) -> None:
    endpoint = ec2.create_vpc_endpoint(VpcId=network.vpc, ServiceName="com.amazonaws.us-east-1.s3")["VpcEndpoint"]
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    with refused("InvalidVpcEndpointId.NotFound"):
        ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    mine = [{"Name": "vpc-id", "Values": [network.vpc]}]
    assert ec2.describe_vpc_endpoints(Filters=mine)["VpcEndpoints"] == []
    again = ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])["Unsuccessful"]
    assert [u["Error"]["Code"] for u in again] == ["InvalidVpcEndpoint.NotFound"]


def make_template(ec2: Any, name: str, **more: Any) -> Any:
    return ec2.create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-12345678", "InstanceType": "m5.large"}, **more
    )["LaunchTemplate"]


def versions(ec2: Any, name: str) -> dict[int, dict[str, Any]]:
    found = ec2.describe_launch_template_versions(LaunchTemplateName=name)["LaunchTemplateVersions"]
    return {v["VersionNumber"]: v["LaunchTemplateData"] for v in found}


@pytest.mark.gap("ec2/launch-template-own-tags")
def test_a_templates_own_tags_are_not_in_its_data(ec2: Any, name: str) -> None:
    own = [{"ResourceType": "launch-template", "Tags": [{"Key": "a", "Value": "b"}]}]
    template = make_template(ec2, name, TagSpecifications=own)
    assert template["Tags"] == [{"Key": "a", "Value": "b"}]
    assert versions(ec2, name)[1] == {"ImageId": "ami-12345678", "InstanceType": "m5.large"}


@pytest.mark.gap("ec2/launch-template-source-version")
def test_a_version_inherits_from_its_source(ec2: Any, name: str) -> None:
    make_template(ec2, name)
    answer = ec2.create_launch_template_version(
        LaunchTemplateName=name, SourceVersion="1", LaunchTemplateData={"InstanceType": "m6i.large"}
    )
    expected = {"ImageId": "ami-12345678", "InstanceType": "m6i.large"}
    assert answer["LaunchTemplateVersion"]["LaunchTemplateData"] == expected
    assert versions(ec2, name)[2] == expected


@pytest.mark.gap("ec2/launch-template-version-deletion")
def test_versions_can_be_deleted_but_not_the_default(ec2: Any, name: str) -> None:
    make_template(ec2, name)
    for size in ("large", "xlarge"):
        ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={"InstanceType": f"m6i.{size}"})
    answer = ec2.delete_launch_template_versions(LaunchTemplateName=name, Versions=["1", "2", "9"])
    gone = [v["VersionNumber"] for v in answer["SuccessfullyDeletedLaunchTemplateVersions"]]
    kept = {
        v["VersionNumber"]: v["ResponseError"]["Code"] for v in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]
    }
    assert gone == [2]
    assert kept == {1: "unexpectedError", 9: "launchTemplateVersionDoesNotExist"}
    assert versions(ec2, name) == {
        1: {"ImageId": "ami-12345678", "InstanceType": "m5.large"},
        3: {"InstanceType": "m6i.xlarge"},
    }
    made = ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={"InstanceType": "m7i.large"})
    assert made["LaunchTemplateVersion"]["VersionNumber"] == 4
    assert ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=["3"])["LaunchTemplateVersions"][0][
        "LaunchTemplateData"
    ] == {"InstanceType": "m6i.xlarge"}


def run_instance(ec2: Any, network: Any) -> str:
    image = ec2.describe_images()["Images"][0]["ImageId"]
    answer = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, SubnetId=network.subnets[0], SecurityGroupIds=[network.group]
    )
    return answer["Instances"][0]["InstanceId"]


def interfaces(ec2: Any, network: Any) -> list[dict[str, Any]]:
    mine = [{"Name": "vpc-id", "Values": [network.vpc]}]
    return ec2.describe_network_interfaces(Filters=mine)["NetworkInterfaces"]


@pytest.mark.gap("ec2/terminated-instance-interface")
def test_a_terminated_instance_releases_its_network_interface(ec2: Any, network: Any) -> None:
    instance = run_instance(ec2, network)
    assert len(interfaces(ec2, network)) == 1
    ec2.terminate_instances(InstanceIds=[instance])
    assert interfaces(ec2, network) == []
    ec2.delete_security_group(GroupId=network.group)
    for subnet in network.subnets:
        ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=network.vpc)


@pytest.mark.gap("ec2/launch-from-template")
def test_an_instance_is_what_its_launch_template_says(emulator: Emulator, ec2: Any, network: Any, name: str) -> None:
    profile = emulator.client("iam").create_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"]
    ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={
            "ImageId": "resolve:ssm:/aws/service/debian/release/13/latest/amd64",
            "InstanceType": "t3.medium",
            "IamInstanceProfile": {"Arn": profile},
            "MetadataOptions": {"HttpTokens": "required"},
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": network.subnets[1], "Groups": [network.group]}],
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 12, "VolumeType": "gp3", "Encrypted": True}}
            ],
        },
    )
    template = {"LaunchTemplateName": name, "Version": "$Default"}
    (made,) = ec2.run_instances(LaunchTemplate=template, MinCount=1, MaxCount=1)["Instances"]
    (live,) = ec2.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"][0]["Instances"]
    assert live["ImageId"].startswith("ami-") and live["InstanceType"] == "t3.medium"
    assert live["SubnetId"] == network.subnets[1]
    assert [group["GroupId"] for group in live["SecurityGroups"]] == [network.group]
    assert live["IamInstanceProfile"]["Arn"] == profile
    assert live["MetadataOptions"]["HttpTokens"] == "required"
    (root,) = live["BlockDeviceMappings"]
    assert ec2.describe_volumes(VolumeIds=[root["Ebs"]["VolumeId"]])["Volumes"][0]["Size"] == 12


@pytest.mark.gap("ec2/volume-outlives-instance")
def test_an_attachment_says_whether_the_volume_ends_with_its_instance(ec2: Any, network: Any) -> None:
    instance = run_instance(ec2, network)
    zone = ec2.describe_subnets(SubnetIds=network.subnets[:1])["Subnets"][0]["AvailabilityZone"]
    volume = ec2.create_volume(AvailabilityZone=zone, Size=1)["VolumeId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    of_instance = [{"Name": "attachment.instance-id", "Values": [instance]}]
    found = ec2.describe_volumes(Filters=of_instance)["Volumes"]
    assert {one["VolumeId"] == volume: one["Attachments"][0]["DeleteOnTermination"] for one in found} == {
        True: False,
        False: True,
    }


@pytest.mark.gap("ec2/console-host-keys")
def test_the_console_shows_the_host_keys(ec2: Any, network: Any) -> None:
    answer = ec2.get_console_output(InstanceId=run_instance(ec2, network), Latest=True)
    keys = answer["Output"].partition("BEGIN SSH HOST KEY KEYS")[2].partition("END SSH HOST KEY KEYS")[0]
    assert "ssh-ed25519 AAAA" in keys


@pytest.mark.gap("ec2/vpc-dependencies")
def test_a_vpc_with_a_gateway_or_a_group_cannot_be_deleted(ec2: Any, network: Any, refused: Refused) -> None:
    for subnet in network.subnets:
        ec2.delete_subnet(SubnetId=subnet)
    with refused("DependencyViolation"):
        ec2.delete_vpc(VpcId=network.vpc)
    ec2.delete_security_group(GroupId=network.group)
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    with refused("DependencyViolation"):
        ec2.delete_vpc(VpcId=network.vpc)
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    endpoint = ec2.create_vpc_endpoint(VpcId=network.vpc, ServiceName="com.amazonaws.us-east-1.s3")["VpcEndpoint"]
    with refused("DependencyViolation"):
        ec2.delete_vpc(VpcId=network.vpc)
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    ec2.delete_vpc(VpcId=network.vpc)


@pytest.mark.gap("ec2/subnet-dependencies")
def test_a_subnet_with_an_interface_cannot_be_deleted(ec2: Any, network: Any, refused: Refused) -> None:
    interface = ec2.create_network_interface(SubnetId=network.subnets[0])["NetworkInterface"]["NetworkInterfaceId"]
    with refused("DependencyViolation"):
        ec2.delete_subnet(SubnetId=network.subnets[0])
    ec2.delete_network_interface(NetworkInterfaceId=interface)
    table = ec2.create_route_table(VpcId=network.vpc)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=table, SubnetId=network.subnets[0])
    ec2.delete_subnet(SubnetId=network.subnets[0])
    ec2.delete_route_table(RouteTableId=table)


@pytest.mark.gap("ec2/security-group-dependencies")
def test_a_group_that_is_used_or_referenced_cannot_be_deleted(
    ec2: Any, network: Any, name: str, refused: Refused
) -> None:
    other = ec2.create_security_group(GroupName=f"{name}-b", Description=name, VpcId=network.vpc)["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": network.group}]}
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[rule])
    with refused("DependencyViolation", "has a dependent object"):
        ec2.delete_security_group(GroupId=network.group)
    ec2.delete_security_group(GroupId=other)
    interface = ec2.create_network_interface(SubnetId=network.subnets[0], Groups=[network.group])
    with refused("DependencyViolation", "has a dependent object"):
        ec2.delete_security_group(GroupId=network.group)
    ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterface"]["NetworkInterfaceId"])
    ec2.delete_security_group(GroupId=network.group)


@pytest.mark.gap("ec2/default-security-group")
def test_the_default_group_cannot_be_deleted(ec2: Any, network: Any, refused: Refused) -> None:
    found = ec2.describe_security_groups(
        Filters=[{"Name": "vpc-id", "Values": [network.vpc]}, {"Name": "group-name", "Values": ["default"]}]
    )["SecurityGroups"]
    with refused("CannotDelete"):
        ec2.delete_security_group(GroupId=found[0]["GroupId"])


@pytest.mark.gap("ec2/internet-gateway-with-addresses")
def test_a_gateway_stays_while_its_vpc_has_mapped_addresses(ec2: Any, network: Any, refused: Refused) -> None:
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    with refused("DependencyViolation"):
        ec2.delete_internet_gateway(InternetGatewayId=gateway)
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=network.subnets[0], AllocationId=address)["NatGateway"]["NatGatewayId"]
    with refused("DependencyViolation", "mapped public address"):
        ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    ec2.delete_nat_gateway(NatGatewayId=nat)
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)


@pytest.mark.gap("ec2/nat-gateway-interface")
def test_a_nat_gateway_holds_its_address_and_subnet(ec2: Any, network: Any, refused: Refused) -> None:
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=network.subnets[0], AllocationId=address)["NatGateway"]
    assert nat["NatGatewayAddresses"][0]["AllocationId"] == address
    with refused("InvalidIPAddress.InUse"):
        ec2.release_address(AllocationId=address)
    with refused("DependencyViolation"):
        ec2.delete_subnet(SubnetId=network.subnets[0])
    ec2.delete_nat_gateway(NatGatewayId=nat["NatGatewayId"])
    ec2.release_address(AllocationId=address)
    ec2.delete_subnet(SubnetId=network.subnets[0])


@pytest.mark.gap("ec2/interface-in-use")
def test_an_attached_interface_cannot_be_deleted(ec2: Any, network: Any, refused: Refused) -> None:
    run_instance(ec2, network)
    interface = interfaces(ec2, network)[0]["NetworkInterfaceId"]
    with refused("InvalidParameterValue", "currently in use"):
        ec2.delete_network_interface(NetworkInterfaceId=interface)


@pytest.mark.gap("ec2/route-table-dependencies")
def test_the_main_route_table_cannot_be_deleted(ec2: Any, network: Any, refused: Refused) -> None:
    main = ec2.describe_route_tables(
        Filters=[{"Name": "vpc-id", "Values": [network.vpc]}, {"Name": "association.main", "Values": ["true"]}]
    )["RouteTables"][0]["RouteTableId"]
    with refused("DependencyViolation"):
        ec2.delete_route_table(RouteTableId=main)


@pytest.mark.gap("ec2/vpc-endpoint-interfaces")
def test_an_interface_endpoint_holds_its_subnet_and_group(ec2: Any, network: Any, refused: Refused) -> None:
    endpoint = ec2.create_vpc_endpoint(
        VpcId=network.vpc,
        ServiceName="com.amazonaws.us-east-1.ecr.api",
        VpcEndpointType="Interface",
        SubnetIds=network.subnets[:1],
        SecurityGroupIds=[network.group],
    )["VpcEndpoint"]
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=network.group)
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    ec2.delete_security_group(GroupId=network.group)
    ec2.delete_subnet(SubnetId=network.subnets[0])
