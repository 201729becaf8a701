"""What a module finds in memory is what its own payload carries."""

from __future__ import annotations

MODULE = "import os; from ansible.module_utils import util; print(util.VALUE, util.PID == os.getpid())"
UTIL = "import os; VALUE, PID = {}, os.getpid()"


def run(runner, **files: str) -> list[str]:
    outcome = runner.run_module(**{"test_module": MODULE, **files})
    assert outcome.exit == 0, outcome.stderr.decode()
    return outcome.stdout.decode().split()


def test_known_code_is_imported_once_by_the_server(runner):
    for _ in range(2):
        assert run(runner, ansible__module_utils__util=UTIL.format(1)) == ["1", "False"]


def test_changed_code_replaces_what_is_in_memory(runner):
    """As while somebody develops: the payload's code runs, whatever the server imported before."""
    for value, imported_by_module in ((1, "False"), (2, "True"), (3, "True"), (1, "False")):
        util = UTIL.format(value)
        assert run(runner, ansible__module_utils__util=util) == [str(value), imported_by_module]


def test_changed_code_replaces_all_that_depends_on_it(runner):
    files = {"ansible__module_utils__util": "from ansible.module_utils.base import VALUE, PID"}
    run(runner, **files, ansible__module_utils__base=UTIL.format(1))
    assert run(runner, **files, ansible__module_utils__base=UTIL.format(2)) == ["2", "True"]


def test_code_of_another_payload_is_not_there(runner):
    run(runner, ansible__module_utils__util=UTIL.format(1), ansible__module_utils__only_there="")
    absent = "from ansible.module_utils import only_there"
    outcome = runner.run_module(test_module=absent, ansible__module_utils__util=UTIL.format(1))
    assert b"cannot import name 'only_there'" in outcome.stderr
    absent = "import ansible.module_utils.only_there"
    outcome = runner.run_module(test_module=absent, ansible__module_utils__util=UTIL.format(1))
    assert b"No module named 'ansible.module_utils.only_there'" in outcome.stderr


def test_code_that_is_not_preloaded_comes_from_its_own_payload(runner):
    """facts is left to the modules; its package's parent is in memory, and must lead to the right archive."""
    for value in (1, 2):
        files = {"ansible__module_utils__util": UTIL.format(0), "ansible__module_utils__facts__x": UTIL.format(value)}
        module = "import os; from ansible.module_utils import util; from ansible.module_utils.facts import x\n"
        module += "print(x.VALUE, x.PID == os.getpid(), util.PID == os.getpid())"
        assert run(runner, **files, test_module=module) == [str(value), "True", "False"]


def test_other_collections_are_not_preloaded(runner):
    module = "import os; from ansible_collections.a.b.plugins.module_utils import util; print(util.PID == os.getpid())"
    util = UTIL.format(1)
    for _ in range(2):
        files = {"test_module": module, "ansible_collections__a__b__plugins__module_utils__util": util}
        assert run(runner, **files) == ["True"]


def test_code_that_warns_when_imported_is_left_to_modules(runner):
    """The warning belongs to the results of those modules that import it, and to no others."""
    warnings = """
        _warned = {}
        def warn(text): _warned[text] = None
        def get_warning_messages(): return tuple(_warned)
        def get_deprecation_messages(): return ()
        """
    deprecated = "from ansible.module_utils.common.warnings import warn; warn('deprecated')"
    files = {
        "ansible__module_utils__common__warnings": warnings,
        "ansible__module_utils__deprecated": deprecated,
        "ansible__module_utils__uses": "from ansible.module_utils import deprecated",
        "ansible__module_utils__util": UTIL.format(1),
    }
    shown = "\nfrom ansible.module_utils.common.warnings import get_warning_messages; print(*get_warning_messages())"
    for _ in range(2):
        assert run(runner, **files, test_module=MODULE + shown) == ["1", "False"]
        module = MODULE + "\nfrom ansible.module_utils import uses" + shown
        assert run(runner, **files, test_module=module) == ["1", "False", "deprecated"]


def test_code_that_cannot_be_imported_fails_only_where_it_is_needed(runner):
    for broken in ("raise ImportError('no')", "raise SystemExit(3)", "1 / 0", "syntax error"):
        files = {"ansible__module_utils__util": UTIL.format(1), "ansible__module_utils__broken": broken}
        assert run(runner, **files) == ["1", "False"]
        failing = runner.run_module(test_module="from ansible.module_utils import broken", **files)
        assert failing.exit == (3 if "SystemExit" in broken else 1), failing.stderr
        runner.stop()


def test_tracebacks_quote_preloaded_code(runner):
    module = """
        import traceback
        from ansible.module_utils import util
        try:
            util.f()
        except ZeroDivisionError:
            traceback.print_exc()
        """
    util = "def f():\n    return 1 / 0  # quoted\n"
    outcome = runner.run_module(test_module=module, ansible__module_utils__util=util)
    assert b"return 1 / 0  # quoted" in outcome.stderr
