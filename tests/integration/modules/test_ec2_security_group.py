# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module ec2_security_group against the emulator."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from steps import Module

OURS = {"mlops.metaflow/stack": "metaflow", "mlops.metaflow/environment": "staging"}


def make_network(emulator):
    """Make a VPC with a group of somebody else in the empty account."""
    emulator.reset()
    ec2 = emulator.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    clients = ec2.create_security_group(GroupName="clients", Description="c", VpcId=vpc)["GroupId"]
    return SimpleNamespace(ec2=ec2, vpc=vpc, clients=clients)


@pytest.fixture
def network(emulator):
    return make_network(emulator)


@pytest.fixture
def group(network, run_module, emulator):
    return Module(run_module, emulator, "ec2_security_group")


def database(network, **more):
    """Return the arguments of a group."""
    own = {"name": "staging-database", "description": "Database", "vpc_id": network.vpc, "tags": OURS}
    rules = [{"proto": "tcp", "ports": [5432], "group_id": [network.clients], "rule_desc": "PostgreSQL"}]
    return own | {"rules": rules, "wait_timeout": 20} | more


def live(network, name="staging-database"):
    filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [network.vpc]}]
    return network.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]


def shape(permissions):
    """Return of described permissions what a person sees of them, one line a source."""
    return sorted(
        f"{one['IpProtocol']} {one.get('FromPort', '')}-{one.get('ToPort', '')} {source.get(name)}: "
        f"{source.get('Description', '')}"
        for one in permissions
        for sources, name in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("UserIdGroupPairs", "GroupId"))
        for source in one.get(sources, [])
    )


def test_a_group_in_twelve_steps(group, network):
    made = group.change(database(network))["security_group"]
    (found,) = live(network)
    assert made["group_id"] == found["GroupId"]
    assert shape(found["IpPermissions"]) == [f"tcp 5432-5432 {network.clients}: PostgreSQL"]
    assert found["IpPermissionsEgress"] == []
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == OURS | {"Name": "staging-database"}

    rules = [
        {"proto": "tcp", "ports": [443, "8000-8010"], "cidr_ip": ["10.1.0.0/16", "10.2.3.4/16"], "rule_desc": "Web"},
        {"proto": "udp", "ports": [53], "self": True},
        {"proto": "tcp", "cidr_ip": ["10.0.0.0/8"]},
    ]
    egress = [{"proto": "all", "cidr_ip": ["0.0.0.0/0"], "rule_desc": "Packages"}]
    changed = database(network, rules=rules, rules_egress=egress, tags=OURS | {"team": "ml"})
    assert group.change(changed)["security_group"]["group_id"] == made["group_id"]
    (found,) = live(network)
    assert shape(found["IpPermissions"]) == [
        "tcp 443-443 10.1.0.0/16: Web",
        "tcp 443-443 10.2.0.0/16: Web",
        "tcp 8000-8010 10.1.0.0/16: Web",
        "tcp 8000-8010 10.2.0.0/16: Web",
        f"udp 53-53 {made['group_id']}: ",
    ]
    (out,) = shape(found["IpPermissionsEgress"])
    assert out.startswith("-1 ") and out.endswith(" 0.0.0.0/0: Packages")

    absent = {"name": "staging-database", "vpc_id": network.vpc, "state": "absent"}
    assert group.change(absent)["security_group"] == {}
    assert live(network) == []


def test_a_rule_that_was_made_by_hand_is_taken_away(group, network):
    identifier = group.run(database(network))["security_group"]["group_id"]
    everybody = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    ping = {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    network.ec2.authorize_security_group_ingress(GroupId=identifier, IpPermissions=[everybody, ping])
    out = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    network.ec2.authorize_security_group_egress(GroupId=identifier, IpPermissions=[out])
    real = group.change(database(network))
    before = real["diff"]["before"]["Ingress"]
    assert [rule["CidrIpv6"] for rule in before if "CidrIpv6" in rule] == ["::/0"]
    assert [rule["FromPort"] for rule in before if rule["IpProtocol"] == "icmp"] == [-1]
    (found,) = live(network)
    assert shape(found["IpPermissions"]) == [f"tcp 5432-5432 {network.clients}: PostgreSQL"]
    assert found["IpPermissionsEgress"] == []


def test_another_word_for_a_rule_does_not_interrupt_it(group, network, emulator):
    group.run(database(network))
    rules = [{"proto": "tcp", "ports": [5432], "group_id": [network.clients], "rule_desc": "The service"}]
    group.change(database(network, rules=rules))
    assert shape(live(network)[0]["IpPermissions"]) == [f"tcp 5432-5432 {network.clients}: The service"]
    group.run(database(network))
    assert [call["action"] for call in emulator.mutations()] == ["UpdateSecurityGroupRuleDescriptionsIngress"]


def test_check_mode_predicts_a_group_on_an_empty_account(group, network):
    rules = [{"proto": "all", "self": True}, {"proto": "tcp", "ports": [80], "group_id": ["sg-predicted"]}]
    predicted = group.run(database(network, vpc_id="vpc-predicted", rules=rules), check=True)["security_group"]
    assert predicted["group_id"] == "sg-predicted"
    assert [rule["group_id"] for rule in predicted["ingress"]] == ["sg-predicted", "sg-predicted"]


REFUSED = {
    "a port": ({"ports": ["http"]}, "'http' is neither a port nor a range of ports (8000-8010)."),
    "a range of ports": ({"ports": ["80-"]}, "'80-' is neither a port"),
    "a range of addresses": ({"cidr_ip": ["10.0.0.0/33"]}, "'10.0.0.0/33' is no IPv4 range"),
    "ports of all protocols": ({"proto": "all"}, "a rule names the ports 80, and proto 'all' has none."),
    "an IPv6 range": ({"cidr_ip": ["::/0"]}, "'::/0' is no IPv4 range"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_rule(group, network, case):
    wrong, words = REFUSED[case]
    rule = {"proto": "tcp", "ports": [80], "cidr_ip": ["10.0.0.0/8"]} | wrong
    assert words in group.refused(database(network, rules=[rule]))


def test_another_description_is_refused(group, network):
    group.run(database(network))
    assert "its description is 'Database', and AWS can't" in group.refused(database(network, description="Another"))


def test_a_group_of_the_name_in_another_vpc_is_not_touched(group, network):
    other = network.ec2.create_vpc(CidrBlock="10.30.0.0/16")["Vpc"]["VpcId"]
    foreign = network.ec2.create_security_group(GroupName="staging-database", Description="d", VpcId=other)["GroupId"]
    assert group.run(database(network))["security_group"]["group_id"] != foreign
    group.run({"name": "staging-database", "vpc_id": network.vpc, "state": "absent"})
    assert network.ec2.describe_security_groups(GroupIds=[foreign])["SecurityGroups"]


def test_a_run_that_was_killed_anywhere_is_completed(group, emulator):
    account = {}

    def prepare():
        account["network"] = make_network(emulator)
        rules = [{"proto": "tcp", "ports": [5432], "cidr_ip": ["10.0.0.0/8"]}]
        return database(account["network"], rules=rules)

    def state():
        return [
            (shape(one["IpPermissions"]), shape(one["IpPermissionsEgress"]), len(one["Tags"]))
            for one in live(account["network"])
        ]

    group.survives_kills(prepare, state)
