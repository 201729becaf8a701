"""The service as its clients call it: the page, and the commands that deploy and simulate."""

from collections.abc import Mapping
from typing import Any

import requests

from . import tls
from .failure import Failure
from .settings import read_secret

#: The service's own limit is shorter by default, and its answer says more.
SECONDS = 60


class ServiceError(Failure):
    """The service refused, or did not answer; the message says why."""


class Client:
    """A service at an address, with a token, and with the authorities that its certificate may be of."""

    def __init__(self, url: str, token: str, authority: str | None = None):
        self._url = tls.checked_url(url, "MODEL_SERVICE_URL").rstrip("/")
        self._verify = authority or True
        self._headers = {"Authorization": f"Bearer {token}"}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], token_variable: str) -> "Client":
        url = environment.get("MODEL_SERVICE_URL", "https://localhost:5000")
        return cls(url, read_secret(environment, token_variable), tls.authority(environment))

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Return a good answer."""
        try:
            answer = requests.request(
                method,
                self._url + path,
                json=body,
                params=query,
                headers=self._headers,
                timeout=SECONDS,
                verify=self._verify,
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
