"""The versions of the database schema, named and ordered as those of the real service (its goose migrations).

The statements are SQLite's. Primary keys are unique indexes of PostgreSQL's names, because SQLite can neither add nor
drop a constraint of an existing table, and because errors name them. PostgreSQL's GIN index has no counterpart.
"""

from typing import NamedTuple

from .database import Database


class Migration(NamedTuple):
    """The step that leads from the version before to this one."""

    version: str
    statements: tuple[str, ...]


MIGRATIONS = (
    Migration(
        "1",
        (
            # To SQLite a column of type JSONB would be numeric (its affinity rules), and the JSON text 5 a number.
            """CREATE TABLE flows_v3 (
                flow_id VARCHAR NOT NULL, user_name VARCHAR, ts_epoch BIGINT NOT NULL,
                tags JSONB_TEXT, system_tags JSONB_TEXT)""",
            "CREATE UNIQUE INDEX flows_v3_pkey ON flows_v3 (flow_id)",
            """CREATE TABLE runs_v3 (
                flow_id VARCHAR NOT NULL, run_number INTEGER NOT NULL, user_name VARCHAR, ts_epoch BIGINT NOT NULL,
                tags JSONB_TEXT, system_tags JSONB_TEXT,
                FOREIGN KEY (flow_id) REFERENCES flows_v3 (flow_id))""",
            "CREATE UNIQUE INDEX runs_v3_pkey ON runs_v3 (flow_id, run_number)",
            """CREATE TABLE steps_v3 (
                flow_id VARCHAR NOT NULL, run_number BIGINT NOT NULL, step_name VARCHAR NOT NULL, user_name VARCHAR,
                ts_epoch BIGINT NOT NULL, tags JSONB_TEXT, system_tags JSONB_TEXT,
                FOREIGN KEY (flow_id, run_number) REFERENCES runs_v3 (flow_id, run_number))""",
            "CREATE UNIQUE INDEX steps_v3_pkey ON steps_v3 (flow_id, run_number, step_name)",
            """CREATE TABLE tasks_v3 (
                flow_id VARCHAR NOT NULL, run_number BIGINT NOT NULL, step_name VARCHAR NOT NULL,
                task_id BIGINT NOT NULL, user_name VARCHAR, ts_epoch BIGINT NOT NULL,
                tags JSONB_TEXT, system_tags JSONB_TEXT,
                FOREIGN KEY (flow_id, run_number, step_name) REFERENCES steps_v3 (flow_id, run_number, step_name))""",
            "CREATE UNIQUE INDEX tasks_v3_pkey ON tasks_v3 (task_id)",
            """CREATE TABLE metadata_v3 (
                flow_id VARCHAR NOT NULL, run_number BIGINT NOT NULL, step_name VARCHAR NOT NULL,
                task_id BIGINT NOT NULL, id BIGINT NOT NULL, field_name VARCHAR NOT NULL, value TEXT NOT NULL,
                type VARCHAR NOT NULL, user_name VARCHAR, ts_epoch BIGINT NOT NULL,
                tags JSONB_TEXT, system_tags JSONB_TEXT)""",
            """CREATE UNIQUE INDEX metadata_v3_pkey
                ON metadata_v3 (flow_id, run_number, step_name, task_id, field_name)""",
            """CREATE TABLE artifact_v3 (
                flow_id VARCHAR NOT NULL, run_number BIGINT NOT NULL, step_name VARCHAR NOT NULL,
                task_id BIGINT NOT NULL, name VARCHAR NOT NULL, location VARCHAR NOT NULL, ds_type VARCHAR NOT NULL,
                sha VARCHAR, type VARCHAR, content_type VARCHAR, user_name VARCHAR, attempt_id SMALLINT NOT NULL,
                ts_epoch BIGINT NOT NULL, tags JSONB_TEXT, system_tags JSONB_TEXT)""",
            """CREATE UNIQUE INDEX artifact_v3_pkey
                ON artifact_v3 (flow_id, run_number, step_name, task_id, attempt_id, name)""",
            "CREATE TABLE sequences (name TEXT PRIMARY KEY, last_value INTEGER NOT NULL)",
            "INSERT INTO sequences VALUES ('runs_v3', 0), ('tasks_v3', 0), ('metadata_v3', 0)",
        ),
    ),
    Migration(
        "20200603104139",
        (
            "ALTER TABLE runs_v3 ADD COLUMN run_id VARCHAR",
            "ALTER TABLE runs_v3 ADD COLUMN last_heartbeat_ts BIGINT",
            "CREATE UNIQUE INDEX runs_v3_flow_id_run_id_key ON runs_v3 (flow_id, run_id)",
            "ALTER TABLE steps_v3 ADD COLUMN run_id VARCHAR",
            "CREATE UNIQUE INDEX steps_v3_flow_id_run_id_step_name_key ON steps_v3 (flow_id, run_id, step_name)",
            "ALTER TABLE tasks_v3 ADD COLUMN run_id VARCHAR",
            "ALTER TABLE tasks_v3 ADD COLUMN task_name VARCHAR",
            "ALTER TABLE tasks_v3 ADD COLUMN last_heartbeat_ts BIGINT",
            """CREATE UNIQUE INDEX tasks_v3_flow_id_run_number_step_name_task_name_key
                ON tasks_v3 (flow_id, run_number, step_name, task_name)""",
            "ALTER TABLE metadata_v3 ADD COLUMN run_id VARCHAR",
            "ALTER TABLE metadata_v3 ADD COLUMN task_name VARCHAR",
            "ALTER TABLE artifact_v3 ADD COLUMN run_id VARCHAR",
            "ALTER TABLE artifact_v3 ADD COLUMN task_name VARCHAR",
        ),
    ),
    Migration(
        "20201002000616",  # from here on a task may post the same metadata field twice
        (
            "DROP INDEX metadata_v3_pkey",
            """CREATE UNIQUE INDEX metadata_v3_pkey
                ON metadata_v3 (id, flow_id, run_number, step_name, task_id, field_name)""",
            "CREATE INDEX metadata_v3_akey ON metadata_v3 (flow_id, run_number, step_name, task_id, field_name)",
        ),
    ),
    Migration(
        "20210202145952",
        (
            "CREATE INDEX runs_v3_idx_ts_epoch ON runs_v3 (ts_epoch)",
            "CREATE INDEX runs_v3_idx_flow_id_asc_ts_epoch_desc ON runs_v3 (flow_id ASC, ts_epoch DESC)",
        ),
    ),
    Migration(
        "20211202100726",
        (
            """CREATE INDEX metadata_v3_idx_str_ids_primary_key
                ON metadata_v3 (id, flow_id, run_id, step_name, task_name, field_name)
                WHERE run_id IS NOT NULL AND task_name IS NOT NULL""",
            """CREATE INDEX artifact_v3_idx_str_ids_primary_key
                ON artifact_v3 (flow_id, run_id, step_name, task_name, attempt_id, name)
                WHERE run_id IS NOT NULL AND task_name IS NOT NULL""",
        ),
    ),
    Migration(
        "20220503175500",
        ("CREATE INDEX runs_v3_idx_epoch_ts_desc ON runs_v3 (ts_epoch DESC)",),
    ),
    Migration(
        "20230118020300",
        (
            """CREATE INDEX tasks_v3_idx_flow_id_run_id_step_name_task_name_v2
                ON tasks_v3 (flow_id, run_id, step_name, task_name)""",
            """CREATE INDEX metadata_v3_idx_str_ids_a_key
                ON metadata_v3 (flow_id, run_id, step_name, task_name, field_name)""",
            """CREATE INDEX metadata_v3_idx_str_ids_a_key_with_task_id
                ON metadata_v3 (flow_id, run_id, step_name, task_id, field_name)""",
            "DROP INDEX metadata_v3_idx_str_ids_primary_key",
            """CREATE INDEX artifact_v3_idx_str_ids_primary_key_v2
                ON artifact_v3 (flow_id, run_id, step_name, task_name, attempt_id, name)""",
            """CREATE INDEX artifact_v3_idx_str_ids_primary_key_with_task_id
                ON artifact_v3 (flow_id, run_id, step_name, task_id, attempt_id, name)""",
            "DROP INDEX artifact_v3_idx_str_ids_primary_key",
        ),
    ),
    Migration(
        "20240509201906",
        (
            """CREATE INDEX metadata_v3_idx_str_ids_a_key_with_run_number_task_id
                ON metadata_v3 (flow_id, run_number, step_name, task_id, field_name)""",
            "DROP INDEX metadata_v3_akey",  # the same columns: PostgreSQL keeps both, one is enough here
        ),
    ),
)

VERSIONS = tuple(migration.version for migration in MIGRATIONS)


def is_empty(database: Database) -> bool:
    """Whether the database has no tables of the service."""
    return not database.query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'flows_v3'")


def current_version(database: Database) -> str:
    """The version of the schema; "0" is an empty database."""
    if is_empty(database):
        return "0"
    return database.query("SELECT version_id FROM goose_db_version ORDER BY id DESC LIMIT 1")[0]["version_id"]


def unapplied(version: str) -> tuple[str, ...]:
    """The versions after this one, in the order in which they have to be applied."""
    return VERSIONS[VERSIONS.index(version) + 1 :] if version in VERSIONS else VERSIONS


def upgrade(database: Database, target: str = VERSIONS[-1]) -> None:
    """Apply what is pending up to `target`, in one transaction: two services may start on one database at once."""
    with database.transaction():
        version = current_version(database)
        database.execute(
            "CREATE TABLE IF NOT EXISTS goose_db_version (id INTEGER PRIMARY KEY, version_id TEXT, tstamp TEXT)"
        )
        for migration in MIGRATIONS:
            if migration.version in unapplied(version) and int(migration.version) <= int(target):
                _apply(database, migration)


def initialise(database: Database, version: str | None) -> None:
    """Bring an empty database to `version`, by default the newest; leave any other as it is."""
    if is_empty(database):
        upgrade(database, version or VERSIONS[-1])


def _apply(database: Database, migration: Migration) -> None:
    for statement in migration.statements:
        database.execute(statement)
    database.execute("INSERT INTO goose_db_version (version_id, tstamp) VALUES (?, datetime())", (migration.version,))
