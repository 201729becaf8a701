# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure parts of dynamodb_table and ec2_address."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.metaflow.plugins.modules.dynamodb_table import encryption, live_keys
from ansible_collections.mlops.metaflow.plugins.modules.ec2_address import by_preference


def test_encryption():
    assert encryption("k") == {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": "k"}
    assert encryption(None) == {"Enabled": False}


def test_keys():
    hash_key = {"AttributeName": "pathspec", "KeyType": "HASH"}
    range_key = {"AttributeName": "at", "KeyType": "RANGE"}
    attributes = [
        {"AttributeName": "at", "AttributeType": "N"},
        {"AttributeName": "index", "AttributeType": "S"},
        {"AttributeName": "pathspec", "AttributeType": "S"},
    ]
    table = {"KeySchema": [hash_key], "AttributeDefinitions": attributes}
    pathspec, at = {"Name": "pathspec", "Type": "S"}, {"Name": "at", "Type": "N"}
    assert live_keys(table) == {"HashKey": pathspec, "RangeKey": None}
    assert live_keys(table | {"KeySchema": [hash_key, range_key]}) == {"HashKey": pathspec, "RangeKey": at}


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        ([("b", False), ("a", False)], "ab"),
        ([("a", False), ("b", True)], "ba"),
        ([("c", True), ("b", True), ("a", False)], "bca"),
    ],
)
def test_every_run_prefers_the_same_address(addresses, order):
    described = [{"AllocationId": name, **({"AssociationId": "x"} if used else {})} for name, used in addresses]
    for given in (described, described[::-1]):
        assert "".join(one["AllocationId"] for one in by_preference(given)) == order
