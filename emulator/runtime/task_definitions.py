"""What a task definition's containers ask for, with the overrides of RunTask."""

from collections.abc import Mapping
from typing import Any

from .containers import Definition

Settings = Mapping[str, Any]
"""A container definition as ECS takes it."""


def overridden(task_definition: Any, overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The container definitions with the overrides; variables are merged by name."""
    by_name = {entry["name"]: entry for entry in overrides.get("containerOverrides", [])}
    return [
        _override(settings, by_name.get(settings["name"], {})) for settings in task_definition.container_definitions
    ]


def definition(settings: Settings, task_id: str) -> Definition:
    """The definition of one container of a task."""
    logging = settings.get("logConfiguration") or {}
    options = logging.get("options", {}) if logging.get("logDriver") == "awslogs" else None
    prefix = (options or {}).get("awslogs-stream-prefix")
    return Definition(
        name=settings["name"],
        image=settings["image"],
        command=settings.get("command") or (),
        entry_point=settings.get("entryPoint") or (),
        environment={entry["name"]: entry["value"] for entry in settings.get("environment") or []},
        secrets={entry["name"]: entry["valueFrom"] for entry in settings.get("secrets") or []},
        log_options=options,
        log_stream=f"{prefix}/{settings['name']}/{task_id}" if prefix else task_id,
        working_directory=settings.get("workingDirectory") or "",
        ports=[mapping["containerPort"] for mapping in settings.get("portMappings") or []],
    )


def check_command(check: Settings) -> list[str]:
    """The command of a health check: CMD runs as it is, CMD-SHELL in a shell."""
    kind, *words = check["command"]
    return ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words


def check_patience(check: Settings) -> float:
    """Real seconds that a program has before failed checks make it unhealthy: what it would have on AWS."""
    return check.get("startPeriod", 0) + check.get("interval", 30) * check.get("retries", 3)


def _override(settings: Settings, override: Settings) -> dict[str, Any]:
    merged = {**settings, **{key: value for key, value in override.items() if key != "environment"}}
    variables = [*(settings.get("environment") or []), *override.get("environment", [])]
    return {**merged, "environment": list({entry["name"]: entry for entry in variables}.values())}
