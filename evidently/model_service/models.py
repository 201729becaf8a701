"""The models in memory: loaded from their local copies when they are first needed, and only with the right checksum."""

import io
import threading
from collections import OrderedDict
from typing import Any

import joblib
import numpy as np
import pandas as pd

from .store import Store, WrongFile
from .tables import NUTRIENTS, PREDICTION, TARGET
from .versions import Version

#: Two models with the active and the previous version of each.
KEPT = 4


class Models:
    """What is loaded in this process."""

    def __init__(self, store: Store):
        self._store = store
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, version: Version) -> Any:
        """Return a model. Its file is copied before the lock is taken, so that no other version waits for S3."""
        sha256 = version.manifest.sha256
        model = self._loaded.get(sha256)
        if model is None:
            content = self._store.model_file(version.model, version.version, sha256).read_bytes()
            with self._lock:
                model = self._loaded.get(sha256)
                if model is None:
                    model = self._load(version, content)
        return model

    def reference(self, version: Version) -> pd.DataFrame:
        """Return the rows that reports on a version compare with."""
        path = self._store.reference_file(version.model, version.version, version.manifest.reference_sha256)
        try:
            frame = pd.read_csv(path)
            return frame[[*NUTRIENTS, TARGET, PREDICTION]].astype(float)
        except (ValueError, KeyError) as error:
            raise WrongFile(
                f"the reference data of {version.model} {version.version} cannot be used: {error}"
            ) from error

    def rehearse(self, version: Version) -> None:
        """Load a version and let it predict its reference data, so that a switch to it meets no surprise."""
        reference = self.reference(version)
        if reference.empty:
            raise WrongFile(f"the reference data of {version.model} {version.version} has no rows")
        predict(self.get(version), reference.head(10), version)

    def _load(self, version: Version, content: bytes) -> Any:
        try:
            model = joblib.load(io.BytesIO(content))
        # Unpickling may raise anything that the pickled classes raise.
        except Exception as error:
            raise WrongFile(
                f"{version.model} {version.version} cannot be loaded: {error.__class__.__name__}"
            ) from error
        if not callable(getattr(model, "predict", None)):
            raise WrongFile(f"{version.model} {version.version} has no method predict")
        self._loaded[version.manifest.sha256] = model
        while len(self._loaded) > KEPT:
            self._loaded.popitem(last=False)
        return model


def predict(model: Any, foods: pd.DataFrame, version: Version) -> list[float]:
    """Return a finite number for each row."""
    try:
        values = np.asarray(model.predict(foods[list(NUTRIENTS)]), dtype=float)
    # A model is code that we don't know: whatever it raises is its failure, and is told as such.
    except Exception as error:
        raise WrongFile(f"{version.model} {version.version} fails to predict: {error.__class__.__name__}") from error
    if values.shape != (len(foods),) or not np.isfinite(values).all():
        raise WrongFile(f"{version.model} {version.version} does not predict one finite number for each row")
    return values.tolist()
