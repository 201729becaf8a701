"""The commands of `python -m model_service`, the schema's migrations, and the image's recipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import requests
from alembic.autogenerate import compare_metadata
from alembic.command import downgrade
from alembic.migration import MigrationContext
from conftest import ADMIN_TOKEN, API_TOKEN, MODELS, ROOT, TABLES, free_port, migrate_now, sql

from model_service import database, tables
from model_service.settings import DatabaseSettings

PROMISED = ["id", "fid", "fat", "saturatedFat", "transFat", "cholesterol", "sodium", "carbohydrates", "fiber", "sugars"]
PROMISED += ["protein", "calcium", "iron", "potassium", "calories", "score", "predictions"]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "model_service", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def table_names(environment: dict[str, str]) -> set[str]:
    found = sql(environment, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    return {name for (name,) in found}


def test_check_tells_settings_that_serve_would_refuse(empty_place):
    good, bad = run(empty_place, "check"), run({**empty_place, "REQUEST_BYTES": "many"}, "check")
    assert (good.returncode, good.stdout) == (0, "the settings are sound\n"), good.stderr
    assert bad.returncode == 1
    assert "REQUEST_BYTES 'many' must be a whole number above 0" in bad.stderr
    bad = run({**empty_place, "CERTIFICATE_FILE": os.devnull}, "check")
    assert bad.returncode == 1
    assert bad.stderr.startswith("model service: CERTIFICATE_FILE /dev/null and CERTIFICATE_KEY_FILE ")


def test_migrate_makes_the_tables_of_the_code_and_a_second_time_nothing(empty_place):
    first, second = run(empty_place, "migrate"), run(empty_place, "migrate")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == second.stdout == "the schema is at 0001\n"
    engine = database.make_engine(DatabaseSettings.from_environment(empty_place))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": False})
        assert compare_metadata(context, tables.metadata) == []
        assert database.newest_revision() == "0001"
    engine.dispose()


def test_the_prediction_tables_have_the_columns_that_were_promised(empty_place):
    migrate_now(empty_place)
    for table in TABLES.values():
        query = f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"
        found = sql(empty_place, f"{query} ORDER BY ordinal_position")
        assert [name for (name,) in found] == [*PROMISED, "model_version", "predicted_at"]


def test_two_migrations_at_once_both_end_well(empty_place):
    command = [sys.executable, "-m", "model_service", "migrate"]
    both = [subprocess.Popen(command, cwd=ROOT, env=empty_place) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert set(TABLES.values()) <= table_names(empty_place)


def test_a_downgrade_takes_away_what_the_upgrade_made(empty_place):
    migrate_now(empty_place)
    config = database.migrations()
    engine = database.make_engine(DatabaseSettings.from_environment(empty_place))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        downgrade(config, "base")
    engine.dispose()
    assert table_names(empty_place) == {"alembic_version"}


def test_migrate_says_in_a_sentence_that_the_database_is_away(empty_place):
    done = run(empty_place | {"PGPORT": "9"}, "migrate")
    assert done.returncode == 1
    assert done.stderr.startswith("model service: the schema could not be brought up to date: connection")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "page", "migrate", "train", "deploy", "simulate", "seed"])
def test_a_command_without_its_environment_says_what_is_missing(command):
    done = run({"PATH": "/usr/bin:/bin"}, command)
    assert done.returncode == 1
    assert re.fullmatch(r"model service: [A-Z_]+ is not set.*\n", done.stderr)


def test_seed_fills_an_empty_installation_and_may_be_run_again(empty_place, start_service):
    migrate_now(empty_place)
    port = free_port()
    start_service(empty_place, port)
    environment = empty_place | {"MODEL_SERVICE_URL": f"https://127.0.0.1:{port}"}
    first = run(environment, "seed", "--rows", "600")
    assert first.returncode == 0, first.stderr
    second = run(environment, "seed", "--rows", "0")
    assert second.returncode == 0, second.stderr
    assert "xgboost_model 1: published\n" in first.stdout
    assert "xgboost_model 1: is there already\n" in second.stdout
    assert "xgboost_model 1: was active\n" in second.stdout
    for model in MODELS:
        assert sql(empty_place, f"SELECT count(*), count(score) FROM {TABLES[model]}") == [(600, 600)]
        page = requests.get(
            f"https://127.0.0.1:{port}/monitor-model/{model}",
            headers={"Authorization": f"Bearer {API_TOKEN}"},
            timeout=60,
            verify=empty_place["AUTHORITY_FILE"],
        )
        assert page.status_code == 200
    keys = [one["Key"] for one in boto3.client("s3").list_objects_v2(Bucket=empty_place["MODELS_BUCKET"])["Contents"]]
    endings = ("joblib", "json", "reference.csv")
    assert sorted(keys) == sorted(f"models/{model}/1.{ending}" for model in MODELS for ending in endings)


def test_deploy_says_what_the_service_answered(serving, start_service):
    port = free_port()
    start_service(serving.environment, port, workers=1)
    environment = serving.environment | {"MODEL_SERVICE_URL": f"https://127.0.0.1:{port}"}
    done = run(environment, "deploy", "--version", "9")
    assert done.returncode == 1
    assert done.stderr.startswith("model service: 404: version: cannot read s3://")
    assert ADMIN_TOKEN not in done.stderr + done.stdout


def test_health_follows_the_address(serving, start_service):
    port = free_port()
    start_service(serving.environment, port, workers=1)
    url = f"https://127.0.0.1:{port}"
    assert run(serving.environment | {"HEALTH_URL": f"{url}/healthz"}, "health").returncode == 0
    assert run(serving.environment | {"HEALTH_URL": f"{url}/models"}, "health").returncode == 1
    assert run(serving.environment | {"HEALTH_URL": "https://127.0.0.1:9/healthz"}, "health").returncode == 1
    assert run(serving.environment | {"HEALTH_URL": f"{url}/healthz", "AUTHORITY_FILE": ""}, "health").returncode == 1
    for refused in ("file:///etc/passwd", f"http://127.0.0.1:{port}/healthz"):
        done = run(serving.environment | {"HEALTH_URL": refused}, "health")
        assert (done.returncode, done.stderr) == (
            1,
            f"model service: HEALTH_URL '{refused}' must begin with https://\n",
        )


# The image's recipe


def instructions() -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_is_built_from_a_base_that_may_be_chosen_and_runs_as_nobody_special():
    lines = instructions()
    assert lines[0].startswith("ARG BASE_IMAGE=debian:")
    assert "FROM ${BASE_IMAGE}" in lines
    (user,) = [line for line in lines if line.startswith("USER")]
    assert re.fullmatch(r"USER \d+:\d+", user)
    assert not any(line.startswith(("RUN", "COPY", "ADD")) for line in lines[lines.index(user) :])
    assert [line for line in lines if line.startswith("HEALTHCHECK")]


def test_no_secret_and_nothing_unnamed_gets_into_a_layer():
    lines = instructions()
    assert [line for line in lines if re.search("TOKEN|PASSWORD|SECRET|AWS_", line)] == []
    sources = [line.split()[1:-1] for line in lines if line.startswith(("COPY", "ADD"))]
    assert sources == [["requirements.txt"], ["model_service"]]


def test_requirements_are_pinned_exactly():
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(
                r"#.*|-r requirements\.txt|[\w-]+(\[\w+\])?==[\d.]+(; python_version [<>=]+ \"[\d.]+\")?", line
            ), line


def test_the_folder_is_no_package_so_that_the_library_of_its_name_is_imported():
    assert not (ROOT / "__init__.py").exists()
    assert Path(__import__("evidently").__file__).is_relative_to(sys.prefix)
