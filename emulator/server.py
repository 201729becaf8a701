"""Builds the emulated account from moto, the gaps and the runtime, and serves it until it is told to stop."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from emulator import states
from emulator.calls import CallLog, Environ, Recorder
from emulator.control import Control
from emulator.faults import Faults, Injector


class StartError(RuntimeError):
    """The server cannot start; the message is for the person who started it."""


@dataclass(frozen=True)
class Options:
    """How to serve.

    `port` 0 picks a free one; the address is then in `state_dir`/endpoint. `plain` leaves moto as it is, which shows
    whether a gap is still one. `state_seconds` is what `states.configure` takes, `latency_ms` what each call waits.
    """

    host: str
    port: int
    state_dir: Path
    account: str
    pid_file: Path | None = None
    plain: bool = False
    state_seconds: str = "0"
    latency_ms: float = 0


def prepare_state_dir(path: Path) -> None:
    """Make the state directory and mark it as one that may be removed (https://bford.info/cachedir/).

    Raises:
        StartError: it holds files that are not an emulator's, which removing it would destroy.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    tag = path / "CACHEDIR.TAG"
    if tag.exists():
        return
    if any(path.iterdir()):
        raise StartError(f"{path} is not empty and no emulator made it; choose another --state-dir")
    _write(tag, "Signature: 8a477f597d28d172789f06886806bc55\n# The emulated AWS account lives here.")


def serve(options: Options, ready: Callable[[str], None] = lambda endpoint: None) -> None:
    """Serve until SIGTERM or SIGINT, then end what the account runs.

    Args:
        options: how to serve.
        ready: called with the endpoint once requests are accepted.

    Raises:
        StartError: the port is taken, a setting is wrong, or a gap does not fit the installed moto.
    """
    try:
        states.configure(options.state_seconds)
    except ValueError as error:
        raise StartError(str(error)) from error
    server = _bind(options)
    endpoint = f"http://{options.host}:{server.port}"
    _configure_moto(options.account, server.port)
    marks = {options.state_dir / "endpoint": endpoint}
    if options.pid_file:
        marks[options.pid_file] = str(os.getpid())

    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    try:
        server.app = _application(options, endpoint)
        for path, text in marks.items():
            _write(path, text)
        ready(endpoint)
        server.serve_forever()
    finally:
        _end_what_runs()
        server.server_close()
        for path in marks:
            path.unlink(missing_ok=True)


def _bind(options: Options) -> Any:
    """Take the port before the slow imports: a taken port is reported at once, early clients wait in the backlog."""
    try:
        listener = socket.create_server((options.host, options.port), backlog=128)
    except OSError as error:
        raise StartError(f"cannot listen on {options.host}:{options.port}: {os.strerror(error.errno)}") from error

    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import ThreadedWSGIServer

    class Handler(MotoRequestHandler):
        def log_request(self, *args: Any) -> None:
            """Write no access log: /_emulator/calls/log has more, and query strings can hold signatures."""

    with listener:  # the server works on a duplicate of the descriptor
        return ThreadedWSGIServer(options.host, options.port, _not_built, handler=Handler, fd=listener.fileno())


def _not_built(environ: Environ, start_response: Any) -> Iterable[bytes]:
    raise AssertionError("a request was served before the application was built")


def _configure_moto(account: str, port: int) -> None:
    """Set what moto reads from its environment, before its services are imported."""
    # Nothing of the person's own AWS configuration may reach the account: neither keys nor a profile that it lacks.
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "MOTO_ACCOUNT_ID": account,
        "MOTO_PORT": str(port),
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
    }
    from moto.core.config import default_user_config

    default_user_config["batch"] = {"use_docker": False}
    default_user_config["lambda"] = {"use_docker": False}
    default_user_config["stepfunctions"] = {"execute_state_machine": True}


def _application(options: Options, endpoint: str) -> Any:
    """Build moto's application with the gaps closed and the runtime, and what stands in front of it."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from emulator import gaps, runtime

    app: Any = DomainDispatcherApplication(create_backend_app)
    if not options.plain:
        try:
            gaps.close_all()
        except gaps.ShapeError as error:
            raise StartError(str(error)) from error
        runtime.install(options.state_dir, endpoint)
        app = _with_time_and_reset(runtime.middleware(app), runtime)
    log, faults = CallLog(), Faults()
    app = Recorder(Injector(app, faults, options.latency_ms / 1000), log)
    return Control(app, log, faults, str(options.state_dir), options.account)


def _with_time_and_reset(app: Any, runtime: ModuleType) -> Any:
    """Do what is due before each request, and forget what runs when moto is told to forget the account."""

    def middleware(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == "/moto-api/reset" and environ["REQUEST_METHOD"] == "POST":
            runtime.reset()
            states.reset()
        states.finish_due()
        return app(environ, start_response)

    return middleware


def _end_what_runs() -> None:
    runtime = sys.modules.get("emulator.runtime")
    if runtime:
        runtime.shutdown()


def _write(path: Path, text: str) -> None:
    """Write a file in one step: whoever waits for it never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(f"{text}\n", encoding="utf-8")
    draft.replace(path)


def _exit(signum: int, frame: FrameType | None) -> None:
    # A second signal must not interrupt the clean-up that the first one started.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(0)
