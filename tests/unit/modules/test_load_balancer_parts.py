# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Target groups and listeners: declared and live ones come into one form."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils import elbv2

PREFIX = "arn:aws:elasticloadbalancing:us-east-1:123456789012"
GROUP = f"{PREFIX}:targetgroup/api/6d0ecf831eec9f09"
TAGS = {"LoadBalancer": "x"}


def option(**check):
    health_check = {
        "protocol": "HTTP",
        "path": "/ping",
        "port": "traffic-port",
        "interval": 10,
        "timeout": 5,
        "healthy_threshold": 2,
        "unhealthy_threshold": 3,
    }
    return {
        "name": "api",
        "port": 8080,
        "protocol": "TCP",
        "target_type": "ip",
        "vpc_id": "vpc-1",
        "deregistration_delay": 30,
        "health_check": health_check | check,
    }


def described(**more):
    """Return what AWS says of the target group that option() declares."""
    return {
        "TargetGroupArn": GROUP,
        "TargetGroupName": "api",
        "Protocol": "TCP",
        "Port": 8080,
        "VpcId": "vpc-1",
        "TargetType": "ip",
        "HealthCheckEnabled": True,
        "HealthCheckProtocol": "HTTP",
        "HealthCheckPath": "/ping",
        "HealthCheckPort": "traffic-port",
        "HealthCheckIntervalSeconds": 10,
        "HealthCheckTimeoutSeconds": 5,
        "HealthyThresholdCount": 2,
        "UnhealthyThresholdCount": 3,
        "Matcher": {"HttpCode": "200-399"},
        "LoadBalancerArns": [],
        "IpAddressType": "ipv4",
        **more,
    }


ATTRIBUTES = {"deregistration_delay.timeout_seconds": "30", "stickiness.enabled": "false"}

# option, AWS's description, whether they are the same
GROUPS = {
    "same": (option(), described(), True),
    "interval": (option(interval=30), described(), False),
    "path": (option(path="/other"), described(), False),
    "a TCP check has no path": (option(protocol="TCP"), described(HealthCheckProtocol="TCP"), True),
    "from HTTP to TCP": (option(protocol="TCP"), described(), False),
    "from TCP to HTTP": (option(), described(HealthCheckProtocol="TCP"), False),
}


@pytest.mark.parametrize("case", GROUPS)
def test_target_groups(case):
    declared, live, same = GROUPS[case]
    assert (elbv2.target_group(declared, TAGS) == elbv2.live_target_group(live, ATTRIBUTES, TAGS)) == same


def forward(**more):
    return {"Port": 80, "Protocol": "TCP", "DefaultActions": [{"Type": "forward", "TargetGroupArn": GROUP}], **more}


TCP = {"port": 80, "protocol": "TCP", "target_group": "api", "certificate": None, "ssl_policy": "p"}
TLS = TCP | {"protocol": "TLS", "certificate": "c"}
WEIGHTED = {
    "Type": "forward",
    "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": GROUP}, {"TargetGroupArn": "x/y"}]},
}

# option, AWS's description, whether they are the same
LISTENERS = {
    "TCP": (TCP, forward(), True),
    "TCP with the policy that some answers carry": (TCP, forward(SslPolicy="other"), True),
    "TLS": (TLS, forward(Protocol="TLS", Certificates=[{"CertificateArn": "c"}], SslPolicy="p"), True),
    "other certificate": (TLS, forward(Protocol="TLS", Certificates=[{"CertificateArn": "d"}], SslPolicy="p"), False),
    "other policy": (TLS, forward(Protocol="TLS", Certificates=[{"CertificateArn": "c"}], SslPolicy="q"), False),
    "from TCP to TLS": (TLS, forward(), False),
    "other group": (TCP | {"target_group": "mig"}, forward(), False),
    "several groups": (TCP, forward(DefaultActions=[WEIGHTED]), False),
}


@pytest.mark.parametrize("case", LISTENERS)
def test_listeners(case):
    declared, live, same = LISTENERS[case]
    assert (elbv2.listener(declared) == elbv2.live_listener(live)) == same


@pytest.mark.parametrize("declared", [TCP, TLS], ids=["TCP", "TLS"])
def test_a_listener_that_was_asked_for_is_the_one_declared(declared):
    request = elbv2.listener_request(elbv2.listener(declared), GROUP)
    assert elbv2.live_listener(request) == elbv2.listener(declared)
