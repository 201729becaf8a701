# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Load balancers, target groups and listeners: how they are read, and one form for declared and live ones.

Both sides are brought into one form, so that they are compared whole: whatever was changed by hand is a difference.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import concurrently, error_code

#: What AWS can't change about a target group, and what it can.
FIXED = ("Protocol", "Port", "TargetType", "VpcId")
HEALTH_CHECK = (
    "HealthCheckProtocol",
    "HealthCheckPath",
    "HealthCheckPort",
    "HealthCheckIntervalSeconds",
    "HealthCheckTimeoutSeconds",
    "HealthyThresholdCount",
    "UnhealthyThresholdCount",
)
DEREGISTRATION_DELAY = "deregistration_delay.timeout_seconds"


def target_group(option, tags):
    """Return a target group as it should be, from the module's option and the tags."""
    check = option["health_check"]
    return {
        "Protocol": option["protocol"],
        "Port": option["port"],
        "TargetType": option["target_type"],
        "VpcId": option["vpc_id"],
        "HealthCheckProtocol": check["protocol"],
        **({"HealthCheckPath": check["path"]} if check["protocol"] != "TCP" else {}),
        "HealthCheckPort": check["port"],
        "HealthCheckIntervalSeconds": check["interval"],
        "HealthCheckTimeoutSeconds": check["timeout"],
        "HealthyThresholdCount": check["healthy_threshold"],
        "UnhealthyThresholdCount": check["unhealthy_threshold"],
        "Attributes": {DEREGISTRATION_DELAY: str(option["deregistration_delay"])},
        "tags": tags,
    }


def live_target_group(described, attributes, tags):
    """Return a target group as it is, from AWS's description, its map of attributes and its map of tags."""
    shown = {key: described[key] for key in (*FIXED, *HEALTH_CHECK) if key in described}
    if shown["HealthCheckProtocol"] == "TCP":
        shown.pop("HealthCheckPath", None)
    return {**shown, "Attributes": {DEREGISTRATION_DELAY: attributes[DEREGISTRATION_DELAY]}, "tags": tags}


def listener(option):
    """Return a listener as it should be, from the module's option."""
    wanted = {"Protocol": option["protocol"], "TargetGroup": option["target_group"]}
    if option["protocol"] == "TLS":
        wanted |= {"Certificate": option["certificate"], "SslPolicy": option["ssl_policy"]}
    return wanted


def live_listener(described):
    """Return a listener as it is; ``TargetGroup`` is None where it doesn't forward to a single one."""
    arn = described["DefaultActions"][0].get("TargetGroupArn")
    shown = {"Protocol": described["Protocol"], "TargetGroup": arn and arn.split("/")[1]}
    if described["Protocol"] == "TLS":
        certificates = described.get("Certificates") or [{}]
        shown |= {"Certificate": certificates[0].get("CertificateArn"), "SslPolicy": described["SslPolicy"]}
    return shown


def listener_request(wanted, target_group_arn):
    """Return the arguments of CreateListener and ModifyListener that make a listener ``wanted``."""
    request = {
        "Protocol": wanted["Protocol"],
        "DefaultActions": [{"Type": "forward", "TargetGroupArn": target_group_arn}],
    }
    if wanted["Protocol"] == "TLS":
        request |= {"Certificates": [{"CertificateArn": wanted["Certificate"]}], "SslPolicy": wanted["SslPolicy"]}
    return request


def live_load_balancer(described, attributes, listeners, tags):
    """Return a load balancer as it is."""
    ports = {str(one["Port"]): one for one in listeners}
    return {
        **{key: described.get(key) for key in ("DNSName", "CanonicalHostedZoneId", "VpcId", "Scheme")},
        "Arn": described["LoadBalancerArn"],
        "State": described["State"]["Code"],
        "Subnets": [zone["SubnetId"] for zone in described["AvailabilityZones"]],
        "SecurityGroups": described.get("SecurityGroups", []),
        "PrivateLinkRules": described.get("EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic", "on"),
        "Attributes": attributes,
        "Listeners": {port: live_listener(one) for port, one in ports.items()},
        "ListenerArns": {port: one["ListenerArn"] for port, one in ports.items()},
        "tags": tags,
    }


def pairs(values):
    """Return a map as ELB's list of attributes or tags: ``[{"Key": …, "Value": …}]``."""
    return ansible_dict_to_boto3_tag_list(values)


# Reading


def find(client, name):
    """Return AWS's description of the load balancer, or None."""
    try:
        return client.describe_load_balancers(Names=[name])["LoadBalancers"][0]
    except ClientError as error:
        if error_code(error) != "LoadBalancerNotFound":
            raise
        return None


# A target group may go between the call that lists it and the one that reads its tags.
@AWSRetry.jittered_backoff(retries=5, catch_extra_error_codes=["TargetGroupNotFound"])
def look(client, name):
    """Read a load balancer, and all target groups of the account: those of its own are told by their tags.

    :returns: ``described`` and ``live`` (None where there is no load balancer), and ``groups``: name -> AWS's
        description, with the tags as a map below ``tags``.
    """
    first = concurrently({"described": partial(find, client, name), "groups": partial(_target_groups, client)})
    described, groups = first["described"], first["groups"]
    calls = {"tags": partial(_tags, client, [group["TargetGroupArn"] for group in groups])}
    if described:
        arn = described["LoadBalancerArn"]
        calls |= {
            "own_tags": partial(_tags, client, [arn]),
            "attributes": partial(_attributes, client.describe_load_balancer_attributes, LoadBalancerArn=arn),
            "listeners": partial(_listeners, client, arn),
        }
    second = concurrently(calls)
    return {
        "described": described,
        "live": described
        and live_load_balancer(
            described, second["attributes"], second["listeners"], second["own_tags"][described["LoadBalancerArn"]]
        ),
        "groups": {
            group["TargetGroupName"]: {**group, "tags": second["tags"][group["TargetGroupArn"]]} for group in groups
        },
    }


def attributes_of_target_groups(client, arns):
    """Return ``{name: attributes}`` for ``{name: arn}``."""
    describe = client.describe_target_group_attributes
    return concurrently({name: partial(_attributes, describe, TargetGroupArn=arn) for name, arn in arns.items()})


def _target_groups(client):
    pages = client.get_paginator("describe_target_groups").paginate()
    return [group for page in pages for group in page["TargetGroups"]]


def _listeners(client, arn):
    pages = client.get_paginator("describe_listeners").paginate(LoadBalancerArn=arn)
    return [one for page in pages for one in page["Listeners"]]


def _attributes(describe, **arn):
    return boto3_tag_list_to_ansible_dict(describe(**arn)["Attributes"])


def _tags(client, arns):
    """Return ``{arn: tags}``; AWS takes 20 ARNs a call."""
    return {
        described["ResourceArn"]: boto3_tag_list_to_ansible_dict(described["Tags"])
        for begin in range(0, len(arns), 20)
        for described in client.describe_tags(ResourceArns=arns[begin : begin + 20])["TagDescriptions"]
    }
