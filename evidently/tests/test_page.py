"""The Streamlit page, with the real service behind it."""

from __future__ import annotations

import pytest
from conftest import ROOT, foods, free_port
from streamlit.testing.v1 import AppTest

PAGE = str(ROOT / "model_service" / "page.py")
TITLES = ["Model performance", "Target drift"]


@pytest.fixture(scope="module")
def page_of_a_service(shared, start_for_module):
    """The page, before anything is pressed; its service has predictions of one model only."""
    shared.predict(foods(300), "xgboost_model")
    port = free_port()
    start_for_module(shared.environment, port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_SERVICE_URL", f"https://127.0.0.1:{port}")
        yield lambda: AppTest.from_file(PAGE, default_timeout=300).run()


def press(page: AppTest, title: str) -> AppTest:
    (button,) = [button for button in page.button if button.label == title]
    return button.click().run()


def reports(page: AppTest) -> list[str]:
    """Return the HTML of the reports that are shown."""
    return [element.proto.srcdoc for element in page.get("iframe")]


def test_the_page_has_its_inputs_and_no_report_yet(page_of_a_service):
    page = page_of_a_service()
    assert not page.exception and not page.error
    assert [button.label for button in page.button] == TITLES
    assert page.selectbox[0].options == ["xgboost_model", "linear_regression_model"]
    window = page.number_input[0]
    assert (window.label, window.value, window.min, window.max) == ("Window size", 3000, 1, 50_000)
    assert reports(page) == []


def test_both_reports_are_shown_below_each_other(page_of_a_service):
    page = page_of_a_service()
    page.number_input[0].set_value(200)
    for title in TITLES:
        page = press(page, title)
    assert not page.exception and not page.error
    assert [header.value for header in page.header] == TITLES
    caption = "xgboost_model: the latest 200 predictions beside the reference data of version 1"
    assert [shown.value for shown in page.caption] == [caption, caption]
    performance, drift = reports(page)
    assert "Regression Model Performance" in performance
    assert "Drift in column 'score'" in drift


def test_the_services_reason_is_shown(page_of_a_service):
    page = page_of_a_service()
    page.selectbox[0].set_value("linear_regression_model")
    page = press(page, "Model performance")
    assert [error.value for error in page.error] == [
        "409: none of the latest 0 predictions has a score to compare it with"
    ]
    assert reports(page) == []


def test_a_service_that_is_away_is_said(page_of_a_service, monkeypatch):
    monkeypatch.setenv("MODEL_SERVICE_URL", "https://127.0.0.1:9")
    page = page_of_a_service()
    assert [error.value for error in page.error] == ["https://127.0.0.1:9 does not answer: ConnectionError"]
    assert not page.exception


def test_a_missing_token_is_said(page_of_a_service, monkeypatch):
    monkeypatch.delenv("API_TOKEN_FILE")
    page = page_of_a_service()
    assert [error.value for error in page.error] == ["API_TOKEN_FILE is not set: name the file that holds the secret"]
    assert not page.exception
