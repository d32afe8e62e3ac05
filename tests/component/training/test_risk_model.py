"""Training for real: Ray Train, MLflow on SQLite, Delta; what is logged, and that it is registered once."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from data_pipeline.features import kernel, plain_inputs
from mediscale.core import tasks
from mediscale.core.errors import QualityError, UsageError
from mediscale.core.settings import Settings
from mediscale.inference import model_files, tabular
from mediscale.inference.model_spec import NOTICE, PredictorSpec
from mediscale.storage import registry
from training import tracking, training_examples
from training.statistics import metrics
from training.tabular import importance, risk_model, xgboost_training
from training.tabular.recipe import Recipe
from training.tracking import Training


@pytest.fixture
def folder(world):
    return world.settings.home / world.model.uri


@pytest.fixture
def client(world) -> MlflowClient:
    return registry.client(world.settings)


def test_the_folder_holds_native_files_and_the_digest_is_theirs(world, folder) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {"model.json", "MLmodel", "predictor.json", "requirements.txt"} <= names
    assert not any(name.endswith((".pkl", ".joblib", ".pickle")) for name in names)
    assert model_files.digest(folder) == world.model.digest


def test_two_homes_with_equal_models_agree_on_the_digest_and_each_says_who_made_its_own(
    world, client, freeze, tmp_path
) -> None:
    other = Settings(home=tmp_path / "other")
    frozen = freeze(other, "mortality", world.hospital.rows)
    training = world.training.model_copy(update={"training_set": frozen})
    model = risk_model.run(training, other, "f" * 32).model
    assert model.digest == world.model.digest
    assert model.uri != world.model.uri
    keys = [
        found.get_model_version(model.name, "1").tags[registry.KEY_TAG]
        for found in (client, registry.client(other))
    ]
    assert keys == ["0123456789abcdef" * 2, "f" * 32]


def test_the_predictor_tells_what_serving_needs(world, folder) -> None:
    spec = PredictorSpec.model_validate_json((folder / "predictor.json").read_text())
    booster = xgboost.Booster(model_file=folder / "model.json")
    assert spec.features == kernel.names("mortality") == tuple(booster.feature_names)
    assert booster.num_boosted_rounds() == spec.best_iteration + 1 < 120
    assert set(spec.thresholds) == {"clinical", "sensitive", "specific"}
    assert spec.notice == NOTICE
    assert spec.usual_ranges.keys() == {*spec.plain_inputs} - {"sex"}
    assert all(-4 < low < -2 < 2 < high < 4 for low, high in spec.usual_ranges.values()), "normal inputs"
    assert spec.may_be_asked == tasks.load("mortality").may_be_asked
    top = sorted(spec.importance, key=spec.importance.__getitem__)[-8:]
    assert all(name.startswith(world.hospital.signals) for name in top)
    most = {item.name: max(band.points for band in item.bands) for item in spec.points.items}
    assert set(sorted(most, key=most.__getitem__)[-4:]) <= set(world.hospital.signals)


def test_known_answers_come_out_of_the_trees_and_add_up(folder) -> None:
    spec = PredictorSpec.model_validate_json((folder / "predictor.json").read_text())
    booster = xgboost.Booster(model_file=folder / "model.json")
    for answer in spec.known_answers:
        row = np.array([[np.nan if x is None else x for x in answer.inputs]], dtype=np.float32)
        margin = booster.predict(xgboost.DMatrix(row, feature_names=list(spec.features)), output_margin=True)[
            0
        ]
        assert answer.margin == pytest.approx(margin, abs=1e-4)
        assert spec.bias + sum(answer.contributions) == pytest.approx(answer.margin, abs=1e-6)
        log_odds = spec.calibration.slope * answer.margin + spec.calibration.intercept
        assert answer.risk == pytest.approx(1 / (1 + np.exp(-log_odds)))


def test_no_row_of_a_patient_is_in_the_folder(world, folder) -> None:
    names = kernel.names("mortality")
    rows = training_examples.load(world.settings, world.training.training_set, "train", names)
    spec = PredictorSpec.model_validate_json((folder / "predictor.json").read_text())
    known = np.array([[np.nan if x is None else x for x in answer.inputs] for answer in spec.known_answers])
    assert not any((rows.inputs == row.astype(np.float32)).all(axis=1).any() for row in known)
    text = "".join(path.read_text() for path in folder.iterdir() if path.is_file())
    assert not any(str(subject) in text for subject in rows.subjects[:50])


def test_mlflow_shows_parameters_curves_lineage_signature_and_plot(world, client) -> None:
    run = client.get_run(world.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["rounds"] == "120"
    assert json.loads(run.data.params["training_set"])["version"] == world.training.training_set.version
    curve = client.get_metric_history(world.run_id, "log_loss_tuning")
    assert len(curve) > 20
    assert curve[-1].value < curve[0].value
    inputs = {i.dataset.name: json.loads(i.dataset.source) for i in run.inputs.dataset_inputs}
    assert (
        inputs["training_set_mortality/train"]["delta_table_version"] == world.training.training_set.version
    )
    signature = mlflow.models.Model.load(str(world.settings.home / world.model.uri)).signature
    assert signature.inputs.input_names() == list(kernel.names("mortality"))


def test_what_mlflow_shows_of_shap_are_means_and_no_patient_s_values(world, client) -> None:
    """The mean of what the server's own exact values are over the sampled training rows, as figures and as bars."""
    names = {artifact.path for artifact in client.list_artifacts(world.run_id)}
    assert names == {"shap_importance.json", "shap_importance.png", "evidence"}
    files = {name: Path(client.download_artifacts(world.run_id, name)) for name in names}
    shown = json.loads(files["shap_importance.json"].read_text())
    predictor = tabular.load(world.settings, world.model, "mortality")
    rows = training_examples.load(
        world.settings, world.training.training_set, "train", predictor.spec.features
    )
    chosen = np.sort(np.random.default_rng(world.training.seed).permutation(len(rows))[: importance.SAMPLE])
    exact = [np.abs(predictor.score(row).contributions) for row in rows.inputs[chosen].astype(np.float64)]
    means = np.mean(exact, axis=0) / predictor.spec.calibration.slope
    assert shown == pytest.approx(dict(zip(predictor.spec.features, means, strict=True)), abs=1e-4)
    assert _bars(files["shap_importance.png"]) >= 5


def _bars(picture: Path) -> int:
    """Horizontal bars in their blue, counted along the column of pixels that most of them cross."""
    from matplotlib import image

    pixels = image.imread(picture)[:, :, :3]
    blue = (np.abs(pixels - np.array([0.0, 0.45, 0.70])) < 0.05).all(axis=2)
    column = blue[:, blue.sum(axis=0).argmax()].astype(np.int8)
    return int((np.diff(column) == 1).sum())


def test_loading_it_by_its_registered_name_leaves_the_digest_alone(world, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.settings.tracking_uri)
    trained_in = registry.client(world.settings).get_model_version(world.model.name, "1").source
    (tmp_path / "home" / "artifacts").rename(tmp_path / "moved")
    try:
        before = model_files.digest(trained_in)
        model = mlflow.pyfunc.load_model(f"models:/{world.model.name}/1")
        assert model.metadata.signature is not None
        assert model_files.digest(trained_in) == before
    finally:
        (tmp_path / "moved").rename(tmp_path / "home" / "artifacts")


def test_mlflow_answers_with_the_risks_of_the_server(world, monkeypatch) -> None:
    """And not with the output of the trees, which is not calibrated; a value that is missing stays missing."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.settings.tracking_uri)
    predictor = tabular.load(world.settings, world.model, "mortality")
    rows = pd.DataFrame(
        [a.inputs for a in predictor.spec.known_answers], columns=list(predictor.spec.features)
    )
    assert rows.isna().any(axis=None)
    model = mlflow.pyfunc.load_model(f"models:/{world.model.name}/1")
    answers = model.predict(rows.astype("float64"))
    assert answers["risk"].tolist() == [predictor.score(row).risk for row in rows.to_numpy(dtype=np.float64)]
    assert answers["needs_clinician_review"].all()
    with pytest.raises(MlflowException, match=r"Model is missing inputs \['age_years'\]"):
        model.predict(rows.astype("float64").rename(columns={"age_years": "age"}))
    assert [column.name for column in model.metadata.signature.outputs] == [*answers]
    trees = mlflow.xgboost.load_model(f"models:/{world.model.name}/1")
    assert not np.allclose(answers["risk"], trees.inplace_predict(rows.to_numpy(dtype=np.float64)), atol=1e-4)


def test_run_twice_is_registered_once(world, client) -> None:
    from_key = risk_model.run(world.training, world.settings, "0123456789abcdef" * 2)
    assert from_key.model == world.model
    assert len(client.search_model_versions(f"name = '{world.model.name}'")) == 1


def test_killed_between_logging_and_registering_is_not_trained_again(world, client, monkeypatch) -> None:
    client.delete_model_version(world.model.name, "1")
    monkeypatch.setattr(risk_model, "_train", None)
    again = risk_model.run(world.training, world.settings, "0123456789abcdef" * 2).model
    assert again.digest == world.model.digest
    assert again.uri.endswith(world.model.uri)
    assert client.get_model_version(again.name, str(again.version)).run_id == world.run_id


def test_killed_between_registering_and_ending_its_run_is_ended_by_the_next_call(world, client) -> None:
    client.update_run(world.run_id, "RUNNING")
    (logged,) = client.search_logged_models([client.get_run(world.run_id).info.experiment_id])
    client.delete_logged_model_tag(logged.model_id, "mlflow.modelVersions")
    assert risk_model.run(world.training, world.settings, "0123456789abcdef" * 2).model == world.model
    assert client.get_run(world.run_id).info.status == "FINISHED"
    assert "mlflow.modelVersions" in client.get_logged_model(logged.model_id).tags


def test_few_outcomes_are_not_told_beside_the_other_figures(world, client) -> None:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.json").touch()

    counts = {"tuning_rows": 300, "tuning_events": 4}
    training = Training(
        name="synthetic-few", key="f" * 32, stage="risk_model", task="mortality", kind="risk",
        params={"dataset": "synthetic"}, curves={}, metrics={"tuning_brier": 0.1}, counts=counts, data=[],
        save=save, artifacts=lambda *_: None,
    )  # fmt: skip
    logged = tracking.log(world.settings, training)
    run_id = client.get_model_version(logged.name, str(logged.version)).run_id
    told = client.get_run(run_id).data.metrics
    assert told == {"tuning_brier": 0.1}, "nor is a number from which they would follow"


def test_killed_while_logging_leaves_a_run_marked_killed(world, client) -> None:
    experiment = client.get_experiment_by_name(world.training.dataset).experiment_id
    left = client.create_run(experiment, tags={registry.KEY_TAG: "f" * 32})
    client.create_logged_model(experiment, source_run_id=left.info.run_id, tags={registry.KEY_TAG: "f" * 32})
    assert tracking.find(world.settings, world.training.dataset, world.model.name, "f" * 32) is None
    assert client.get_run(left.info.run_id).info.status == "KILLED"


def test_the_model_recovers_the_signal_and_short_requests_are_not_read_as_healthy(world, folder) -> None:
    rows = training_examples.load(
        world.settings, world.training.training_set, "held_out", kernel.names("mortality")
    )
    booster = xgboost.Booster(model_file=folder / "model.json")
    asked = plain_inputs.as_request(rows.inputs, "mortality", ("age", "systolic_blood_pressure"))
    margins = booster.predict(xgboost.DMatrix(asked, feature_names=booster.feature_names))
    assert metrics.point_estimate(metrics.auroc, rows.outcomes, margins.astype(float)) > 0.6
    assert margins.mean() == pytest.approx(rows.outcomes.mean(), abs=0.06)


def test_same_rows_and_seed_give_the_same_trees(world) -> None:
    names = kernel.names("mortality")
    rows = {
        s: training_examples.load(world.settings, world.training.training_set, s, names)
        for s in ("train", "tuning")
    }
    recipe = Recipe(rounds=10, patience=10, depth=3, learning_rate=0.3, threads=1, seed=4)
    once, again = (
        xgboost_training.train(rows["train"], rows["tuning"], "mortality", recipe)[0] for _ in range(2)
    )
    other, _ = xgboost_training.train(
        rows["train"], rows["tuning"], "mortality", recipe.model_copy(update={"seed": 5})
    )
    assert once.save_raw("ubj") == again.save_raw("ubj") != other.save_raw("ubj")


def test_a_version_that_lightgbm_grew_is_registered_and_answers_like_any_other(
    settings: Settings, hospital, freeze
) -> None:
    """Its known answers and the contributions in them are compared as it is loaded."""
    params = risk_model.Params(
        dataset="synthetic",
        task="mortality",
        training_set=freeze(settings, "mortality", hospital("mortality", 400, prevalence=0.2).rows),
        library="lightgbm",
        rounds=40,
    )
    model = risk_model.run(params, settings, "e" * 32).model
    predictor = tabular.load(settings, model, "mortality")
    assert predictor.spec.library == "lightgbm"
    assert "missing" in predictor.spec.missing_values
    rows = training_examples.load(settings, params.training_set, "held_out", predictor.spec.features)
    assert metrics.point_estimate(metrics.auroc, rows.outcomes, predictor.risks(rows.inputs)) > 0.6
    with pytest.raises(UsageError, match="several workers"):
        risk_model.fit(params.model_copy(update={"workers": 2}), settings, "e" * 32)


@pytest.mark.parametrize("lacking", ["tuning", "events"])
def test_too_few_patients_is_one_sentence(world, hospital, freeze, lacking) -> None:
    rows = hospital("mortality", 40).rows
    if lacking == "tuning":
        rows = rows.filter([split != "tuning" for split in rows["split"].to_pylist()])
    else:
        at = rows.schema.get_field_index("boolean_value")
        rows = rows.set_column(at, "boolean_value", [[False] * rows.num_rows])
    params = risk_model.Params(
        dataset="synthetic", task="mortality", training_set=freeze(world.settings, "mortality", rows)
    )
    with pytest.raises(QualityError, match="Too few patients to train mortality") as refused:
        risk_model.run(params, world.settings, "k" * 32)
    assert ("fewer than 10 events" in str(refused.value)) is (lacking == "tuning")
