"""The routes."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import pandas as pd
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import insert
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from . import database, metrics, reports, versions
from .features import PredictionAnswer, PredictionRequest
from .guard import Guard
from .models import Models, predict
from .settings import Settings
from .store import Manifest, MissingFile, Store, StoreError, WrongFile
from .tables import PREDICTION, PREDICTIONS
from .versions import Version, VersionConflict

LOG = logging.getLogger("model_service")
MAX_WINDOW = 50_000
#: A request may be wrong in each of its rows; the first few say what is the matter.
MAX_REASONS = 20
LONGEST_REASON = 300

VERSION = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
VersionName = Annotated[str, Field(pattern=VERSION, examples=["1", "2026-11-30.2"])]


class DeployRequest(BaseModel):
    """The checksum that the caller expects. Without one, the manifest's is taken."""

    model_config = ConfigDict(extra="forbid")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class SwitchRequest(BaseModel):
    """The version to make active."""

    model_config = ConfigDict(extra="forbid")
    version: VersionName


class RollbackRequest(BaseModel):
    """With the version to leave, a repeated rollback does nothing; without, each one goes a step back."""

    model_config = ConfigDict(extra="forbid")
    from_version: VersionName | None = None


class Service:
    """What the routes of one process share."""

    def __init__(self, settings: Settings):
        self.engine = database.make_engine(settings.database)
        self.store = Store(settings.store)
        self.models = Models(self.store)
        # Reports take all of a core for seconds: one at a time, and in no thread that predictions need.
        self.report_limiter = anyio.CapacityLimiter(1)

    def preload(self) -> None:
        """Load what is active. What fails is told by /readyz, and tried again by the next request."""
        try:
            with self.engine.connect() as connection:
                for version in filter(None, (versions.active(connection, name) for name in PREDICTIONS)):
                    self.models.get(version)
        except Exception as error:
            LOG.warning("nothing is preloaded: %s", type(error).__name__)

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether requests can be answered, and what each part says."""
        try:
            with self.engine.connect() as connection:
                schema = database.current_revision(connection)
                if schema != database.newest_revision():
                    return False, {"database": f"the schema is at {schema}; run migrate"}
                active = {name: versions.active(connection, name) for name in PREDICTIONS}
        except (OperationalError, InterfaceError, PoolTimeout):
            return False, {"database": "no connection"}
        states = {name: self._state(version) for name, version in active.items()}
        ready = all(state["loaded"] or state["version"] is None for state in states.values())
        return ready, {"database": "ok", "models": states}

    def _state(self, version: Version | None) -> dict[str, Any]:
        if version is None:
            return {"version": None, "loaded": False}
        try:
            self.models.get(version)
        except StoreError as error:
            LOG.error("%s", error)
            return {"version": version.version, "loaded": False}
        return {"version": version.version, "loaded": True}


def service_of(request: Request) -> Service:
    """Return what the application was made with."""
    return request.app.state.service


def known_model(model_name: str) -> str:
    """Return the name of a model that there is."""
    if model_name not in PREDICTIONS:
        raise HTTPException(404, f"model_name: there is no such model; there are {', '.join(PREDICTIONS)}")
    return model_name


ServiceOf = Annotated[Service, Depends(service_of)]
ModelName = Annotated[str, Depends(known_model)]
VersionInPath = Annotated[str, Path(pattern=VERSION)]
WindowSize = Annotated[int, Query(ge=1, le=MAX_WINDOW, description="How many of the latest predictions to look at.")]


def active_or_409(connection: Any, model: str) -> Version:
    """Return the active version of a model."""
    version = versions.active(connection, model)
    if version is None:
        raise HTTPException(409, f"no version of {model} is active yet; deploy one and switch to it")
    return version


async def index() -> dict[str, Any]:
    """Say what this is."""
    return {"service": "model service", "models": list(PREDICTIONS), "openapi": "/openapi.json"}


async def healthz() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


def readyz(service: ServiceOf, response: Response) -> dict[str, Any]:
    """Say whether database, schema and active models are in order; 503 where they aren't."""
    ready, parts = service.readiness()
    response.status_code = 200 if ready else 503
    return {"ready": ready, **parts}


def show_metrics() -> Response:
    """Show figures for Prometheus."""
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def predict_rows(model_name: ModelName, body: PredictionRequest, service: ServiceOf) -> PredictionAnswer:
    """Predict each row. The answer comes after the predictions are committed, all of them or none."""
    rows = [food.model_dump() for food in body.features]
    table = PREDICTIONS[model_name]
    with service.engine.connect() as connection:
        version = active_or_409(connection, model_name)
        values = predict(service.models.get(version), pd.DataFrame(rows), version)
        for row, value in zip(rows, values, strict=True):
            row.update({PREDICTION: value, "model_version": version.version})
        statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
        ids = list(connection.execute(statement, rows).scalars())
        connection.commit()
    metrics.ROWS.labels(model_name, version.version).inc(len(rows))
    return PredictionAnswer(model_name=model_name, version=version.version, ids=ids, predictions=values)


def report_route(kind: str):
    """Return the route of a kind of report."""

    def make(service: Service, model_name: str, window_size: int) -> HTMLResponse:
        with service.engine.connect() as connection:
            version = active_or_409(connection, model_name)
            current = reports.latest(connection, model_name, window_size)
        page = reports.REPORTS[kind](current, service.models.reference(version))
        return HTMLResponse(page, headers={"X-Model-Version": version.version, "X-Rows": str(len(current))})

    async def report(model_name: ModelName, service: ServiceOf, window_size: WindowSize = 3000) -> HTMLResponse:
        return await anyio.to_thread.run_sync(make, service, model_name, window_size, limiter=service.report_limiter)

    report.__doc__ = reports.REPORTS[kind].__doc__
    return report


def list_models(service: ServiceOf) -> list[dict[str, Any]]:
    """List the models with their versions."""
    with service.engine.connect() as connection:
        return [versions.describe(connection, name) for name in PREDICTIONS]


def show_model(model_name: ModelName, service: ServiceOf) -> dict[str, Any]:
    """Show the versions of a model: deployed, active, and the one that a rollback goes to."""
    with service.engine.connect() as connection:
        return versions.describe(connection, model_name)


def deploy(model_name: ModelName, version: VersionInPath, body: DeployRequest, service: ServiceOf) -> dict[str, Any]:
    """Deploy a version from S3: check its files, load it, let it predict. It does not become active."""
    manifest = _manifest(service, model_name, version, body.sha256)
    candidate = Version(model_name, version, manifest)
    try:
        service.models.rehearse(candidate)
    except (MissingFile, WrongFile) as error:
        raise VersionConflict(str(error)) from error
    with service.engine.begin() as connection:
        changed = versions.deploy(connection, candidate)
        return {"changed": changed, "model": versions.describe(connection, model_name)}


def _manifest(service: Service, model: str, version: str, expected: str | None) -> Manifest:
    try:
        manifest = service.store.manifest(model, version)
    except MissingFile as error:
        raise HTTPException(404, f"version: {error}") from error
    except WrongFile as error:
        raise VersionConflict(str(error)) from error
    if expected not in (None, manifest.sha256):
        raise VersionConflict(f"sha256: the manifest of {model} {version} has {manifest.sha256}, not {expected}")
    return manifest


def switch(model_name: ModelName, body: SwitchRequest, service: ServiceOf) -> dict[str, Any]:
    """Make a deployed version active. Requests under way end with the version that they began with."""
    with service.engine.begin() as connection:
        candidate = versions.deployed(connection, model_name, body.version)
        if candidate is None:
            raise HTTPException(404, f"version: {body.version} of {model_name} is not deployed")
        service.models.get(candidate)
        changed = versions.switch(connection, model_name, body.version)
        return {"changed": changed, "model": versions.describe(connection, model_name)}


def roll_back(model_name: ModelName, body: RollbackRequest, service: ServiceOf) -> dict[str, Any]:
    """Make the version that was active before active again."""
    with service.engine.begin() as connection:
        versions.lock(connection, model_name)
        target = versions.rollback_target(connection, model_name, body.from_version)
        if target is not None:
            service.models.get(versions.deployed(connection, model_name, target))
        changed = versions.roll_back(connection, model_name, body.from_version)
        return {"changed": changed, "model": versions.describe(connection, model_name)}


def printable(value: Any) -> str:
    """Return a text that can be sent: half a surrogate pair can stand in JSON, but not in UTF-8."""
    return str(value)[:LONGEST_REASON].encode(errors="backslashreplace").decode()


def where(location: tuple) -> str:
    """Return the place of an error as one would write it: features[3].sodium."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location[1:])
    return printable(place.lstrip(".")) or str(location[0])


def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    """422: say which field is wrong, and why. The value isn't repeated: it may be what JSON can't hold."""
    errors = error.errors()
    reasons = [{"field": where(one["loc"]), "reason": printable(one["msg"])} for one in errors[:MAX_REASONS]]
    first = reasons[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return JSONResponse({"detail": f"{first['field']}: {first['reason']}{more}", "errors": reasons}, 422)


def conflict(_: Request, error: Exception) -> JSONResponse:
    """409: the request is well formed, and does not fit what there is."""
    return JSONResponse({"detail": printable(error)}, 409)


def store_failed(_: Request, error: Exception) -> JSONResponse:
    """503: S3 or a file in it is not as it was when the version was deployed."""
    LOG.error("%s", error)
    return JSONResponse({"detail": printable(error)}, 503)


def database_failed(_: Request, error: Exception) -> JSONResponse:
    """503: nothing has been stored."""
    LOG.error("%s", error)
    return JSONResponse({"detail": "the database does not answer; nothing was stored"}, 503)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the active models before the first request."""
    await anyio.to_thread.run_sync(app.state.service.preload)
    yield
    app.state.service.engine.dispose()


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application."""
    settings = settings or Settings.from_environment(os.environ)
    # The pages below /docs load their scripts from elsewhere; /openapi.json is what they would show.
    app = FastAPI(
        title="Model service",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # It only describes: Guard checks the token, before the body is read.
        dependencies=[Security(HTTPBearer(auto_error=False))],
    )
    app.state.service = Service(settings)
    add_routes(app)
    for kind, handler in (
        (RequestValidationError, invalid),
        (VersionConflict, conflict),
        (reports.NotEnoughData, conflict),
        (StoreError, store_failed),
        (OperationalError, database_failed),
        (InterfaceError, database_failed),
        (PoolTimeout, database_failed),
    ):
        app.add_exception_handler(kind, handler)
    app.add_middleware(Guard, settings=settings)
    return app


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    app.get("/")(index)
    app.get("/healthz")(healthz)
    app.get("/readyz")(readyz)
    app.get("/metrics", response_class=Response)(show_metrics)
    app.post("/predict/{model_name}")(predict_rows)
    for kind in reports.REPORTS:
        app.get(f"/{kind}/{{model_name}}", response_class=HTMLResponse)(report_route(kind))
    app.get("/models")(list_models)
    app.get("/models/{model_name}")(show_model)
    app.put("/models/{model_name}/versions/{version}")(deploy)
    app.put("/models/{model_name}/active")(switch)
    app.post("/models/{model_name}/rollback")(roll_back)
