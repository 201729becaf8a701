"""Predictions: what comes back, what is stored, in which forms a dataframe may be sent."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from conftest import MODELS, TABLES, foods

from model_service.tables import NUTRIENTS


@pytest.mark.parametrize("model", MODELS)
def test_each_prediction_is_stored_with_its_row(serving, model):
    sent = foods(50)
    answer = serving.predict(sent, model)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model_name"], body["version"]) == (model, "1")
    columns = ["id", "fid", *NUTRIENTS, "score", "predictions", "model_version"]
    names = ", ".join(f'"{column}"' for column in columns)
    stored = serving.sql(f"SELECT {names} FROM {TABLES[model]} ORDER BY id")
    assert [dict(zip(columns, row, strict=True)) for row in stored] == [
        {"id": number, **food, "predictions": value, "model_version": "1"}
        for number, food, value in zip(body["ids"], sent, body["predictions"], strict=True)
    ]


@pytest.mark.parametrize(("model", "error"), [("xgboost_model", 4.0), ("linear_regression_model", 5.0)])
def test_the_seed_models_predict_the_score_of_foods_that_they_have_not_seen(shared, model, error):
    sent = foods(500)
    values = shared.predict(sent, model).json()["predictions"]
    differences = [abs(value - food["score"]) for value, food in zip(values, sent, strict=True)]
    spread = pd.Series([food["score"] for food in sent]).std()
    assert sum(differences) / len(sent) < error < spread


def test_a_row_needs_no_score(serving):
    sent = [{name: value for name, value in food.items() if name != "score"} for food in foods(2)]
    assert serving.predict(sent).status_code == 200
    assert serving.sql("SELECT score FROM xgboost_prediction") == [(None,), (None,)]


FORMS = {
    "records": lambda frame: json.loads(frame.to_json(orient="records")),
    "columns": lambda frame: json.loads(frame.to_json()),
    "lists": lambda frame: json.loads(json.dumps(frame.to_dict(orient="list"))),
    "split": lambda frame: json.loads(frame.to_json(orient="split")),
    "text": lambda frame: frame.to_json(),
    "text of records": lambda frame: frame.to_json(orient="records"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_dataframe_may_have_any_form_that_pandas_writes(shared, form):
    sent = foods(12)
    expected = shared.predict(sent).json()["predictions"]
    answer = shared.predict(FORMS[form](pd.DataFrame(sent, index=range(5, 17))))
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == expected


def test_there_is_no_prediction_before_a_version_is_active(api):
    assert api.deploy("1").status_code == 200
    answer = api.predict(foods(1))
    assert answer.status_code == 409
    assert "no version of xgboost_model is active" in answer.json()["detail"]
    assert api.sql("SELECT count(*) FROM xgboost_prediction") == [(0,)]


def test_an_answer_comes_only_after_the_commit(serving):
    """PostgreSQL refuses at the commit itself, after it took the rows: the client must not get predictions."""
    serving.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
    )
    serving.sql(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON xgboost_prediction DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    answer = serving.predict(foods(3))
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the database does not answer; nothing was stored"}
    assert serving.sql("SELECT count(*) FROM xgboost_prediction") == [(0,)]
