"""What a request to predict must hold: a dataframe as JSON, in any of the forms that pandas writes."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from .tables import NUTRIENTS, TARGET

MAX_ROWS = 10_000
#: More of anything in 100 g of food is a mistake. XGBoost computes with 32 bits and fails with what does not fit.
LARGEST_AMOUNT = 1e9

Amount = Annotated[float, Field(ge=0, le=LARGEST_AMOUNT, strict=True, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT, strict=True, allow_inf_nan=False)]

Food = create_model(
    "Food",
    __config__=ConfigDict(extra="forbid"),
    fid=(Annotated[int, Field(ge=0, lt=1 << 63, strict=True)], ...),
    **dict.fromkeys(NUTRIENTS, (Amount, ...)),
    **{TARGET: (Score | None, None)},
)


def rows_of(frame: Any) -> list:
    """Return the rows of a dataframe: of a list of rows, an object of columns, a split one, or a text of these."""
    if isinstance(frame, str):
        try:
            frame = json.loads(frame)
        except (ValueError, RecursionError):
            raise ValueError("the text is not JSON") from None
    if isinstance(frame, list):
        return frame
    if not isinstance(frame, dict):
        raise ValueError("must be a dataframe as JSON: a list of rows or an object of columns")
    if isinstance(frame.get("columns"), list) and isinstance(frame.get("data"), list):
        return _rows_of_split(frame["columns"], frame["data"])
    return _rows_of_columns(frame)


def _rows_of_split(columns: list, data: list) -> list[dict]:
    if not all(isinstance(column, str) for column in columns):
        raise ValueError("columns must be names")
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise ValueError(f"data[{number}] must be a list of {len(columns)} values")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _rows_of_columns(columns: dict) -> list[dict]:
    """The rows of {"fat": {"0": 1.5}} or {"fat": [1.5]}; every column must have the same rows."""
    if not columns:
        return []
    for name, column in columns.items():
        if not isinstance(column, list | dict):
            raise ValueError(f"the column {name!r} must be a list or an object of values")
    indexed = {n: c if isinstance(c, dict) else dict(enumerate(c)) for n, c in columns.items()}
    first, index = next((name, list(column)) for name, column in indexed.items())
    for name, column in indexed.items():
        if column.keys() != indexed[first].keys():
            raise ValueError(f"the columns {first!r} and {name!r} have different rows")
    return [{name: column[row] for name, column in indexed.items()} for row in index]


class PredictionRequest(BaseModel):
    """The body of POST /predict/{model_name}."""

    model_config = ConfigDict(extra="forbid")

    features: Annotated[
        list[Food],
        Field(min_length=1, max_length=MAX_ROWS),
        BeforeValidator(rows_of, json_schema_input_type=list[Food] | dict[str, Any] | str),
    ]


class PredictionAnswer(BaseModel):
    """The stored predictions, in the order of the rows."""

    model_name: str
    version: str
    ids: list[int]
    predictions: list[float]
