"""Gaps of Secrets Manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.secretsmanager.exceptions import InvalidRequestException
from moto.secretsmanager.models import SecretsManagerBackend

from emulator.gaps import gap, wrap


@gap("secretsmanager", "name-of-a-deleted-secret", "The name of a secret that waits for its deletion is not free yet.")
def name_of_a_deleted_secret() -> None:
    @wrap(SecretsManagerBackend, "create_secret")
    def create(original: Callable[..., Any], self: Any, name: str, *args: Any, **kwargs: Any) -> str:
        if name in self.secrets.keys() and self.secrets[name].is_deleted():  # noqa: SIM118 - its `in` hides these
            raise InvalidRequestException(
                "You can't create this secret because a secret with this name is already scheduled for deletion."
            )
        return original(self, name, *args, **kwargs)
