"""Versions: deploy, switch, roll back, list; each a second time too; what is refused, while the old one stays."""

from __future__ import annotations

import hashlib
import io
import json

import boto3
import joblib
import pytest
from conftest import ADMIN_TOKEN, foods
from fastapi.testclient import TestClient
from sklearn.dummy import DummyRegressor

from model_service.api import create_app
from model_service.settings import Settings

NAME = "xgboost_model"


def put(api, key: str, content: bytes) -> None:
    boto3.client("s3").put_object(Bucket=api.environment["MODELS_BUCKET"], Key=f"models/{NAME}/{key}", Body=content)


def get(api, key: str) -> bytes:
    answer = boto3.client("s3").get_object(Bucket=api.environment["MODELS_BUCKET"], Key=f"models/{NAME}/{key}")
    return answer["Body"].read()


def publish(api, version: str, model: object, reference: bytes | None = None) -> str:
    """Publish any object as a version, with right checksums; return that of the object."""
    file = io.BytesIO()
    joblib.dump(model, file)
    content = file.getvalue() if not isinstance(model, bytes) else model
    reference = get(api, "1.reference.csv") if reference is None else reference
    sums = {"sha256": hashlib.sha256(content).hexdigest(), "reference_sha256": hashlib.sha256(reference).hexdigest()}
    put(api, f"{version}.joblib", content)
    put(api, f"{version}.reference.csv", reference)
    put(api, f"{version}.json", json.dumps(sums).encode())
    return sums["sha256"]


def state(api) -> dict:
    return api.get(f"/models/{NAME}").json()


def used(api) -> str:
    """Return the version that really answers."""
    answer = api.predict(foods(3))
    assert answer.status_code == 200, answer.text
    return answer.json()["version"]


def test_deploying_again_changes_nothing(api):
    first, second = api.deploy("1"), api.deploy("1")
    assert (first.json()["changed"], second.json()["changed"]) == (True, False)
    assert first.json()["model"] == second.json()["model"] == state(api)
    manifest = json.loads(get(api, "1.json"))
    (version,) = state(api)["versions"]
    assert (version["version"], version["sha256"]) == ("1", manifest["sha256"])
    assert state(api)["active"] is None


def test_switching_again_changes_nothing(serving):
    serving.deploy("2")
    first, second = serving.switch("2"), serving.switch("2")
    assert (first.json()["changed"], second.json()["changed"]) == (True, False)
    assert (state(serving)["active"], state(serving)["previous"]) == ("2", "1")
    assert used(serving) == "2"


def test_a_version_predicts_as_its_file_does(serving):
    serving.deploy("2")
    sent = foods(5)
    before = serving.predict(sent).json()["predictions"]
    serving.switch("2")
    after = serving.predict(sent).json()["predictions"]
    model = joblib.load(io.BytesIO(get(serving, "2.joblib")))
    import pandas as pd

    from model_service.tables import NUTRIENTS

    assert after == pytest.approx(model.predict(pd.DataFrame(sent)[list(NUTRIENTS)]).tolist())
    assert before != after


def test_a_rollback_from_a_version_happens_once(serving):
    serving.deploy("2")
    serving.switch("2")
    first, second = serving.roll_back(from_version="2"), serving.roll_back(from_version="2")
    assert (first.json()["changed"], second.json()["changed"]) == (True, False)
    assert used(serving) == "1"


def test_rollbacks_go_back_step_by_step_and_not_forth_again(serving):
    publish(serving, "3", DummyRegressor(strategy="constant", constant=3.0).fit([[0]], [0]))
    for version in ("2", "3"):
        serving.deploy(version)
        serving.switch(version)
    seen = [used(serving)]
    for _ in range(2):
        assert serving.roll_back().json()["changed"]
        seen.append(used(serving))
    assert seen == ["3", "2", "1"]
    answer = serving.roll_back()
    assert answer.status_code == 409
    assert answer.json()["detail"] == "xgboost_model has no earlier version to roll back to"
    assert used(serving) == "1"


def test_a_rollback_before_the_first_switch_is_refused(api):
    assert api.roll_back().status_code == 409


def test_the_list_has_both_models(serving):
    assert [(model["name"], model["active"]) for model in serving.get("/models").json()] == [
        ("xgboost_model", "1"),
        ("linear_regression_model", "1"),
    ]


def test_models_have_versions_of_their_own(serving):
    serving.deploy("2")
    serving.switch("2")
    assert serving.get("/models/linear_regression_model").json()["active"] == "1"


def test_an_unpublished_version_is_404(serving):
    answer = serving.deploy("9")
    assert answer.status_code == 404
    assert "9.json: NoSuchKey" in answer.json()["detail"]


def test_a_version_that_is_not_deployed_cannot_become_active(serving):
    answer = serving.switch("2")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "version: 2 of xgboost_model is not deployed"
    assert used(serving) == "1"


def test_a_file_that_was_changed_is_refused_and_the_old_version_stays(serving):
    put(serving, "2.joblib", get(serving, "2.joblib") + b"x")
    answer = serving.deploy("2")
    assert answer.status_code == 409
    assert "has the checksum" in answer.json()["detail"]
    assert serving.switch("2").status_code == 404
    assert [version["version"] for version in state(serving)["versions"]] == ["1"]
    assert used(serving) == "1"


def test_reference_data_that_was_changed_is_refused(serving):
    put(serving, "2.reference.csv", get(serving, "1.reference.csv"))
    assert serving.deploy("2").status_code == 409
    assert state(serving)["active"] == "1"


def test_another_checksum_than_the_caller_expects_is_refused(serving):
    answer = serving.deploy("2", sha256="0" * 64)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("sha256: the manifest of xgboost_model 2 has")
    right = json.loads(get(serving, "2.json"))["sha256"]
    assert serving.deploy("2", sha256=right).json()["changed"]


def test_a_deployed_version_never_changes(serving):
    publish(serving, "1", DummyRegressor(strategy="constant", constant=1.0).fit([[0]], [0]))
    answer = serving.deploy("1")
    assert answer.status_code == 409
    assert "a version never changes" in answer.json()["detail"]
    assert used(serving) == "1"


class Raises:
    def predict(self, foods):
        raise RuntimeError("secret detail")


class Exits:
    def predict(self, foods):
        return [float("nan")] * len(foods)


class Short:
    def predict(self, foods):
        return [1.0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no pickle", "cannot be loaded"),
        (b"", "cannot be loaded"),
        ({"no": "model"}, "has no method predict"),
        (Raises(), "fails to predict: RuntimeError"),
        (Exits(), "does not predict one finite number"),
        (Short(), "does not predict one finite number"),
        (DummyRegressor(), "fails to predict: NotFittedError"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_predict_is_not_deployed(serving, content, reason):
    publish(serving, "3", content)
    answer = serving.deploy("3")
    assert answer.status_code == 409
    assert reason in answer.json()["detail"]
    assert "secret" not in answer.text
    assert used(serving) == "1"


@pytest.mark.parametrize("reference", [b"", b"fat,sodium\n1,2\n", b"\xff\xfe", b"one,text\na,b\n"])
def test_reference_data_that_reports_cannot_use_is_refused(serving, reference):
    publish(serving, "3", DummyRegressor().fit([[0]], [0]), reference)
    answer = serving.deploy("3")
    assert answer.status_code == 409
    assert "the reference data of xgboost_model 3" in answer.json()["detail"]


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'{"sha256": 1, "reference_sha256": 2}', b"[" * 50_000])
def test_what_is_no_manifest_is_refused(serving, manifest):
    put(serving, "3.json", manifest)
    answer = serving.deploy("3")
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("models/xgboost_model/3.json")


def restarted(api, **changes: str) -> TestClient:
    """The service as after a restart: nothing in memory, all in the database, S3 and the cache."""
    return TestClient(create_app(Settings.from_environment(api.environment | changes)), raise_server_exceptions=False)


def test_a_restart_without_s3_finds_the_models_in_the_cache(serving, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with restarted(serving) as client:
        assert client.get("/readyz").status_code == 200


def test_a_file_changed_after_its_deployment_is_not_loaded_by_a_new_machine(serving, tmp_path):
    """The other model still answers, /readyz says which one does not, and prediction is refused with the reason."""
    put(serving, "1.joblib", get(serving, "2.joblib"))
    put(serving, "1.json", get(serving, "2.json"))
    with restarted(serving, MODELS_CACHE=str(tmp_path / "another")) as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["models"] == {
            "xgboost_model": {"version": "1", "loaded": False},
            "linear_regression_model": {"version": "1", "loaded": True},
        }
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        body = {"features": foods(1)}
        refused = client.post("/predict/xgboost_model", json=body, headers=headers)
        assert refused.status_code == 503
        assert "has the checksum" in refused.json()["detail"]
        assert client.post("/predict/linear_regression_model", json=body, headers=headers).status_code == 200


def test_a_damaged_copy_is_fetched_again(serving):
    sha256 = json.loads(get(serving, "1.json"))["sha256"]
    from pathlib import Path

    copy = Path(serving.environment["MODELS_CACHE"], sha256)
    copy.write_bytes(b"half")
    with restarted(serving) as client:
        assert client.get("/readyz").status_code == 200
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == sha256


def test_s3_out_of_reach_is_503(serving, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with restarted(serving) as client:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        answer = client.put("/models/xgboost_model/versions/2", json={}, headers=headers)
    assert answer.status_code == 503
    assert answer.json()["detail"].endswith("2.json: EndpointConnectionError")
