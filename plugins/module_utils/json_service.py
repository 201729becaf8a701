# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Calls of a machine's services, which speak JSON over HTTP, by its own Python; each failure is one sentence."""

from __future__ import annotations

import http.client
import json
import urllib.error
from pathlib import Path
from urllib.parse import urlsplit

from ansible.module_utils.urls import open_url


class Refused(Exception):
    """A service refused, or did not answer; or what is asked for can't be. The text says why.

    ``status`` is the HTTP status, or None where there was no such answer.
    """

    def __init__(self, text, status=None):
        super().__init__(text)
        self.status = status


def call(method, url, body=None, *, service, hint, reason_in, headers=None, **options):
    """Return a good answer's content.

    :param str service: who should have answered, to say so where it was somebody else.
    :param str hint: what to look at where nobody answered.
    :param reason_in: function that returns the reason in an error's JSON; it may raise KeyError or TypeError.
    :param options: further arguments of ``open_url``.
    :raises Refused: for everything else.
    """
    shown = f"{method} {url}"
    try:
        answer = open_url(
            url,
            method=method,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json", **(headers or {})},
            # Redirects would carry a password or a token elsewhere, and ~/.netrc would replace it.
            follow_redirects="none",
            use_netrc=False,
            **options,
        )
        return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(f"{shown}: {error.code}, {reason(error.read(), reason_in)}", error.code) from error
    except ValueError as error:
        raise Refused(f"{shown} was not answered by {service}: its answer is no JSON") from error
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"{shown} got no answer ({getattr(error, 'reason', error)}). {hint}") from error


def checked_url(module):
    """Return a module's ``url`` without its last slash; its ``ca_path`` is there.

    :raises Refused: for an address to which a password or a token would go in clear, and for a missing file.
    """
    url, authority = module.params["url"], module.params["ca_path"]
    parts = urlsplit(url)
    if parts.password:
        module.no_log_values.add(parts.password)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query:
        raise Refused(f"url is '{url}', and must be https://<host>:<port>, without a user")
    if authority and not Path(authority).is_file():
        raise Refused(f"ca_path {authority} is no file")
    return url.rstrip("/")


def reason(body, reason_in):
    """Return why a request was refused: as the service tells it, or the beginning of what was answered instead."""
    try:
        return str(reason_in(json.loads(body)))
    except (ValueError, KeyError, TypeError):
        return " ".join(body.decode(errors="replace").split())[:200] or "without a reason"


def first_line(path, option):
    """Return the first line of a file of secrets; an empty text where there is none.

    :param str option: the option that names the file, for the message.
    :raises Refused: if it can't be read.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{option} {path} can't be read: {type(error).__name__}") from None
    return lines[0] if lines else ""
