# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The small core that our AWS modules share: declare → read → diff → change → wait → return.

A module subclasses :class:`AwsResource`, says how its resource is declared, read, created, updated and deleted
(one API call a line), and calls :meth:`AwsResource.run`. Idempotence, check mode, ``--diff``, tags, waits
and error messages are the same for all modules because they are written here once.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions
    from botocore.config import Config

from ansible_collections.amazon.aws.plugins.module_utils.iam import get_aws_account_info
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import diff

#: The options that every resource module of ours has.
COMMON_OPTIONS = {
    "state": {"choices": ["present", "absent"], "default": "present"},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 600},
}

#: The options of modules whose resource carries tags, as everywhere in amazon.aws.
TAG_OPTIONS = {
    "tags": {"type": "dict", "aliases": ["resource_tags"]},
    "purge_tags": {"type": "bool", "default": True},
}


#: With these a run lives through half of its calls being throttled; with the SDK's default (5, legacy) it does not
#: live through a third. `aws_config` overrides them.
RETRIES = {"mode": "standard", "total_max_attempts": 10}

#: Pauses in seconds between two attempts to create what may be created once only; None ends them.
CREATE_PAUSES = (1, 2, 4, 8, 16, 20, 20, None)


def patient_client(module, service):
    """Return a boto3 client of the module's account and region, with :data:`RETRIES`.

    :param str service: boto3's name of it.
    """
    return module.client(service, config=Config(retries=RETRIES))


def _lost_answers():
    """The exceptions after which nobody knows whether AWS has done what it was asked for."""
    exceptions = botocore.exceptions
    return exceptions.ClientError, exceptions.ConnectionError, exceptions.HTTPClientError


def _is_passing(error):
    """Tell whether the call may be tried again: it was throttled, AWS failed, or no answer came."""
    if not isinstance(error, botocore.exceptions.ClientError):
        return True
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    throttled = any(word in error_code(error) for word in ("Throttl", "TooManyRequests", "RequestLimitExceeded"))
    return throttled or status >= 500


def error_code(error):
    """Return the code of a botocore ``ClientError``, e.g. ``ResourceNotFoundException``."""
    return error.response.get("Error", {}).get("Code", "")


class AwsResource:
    """One resource of AWS, as a module declares it.

    Subclasses set the class attributes and write the methods that raise ``NotImplementedError``. All of these
    speak AWS's own terms (the keys of its API, as boto3 spells them).
    """

    #: What AWS calls the resource, for messages: "Batch job queue".
    kind = ""
    #: boto3's name of the service.
    service = ""
    #: The key of the module's result that holds the resource.
    result_key = ""
    #: Dotted paths of lists without order and of maps compared whole.
    unordered = ("tags",)
    #: Dotted paths that are masked in diffs and results.
    secret = ()
    #: Maps whose keys are the user's own and are not converted to snake_case in the result.
    verbatim = ("tags",)

    def __init__(self, module: AnsibleAWSModule):
        self.module = module
        self.params = module.params
        self.client = patient_client(module, self.service)

    # What a subclass says

    @property
    def name(self):
        """The name by which a person knows the resource."""
        return self.params["name"]

    def declare(self):
        """Return the resource as it should be, without keys that the person left open."""
        raise NotImplementedError

    def read(self):
        """Return the live resource, its tags as a map below ``tags``, or None where there is none."""
        raise NotImplementedError

    def refine(self, desired, live):
        """Return ``desired`` in view of the live resource (None: there is none yet).

        For what counts only at creation, and for what AWS shows in another way than it may be declared.
        """
        return desired

    def refuse(self, live, desired, changes):
        """Raise :class:`Failed` where the live resource can't, or must not, be changed so; asked in check mode too.

        :param desired: what it is to become, or None: it is to be deleted.
        """

    def create(self, desired):
        """Create the resource, its tags with it: by :meth:`create_once` where the API takes no client token."""
        raise NotImplementedError

    def update(self, live, desired, changes):
        """Change the live resource; ``changes`` is what :func:`diff.changes` found, without the tags."""
        raise NotImplementedError

    def carries_tags(self, changes):
        """Tell whether ``update``, for these changes, makes a new version that has its tags from the start."""
        return False

    def delete(self, live):
        """Delete the resource; what must go before it goes here too."""
        raise NotImplementedError

    def tag(self, live, tags):
        """Write the tags in the map ``tags``."""
        raise NotImplementedError

    def untag(self, live, keys):
        """Remove the tags in the list ``keys``."""
        raise NotImplementedError

    def settled(self, live):
        """Tell whether AWS has finished with what it was asked for; raise :class:`Failed` where it can't."""
        return True

    def deleting(self, live):
        """Tell whether AWS is deleting the resource already, for instance for a run that was killed."""
        return False

    def last_word(self):
        """Return what AWS said last about the resource ("UPDATING: …"), for the message of a wait that was too long."""
        return ""

    def predict(self, desired):
        """Return what AWS would add on creation (ids, ARNs), so that check mode goes on on an empty account."""
        return {}

    def shown(self, resource):
        """Return the resource as the module's result shows it."""
        return diff.option_form(resource, self.verbatim)

    # What all of them share

    def run(self):
        """Converge, and end the module."""
        if self.params["state"] == "absent":
            self._ensure_absent()
        self._ensure_present()

    def _ensure_present(self):
        with self.failing("declare"):
            desired = self.declare()
        with self.failing("read"):
            live = self._read_lasting()
            desired = self.refine(desired, live)
        if live is None:
            if self.module.check_mode:
                self._exit(True, {}, desired, diff.merged(self.predict(desired), desired))
            with self.failing("create"):
                self.create(desired)
            self._exit(True, {}, desired, self._settle())

        wanted = {key: value for key, value in desired.items() if key != "tags"}
        found = diff.changes(wanted, live, self.unordered)
        to_set, to_unset = diff.tag_changes(desired.get("tags"), live.get("tags"), self.params.get("purge_tags", True))
        before = diff.restricted(live, desired, self.unordered)
        if not found and not to_set and not to_unset:
            self._exit(False, before, before, self._settle(live))
        with self.failing("update"):
            self.refuse(live, desired, found)
        predicted = diff.merged(live, found, self.unordered)
        if desired.get("tags") is not None:
            predicted["tags"] = diff.tags_after(desired["tags"], live.get("tags"), self.params.get("purge_tags", True))
        if not self.module.check_mode:
            with self.failing("update"):
                if found:
                    self.update(live, desired, found)
                if not self.carries_tags(found):
                    self._write_tags(live, to_set, to_unset)
            predicted = self._settle()
        self._exit(True, before, diff.restricted(predicted, desired, self.unordered), predicted)

    def _write_tags(self, live, to_set, to_unset):
        if to_unset:
            self.untag(live, to_unset)
        if to_set:
            self.tag(live, to_set)

    def _read_lasting(self):
        """Return the live resource; one that is being deleted counts as none, once it is gone."""
        live = self.read()
        if live is None or not self.deleting(live):
            return live
        if not self.module.check_mode:
            self.wait_for("deleted", lambda: self.read() is None)
        return None

    def _ensure_absent(self):
        with self.failing("read"):
            live = self.read()
        if live is None:
            self._exit(False, {}, {}, None)
        under_way = self.deleting(live)
        if not under_way:
            with self.failing("delete"):
                self.refuse(live, None, {})
        if not self.module.check_mode:
            with self.failing("delete"):
                if not under_way:
                    self.delete(live)
                if self.params["wait"]:
                    self.wait_for("deleted", lambda: self.read() is None)
        self._exit(not under_way, live, {}, None)

    def _settle(self, live=None):
        """Return the live resource once AWS has finished with it (or at once with ``wait: false``)."""
        state = {"live": live}

        def probe():
            state["live"] = state["live"] or self.read()
            done = state["live"] is not None and self.settled(state["live"])
            if not done:
                state["live"] = None
            return done

        if not self.params["wait"] or self.module.check_mode:
            with self.failing("read"):
                return live or self.read()
        with self.failing("bring up"):
            self.wait_for("ready", probe)
        return state["live"]

    def create_once(self, operation, look, **arguments):
        """Call a create operation that takes no client token, so that nothing is ever made twice.

        The SDK repeats a call whose answer was lost, and AWS then makes a second resource. Here the call goes out
        once, and after a failure that may pass (throttling too) this looks before it asks again.

        :param str operation: the client's method, e.g. ``create_vpc_link``.
        :param look: function that returns what an earlier attempt made, or None.
        :returns: the operation's answer, or what ``look`` found.
        """
        create = getattr(self._client_without_retries, operation)
        for pause in CREATE_PAUSES:
            try:
                return create(**arguments)
            except _lost_answers() as error:
                if pause is None or not _is_passing(error):
                    raise
            time.sleep(pause)
            found = look()
            if found is not None:
                return found
        raise AssertionError("the last pause is None, and ends the loop")

    @cached_property
    def _client_without_retries(self):
        config = Config(**(self.params["aws_config"] or {})).merge(Config(retries={"total_max_attempts": 1}))
        return self.module.client(self.service, aws_config=config)

    def wait_for(self, outcome, probe, delay=5):
        """Call ``probe`` until it is true, at most ``wait_timeout`` seconds; then fail and say what was awaited.

        What the probe raises is for the ``failing`` around the wait.

        :param str outcome: what is awaited, for the message: "ready", "deleted", "DISABLED".
        :param probe: a function without arguments.
        :param int delay: the longest pause between two probes in seconds; the first pauses are shorter.
        """
        started = time.monotonic()
        pause = 0.2
        while True:
            if probe():
                return
            elapsed = time.monotonic() - started
            if elapsed > self.params["wait_timeout"]:
                said = f" ({self.last_word()})" if self.last_word() else ""
                self.module.fail_json(
                    msg=f"Waited {elapsed:.0f} s for {self.kind} '{self.name}' to be {outcome}, and it is not{said}. "
                    f"Look at it in AWS, or raise wait_timeout ({self.params['wait_timeout']} s)."
                )
            time.sleep(pause)
            pause = min(pause * 2, delay)

    def arn(self, path):
        """Return the ARN of ``path`` ("job-queue/main") of this service, in the account and region of the run."""
        account, partition = get_aws_account_info(self.module)
        return f"arn:{partition}:{self.service}:{self.module.region}:{account}:{path}"

    @contextmanager
    def failing(self, verb):
        """Turn what goes wrong inside into one sentence that names the act and the resource."""
        try:
            yield
        except Failed as error:
            self.module.fail_json(msg=f"Failed to {verb} {self.kind} '{self.name}': {error}")
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            self.module.fail_json_aws(error, msg=f"Failed to {verb} {self.kind} '{self.name}'")

    def _exit(self, changed, before, after, resource):
        # A declared None means "not there", and so it is shown.
        before, after, resource = (diff.without_none(shown) for shown in (before, after, resource or {}))
        result = {"changed": changed}
        if changed:
            result["diff"] = {
                "before_header": f"{self.kind} {self.name}",
                "after_header": f"{self.kind} {self.name}",
                "before": diff.masked(before, self.secret),
                "after": diff.masked(after, self.secret),
            }
        if self.result_key:
            result[self.result_key] = self.shown(diff.masked(resource, self.secret)) if resource else {}
        self.module.exit_json(**result)


class Failed(Exception):
    """AWS says that the resource will not become what was asked for; the text says why and what to do."""


def options(**own):
    """Return the argument spec of a resource module: its own options and the common ones."""
    return {**COMMON_OPTIONS, **own}


def concurrently(calls):
    """Make reading calls that don't depend on each other at once.

    :param dict calls: key -> function without arguments.
    :returns: key -> what the function returned; an error is raised once all have ended.
    """
    with ThreadPoolExecutor(max_workers=10) as pool:  # as many as botocore keeps connections
        futures = {key: pool.submit(call) for key, call in calls.items()}
    return {key: future.result() for key, future in futures.items()}
