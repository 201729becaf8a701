"""What is recognised of the command line and the payload that ansible-core hands to a connection, and what is not."""

from __future__ import annotations

import pytest
from ansible.executor.module_common import _get_ansiballz_code
from conftest import encode
from warm_payload import Command, Payload, is_ansiballz, parse_command, parse_payload

COMMANDS = {
    "/bin/sh -c '/usr/bin/python3 && sleep 0'": Command("/usr/bin/python3", {}),
    "/bin/sh -c /usr/bin/python3": Command("/usr/bin/python3", {}),
    """/bin/sh -c 'A=1 B='"'"''"'"' /usr/bin/python3 && sleep 0'""": Command("/usr/bin/python3", {"A": "1", "B": ""}),
    """/bin/sh -c 'A='"'"'x y'"'"' /p'""": Command("/p", {"A": "x y"}),
    """/bin/sh -c 'A='"'"'$HOME `id` "q"'"'"' /p'""": Command("/p", {"A": '$HOME `id` "q"'}),
    """/bin/sh -c 'A='"'"'a=b\nc'"'"' /p'""": Command("/p", {"A": "a=b\nc"}),
    """/bin/sh -c ''"'"'/with space/python'"'"''""": Command("/with space/python", {}),
}
UNKNOWN_COMMANDS = [
    "",
    "/usr/bin/python3",
    "/bin/bash -c /usr/bin/python3",
    "/bin/sh -c",
    "/bin/sh -c '/usr/bin/python3 -u'",
    "/bin/sh -c '/usr/bin/python3 /tmp/module.py && sleep 0'",
    "/bin/sh -c '/usr/bin/python3 && sleep 1'",
    "/bin/sh -c '/usr/bin/python3; sleep 0'",
    "/bin/sh -c 'A=$HOME /usr/bin/python3'",
    "/bin/sh -c 'A=`id` /usr/bin/python3'",
    "/bin/sh -c '1A=1 /usr/bin/python3'",
    "/bin/sh -c 'cd /tmp && /usr/bin/python3 && sleep 0'",
    "/bin/sh -c '~/bin/python3'",
    "/bin/sh -c '/usr/bin/python* && sleep 0'",
    "/bin/sh -c '/usr/bin/python3 && sleep 0' && true",
    "/bin/sh -c 'sudo -H /bin/sh -c /usr/bin/python3'",
    "/bin/sh -c 'unbalanced",
]


@pytest.mark.parametrize(("command", "expected"), COMMANDS.items(), ids=repr)
def test_known_command(command, expected):
    assert parse_command(command, "/bin/sh") == expected


@pytest.mark.parametrize("command", UNKNOWN_COMMANDS, ids=repr)
def test_unknown_command(command):
    assert parse_command(command, "/bin/sh") is None


ZIP = encode({"ansible/module_utils/basic.py": ""})


def payload(zip_data: str = ZIP, **changes: object) -> str:
    """A payload as module_common.py of the installed ansible-core writes it, with other or more arguments."""
    arguments = {
        "ansible_module": "a.b.c",
        "module_fqn": "ansible_collections.a.b.plugins.modules.c",
        "profile": "legacy",
        "date_time": None,
        "rlimit_nofile": 0,
        "params": '{"ANSIBLE_MODULE_ARGS": {"text": "\\nif __name__ == \\"__main__\\":\\n    _ansiballz_main(\\n\'"}}',
        "extensions": {},
        "zip_data": zip_data,
    }
    lines = [f"{key}={value!r}," for key, value in {**arguments, **changes}.items() if value != "left out"]
    call = "\n".join(lines)
    return (
        f'{_get_ansiballz_code("#!/usr/bin/python")}\n\n\nif __name__ == "__main__":\n    _ansiballz_main(\n{call}\n)\n'
    )


def test_known_payload():
    text = payload()
    parsed = parse_payload(text.encode())
    assert parsed == Payload("ansible_collections.a.b.plugins.modules.c", text.index(ZIP), text.index(ZIP) + len(ZIP))


def test_text_that_looks_like_the_archive():
    """A parameter's value stands within one line, and so is never taken for an argument of the call."""
    text = payload(params="zip_data='QUJD',\nzip_data='QUJD',")
    assert parse_payload(text.encode()).zip_start == text.index(ZIP)


UNKNOWN_PAYLOADS = {
    "empty": "",
    "another program": "#!/usr/bin/python\nprint('ansiballz')\n",
    "no wrapper": payload().partition('if __name__ == "__main__"')[2],
    "another call": payload().replace('if __name__ == "__main__":\n', "if True:\n"),
    "another argument": payload(compression="none"),
    "an argument less": payload(extensions="left out"),
    "no archive": payload(zip_data="left out"),
    "archive as bytes": payload().replace("zip_data='", "zip_data=b'"),
    "another hand-over": payload().replace("modlib_path=modlib_path", "archive=modlib_path"),
    "another loader": payload().replace("import _loader", "import _starter as _loader"),
    "more after the call": payload() + "print()\n",
}


@pytest.mark.parametrize("text", UNKNOWN_PAYLOADS.values(), ids=UNKNOWN_PAYLOADS)
def test_unknown_payload(text):
    assert parse_payload(text.encode()) is None


def test_whether_it_is_ansiballz():
    assert is_ansiballz(payload().encode())
    assert not is_ansiballz(b"#!/usr/bin/python\n# WANT_JSON\n")
