# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module ec2_host_keys against the emulator."""

from __future__ import annotations

from botocore.client import BaseClient
from steps import answering

MODULE = "mlops.metaflow.ec2_host_keys"


def instance(emulator):
    ec2 = emulator.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    return ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]


def test_the_keys_of_each_instance_are_read(run_module, emulator):
    ids = [instance(emulator) for _ in range(2)]
    keys = run_module(MODULE, {"instance_ids": ids})["host_keys"]
    assert sorted(keys) == sorted(ids)
    assert all(len(one) == 1 and one[0].startswith("ssh-ed25519 AAAA") for one in keys.values())
    assert keys[ids[0]] != keys[ids[1]]


def test_an_instance_that_is_not_on_nitro_is_asked_for_the_console_of_its_start(run_module, emulator):
    one = instance(emulator)
    with answering("GetConsoleOutput", "UnsupportedOperation", times=1):
        assert run_module(MODULE, {"instance_ids": [one]})["host_keys"][one]


def consoles(monkeypatch, text):
    monkeypatch.setattr(BaseClient, "_make_api_call", lambda *_: {"Output": text})


def test_a_console_without_keys_is_said(run_module, monkeypatch):
    consoles(monkeypatch, "Debian GNU/Linux 12 ip-10-20-2-7 ttyS0")
    said = run_module(MODULE, {"instance_ids": ["i-1"], "wait_timeout": 0}, fails=True)["msg"]
    assert "The console of i-1 shows no SSH host keys after 0 s" in said
    assert run_module(MODULE, {"instance_ids": ["i-1"]}, check=True)["host_keys"] == {"i-1": []}


def test_a_console_with_two_sets_of_keys_is_refused(run_module, monkeypatch):
    blocks = [f"-----BEGIN SSH HOST KEY KEYS-----\nssh-rsa AAAA{n}\n-----END SSH HOST KEY KEYS-----\n" for n in "ab"]
    consoles(monkeypatch, "".join(blocks))
    assert (
        "The console of i-1 shows different SSH host keys"
        in run_module(MODULE, {"instance_ids": ["i-1"]}, fails=True)["msg"]
    )
