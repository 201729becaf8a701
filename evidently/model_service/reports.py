"""Evidently's reports: the latest predictions of a model beside the reference data of its active version."""

from collections.abc import Callable

import pandas as pd
from sqlalchemy import Connection, select

from .tables import NUTRIENTS, PREDICTION, PREDICTIONS, TARGET


class NotEnoughData(Exception):
    """There is nothing yet to report on; the message says what is missing."""


def latest(connection: Connection, model: str, window: int) -> pd.DataFrame:
    """Return the latest predictions, oldest first."""
    table = PREDICTIONS[model]
    columns = [table.c[name] for name in (*NUTRIENTS, TARGET, PREDICTION)]
    rows = connection.execute(select(*columns).order_by(table.c.id.desc()).limit(window)).all()
    return pd.DataFrame(rows[::-1], columns=[column.name for column in columns]).astype(float)


def performance(current: pd.DataFrame, reference: pd.DataFrame) -> str:
    """Return the report on the model's errors. Rows whose score is not known yet are left out."""
    known = current.dropna(subset=[TARGET])
    if known.empty:
        raise NotEnoughData(f"none of the latest {len(current)} predictions has a score to compare it with")
    from evidently.presets import RegressionPreset  # see _html

    return _html([RegressionPreset()], known, reference)


def drift(current: pd.DataFrame, reference: pd.DataFrame) -> str:
    """Return the report on how target, predictions and features have moved away from the reference data."""
    if current.empty:
        raise NotEnoughData("there are no predictions yet")
    from evidently.metrics import ValueDrift  # see _html
    from evidently.presets import DataDriftPreset

    watched = [name for name in (TARGET, PREDICTION) if current[name].notna().any()]
    return _html(
        [*(ValueDrift(column=name) for name in watched), DataDriftPreset(columns=list(NUTRIENTS))], current, reference
    )


def _html(metrics: list, current: pd.DataFrame, reference: pd.DataFrame) -> str:
    # Imported by the first report: it takes seconds, which a restarted service should not wait before it predicts.
    from evidently import DataDefinition, Dataset, Regression, Report

    definition = DataDefinition(
        numerical_columns=[*NUTRIENTS, TARGET, PREDICTION],
        regression=[Regression(target=TARGET, prediction=PREDICTION)],
    )
    datasets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    # Not as an iframe: the page is whole, and brings its scripts with it.
    return Report(metrics).run(*datasets).get_html_str(as_iframe=False)


REPORTS: dict[str, Callable[[pd.DataFrame, pd.DataFrame], str]] = {
    "monitor-model": performance,
    "monitor-target": drift,
}
