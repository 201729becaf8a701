"""Evidently's reports: what they are of, and that they say what the data is."""

from __future__ import annotations

import json
import re

import pytest
from conftest import MODELS, foods

from model_service import reports
from model_service.foods import make_foods
from model_service.tables import NUTRIENTS

#: 800 predictions of foods as in training, then 400 of foods with far more sodium and sugars.
USUAL, SHIFTED = 800, 400


@pytest.fixture(scope="module")
def watched(shared):
    """The service after some predictions of each model."""
    changed = make_foods(SHIFTED, seed=5, shift=2.0)
    for model in MODELS:
        assert shared.predict(foods(USUAL), model).status_code == 200
        assert shared.predict(json.loads(changed.to_json(orient="records")), model).status_code == 200
    return shared


def test_the_performance_report_has_the_errors_of_the_predictions(watched):
    answer = watched.get("/monitor-model/linear_regression_model?window_size=5000")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert (answer.headers["X-Rows"], answer.headers["X-Model-Version"]) == (str(USUAL + SHIFTED), "1")
    assert "Regression Model Performance. Target: 'score" in answer.text
    for title in ("R2 Score (current)", "R2 Score (reference)", "Mean Absolute Percentage Error: Current"):
        assert title in answer.text
    ((error,),) = watched.sql("SELECT max(abs(score - predictions)) FROM linear_regression_prediction")
    assert f"{error:.3f}" in answer.text


@pytest.mark.parametrize("model", MODELS)
def test_the_drift_report_says_what_has_moved_in_the_window(watched, model):
    """The latest 400 are the shifted ones."""
    answer = watched.get(f"/monitor-target/{model}?window_size={SHIFTED}")
    assert answer.headers["X-Rows"] == str(SHIFTED)
    said = verdicts(answer.text)
    assert said.keys() == {*NUTRIENTS, "score", "predictions"}
    moved = {name for name, drifts in said.items() if drifts}
    assert {"sodium", "sugars", "score", "predictions"} <= moved
    assert not {"fat", "fiber", "iron", "protein"} & moved


def test_what_has_not_moved_does_not_drift(serving):
    serving.predict(foods(2000))
    said = verdicts(serving.get("/monitor-target/xgboost_model").text)
    assert not any(said[name] for name in ("sodium", "sugars", "score", "predictions"))


def verdicts(page: str) -> dict[str, bool]:
    """Return whether a drift report says of a column that it drifts."""
    inputs = re.findall(r'"column_name": "(\w+)".*?"data_drift": "([\w ]+)"', page)
    outputs = re.findall(r"\"Drift in column '(\w+)'\", \"label\": \"Data drift ([\w ]+)\.", page)
    return {name: said.lower() == "detected" for name, said in inputs + outputs}


def test_a_report_needs_nothing_from_elsewhere(watched):
    for kind in reports.REPORTS:
        page = watched.get(f"/{kind}/xgboost_model").text
        assert page.lstrip().lower().startswith(("<!doctype html", "<html"))
        assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', page) == []


def test_the_default_window_is_3000(watched):
    document = watched.get("/openapi.json").json()
    parameters = document["paths"]["/monitor-target/{model_name}"]["get"]["parameters"]
    (window,) = [parameter["schema"] for parameter in parameters if parameter["name"] == "window_size"]
    assert (window["default"], window["minimum"], window["maximum"]) == (3000, 1, 50_000)


@pytest.mark.parametrize("kind", reports.REPORTS)
def test_a_single_prediction_is_enough(serving, kind):
    serving.predict(foods(1))
    assert serving.get(f"/{kind}/xgboost_model").status_code == 200


@pytest.mark.parametrize("kind", reports.REPORTS)
def test_equal_predictions_are_no_trouble(serving, kind):
    serving.predict(foods(1) * 20)
    assert serving.get(f"/{kind}/xgboost_model").status_code == 200


@pytest.mark.parametrize("kind", reports.REPORTS)
def test_without_predictions_there_is_no_report(serving, kind):
    answer = serving.get(f"/{kind}/xgboost_model")
    assert answer.status_code == 409
    assert "predictions" in answer.json()["detail"]


@pytest.mark.parametrize("kind", reports.REPORTS)
def test_without_an_active_version_there_is_no_report(api, kind):
    answer = api.get(f"/{kind}/xgboost_model")
    assert answer.status_code == 409
    assert "no version of xgboost_model is active" in answer.json()["detail"]


def test_predictions_without_scores_have_drift_and_no_errors(serving):
    sent = [{name: value for name, value in food.items() if name != "score"} for food in foods(30)]
    serving.predict(sent)
    answer = serving.get("/monitor-model/xgboost_model")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "none of the latest 30 predictions has a score to compare it with"
    page = serving.get("/monitor-target/xgboost_model")
    assert page.status_code == 200
    assert "Drift in column 'predictions'" in page.text
    assert "Drift in column 'score'" not in page.text


def test_rows_without_a_score_are_left_out_of_the_errors(serving):
    serving.predict([food | {"score": None} for food in foods(30)])
    serving.predict(foods(5))
    assert serving.get("/monitor-model/xgboost_model").status_code == 200
