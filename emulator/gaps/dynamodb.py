"""Gaps of DynamoDB."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler

from emulator.gaps import gap, wrap


@gap("dynamodb", "table-description", "A table has an id, and lists of indexes only when it has indexes.")
def table_description() -> None:
    @wrap(Table, "__init__")
    def init(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.table_id = str(uuid.uuid4())

    @wrap(Table, "describe")
    def describe(original: Callable[..., Any], self: Any, base_key: str = "TableDescription") -> dict[str, Any]:
        result = original(self, base_key)
        result[base_key]["TableId"] = self.table_id
        for indexes in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes"):
            if not result[base_key][indexes]:
                del result[base_key][indexes]
        return result


@gap("dynamodb", "time-to-live-twice", "Setting the time to live to what it is already is refused.")
def time_to_live_twice() -> None:
    @wrap(DynamoDBBackend, "update_time_to_live")
    def update(original: Callable[..., Any], self: Any, table_name: str, ttl_spec: dict[str, Any]) -> None:
        enabled = self.get_table(table_name).ttl.get("TimeToLiveStatus") == "ENABLED"
        if enabled == ttl_spec.get("Enabled"):
            raise MockValidationException(f"TimeToLive is already {'enabled' if enabled else 'disabled'}")
        original(self, table_name, ttl_spec)


@gap("dynamodb", "update-table-encryption", "UpdateTable changes the key that encrypts the table.")
def update_table_encryption() -> None:
    @wrap(DynamoHandler, "update_table")
    def update(original: Callable[..., Any], self: Any) -> Any:
        answer = original(self)
        if "SSESpecification" in self.body:
            table = self.dynamodb_backend.get_table(self.body["TableName"])
            table.sse_specification = self.body["SSESpecification"]
        return answer
