"""Train the seed models on foods that are made up, and publish them as versions in S3."""

import io
from collections.abc import Callable
from typing import Any

import joblib
import pandas as pd

from .foods import make_foods
from .store import Store
from .tables import NUTRIENTS, PREDICTION, TARGET

ROWS = 3000


def train_xgboost(foods: pd.DataFrame, seed: int) -> Any:
    """Return boosted trees."""
    from xgboost import XGBRegressor  # the service loads it with a model, or never

    # One thread for a request: the workers share the cores.
    model = XGBRegressor(n_estimators=150, max_depth=4, learning_rate=0.1, n_jobs=1, random_state=seed)
    return model.fit(foods[list(NUTRIENTS)], foods[TARGET])


def train_linear_regression(foods: pd.DataFrame, seed: int) -> Any:
    """Return a line; the seed changes nothing, its data has done that."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(foods[list(NUTRIENTS)], foods[TARGET])


TRAINERS: dict[str, Callable[[pd.DataFrame, int], Any]] = {
    "xgboost_model": train_xgboost,
    "linear_regression_model": train_linear_regression,
}


def train(store: Store, model_name: str, version: str, seed: int) -> bool:
    """Publish a version with its reference data; return False where S3 has it already."""
    # A third each for training, reference and, with the next seed, what `simulate` sends.
    foods = make_foods(2 * ROWS, seed)
    model = TRAINERS[model_name](foods[:ROWS], seed)
    content = io.BytesIO()
    joblib.dump(model, content)
    return store.publish(model_name, version, content.getvalue(), reference_of(model, foods[ROWS:]))


def reference_of(model: Any, foods: pd.DataFrame) -> bytes:
    """Return foods that the model has not seen, with its predictions, as CSV."""
    predicted = foods.assign(**{PREDICTION: model.predict(foods[list(NUTRIENTS)])})
    return predicted[[*NUTRIENTS, TARGET, PREDICTION]].to_csv(index=False).encode()
