# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filters and tests that the roles use."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.metaflow.plugins.filter import iam, images, network
from ansible_collections.mlops.metaflow.plugins.test import stack
from hypothesis import given
from hypothesis import strategies as st


def test_subnets_come_in_order_and_each_kind_is_spread_over_the_zones():
    assert network.subnets("10.20.0.0/16", 24, ["p1", "p2"], ["q1", "q2"], ["a", "b"]) == [
        {"name": "p1", "cidr": "10.20.0.0/24", "availability_zone": "a", "public": True},
        {"name": "p2", "cidr": "10.20.1.0/24", "availability_zone": "b", "public": True},
        {"name": "q1", "cidr": "10.20.2.0/24", "availability_zone": "a", "public": False},
        {"name": "q2", "cidr": "10.20.3.0/24", "availability_zone": "b", "public": False},
    ]


def test_subnets_fill_a_range_that_is_just_large_enough():
    made = network.subnets("10.0.0.0/24", 26, ["a", "b"], ["c", "d"], ["z1", "z2"])
    assert made[-1]["cidr"] == "10.0.0.192/26"


@pytest.mark.parametrize(
    ("cidr", "prefix"),
    [("10.0.0.0/25", 26), ("10.0.0.0/24", 16), ("10.0.0.1/24", 26), ("10.0.0.0/24", 33), ("nonsense", 24)],
)
def test_a_range_without_room_is_refused(cidr, prefix):
    with pytest.raises(AnsibleFilterError, match=f"^{cidr} has no room for the subnets of /{prefix}: "):
        network.subnets(cidr, prefix, ["a", "b"], ["c", "d"], ["z1", "z2"])


@pytest.mark.parametrize(
    ("value", "is_port"),
    [(1, True), (65535, True), ("50000/udp", True), (0, False), (65536, False), ("9200/sctp", False), ("/udp", False),
     ("9200/udp/udp", False), (True, False), (9200.5, False), (None, False)],
)  # fmt: skip
def test_a_port_is_a_number_of_tcp_or_udp(value, is_port):
    assert stack.port(value) is is_port


def test_ports_are_told_apart_by_protocol():
    values = [9200, "5044", "50000/udp", 50000]
    assert network.ports(values, "tcp") == [9200, 5044, 50000]
    assert network.ports(values, "udp") == [50000]


def test_a_service_is_trusted_where_it_works_for_the_account():
    (statement,) = iam.trust("ecs-tasks.amazonaws.com", "123456789012")["Statement"]
    assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_a_service_without_a_source_account_is_trusted_without_condition():
    (statement,) = iam.trust("ec2.amazonaws.com")["Statement"]
    assert "Condition" not in statement


def test_the_plugins_are_registered_under_their_own_names():
    assert network.FilterModule().filters() == {"subnets": network.subnets, "ports": network.ports}
    assert iam.FilterModule().filters() == {"trust": iam.trust}
    assert all(function.__name__ == name for name, function in stack.TestModule().tests().items())


@pytest.mark.parametrize(
    ("run_tags", "skip_tags", "selected"),
    [
        (["all"], [], True),
        (["all"], ["batch"], False),
        (["all"], ["network"], True),
        (["batch"], [], True),
        (["batch", "api"], ["api"], True),
        (["api"], [], False),
        (["tagged"], [], True),
        (["batch"], ["batch"], False),
        (["always"], [], False),
    ],
)
def test_tags_select_a_component(run_tags, skip_tags, selected):
    assert stack.selected("batch", run_tags, skip_tags) is selected


@pytest.mark.parametrize(
    ("value", "shortest", "longest", "holds"),
    [
        ("10.0.0.0/16", 16, 24, True),
        ("10.0.0.0/24", 16, 24, True),
        ("10.0.0.0/25", 16, 24, False),
        ("10.0.0.0/15", 16, 24, False),
        ("10.0.0.1/16", 16, 24, False),  # host bits
        ("10.0.0.0", 16, 24, False),
        ("10.0.0/16", 16, 24, False),
        ("fd00::/16", 16, 24, False),
        ("", 0, 32, False),
        ("203.0.113.7/32", 0, 32, True),
    ],
)
def test_ipv4_blocks(value, shortest, longest, holds):
    assert stack.ipv4_block(value, shortest, longest) is holds


@pytest.mark.parametrize(
    ("value", "private"),
    [
        ("10.0.0.0/8", True),
        ("172.16.0.0/16", True),
        ("172.32.0.0/16", False),
        ("192.168.0.0/24", True),
        ("192.0.0.0/8", False),
        ("100.64.0.0/16", True),
        ("11.0.0.0/16", False),
        ("0.0.0.0/0", False),
    ],
)
def test_private_blocks(value, private):
    assert stack.private_block(value) is private


@given(length=st.integers(0, 30), prefix=st.integers(0, 32), count=st.integers(1, 8))
def test_there_is_room_exactly_where_the_subnets_can_be_cut(length, prefix, count):
    cidr = f"0.0.0.0/{length}"
    names = [f"s{number}" for number in range(count)]
    try:
        network.subnets(cidr, prefix, names, [], ["a"])
        cut = True
    except AnsibleFilterError:
        cut = False
    assert stack.room_for(cidr, count, prefix) is cut


@pytest.mark.parametrize(
    ("values", "sound"),
    [([], True), (["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"], True), (["10.0.0.1/8"], False), (["all"], False)],
)
def test_all_networks(values, sound):
    assert stack.all_networks(values) is sound


@pytest.mark.parametrize(
    ("address", "inside"), [("10.1.2.3", True), ("::1", True), ("192.0.2.1", False), ("2001:db8::1", False)]
)
def test_an_address_within_networks(address, inside):
    assert stack.within(address, ["10.0.0.0/8", "::1/128"]) is inside


def test_a_content_tag_follows_what_goes_in(tmp_path):
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "Dockerfile").write_text("FROM base")
    (tmp_path / "code" / "a.py").write_text("1")
    parts = ["Dockerfile", "code"]
    first = images.content_tag(tmp_path, parts, base="x")
    (tmp_path / "code" / "__pycache__" / "a.pyc").write_text("compiled")
    (tmp_path / "tests.py").write_text("no part")
    assert images.content_tag(tmp_path, parts, base="x") == first
    assert images.content_tag(tmp_path, parts, base="y") != first
    (tmp_path / "code" / "a.py").write_text("2")
    assert images.content_tag(tmp_path, parts, base="x") != first


@pytest.mark.parametrize(
    ("value", "matches"), [("prod", True), ("prod\n", False), ("prod!", False), ("xprod", False), ("", False)]
)
def test_fullmatch_looks_at_the_whole_text(value, matches):
    assert stack.fullmatch(value, "prod") is matches
