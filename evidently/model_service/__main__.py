"""The commands: `python -m model_service --help`. The environment is described in README.md."""

import argparse
import os
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from . import tls
from .failure import Failure
from .settings import DatabaseSettings, Settings, StoreSettings, read_number, read_secret, read_text

#: What the seed's models are trained on, and what is simulated, come from different seeds.
SIMULATION_SEED = 7_000
BATCH = 500


def serve(_: argparse.Namespace) -> None:
    """Serve the API until SIGTERM; requests under way are answered first."""
    settings = Settings.from_environment(os.environ)
    files = tls.certificate_files(os.environ)
    with tempfile.TemporaryDirectory(prefix="model-service-metrics-") as figures:
        # Before prometheus_client is imported: it decides then how figures are kept.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = figures
        # The workers share the cores; threads that XGBoost lets wait for each other would only slow them down.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        import uvicorn

        uvicorn.run(
            "model_service.api:create_app",
            factory=True,
            host=os.environ.get("HOST", "127.0.0.1"),
            port=read_number(os.environ, "PORT", 5000),
            workers=read_number(os.environ, "WORKERS", 2),
            timeout_graceful_shutdown=settings.request_seconds,
            server_header=False,
            ssl_context_factory=tls.make_context,
            **files,
        )


def page(_: argparse.Namespace) -> None:
    """Serve the Streamlit page."""
    read_secret(os.environ, "API_TOKEN_FILE")
    files = tls.certificate_files(os.environ)
    script = Path(__file__).with_name("page.py")
    options = {
        "server.address": os.environ.get("HOST", "127.0.0.1"),
        "server.port": str(read_number(os.environ, "PORT", 8501)),
        "server.sslCertFile": files["ssl_certfile"],
        "server.sslKeyFile": files["ssl_keyfile"],
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(script), *arguments])  # noqa: S606


def migrate(_: argparse.Namespace) -> None:
    """Bring the database's schema up to date."""
    from sqlalchemy.exc import OperationalError

    from . import database

    engine = database.make_engine(DatabaseSettings.from_environment(os.environ))
    try:
        print(f"the schema is at {database.migrate(engine)}")
    except OperationalError as error:
        raise Failure(f"the schema could not be brought up to date: {error.orig}") from error


def check(_: argparse.Namespace) -> None:
    """Check the settings of serve, and end."""
    Settings.from_environment(os.environ)
    tls.certificate_files(os.environ)
    print("the settings are sound")


def train(options: argparse.Namespace) -> None:
    """Train both seed models on foods that are made up, and publish them in S3 with reference data."""
    from .store import Store
    from .training import TRAINERS
    from .training import train as train_one

    store = Store(StoreSettings.from_environment(os.environ))
    for name in TRAINERS:
        new = train_one(store, name, options.version, options.seed)
        print(f"{name} {options.version}: {'published' if new else 'is there already'}")


def deploy(options: argparse.Namespace) -> None:
    """Deploy a version of both seed models, and switch to it."""
    from .tables import PREDICTIONS

    client = _client("ADMIN_TOKEN_FILE", "API_TOKEN_FILE")
    for name in PREDICTIONS:
        client.call("PUT", f"/models/{name}/versions/{options.version}", {})
        changed = client.call("PUT", f"/models/{name}/active", {"version": options.version}).json()["changed"]
        print(f"{name} {options.version}: {'active now' if changed else 'was active'}")


def simulate(options: argparse.Namespace) -> None:
    """Ask both seed models for predictions of foods that they have not seen."""
    import json

    from .foods import make_foods
    from .tables import PREDICTIONS

    client = _client("API_TOKEN_FILE")
    foods = make_foods(options.rows, SIMULATION_SEED, options.shift)
    for name in PREDICTIONS:
        for start in range(0, options.rows, BATCH):
            rows = json.loads(foods[start : start + BATCH].to_json(orient="records"))
            client.call("POST", f"/predict/{name}", {"features": rows})
        print(f"{name}: {options.rows} predictions")


def seed(options: argparse.Namespace) -> None:
    """Train, deploy and simulate: what a new installation needs before its first report."""
    train(options)
    deploy(options)
    simulate(options)


def health(_: argparse.Namespace) -> None:
    """Exit with 0 if HEALTH_URL answers well: the container's health check."""
    url = tls.checked_url(os.environ.get("HEALTH_URL", "https://localhost:5000/healthz"), "HEALTH_URL")
    context = ssl.create_default_context(cafile=tls.authority(os.environ))
    try:
        urllib.request.urlopen(url, timeout=5, context=context).close()  # noqa: S310 - see above
    except (urllib.error.URLError, OSError) as error:
        sys.exit(f"{url}: {error}")


def _client(*variables: str):
    """Return the service with the token of the first variable that is set."""
    from .client import Client

    variable = next((name for name in variables if name in os.environ), variables[-1])
    read_text(os.environ, "MODEL_SERVICE_URL")
    return Client.from_environment(os.environ, variable)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the commands."""
    commands = argparse.ArgumentParser(prog="model_service", description=sys.modules["model_service"].__doc__)
    subparsers = commands.add_subparsers(required=True, metavar="COMMAND")
    for command in (serve, page, migrate, check, health, train, deploy, simulate, seed):
        added = subparsers.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        added.set_defaults(run=command)
        if command in (train, deploy, seed):
            added.add_argument("--version", default="1", help="the version's name (1)")
        if command in (train, seed):
            added.add_argument("--seed", type=int, default=1, help="the seed of the made-up foods (1)")
        if command in (simulate, seed):
            added.add_argument("--rows", type=int, default=1000, help="predictions for each model (1000)")
            added.add_argument("--shift", type=float, default=0.0, help="0.3 has 30%% more sodium and sugars (0)")
    return commands


def main() -> int:
    """Run a command; the exit status is 1 where it cannot do what it should, with one sentence why."""
    options = parser().parse_args()
    try:
        options.run(options)
    except Failure as error:
        print(f"model service: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
