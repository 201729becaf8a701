"""metaflow_config without AWS: the rules in tables, then the real module on real files."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

COLLECTIONS = Path(__file__).parents[3] / "collections"
if str(COLLECTIONS) not in sys.path:
    sys.path.append(str(COLLECTIONS))

PACKAGE = "ansible_collections.mlops.metaflow.plugins"
conf = importlib.import_module(f"{PACKAGE}.module_utils.metaflow_config")

SERVICE = {"METAFLOW_DEFAULT_METADATA": "service", "METAFLOW_SERVICE_URL": "https://api.example.org/api/"}
KEY = "A" * 20 + "bcdefghij0123456789"  # as long as an API Gateway key


# What becomes of the file

PLANS = {
    "an empty home": (None, {"METAFLOW_A": "1"}, {"METAFLOW_A": "1"}, ["METAFLOW_A"]),
    "a person's keys stay": ({"MINE": "x"}, {"METAFLOW_A": "1"}, {"MINE": "x", "METAFLOW_A": "1"}, ["METAFLOW_A"]),
    "a person's value of a declared key goes": (
        {"METAFLOW_A": "0"},
        {"METAFLOW_A": "1"},
        {"METAFLOW_A": "1"},
        ["METAFLOW_A"],
    ),
    "another spelling of the same value stays": (
        {"METAFLOW_A": True, "METAFLOW_B": {"x": 1}},
        {"METAFLOW_A": "true", "METAFLOW_B": '{"x": 1}'},
        {"METAFLOW_A": True, "METAFLOW_B": {"x": 1}},
        ["METAFLOW_A", "METAFLOW_B"],
    ),
    "what we wrote and declare no more goes": (
        {"METAFLOW_OLD": "1", "MINE": "x", conf.MANAGED: ["METAFLOW_OLD"]},
        {"METAFLOW_A": "1"},
        {"MINE": "x", "METAFLOW_A": "1"},
        ["METAFLOW_A"],
    ),
    "null removes a key, whoever wrote it": ({"METAFLOW_A": "1"}, {"METAFLOW_A": None}, {}, []),
    "null for a key that isn't there": ({"MINE": "x"}, {"METAFLOW_A": None}, {"MINE": "x"}, []),
}


@pytest.mark.parametrize(("live", "declared", "values", "managed"), PLANS.values(), ids=PLANS)
def test_plan(live, declared, values, managed):
    assert conf.plan(live, declared) == {**values, conf.MANAGED: managed}


def test_purge_leaves_only_what_is_declared():
    assert conf.plan({"MINE": "x"}, {"METAFLOW_A": "1"}, purge=True) == {
        "METAFLOW_A": "1",
        conf.MANAGED: ["METAFLOW_A"],
    }


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.dictionaries(st.text(), st.text(), max_size=2)
)
# `parse` admits the list of managed keys in no other shape than the module writes.
keys = st.text(min_size=1).filter(lambda key: key != conf.MANAGED)
configs = st.dictionaries(keys, values, max_size=5)


@given(live=configs, declared=configs)
def test_plan_settles_at_once_and_absent_undoes_it(live, declared):
    declared = {key: conf.rendered(value) for key, value in declared.items()}
    planned = conf.plan(live, declared)
    assert conf.plan(planned, declared) == planned
    assert conf.parse(conf.serialised(planned).encode(), "file") == planned
    left = {key: value for key, value in live.items() if key not in declared}
    assert conf.plan_absent(planned) == (left or None)


@pytest.mark.parametrize(
    ("live", "left"),
    [
        (None, None),
        ({"METAFLOW_A": "1"}, {"METAFLOW_A": "1"}),
        ({}, {}),
        ({"METAFLOW_A": "1", "MINE": "x", conf.MANAGED: ["METAFLOW_A"]}, {"MINE": "x"}),
        ({"METAFLOW_A": "1", conf.MANAGED: ["METAFLOW_A"]}, None),
    ],
)
def test_absent_removes_our_keys_only(live, left):
    assert conf.plan_absent(live) == left


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (True, "true"),
        (False, "false"),
        (5, "5"),
        ({"b": 1, "a": "ü"}, '{"a": "\\u00fc", "b": 1}'),
        (None, None),
    ],
)
def test_values_are_rendered_as_metaflow_reads_them(value, text):
    assert conf.rendered(value) == text


# What is refused

FORMS = {
    "SERVICE_URL": (
        ["http://10.0.0.1", "https://a.example.org:8080/api/", "http://[::1]:8080/"],
        [
            "",
            "a.example.org",
            "ftp://a",
            "https://",
            "http://a b",
            "http://u:p@a/",
            "http://a:port",
            "http://a\n",
            "http://[::1",
        ],
    ),
    "DATASTORE_SYSROOT_S3": (
        ["s3://bucket", "s3://my-bucket.x/a/b", "s3://bucket/"],
        [
            "",
            "bucket/a",
            "s3:/bucket",
            "s3://",
            "s3://Bucket",
            "s3://ab",
            "https://bucket.s3.amazonaws.com",
            "s3://bucket/a\n",
        ],
    ),
    "ECS_S3_ACCESS_IAM_ROLE": (
        ["arn:aws:iam::123456789012:role/x", "arn:aws-cn:iam::123456789012:role/path/x@y"],
        ["x", "arn:aws:iam::123:role/x", "arn:aws:iam::123456789012:user/x", "arn:aws:iam::123456789012:role/"],
    ),
    "SFN_EXECUTION_LOG_GROUP_ARN": (
        ["arn:aws:logs:eu-west-1:123456789012:log-group:/metaflow/x:*"],
        ["arn:aws:logs:eu-west-1:123456789012:log-group:/metaflow/x", "/metaflow/x"],
    ),
    "BATCH_JOB_QUEUE": (
        ["queue", "arn:aws:batch:eu-west-1:123456789012:job-queue/queue"],
        ["", "a queue", "arn:aws:batch:eu-west-1:123456789012:compute-environment/x", "x" * 129],
    ),
    "SFN_DYNAMO_DB_TABLE": (["table-1.x_y"], ["", "ab", "a b c"]),
    "SFN_STATE_MACHINE_PREFIX": (["prod-1_x"], ["", "a b", "a/b"]),
    "S3_SERVER_SIDE_ENCRYPTION": (["AES256", "aws:kms", "aws:kms:dsse"], ["", "kms", "aes256"]),
    "SERVICE_AUTH_KEY": ([KEY], ["", "two words", KEY + "\n"]),
    "SERVICE_RETRY_COUNT": (["0", "5"], ["", "-1", "five", "1.5"]),
    "BATCH_DEFAULT_TAGS": (["{}", '{"a": "b"}'], ["", "a=b", "[]", "{"]),
}
ACCEPTED = [(key, value) for key, (good, _) in FORMS.items() for value in good]
REFUSED = [(key, value) for key, (_, bad) in FORMS.items() for value in bad]


@pytest.mark.parametrize(("key", "value"), ACCEPTED)
def test_a_value_of_the_right_form_is_accepted(key, value):
    assert conf.value_problems({f"METAFLOW_{key}": value}) == []


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_a_value_of_a_wrong_form_is_named(key, value):
    (problem,) = conf.value_problems({f"METAFLOW_{key}": value})
    secret = conf.is_secret(f"METAFLOW_{key}", value)
    assert problem.startswith(f"METAFLOW_{key} is ")
    assert ("(secret)" if secret else repr(value)[1:-1] if "\n" not in value else "\n") in problem
    assert not secret or value == "" or value not in problem


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("SERVICE_URL", "begin with METAFLOW_"),
        ("METAFLOW_service_url", "in capitals"),
        ("METAFLOW_PROFILE", "environment only"),
        ("METAFLOW_HOME", "environment only"),
    ],
)
def test_a_key_that_cannot_be_in_the_file_is_named(key, words):
    (problem,) = conf.value_problems({key: "x"})
    assert key in problem
    assert words in problem


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"METAFLOW_DEFAULT_METADATA": "service"}, ["METAFLOW_SERVICE_URL"]),
        ({"METAFLOW_DEFAULT_METADATA": "service", "METAFLOW_SERVICE_URL": ""}, ["METAFLOW_SERVICE_URL"]),
        ({"METAFLOW_DEFAULT_DATASTORE": "s3"}, ["METAFLOW_DATASTORE_SYSROOT_S3"]),
        ({"METAFLOW_DEFAULT_METADATA": "local", "METAFLOW_DEFAULT_DATASTORE": "local"}, []),
        (SERVICE, []),
    ],
)
def test_keys_that_need_each_other(config, missing):
    problems = conf.whole_problems(config)
    assert len(problems) == len(missing)
    assert all(key in problem for key, problem in zip(missing, problems, strict=True))


def test_an_unknown_key_is_answered_with_the_one_that_was_meant():
    assert conf.unknown_keys({"METAFLOW_SERVICE_ULR": "x", "METAFLOW_SERVICE_URL": "x", "METAFLOW_GONE": None}) == [
        "METAFLOW_SERVICE_ULR"
    ]
    assert "did you mean METAFLOW_SERVICE_URL?" in conf.unknown_message("METAFLOW_SERVICE_ULR")
    assert "did you mean" not in conf.unknown_message("METAFLOW_QUITE_ANOTHER_THING")


BROKEN = {
    "empty": (b"", "not JSON (line 1, column 1:"),
    "cut off": (b'{\n  "A": "1",\n  "B": ', "not JSON (line 3, column 8:"),
    "trailing comma": (b'{"A": "1",}', "not JSON (line 1, column "),
    "a list": (b'["A"]', "holds a JSON list and no object (line 1, column 1)"),
    "a text": (b'"A"', "holds a JSON str and no object (line 1, column 1)"),
    "a byte order mark": (b'\xef\xbb\xbf{"A": "1"}', "not JSON (line 1, column 1:"),
    "latin-1": ('{\n"A": "größe"}'.encode("latin-1"), "not UTF-8 (line 2, column 9)"),
    "zeros after a crash": (b"\0" * 64, "not JSON (line 1, column 1:"),
    "endless nesting": (b"[" * 100_000, "beyond what Python reads as JSON (RecursionError)"),
    "managed is no list": (b'{"_managed_by_ansible": "A"}', "has a _managed_by_ansible that is no list of keys"),
}


@pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_where_it_breaks(content, words):
    with pytest.raises(conf.ConfigError) as refused:
        conf.parse(content, "config.json")
    assert words in str(refused.value)


# What is shown

SECRET_KEYS = [
    "METAFLOW_SERVICE_AUTH_KEY",
    "METAFLOW_AWS_SANDBOX_API_KEY",
    "METAFLOW_X_TOKEN",
    "METAFLOW_X_PASSWORD",
    "METAFLOW_SERVICE_HEADERS",
    "METAFLOW_DATATOOLS_SESSION_VARS",
    "AWS_SECRET_ACCESS_KEY",
]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_change_of_a_secret_is_shown_without_the_secret(key):
    before, after = conf.shown_change(
        {key: "old", "SAME": "x"}, {key: "new", "SAME": "x", "METAFLOW_UI_URL": "http://a"}
    )
    assert before == {key: "(secret)"}
    assert after == {key: "(another secret)", "METAFLOW_UI_URL": "http://a"}
    assert conf.shown_change({}, {key: "new"}) == ({}, {key: "(secret)"})


@pytest.mark.parametrize(
    "key", ["METAFLOW_KUBERNETES_SECRETS", "METAFLOW_SERVICE_URL", "METAFLOW_AZURE_KEY_VAULT_PREFIX"]
)
def test_what_is_no_secret_is_shown(key):
    assert conf.shown_change({}, {key: "x"}) == ({}, {key: "x"})


def test_a_password_in_a_url_is_a_secret():
    assert conf.shown_change({"METAFLOW_UI_URL": "https://ada:secret@a.org"}, {})[0] == {"METAFLOW_UI_URL": "(secret)"}


# The module on real files


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home" / ".metaflowconfig"


@pytest.fixture
def run(home, module_process):
    """Return ``run(config, fails=False, check=False, **options)``: the module's result on ``home``, profile "prod"."""
    module = importlib.import_module(f"{PACKAGE}.modules.metaflow_config")

    def run(config=None, fails=False, check=False, **options):
        arguments = {"home": str(home), "metaflow_profile": "prod", "config": config, **options}
        arguments |= {"_ansible_check_mode": check, "_ansible_diff": True}
        output = io.StringIO()
        with patch_module_args(arguments), contextlib.redirect_stdout(output), pytest.raises(SystemExit):
            module.main()
        result = json.loads(output.getvalue())
        assert result.get("failed", False) == fails, result
        return result

    return run


@pytest.fixture
def file(home):
    return home / "config_prod.json"


def write(file, config, mode=0o644):
    """Write what a person wrote."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    file.chmod(mode)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def backups(home):
    return sorted(home.glob("*.bak"))


def test_a_first_file_is_private_and_settles(run, home, file):
    assert run(SERVICE)["changed"]
    assert (mode(home), mode(file)) == (0o700, 0o600)
    assert json.loads(file.read_text()) == {**SERVICE, conf.MANAGED: sorted(SERVICE)}
    stamp = file.stat().st_mtime_ns
    assert not run(SERVICE)["changed"]
    assert file.stat().st_mtime_ns == stamp
    assert sorted(home.iterdir()) == [file]


def test_without_a_profile_it_is_the_default_file(run, home):
    run(SERVICE, metaflow_profile=None)
    assert (home / "config.json").exists()


@pytest.mark.parametrize("profile", ["", "../x", "a/b", "a b", ".x", "x\n", "ü"])
def test_a_profile_that_is_no_name_is_refused(run, home, profile):
    assert "metaflow_profile is" in run(SERVICE, metaflow_profile=profile, fails=True)["msg"]
    assert not home.exists()


def test_a_persons_file_is_backed_up_once_and_its_keys_kept(run, home, file):
    original = '{"METAFLOW_UI_URL": "http://old",\n "MINE": "größe"}\n'
    write(file, original)
    result = run({"METAFLOW_UI_URL": "http://new"})
    assert result["backup_file"] == str(backups(home)[0])
    assert backups(home)[0].read_text(encoding="utf-8") == original
    assert mode(backups(home)[0]) == mode(file) == 0o600
    assert json.loads(file.read_text())["MINE"] == "größe"
    assert "backup_file" not in run({"METAFLOW_UI_URL": "http://newer"})
    assert len(backups(home)) == 1


def test_unicode_and_escapes_survive(run, file):
    odd = {"MINE": "größe \U0001f680 \u2028", "ODD": "lone \ud800 half", "NESTED": {"ключ": ["значение", 1.5, None]}}
    write(file, json.dumps(odd))
    run({"METAFLOW_SFN_STATE_MACHINE_PREFIX": "x", "METAFLOW_CONTACT_INFO": {"Hilfe": "größe"}})
    config = json.loads(file.read_text(encoding="utf-8"))
    assert {key: config[key] for key in odd} == odd
    assert json.loads(config["METAFLOW_CONTACT_INFO"]) == {"Hilfe": "größe"}


@pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_broken_file_stays_as_it_is(run, home, file, content, words, state):
    write(file, "")
    file.write_bytes(content)
    assert words in run(SERVICE, state=state, fails=True)["msg"]
    assert file.read_bytes() == content
    assert mode(file) == 0o644
    assert sorted(home.iterdir()) == [file]


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ({**SERVICE, "METAFLOW_SERVICE_URL": ""}, {}, "METAFLOW_SERVICE_URL is ''"),
        ({"METAFLOW_DEFAULT_METADATA": "service"}, {}, "needs METAFLOW_SERVICE_URL"),
        ({"METAFLOW_SERVICE_AUTH_KEY": KEY}, {}, "give it in secret_config"),
        ({"METAFLOW_UI_URL": f"http://u:{KEY}@a"}, {}, "METAFLOW_UI_URL is (secret)"),
        (SERVICE, {"api_key_id": "abc", "secret_config": {"METAFLOW_SERVICE_AUTH_KEY": KEY}}, "give one of them"),
        ({"METAFLOW_SERVICE_ULR": "http://a"}, {"strict": True}, "did you mean METAFLOW_SERVICE_URL?"),
        (None, {}, "config is missing"),
        (SERVICE, {"owner": "no-such-user"}, "owner is 'no-such-user'"),
        (SERVICE, {"group": "no-such-group"}, "group is 'no-such-group'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_touched(run, home, config, options, words):
    result = run(config, fails=True, **options)
    assert words in result["msg"]
    assert KEY not in json.dumps(result)
    assert not home.exists()


def test_all_problems_are_named_at_once(run):
    config = {"METAFLOW_UI_URL": "a", "METAFLOW_SERVICE_RETRY_COUNT": "x", "METAFLOW_HOME": "/"}
    message = run(config, fails=True)["msg"]
    assert [message.count(key) for key in config] == [1, 1, 1]


def test_an_unknown_key_is_only_a_warning(run, file):
    result = run({"METAFLOW_SERVICE_ULR": "http://a"})
    assert "did you mean METAFLOW_SERVICE_URL?" in json.dumps(result["warnings"])
    assert "METAFLOW_SERVICE_ULR" in json.loads(file.read_text())


def test_the_installed_metaflow_has_the_last_word_on_its_keys(run, monkeypatch):
    monkeypatch.setattr(conf, "KNOWN_KEYS", frozenset())
    unknown = importlib.import_module(f"{PACKAGE}.modules.metaflow_config").conf.unknown_keys
    monkeypatch.setattr(conf, "unknown_keys", lambda declared: unknown(declared, known=frozenset()))
    assert run({"METAFLOW_UI_URL": "http://a"}, strict=True)["changed"]


def test_without_metaflow_the_list_counts(run):
    message = run({"METAFLOW_NEWS": "x"}, strict=True, metaflow_python="/nonexistent/python", fails=True)["msg"]
    assert message == "METAFLOW_NEWS is no key that Metaflow reads."


def test_a_secret_is_written_and_never_shown(run, file):
    shown = [run(SERVICE, secret_config={"METAFLOW_SERVICE_AUTH_KEY": KEY})]
    assert json.loads(file.read_text())["METAFLOW_SERVICE_AUTH_KEY"] == KEY
    shown.append(run(SERVICE, secret_config={"METAFLOW_SERVICE_AUTH_KEY": KEY[::-1]}))
    shown.append(run(state="absent"))
    assert all(result["changed"] for result in shown)
    assert KEY not in json.dumps(shown)
    assert KEY[::-1] not in json.dumps(shown)
    assert shown[1]["diff"]["after"]["METAFLOW_SERVICE_AUTH_KEY"] == "(another secret)"


def test_check_mode_touches_nothing_and_predicts(run, home, file):
    predicted = run(SERVICE, check=True)
    assert predicted["changed"]
    assert not home.exists()
    real = run(SERVICE)
    assert predicted["diff"] == real["diff"]
    before = file.read_bytes()
    assert run({"METAFLOW_UI_URL": "http://a"}, check=True)["changed"]
    assert run(state="absent", check=True)["changed"]
    assert not run(SERVICE, check=True)["changed"]
    assert file.read_bytes() == before


@pytest.mark.parametrize("check", [True, False])
def test_permissions_are_repaired_at_every_run(run, home, file, check):
    run(SERVICE)
    file.chmod(0o644)
    home.chmod(0o755)
    result = run(SERVICE, check=check)
    assert result["changed"]
    assert result["diff"]["before"] == {f"{home} mode": "0755", f"{file} mode": "0644"}
    assert (mode(home), mode(file)) == ((0o755, 0o644) if check else (0o700, 0o600))
    assert run(SERVICE)["changed"] == check


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group(run, home, file):
    run(SERVICE, owner="nobody", group="12345")
    owned = [(path.stat().st_uid, path.stat().st_gid) for path in (home, file)]
    assert owned[0] == owned[1] == (owned[0][0], 12345)
    assert owned[0][0] != 0
    assert not run(SERVICE, owner="nobody", group="12345")["changed"]
    run({"METAFLOW_UI_URL": "http://a"})  # without owner: a file that is replaced keeps its own
    assert (file.stat().st_uid, file.stat().st_gid) == owned[1]


def test_a_link_stays_and_its_target_is_replaced(run, home, file, tmp_path):
    target = tmp_path / "dotfiles.json"
    write(target, {"MINE": "x"})
    home.mkdir(parents=True)
    file.symlink_to(target)
    run(SERVICE)
    assert file.is_symlink()
    assert json.loads(target.read_text()) == {"MINE": "x", **SERVICE, conf.MANAGED: sorted(SERVICE)}
    assert mode(target) == 0o600


def test_a_directory_in_the_files_place_is_named(run, file):
    file.mkdir(parents=True)
    assert run(SERVICE, fails=True)["msg"] == f"{file}: Is a directory"


def test_absent_leaves_what_a_person_wrote(run, home, file):
    assert not run(state="absent")["changed"]
    write(file, {"METAFLOW_UI_URL": "http://a"})
    assert not run(state="absent")["changed"]
    run(SERVICE)
    assert run(state="absent")["changed"]
    assert json.loads(file.read_text()) == {"METAFLOW_UI_URL": "http://a"}
    assert not run(state="absent")["changed"]


def test_absent_removes_a_file_that_is_ours_alone(run, home, file):
    run(SERVICE)
    assert run(state="absent")["managed_keys"] == []
    assert not file.exists()
    assert not run(state="absent")["changed"]


def test_absent_goes_on_where_the_rest_would_not_work(run, file):
    write(file, {"METAFLOW_DEFAULT_METADATA": "service"})
    run({"METAFLOW_SERVICE_URL": "http://a"})
    assert run(state="absent")["changed"]
    assert json.loads(file.read_text()) == {"METAFLOW_DEFAULT_METADATA": "service"}


def test_concurrent_writers_take_turns(home, file, tmp_path):
    """All have looked at the same unmarked file when they wait; only the first may still find it so, and back it up."""
    write(file, {"MINE": "x"})
    lock = os.open(home, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    writers = [start_writer(home, tmp_path / f"output-{number}", number) for number in range(3)]
    limit = time.monotonic() + 60
    while not {writer.pid for writer in writers} <= waiting_for_a_lock():
        assert all(writer.poll() is None for writer in writers), "a writer went past the lock"
        assert time.monotonic() < limit
        time.sleep(0.05)
    os.close(lock)
    while any(writer.poll() is None for writer in writers):
        assert json.loads(file.read_bytes())["MINE"] == "x"  # never half a file
    outputs = [(tmp_path / f"output-{number}").read_text() for number in range(3)]
    assert all(json.loads(output)["changed"] for output in outputs), outputs
    config = json.loads(file.read_text())
    number = int(config["METAFLOW_UI_URL"].removeprefix("http://host-"))
    assert json.loads(config["METAFLOW_CONTACT_INFO"]) == contacts(number)
    assert len(backups(home)) == 1
    assert sorted(home.iterdir()) == sorted([file, *backups(home)])


def waiting_for_a_lock():
    """Return the ids of the processes that the kernel makes wait for a lock (lines with an arrow)."""
    return {int(line.split()[5]) for line in Path("/proc/locks").read_text().splitlines() if "->" in line}


def contacts(number):
    """A map that is too large for one write of a file system's block."""
    return {"n": "x" * 20_000 * (number + 1)}


def start_writer(home, output, number):
    """Start a process that runs the module with values of its own."""
    config = {"METAFLOW_UI_URL": f"http://host-{number}", "METAFLOW_CONTACT_INFO": contacts(number)}
    arguments = output.with_suffix(".json")
    arguments.write_text(
        json.dumps({"ANSIBLE_MODULE_ARGS": {"home": str(home), "metaflow_profile": "prod", "config": config}})
    )
    command = [sys.executable, "-m", f"{PACKAGE}.modules.metaflow_config", str(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
    with output.open("wb") as stream:
        return subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
