"""Foods that are made up: the nutrients of 100 g, and a score that follows from them."""

import numpy as np
import pandas as pd

from .tables import NUTRIENTS, TARGET

#: Shape and scale of each nutrient's gamma distribution, in g; cholesterol, sodium, calcium, iron, potassium in mg.
DISTRIBUTIONS = {
    "fat": (1.2, 9.0),
    "saturatedFat": (1.0, 3.5),
    "transFat": (0.3, 0.4),
    "cholesterol": (0.6, 45.0),
    "sodium": (0.9, 380.0),
    "carbohydrates": (1.4, 17.0),
    "fiber": (0.8, 3.0),
    "sugars": (0.7, 11.0),
    "protein": (1.3, 7.0),
    "calcium": (0.8, 95.0),
    "iron": (0.9, 1.8),
    "potassium": (1.5, 150.0),
}
NOISE = 1.5


def make_foods(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Return foods with fid, nutrients and score; a shift of 0.3 has 30% more sodium and sugars."""
    random = np.random.default_rng(seed)
    foods = pd.DataFrame({name: random.gamma(*shape, rows) for name, shape in DISTRIBUTIONS.items()})
    foods[["sodium", "sugars"]] *= 1 + shift
    foods["calories"] = 9 * foods.fat + 4 * (foods.carbohydrates + foods.protein)
    foods = foods[list(NUTRIENTS)].round(3)
    foods[TARGET] = (_score(foods) + random.normal(0, NOISE, rows)).round(3)
    foods.insert(0, "fid", random.integers(100_000, 3_000_000, rows))
    return foods


def _score(foods: pd.DataFrame) -> pd.Series:
    """Return a score around 50. What is bad is bad only up to a point, which trees can follow, and no line."""
    good = 0.9 * foods.protein + 2.0 * foods.fiber + 0.4 * foods.iron + 0.006 * foods.potassium
    bad = 0.012 * foods.sodium.clip(upper=1000) + 0.5 * foods.sugars.clip(upper=25) + 1.1 * foods.saturatedFat
    return 50 + good - bad - 3.0 * foods.transFat - 0.01 * foods.calories
