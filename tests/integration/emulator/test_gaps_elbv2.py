"""Gaps of Elastic Load Balancing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]


@pytest.fixture
def elbv2(emulator: Emulator) -> Any:
    """The client of the service under test."""
    return emulator.client("elbv2")


def create(elbv2: Any, network: Any, name: str, **more: Any) -> dict[str, Any]:
    wanted = {"Name": name, "Type": "network", "Scheme": "internal", "Subnets": network.subnets}
    return elbv2.create_load_balancer(**(wanted | more))["LoadBalancers"][0]


@pytest.mark.gap("elbv2/network-load-balancer-names")
def test_a_network_load_balancer_is_named_as_one(elbv2: Any, network: Any, name: str) -> None:
    tags = [{"Key": "a", "Value": "b"}]
    arn = create(elbv2, network, name, Tags=tags)["LoadBalancerArn"]
    assert f":loadbalancer/net/{name}/" in arn
    (read,) = elbv2.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]
    assert read["DNSName"] == f"{name}-{arn.split('/')[-1]}.elb.us-east-1.amazonaws.com"
    assert elbv2.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"] == tags


@pytest.mark.gap("elbv2/load-balancer-created-twice")
def test_creating_a_load_balancer_again_returns_it(elbv2: Any, network: Any, name: str, refused: Refused) -> None:
    first = create(elbv2, network, name)
    assert create(elbv2, network, name)["LoadBalancerArn"] == first["LoadBalancerArn"]
    with refused("DuplicateLoadBalancerName"):
        create(elbv2, network, name, Scheme="internet-facing")


@pytest.mark.gap("elbv2/deletion-protection")
def test_a_protected_load_balancer_cannot_be_deleted(elbv2: Any, network: Any, name: str, refused: Refused) -> None:
    arn = create(elbv2, network, name)["LoadBalancerArn"]

    def protect(value: str) -> None:
        attribute = {"Key": "deletion_protection.enabled", "Value": value}
        elbv2.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[attribute])

    protect("true")
    with refused("OperationNotPermitted", "deletion protection is enabled"):
        elbv2.delete_load_balancer(LoadBalancerArn=arn)
    protect("false")
    elbv2.delete_load_balancer(LoadBalancerArn=arn)


@pytest.mark.gap("elbv2/network-interfaces")
def test_a_load_balancer_holds_its_subnets_and_groups(
    elbv2: Any, emulator: Emulator, network: Any, name: str, refused: Refused
) -> None:
    ec2 = emulator.client("ec2")
    arn = create(elbv2, network, name, SecurityGroups=[network.group])["LoadBalancerArn"]
    filters = [{"Name": "vpc-id", "Values": [network.vpc]}]
    held = ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    assert {i["SubnetId"] for i in held} == set(network.subnets)
    assert {i["Description"] for i in held} == {f"ELB {arn.partition(':loadbalancer/')[2]}"}
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=network.group)
    with refused("DependencyViolation"):
        ec2.delete_subnet(SubnetId=network.subnets[0])
    other = ec2.create_security_group(GroupName=f"{name}-b", Description=name, VpcId=network.vpc)["GroupId"]
    elbv2.set_security_groups(LoadBalancerArn=arn, SecurityGroups=[other])
    ec2.delete_security_group(GroupId=network.group)
    elbv2.delete_load_balancer(LoadBalancerArn=arn)
    ec2.delete_security_group(GroupId=other)
    for subnet in network.subnets:
        ec2.delete_subnet(SubnetId=subnet)


@pytest.mark.gap("elbv2/modify-listener-tls")
def test_a_listener_goes_from_tcp_to_tls(elbv2: Any, emulator: Emulator, network: Any, name: str) -> None:
    arn = create(elbv2, network, name)["LoadBalancerArn"]
    group = elbv2.create_target_group(Name=name, Protocol="TCP", Port=80, VpcId=network.vpc)["TargetGroups"][0]
    forward = [{"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}]
    listener = elbv2.create_listener(LoadBalancerArn=arn, Protocol="TCP", Port=80, DefaultActions=forward)["Listeners"]
    certificate = emulator.client("acm").request_certificate(DomainName="example.com")["CertificateArn"]
    elbv2.modify_listener(
        ListenerArn=listener[0]["ListenerArn"], Protocol="TLS", Certificates=[{"CertificateArn": certificate}]
    )
    (read,) = elbv2.describe_listeners(LoadBalancerArn=arn)["Listeners"]
    assert read["Protocol"] == "TLS"
    assert [one["CertificateArn"] for one in read["Certificates"]] == [certificate]


@pytest.mark.gap("elbv2/private-link-rules")
def test_rules_for_private_link_are_kept(elbv2: Any, emulator: Emulator, network: Any, name: str) -> None:
    group = emulator.client("ec2").create_security_group(GroupName=f"{name}-2", Description=name, VpcId=network.vpc)[
        "GroupId"
    ]
    arn = create(elbv2, network, name, SecurityGroups=[group])["LoadBalancerArn"]
    elbv2.set_security_groups(
        LoadBalancerArn=arn,
        SecurityGroups=[group],
        EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic="off",
    )
    (read,) = elbv2.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]
    assert read["EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"] == "off"
