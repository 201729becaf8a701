# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules of Elasticsearch share: a client of one node, and how what is asked for compares with what is there.

They run on the machine itself, with its Python's own library.
"""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.metaflow.plugins.module_utils import json_service
from ansible_collections.mlops.metaflow.plugins.module_utils.json_service import Refused

OPTIONS = {
    "url": {"required": True},
    "ca_path": {"type": "path"},
    "username": {"default": "elastic"},
    "password_file": {"type": "path", "required": True, "no_log": False},
    "previous_password_file": {"type": "path", "no_log": False},
    "request_timeout": {"type": "int", "default": 60},
}
SHORTEST_PASSWORD = 6  # Elasticsearch takes none that is shorter


class Client:
    """One node, as the user of the module's options sees it."""

    def __init__(self, module):
        self._module, params = module, module.params
        self.username = params["username"]
        self._url = json_service.checked_url(module)
        self._options = {
            "service": "Elasticsearch",
            "hint": "Does it run there, and is its certificate of the authority in ca_path?",
            "reason_in": reason_in,
            "timeout": params["request_timeout"],
            "ca_path": params["ca_path"],
            "force_basic_auth": True,
            "use_proxy": False,
        }
        self._password = self.password_in(params["password_file"])

    def password_in(self, path, option="password_file"):
        """Return the password in a file of this machine, and see that no result shows it."""
        password = read_password(path, option)
        self._module.no_log_values.add(password)
        return password

    def sign_in(self):
        """Find out which of the two passwords counts."""
        previous = self._module.params["previous_password_file"]
        if self.signs_in(self.username, self._password):
            return
        if previous:
            self._password = self.password_in(previous, "previous_password_file")
            if self.signs_in(self.username, self._password):
                return
        files = " nor ".join(path for path in (self._module.params["password_file"], previous) if path)
        raise Refused(f"{self._url} does not take the password of '{self.username}' in {files}")

    def signs_in(self, username, password):
        """Tell whether a user exists, is enabled, and has this password."""
        try:
            self._request("GET", "/_security/_authenticate", None, username, password)
        except Refused as refusal:
            if refusal.status == 401:
                return False
            raise
        return True

    def get(self, path):
        """Return what is there, or None."""
        try:
            return self.call("GET", path)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def call(self, method, path, body=None):
        """Return a good answer's content."""
        return self._request(method, path, body, self.username, self._password)

    def _request(self, method, path, body, username, password):
        given = {"url_username": username, "url_password": password, **self._options}
        return json_service.call(method, self._url + path, body, **given)


def read_password(path, option):
    """Return the password in a file's first line."""
    password = json_service.first_line(path, option)
    if len(password) < SHORTEST_PASSWORD:
        raise Refused(
            f"the first line of {option} {path} is no password: it has less than {SHORTEST_PASSWORD} characters"
        )
    return password


def reason_in(answer):
    """Return why a request was refused: the error and its causes, as Elasticsearch tells them."""
    error = answer["error"]
    reasons, cause = [], error
    while isinstance(cause, dict):
        if cause.get("reason") and cause["reason"] not in reasons:
            reasons.append(cause["reason"])
        cause = cause.get("caused_by")
    return ": ".join(reasons).rstrip(".;") or error


def flat(value, path=""):
    """Return a map of dotted paths and values: ``a.b: 1`` and ``a: {b: 1}`` are the same to Elasticsearch."""
    if not isinstance(value, dict) or (path and not value):
        return {path: value}
    result = {}
    for key, inner in value.items():
        result.update(flat(inner, f"{path}.{key}" if path else key))
    return result


def missing(desired, live):
    """Return the dotted paths that are asked for and that are not so, each with its value.

    What Elasticsearch adds by itself is no difference. None means that it shouldn't be there.
    """
    have = flat(live)
    return {path: value for path, value in flat(desired).items() if not same(value, part(have, path))}


def part(have, path):
    """Return the value at a dotted path of a flat map, or the map that is below it."""
    below = {key[len(path) + 1 :]: value for key, value in have.items() if key.startswith(f"{path}.")}
    return have.get(path, below or None)


def same(want, have):
    """Compare two values as Elasticsearch does, which stores numbers and truths of settings as texts."""
    if want is None or have is None:
        # An empty map says something where it stands: an action of a lifecycle, say.
        return want in (None, []) and have in (None, [], {})
    if isinstance(want, dict):
        return isinstance(have, dict) and not missing(want, have)
    if isinstance(want, list) or isinstance(have, list):
        wants, haves = (value if isinstance(value, list) else [value] for value in (want, have))
        return len(wants) == len(haves) and all(same(*pair) for pair in zip(wants, haves, strict=True))
    return text(want) == text(have)


def text(value):
    """Return a number, truth or text as a text."""
    return value if isinstance(value, str) else json.dumps(value)


def run(converge, **specification):
    """Be a module: sign in, do what ``converge(module, client)`` says, and exit with its result.

    :param specification: arguments of AnsibleModule; its ``argument_spec`` comes on top of the shared options.
    """
    specification["argument_spec"] = {**OPTIONS, **specification["argument_spec"]}
    module = AnsibleModule(supports_check_mode=True, **specification)
    try:
        result = converge(module, Client(module))
    except Refused as error:
        module.fail_json(msg=f"Failed to have Elasticsearch do it: {error}.")
    module.exit_json(**result)
