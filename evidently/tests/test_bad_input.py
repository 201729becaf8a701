"""Bad input is always refused with a reason: 422 with the field's name, or another 4xx; never 500."""

from __future__ import annotations

import json

import pytest
from conftest import ADMIN_TOKEN, API_TOKEN, foods

FOOD = foods(1)[0]


def without(name: str) -> dict:
    return {key: value for key, value in FOOD.items() if key != name}


#: What is sent as `features`, and the field that the answer must name.
BAD_FEATURES = {
    "no rows": ([], "features"),
    "no columns": ({}, "features"),
    "null": (None, "features"),
    "a number": (7, "features"),
    "a truth": (True, "features"),
    "a text that is no JSON": ("fat, sodium", "features"),
    "an empty text": ("", "features"),
    "a text of a number": ("1", "features"),
    "a text in a text": (json.dumps(json.dumps([FOOD])), "features"),
    "a deep text": ("[" * 100_000, "features"),
    "a row that is a list": ([[1, 2]], "features[0]"),
    "a row that is null": ([FOOD, None], "features[1]"),
    "a missing nutrient": ([without("sodium")], "features[0].sodium"),
    "a missing id": ([without("fid")], "features[0].fid"),
    "a nutrient too many": ([FOOD | {"vitamins": 1.0}], "features[0].vitamins"),
    "an index column": ([FOOD | {"": 0}], "features[0]."),
    "a prediction": ([FOOD | {"predictions": 1.0}], "features[0].predictions"),
    "a null nutrient": ([FOOD | {"fat": None}], "features[0].fat"),
    "a text": ([FOOD | {"fat": "much"}], "features[0].fat"),
    "a number as text": ([FOOD | {"fat": "1.5"}], "features[0].fat"),
    "a truth as nutrient": ([FOOD | {"fat": True}], "features[0].fat"),
    "a list": ([FOOD | {"fat": [1.0]}], "features[0].fat"),
    "an object": ([FOOD | {"fat": {"value": 1.0}}], "features[0].fat"),
    "a negative amount": ([FOOD | {"fat": -0.1}], "features[0].fat"),
    "what 32 bits can't hold": ([FOOD | {"fat": 1e300}], "features[0].fat"),
    "an id below zero": ([FOOD | {"fid": -1}], "features[0].fid"),
    "an id with a fraction": ([FOOD | {"fid": 1.5}], "features[0].fid"),
    "an id of 65 bits": ([FOOD | {"fid": 1 << 64}], "features[0].fid"),
    "an id that is a text": ([FOOD | {"fid": "167512"}], "features[0].fid"),
    "a score that is a text": ([FOOD | {"score": "A"}], "features[0].score"),
    "a score of any size": ([FOOD | {"score": 1e308}], "features[0].score"),
    "the second row": ([FOOD, FOOD | {"iron": None}], "features[1].iron"),
    "columns of one value each": (FOOD, "features"),
    "columns of different length": ({name: [1, 2] for name in FOOD} | {"fat": [1]}, "features"),
    "columns with different rows": ({name: {"0": 1} for name in FOOD} | {"fat": {"1": 1}}, "features"),
    "a split without names": ({"columns": [1, 2], "data": [[1, 2]]}, "features"),
    "a split with a short row": ({"columns": list(FOOD), "data": [[1, 2]]}, "features"),
    "a split with a row that is none": ({"columns": list(FOOD), "data": [7]}, "features"),
    "half a surrogate pair as name": ([FOOD | {"\ud800": 1.0}], "features[0]"),
    "half a surrogate pair as column": ({"\ud800": 1.0}, "features"),
    "half a surrogate pair as value": ([FOOD | {"fat": "\ud800"}], "features[0].fat"),
    "a NUL as name": ([FOOD | {"\0": 1.0}], "features[0].\0"),
    "too many rows": ([FOOD] * 10_001, "features"),
}


@pytest.mark.parametrize("case", BAD_FEATURES)
def test_wrong_features_are_422_with_the_field(shared, case):
    features, field = BAD_FEATURES[case]
    answer = shared.predict(features)
    assert answer.status_code == 422, answer.text
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert answer.json()["detail"].startswith("features")
    assert all(error["reason"] for error in answer.json()["errors"])
    assert shared.sql("SELECT count(*) FROM xgboost_prediction") == [(0,)]


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(shared, constant):
    body = json.dumps({"features": [FOOD | {"fat": 12345.678}]}).replace("12345.678", constant)
    answer = shared.call("POST", "/predict/xgboost_model", content=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "features[0].fat"


BAD_BODIES = {
    "nothing": b"",
    "white space": b"  \n",
    "half an object": b'{"features": [',
    "a list": b"[]",
    "a text": b'"features"',
    "null": b"null",
    "another member": b'{"rows": []}',
    "a member too many": json.dumps({"features": [FOOD], "model": "x"}).encode(),
    "bytes that are no UTF-8": b'{"features": "\xff\xfe"}',
    "UTF-16": json.dumps({"rows": []}).encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"features": 1}',
    "NUL": b"\0" * 100,
    "depth": b'{"features": ' + b"[" * 200_000,
    "a number of 5,000 digits": b'{"features": [{"fid": ' + b"9" * 5000 + b"}]}",
    "a form": b"features=1&model=2",
    "XML": b"<features/>",
    "gzip": b"\x1f\x8b\x08\x00" + b"\0" * 20,
}


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "x"])
@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_that_is_no_request_is_4xx_with_a_reason(shared, case, content_type):
    headers = {"Authorization": f"Bearer {API_TOKEN}", "Content-Type": content_type}
    answer = shared.client.request("POST", "/predict/xgboost_model", content=BAD_BODIES[case], headers=headers)
    assert answer.status_code in (400, 415, 422), answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize("path", ["/predict/{}", "/monitor-model/{}", "/monitor-target/{}", "/models/{}"])
@pytest.mark.parametrize(
    "name", ["lstm_model", "xgboost_prediction", "%00", "%ff", "..%2f..", "'; DROP TABLE x", "€", " "]
)
def test_an_unknown_model_is_404(shared, path, name):
    method = "POST" if "predict" in path else "GET"
    answer = shared.call(method, path.format(name), **({"json": {"features": [FOOD]}} if method == "POST" else {}))
    assert answer.status_code == 404
    assert answer.json()["detail"]


@pytest.mark.parametrize("window", ["0", "-1", "1.5", "many", "", "50001", "1e3", "9" * 5000, "NaN", "%00"])
@pytest.mark.parametrize("kind", ["monitor-model", "monitor-target"])
def test_a_wrong_window_is_422_with_its_name(shared, kind, window):
    answer = shared.get(f"/{kind}/xgboost_model?window_size={window}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "window_size"


@pytest.mark.parametrize("version", ["", " ", ".", "../1", "a" * 65, "1/2", "1\0", 1, None, ["1"], "\ud800"])
def test_a_wrong_version_to_switch_to_is_422_with_its_name(shared, version):
    answer = shared.switch(version)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "version"


@pytest.mark.parametrize("sha256", ["", "abc", "G" * 64, 7, "A" * 64])
def test_a_wrong_checksum_to_deploy_is_422_with_its_name(shared, sha256):
    answer = shared.deploy("2", sha256=sha256)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "sha256"


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict/xgboost_model"), ("DELETE", "/models"), ("POST", "/")])
def test_a_wrong_method_is_405(shared, method, path):
    assert shared.call(method, path, ADMIN_TOKEN).status_code == 405


def test_a_refusal_repeats_no_more_than_a_few_of_many_reasons(shared):
    answer = shared.predict([{}] * 1000)
    assert len(answer.json()["errors"]) == 20
    assert "(and 13999 more)" in answer.json()["detail"]
