"""What sessions of botocore share in a fork server changes nothing of what they do."""

from __future__ import annotations

import subprocess
import sys

from conftest import PLUGIN_UTILS

#: Prints which handlers a client calls for each event that the operations of some services raise, and what is refused.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(PLUGIN_UTILS)!r})
import botocore.hooks
import botocore.session
if sys.argv[1] != "plain":
    import warm_models
    accepts_kwargs = botocore.hooks.accepts_kwargs
    if sys.argv[1] == "another botocore":
        del botocore.hooks.accepts_kwargs
    warm_models._prepare()
    botocore.hooks.accepts_kwargs = getattr(botocore.hooks, "accepts_kwargs", accepts_kwargs)
for _ in range(2):  # the second session finds what the first has left
    session = botocore.session.Session()
    for service in ("ec2", "s3", "iam", "secretsmanager", "stepfunctions"):
        client = session.create_client(
            service, region_name="eu-west-1", aws_access_key_id="k", aws_secret_access_key="s"
        )
        events = client.meta.events
        for operation in client.meta.service_model.operation_names:
            for event in ("before-parameter-build", "before-call", "before-sign", "choose-signer", "after-call"):
                name = f"{{event}}.{{service}}.{{operation}}"
                found = events._emitter._handlers.prefix_search(events._alias_event_name(name))
                print(name, [getattr(handler, "__qualname__", str(handler)) for handler in found])
    try:
        session.register("before-call.s3", lambda: None)
    except ValueError:
        print("a handler without keywords is refused")
    other = botocore.hooks.EventAliaser(botocore.hooks.HierarchicalEmitter(), {{"s3": "another"}})
    print(other._alias_event_name("before-call.s3"))
"""


def handlers(kind):
    return subprocess.run([sys.executable, "-c", PROGRAM, kind], check=True, capture_output=True, text=True).stdout


def test_sessions_have_the_handlers_that_they_have_without_a_fork_server():
    shared, plain = handlers("shared"), handlers("plain")
    assert shared == plain
    assert "before-call.s3.AbortMultipartUpload ['add_expect_header'" in shared
    assert "a handler without keywords is refused" in shared
    assert "before-call.another" in shared
    assert handlers("another botocore") == plain
