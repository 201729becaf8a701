# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module network_load_balancer against the emulator."""

from __future__ import annotations

import pytest
from steps import Module, answering

NAME = "metaflow-staging"
OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/11111111-2222-4333-8444-555555555555"
ABSENT = {"name": NAME, "state": "absent", "wait_timeout": 20}


@pytest.fixture
def elbv2(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("elbv2")


class Network:
    """A VPC with three subnets and a security group, made anew in the empty account."""

    def __init__(self, emulator):
        ec2 = emulator.client("ec2")
        self.vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.20.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for number, zone in enumerate("abc")
        ]
        self.groups = [
            ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)["GroupId"] for name in "xy"
        ]


@pytest.fixture
def network(elbv2, emulator):
    """Where the load balancer stands."""
    return Network(emulator)


def group(network, name="staging-api", port=8080, **more):
    check = {"protocol": "HTTP", "path": "/ping", "interval": 10, "healthy_threshold": 2, "unhealthy_threshold": 2}
    return {"name": name, "port": port, "vpc_id": network.vpc, "health_check": check, **more}


def minimal(network):
    return {
        "name": NAME,
        "subnets": network.subnets[:2],
        "target_groups": [group(network)],
        "listeners": [{"port": 80, "target_group": "staging-api"}],
        "tags": OURS,
        "wait_timeout": 20,
    }


def full(network):
    return minimal(network) | {
        "subnets": network.subnets,
        "cross_zone": False,
        "deletion_protection": True,
        "target_groups": [
            group(network, deregistration_delay=30),
            group(network, name="staging-mig", port=8082, health_check={"port": "8080"}),
        ],
        "listeners": [
            {"port": 80, "target_group": "staging-mig"},
            {"port": 8082, "target_group": "staging-mig"},
        ],
        "tags": OURS | {"team": "ml"},
    }


@pytest.fixture
def nlb(elbv2, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "network_load_balancer")


def tags_of(elbv2, arn):
    (described,) = elbv2.describe_tags(ResourceArns=[arn])["TagDescriptions"]
    return {tag["Key"]: tag["Value"] for tag in described["Tags"]}


def attributes(answer):
    return {pair["Key"]: pair["Value"] for pair in answer["Attributes"]}


def state(elbv2):
    """Return what there is, without ids that differ from run to run."""
    balancers = elbv2.describe_load_balancers()["LoadBalancers"]
    groups = elbv2.describe_target_groups()["TargetGroups"]
    names = {one["TargetGroupArn"]: one["TargetGroupName"] for one in groups}
    listeners = [
        one
        for balancer in balancers
        for one in elbv2.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    ]
    return {
        "balancers": {
            one["LoadBalancerName"]: {
                "scheme": one["Scheme"],
                "type": one["Type"],
                "zones": sorted(zone["ZoneName"] for zone in one["AvailabilityZones"]),
                "groups": len(one.get("SecurityGroups", [])),
                "attributes": attributes(
                    elbv2.describe_load_balancer_attributes(LoadBalancerArn=one["LoadBalancerArn"])
                ),
                "tags": tags_of(elbv2, one["LoadBalancerArn"]),
            }
            for one in balancers
        },
        "target groups": {
            one["TargetGroupName"]: {
                **{
                    key: value for key, value in one.items() if key.startswith(("Health", "Unhealthy", "Port", "Proto"))
                },
                "delay": attributes(elbv2.describe_target_group_attributes(TargetGroupArn=one["TargetGroupArn"]))[
                    "deregistration_delay.timeout_seconds"
                ],
                "tags": tags_of(elbv2, one["TargetGroupArn"]),
            }
            for one in groups
        },
        "listeners": {
            one["Port"]: (one["Protocol"], names[one["DefaultActions"][0]["TargetGroupArn"]]) for one in listeners
        },
    }


def test_twelve_steps(nlb, elbv2, network):
    made = nlb.change(minimal(network))["load_balancer"]
    live = state(elbv2)
    (balancer,) = live["balancers"].values()
    assert (balancer["type"], balancer["scheme"]) == ("network", "internal")
    assert balancer["tags"] == OURS
    assert balancer["attributes"]["load_balancing.cross_zone.enabled"] == "true"
    assert live["listeners"] == {80: ("TCP", "staging-api")}
    assert live["target groups"]["staging-api"]["HealthCheckPath"] == "/ping"
    assert live["target groups"]["staging-api"]["tags"] == OURS | {"LoadBalancer": NAME}
    described = elbv2.describe_load_balancers(Names=[NAME])["LoadBalancers"][0]
    assert (made["arn"], made["dns_name"]) == (described["LoadBalancerArn"], described["DNSName"])
    assert made["target_groups"] == {
        one["TargetGroupName"]: one["TargetGroupArn"] for one in elbv2.describe_target_groups()["TargetGroups"]
    }

    changed = nlb.change(full(network))["load_balancer"]
    live = state(elbv2)
    (balancer,) = live["balancers"].values()
    assert balancer["zones"] == ["us-east-1a", "us-east-1b", "us-east-1c"]
    assert balancer["attributes"]["load_balancing.cross_zone.enabled"] == "false"
    assert balancer["attributes"]["deletion_protection.enabled"] == "true"
    assert live["listeners"] == {80: ("TCP", "staging-mig"), 8082: ("TCP", "staging-mig")}
    assert live["target groups"]["staging-api"]["delay"] == "30"
    assert live["target groups"]["staging-mig"]["HealthCheckPort"] == "8080"
    assert set(changed["target_groups"]) == {"staging-api", "staging-mig"}
    assert changed["arn"] == made["arn"]

    assert "deletion_protection=false" in nlb.refused(ABSENT)
    assert nlb.change(ABSENT | {"deletion_protection": False})["load_balancer"] == {}
    assert state(elbv2) == {"balancers": {}, "target groups": {}, "listeners": {}}


def test_check_mode_predicts_on_an_empty_account(nlb, network):
    args = minimal(network) | {
        "subnets": ["subnet-predicted"],
        "target_groups": [group(network, vpc_id="vpc-predicted")],
    }
    predicted = nlb.run(args, check=True)["load_balancer"]
    prefix = "arn:aws:elasticloadbalancing:us-east-1:123456789012"
    assert predicted["arn"] == f"{prefix}:loadbalancer/net/{NAME}/predicted"
    assert predicted["dns_name"] == f"{NAME}.predicted"
    assert predicted["target_groups"] == {"staging-api": f"{prefix}:targetgroup/staging-api/predicted"}


def test_undeclared_listeners_and_target_groups_of_its_own_go(nlb, elbv2, network):
    nlb.run(full(network))
    foreign = elbv2.create_target_group(Name="foreign", Protocol="TCP", Port=1, TargetType="ip", VpcId=network.vpc)
    arn = elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
    action = {"Type": "forward", "TargetGroupArn": foreign["TargetGroups"][0]["TargetGroupArn"]}
    elbv2.create_listener(LoadBalancerArn=arn, Protocol="TCP", Port=1234, DefaultActions=[action])
    nlb.change(full(network) | minimal(network))
    live = state(elbv2)
    assert live["listeners"] == {80: ("TCP", "staging-api")}
    assert set(live["target groups"]) == {"staging-api", "foreign"}


BY_HAND = {
    "attribute": lambda elbv2, arn, groups, listeners: elbv2.modify_load_balancer_attributes(
        LoadBalancerArn=arn, Attributes=[{"Key": "load_balancing.cross_zone.enabled", "Value": "true"}]
    ),
    "protection": lambda elbv2, arn, groups, listeners: elbv2.modify_load_balancer_attributes(
        LoadBalancerArn=arn, Attributes=[{"Key": "deletion_protection.enabled", "Value": "false"}]
    ),
    "tag": lambda elbv2, arn, groups, listeners: elbv2.add_tags(
        ResourceArns=[arn], Tags=[{"Key": "team", "Value": "x"}, {"Key": "y", "Value": "z"}]
    ),
    "health check": lambda elbv2, arn, groups, listeners: elbv2.modify_target_group(
        TargetGroupArn=groups["staging-api"],
        HealthCheckProtocol="TCP",
        HealthCheckPort="1",
        HealthCheckIntervalSeconds=60,
        HealthyThresholdCount=9,
        UnhealthyThresholdCount=9,
        HealthCheckTimeoutSeconds=9,
    ),
    "path": lambda elbv2, arn, groups, listeners: elbv2.modify_target_group(
        TargetGroupArn=groups["staging-api"], HealthCheckPath="/other"
    ),
    "delay": lambda elbv2, arn, groups, listeners: elbv2.modify_target_group_attributes(
        TargetGroupArn=groups["staging-api"],
        Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}],
    ),
    "tag of a group": lambda elbv2, arn, groups, listeners: elbv2.add_tags(
        ResourceArns=[groups["staging-api"]], Tags=[{"Key": "team", "Value": "x"}, {"Key": "y", "Value": "z"}]
    ),
    "owner of a group": lambda elbv2, arn, groups, listeners: elbv2.remove_tags(
        ResourceArns=[groups["staging-mig"]], TagKeys=["LoadBalancer"]
    ),
    "no listener": lambda elbv2, arn, groups, listeners: elbv2.delete_listener(ListenerArn=listeners[80]),
    "listener": lambda elbv2, arn, groups, listeners: elbv2.modify_listener(
        ListenerArn=listeners[80],
        DefaultActions=[{"Type": "forward", "TargetGroupArn": groups["staging-api"]}],
    ),
    "no group": lambda elbv2, arn, groups, listeners: elbv2.delete_target_group(TargetGroupArn=groups["staging-api"]),
}


@pytest.mark.parametrize("by_hand", BY_HAND)
def test_what_was_changed_by_hand_is_mended(nlb, elbv2, network, by_hand):
    nlb.run(full(network))
    before = state(elbv2)
    arn = elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
    groups = {one["TargetGroupName"]: one["TargetGroupArn"] for one in elbv2.describe_target_groups()["TargetGroups"]}
    listeners = {one["Port"]: one["ListenerArn"] for one in elbv2.describe_listeners(LoadBalancerArn=arn)["Listeners"]}
    BY_HAND[by_hand](elbv2, arn, groups, listeners)
    assert state(elbv2) != before
    nlb.run(full(network))
    assert state(elbv2) == before


def test_security_groups(nlb, elbv2, network):
    with_groups = minimal(network) | {"security_groups": network.groups[:1]}
    nlb.change(with_groups)
    nlb.change(with_groups | {"security_groups": network.groups})
    assert sorted(elbv2.describe_load_balancers()["LoadBalancers"][0]["SecurityGroups"]) == sorted(network.groups)
    assert "security group" in nlb.refused(minimal(network))


def test_security_groups_that_let_vpc_links_in(nlb, elbv2, network):
    nlb.change(minimal(network) | {"security_groups": network.groups, "private_link_rules": False})
    balancer = elbv2.describe_load_balancers()["LoadBalancers"][0]
    assert balancer["EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"] == "off"


def test_tls_goes_on_and_off(nlb, elbv2, network, emulator):
    certificate = emulator.client("acm").request_certificate(DomainName="example.org")["CertificateArn"]
    listener = {"port": 80, "target_group": "staging-api", "protocol": "TLS", "certificate": certificate}
    nlb.run(minimal(network))
    nlb.change(minimal(network) | {"listeners": [listener]})
    (live,) = elbv2.describe_listeners(
        LoadBalancerArn=elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
    )["Listeners"]
    assert (live["Protocol"], live["Certificates"]) == ("TLS", [{"CertificateArn": certificate}])
    assert live["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    nlb.change(minimal(network))


def test_a_tls_listener_from_the_start(nlb, elbv2, network, emulator):
    certificate = emulator.client("acm").request_certificate(DomainName="example.org")["CertificateArn"]
    listener = {"port": 443, "target_group": "staging-api", "protocol": "TLS", "certificate": certificate}
    nlb.change(minimal(network) | {"listeners": [listener]})


IMPOSSIBLE = {
    "scheme": (lambda n: {"scheme": "internet-facing"}, "can't change its scheme (internal)"),
    "first group": (lambda n: {"security_groups": n.groups}, "can't add the first security group"),
    "port": (lambda n: {"target_groups": [group(n, port=81)]}, "can't change Port of target group 'staging-api'"),
}


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_what_aws_cant_change_is_refused_before_anything(nlb, network, change):
    change, said = IMPOSSIBLE[change]
    nlb.run(minimal(network))
    assert said in nlb.refused(minimal(network) | change(network))


def test_a_target_group_of_another_is_refused_and_left(nlb, elbv2, network):
    elbv2.create_target_group(Name="staging-api", Protocol="TCP", Port=8080, TargetType="ip", VpcId=network.vpc)
    assert "'staging-api' that is not its own" in nlb.refused(minimal(network))
    nlb.run(minimal(network) | ABSENT, changes=False)
    assert list(state(elbv2)["target groups"]) == ["staging-api"]


def test_an_application_load_balancer_of_that_name_is_refused(nlb, elbv2, network):
    elbv2.create_load_balancer(Name=NAME, Subnets=network.subnets, Type="application")
    assert "of type application" in nlb.refused(minimal(network))


def test_a_listener_without_its_target_group_is_refused(nlb, network):
    args = minimal(network) | {"listeners": [{"port": 80, "target_group": "nowhere"}]}
    assert "listener 80 sends to 'nowhere'" in nlb.refused(args)


def test_one_that_a_vpc_link_holds_stays_whole(nlb, elbv2, network, emulator):
    arn = nlb.run(minimal(network))["load_balancer"]["arn"]
    emulator.client("apigateway").create_vpc_link(name="staging-link", targetArns=[arn])
    before = state(elbv2)
    with answering("DeleteLoadBalancer", "ResourceInUse"):
        said = nlb.run_module(nlb.name, ABSENT, fails=True)["msg"]
    assert "VPC link 'staging-link' of API Gateway still sends through it; delete that first" in said
    assert state(elbv2) == before


def test_what_a_killed_deletion_left_goes(nlb, elbv2, network):
    nlb.run(minimal(network))
    elbv2.delete_load_balancer(LoadBalancerArn=elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"])
    nlb.change(ABSENT)
    assert state(elbv2)["target groups"] == {}


def test_a_run_that_was_killed_anywhere_is_completed(nlb, elbv2, emulator, network):
    nlb.survives_kills(lambda: full(Network(emulator)), lambda: state(elbv2))
