"""What the example flows share: foods that are made up, where results are found, how documents reach an ELK host."""

import os

NUTRIENTS = ["fat", "sugars", "sodium", "fiber", "protein", "calcium"]
TARGET = "score"

#: Kind of food -> the words of its names, and its mean nutrients in 100 g (sodium and calcium in mg, others in g).
KINDS = {
    "fruit": (["apple", "pear", "plum", "cherry"], [0.4, 11, 2, 2.5, 0.7, 12]),
    "cheese": (["brie", "gouda", "feta", "cheddar"], [29, 0.8, 780, 0, 23, 620]),
    "bread": (["rye", "wheat", "spelt", "oat"], [3.5, 4.5, 480, 6.5, 9, 45]),
    "fish": (["cod", "trout", "tuna", "herring"], [8, 0.2, 160, 0, 21, 30]),
    "sweet": (["toffee", "fudge", "nougat", "praline"], [19, 58, 110, 1.5, 4, 70]),
}
STYLES = ["fresh", "organic", "smoked", "light", "salted", "country"]


def make_foods(number, rows):
    """Return the part ``number`` of the foods, always the same: id, name, kind, nutrients and score.

    The score falls with sugars and sodium only up to a point: trees can follow that, and no line.
    """
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(number)
    kinds = random.choice(list(KINDS), rows)
    means = np.array([KINDS[kind][1] for kind in kinds])
    foods = pd.DataFrame(random.gamma(12, (means + 0.05) / 12), columns=NUTRIENTS).round(2)
    names = [f"{random.choice(STYLES)} {random.choice(KINDS[kind][0])}" for kind in kinds]
    foods.insert(0, "id", np.arange(rows) + number * rows)
    foods.insert(1, "name", names)
    foods.insert(2, "kind", kinds)
    good = 1.8 * foods.fiber + 0.9 * foods.protein + 0.01 * foods.calcium
    bad = 0.6 * foods.sugars.clip(upper=25) + 0.015 * foods.sodium.clip(upper=600) + 0.4 * foods.fat
    foods[TARGET] = (50 + good - bad + random.normal(0, 1.5, rows)).round(2)
    return foods


def latest(flow):
    """Return what the flow's latest successful run has in its end step.

    :raises RuntimeError: if it has not succeeded yet.
    """
    from metaflow import Flow, namespace

    namespace(None)  # whoever ran it
    run = Flow(flow).latest_successful_run
    if run is None:
        raise RuntimeError(f"{flow} has not succeeded yet; run it first, or run the chain")
    print(f"Results of {run.pathspec}")
    return run.data


def errors(truth, predicted):
    """Return the usual measures of a regression, rounded."""
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "rmse": round(float(root_mean_squared_error(truth, predicted)), 3),
        "mae": round(float(mean_absolute_error(truth, predicted)), 3),
        "r2": round(float(r2_score(truth, predicted)), 3),
    }


def index_documents(index, documents):
    """Index documents, by their "id", into the ELK host, where one is configured (ES_ENDPOINT); return how many.

    A document that is indexed again replaces itself, so a step may be retried.
    """
    endpoint = os.environ.get("ES_ENDPOINT")
    if not endpoint:
        print(f"No ELK host is configured (ES_ENDPOINT), so nothing is indexed into {index}.")
        return 0
    from elasticsearch import Elasticsearch
    from elasticsearch.helpers import bulk

    user = (os.environ["ES_USERNAME"], os.environ["ES_PASSWORD"])
    with Elasticsearch(endpoint, basic_auth=user, ca_certs=os.environ.get("ES_CA_CERTS")) as client:
        done, _ = bulk(client, ({"_index": index, "_id": one["id"], **one} for one in documents))
    print(f"{done} documents indexed into {index}.")
    return done
