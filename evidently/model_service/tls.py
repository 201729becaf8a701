"""TLS of the service and of the page. The service serves a renewed certificate from the next connection on."""

import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .settings import SettingsError, read_text

LOG = logging.getLogger("model_service")


def certificate_files(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the paths of the certificate and of its key, by uvicorn's names; they fit each other."""
    certificate, key = (read_text(environment, variable) for variable in ("CERTIFICATE_FILE", "CERTIFICATE_KEY_FILE"))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # SSLError is one
        reason = error.strerror or error
        raise SettingsError(f"CERTIFICATE_FILE {certificate} and CERTIFICATE_KEY_FILE {key}: {reason}") from None
    return {"ssl_certfile": certificate, "ssl_keyfile": key}


def authority(environment: Mapping[str, str]) -> str | None:
    """Return the path of the authorities' certificates that a client trusts; without one, those that all know."""
    path = environment.get("AUTHORITY_FILE")
    if path and not Path(path).is_file():
        raise SettingsError(f"AUTHORITY_FILE {path} is no file")
    return path or None


def checked_url(url: str, variable: str) -> str:
    """Return an address that begins with https: a token must not be sent in clear."""
    if not url.startswith("https://"):
        raise SettingsError(f"{variable} '{url}' must begin with https://")
    return url


def make_context(config: Any, load: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Return what uvicorn listens with, in each of its workers.

    :param load: returns a new context with the files that the configuration names, as they are now.
    """
    return _Renewed(load, [Path(config.ssl_certfile), Path(config.ssl_keyfile)]).first


class _Renewed:
    """The context of the files as they are. Connections keep the one that they began with."""

    def __init__(self, load: Callable[[], ssl.SSLContext], files: list[Path]):
        self._load = load
        self._files = files
        self._seen = self._look()
        self._current = self.first = self._fresh()
        # At the beginning of each handshake, also of clients that name no server.
        self.first.sni_callback = self._choose

    def _look(self) -> list[tuple[int, int]]:
        return [(state.st_ino, state.st_mtime_ns) for state in map(Path.stat, self._files)]

    def _fresh(self) -> ssl.SSLContext:
        context = self._load()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        try:
            seen = self._look()
            if seen != self._seen:
                # Before it is loaded: files that do not fit are told once, and tried again when one is written.
                self._seen = seen
                self._current = self._fresh()
                LOG.info("the certificate has been renewed")
        except OSError as error:
            LOG.error("the certificate can't be read, and the one before is served: %s", error)
        connection.context = self._current
