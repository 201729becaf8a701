"""The service as its clients call it: the page, and the commands that deploy and simulate."""

from typing import Any

import requests

from .failure import Failure

#: The service's own limit is shorter by default, and its answer says more.
SECONDS = 60


class ServiceError(Failure):
    """The service refused, or did not answer; the message says why."""


class Client:
    """A service at an address, with a token."""

    def __init__(self, url: str, token: str):
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Return a good answer."""
        try:
            answer = requests.request(
                method, self._url + path, json=body, params=query, headers=self._headers, timeout=SECONDS
            )
        except requests.RequestException as error:
            raise ServiceError(f"{self._url} does not answer: {type(error).__name__}") from None
        if not answer.ok:
            raise ServiceError(f"{answer.status_code}: {_detail(answer)}")
        return answer


def _detail(answer: requests.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.reason or "no reason given"
