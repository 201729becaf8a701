"""The connection to PostgreSQL, and the state of its schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine

from .settings import DatabaseSettings

#: Connections of one worker process. PostgreSQL admits 100 by default.
POOL_SIZE = 10


def make_engine(settings: DatabaseSettings) -> Engine:
    """Return an engine; it connects at the first use."""
    # Half of the time that a request has: PostgreSQL gives up first, so that the client learns that nothing was stored.
    seconds = settings.request_seconds / 2
    milliseconds = int(seconds * 1000)
    return create_engine(
        "postgresql+psycopg://",
        connect_args={
            "password": settings.password,
            "connect_timeout": 5,
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
        },
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=seconds,
        pool_pre_ping=True,
        # Statements in errors are logged; the values in them are not.
        hide_parameters=True,
    )


def migrations() -> Config:
    """Return alembic's configuration; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def migrate(engine: Engine, revision: str = "head") -> str | None:
    """Bring the schema up to a revision, in one transaction; return the one that it then has."""
    config = migrations()
    with engine.begin() as connection:
        # What changes a large table takes its time.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        # Two that start at once: the second waits, and then finds nothing to do.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('model_service.migrate'))")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        return current_revision(connection)


def newest_revision() -> str | None:
    """Return the revision that this code needs."""
    return ScriptDirectory.from_config(migrations()).get_current_head()


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database has."""
    return MigrationContext.configure(connection).get_current_revision()
