"""Notes beside the table: kept where both together beat each alone, on patients that fitted nothing."""

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from mediscale.core.errors import InputError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import model_files
from mediscale.inference.model_spec import Calibration, PredictorSpec
from mediscale.inference.note_model_spec import NoteSpec
from mediscale.storage import lake, registry
from mediscale.storage.calls import canonical
from training import late_fusion, training_examples
from training.evaluation.performance import Performance
from training.notes.note_mlflow_model import NoteModel
from training.statistics import metrics
from training.statistics.bootstrap import Resamples


def note_model(settings: Settings, training_set, signal: float) -> NoteModel:
    """A note model whose answers follow the outcome by ``signal``; one tuning stay in ten has no note."""
    rows = training_examples.load(settings, training_set, "tuning", [])
    rng = np.random.default_rng(3)
    written = rng.random(len(rows)) < 0.9
    margins = pa.table(
        {
            "subject_id": rows.subjects,
            "prediction_time": rows.times,
            "tokens": np.where(written, 100, 0),
            "margin": rng.normal(size=len(rows)) + signal * rows.outcomes - 3,
        }
    )
    write_deltalake(settings.table_uri("synthetic", "note_margins_mortality"), margins, mode="overwrite")
    spec = NoteSpec(
        name="synthetic-mortality-notes",
        dataset="synthetic",
        task="mortality",
        encoder="made up",
        revision="",
        tokenizer="t",
        window=8,
        most_windows=1,
        calibration=Calibration(slope=1, intercept=0),
        thresholds={},
        known_texts=(),
    )
    folder = settings.home / "artifacts" / "note-model"
    folder.mkdir(parents=True)
    files = {"notes.json": canonical(spec), "model.onnx": "graph", "tokenizer.json": "words"}
    for name, content in files.items():
        (folder / name).write_text(content)
    return NoteModel(
        model=ModelRef(
            name=spec.name, version=1, uri="artifacts/note-model", digest=model_files.digest(folder)
        ),
        margins=lake.latest(settings, "synthetic", "note_margins_mortality"),
    )


def params(world, note_model: NoteModel | None) -> late_fusion.Params:
    return late_fusion.Params(
        dataset="synthetic",
        task="mortality",
        training_set=world.training.training_set,
        note_model=note_model,
        model=world.model,
    )


def test_notes_that_tell_make_a_version_that_reads_them(world) -> None:
    asked = params(world, note_model(world.settings, world.training.training_set, signal=2.0))
    result = late_fusion.run(asked, world.settings, "c" * 32)
    assert result.reads_notes
    assert result.tuning_log_loss["together"] < min(
        result.tuning_log_loss["table"], result.tuning_log_loss["notes"]
    )
    assert (result.model.name, result.model.version) == ("synthetic-mortality", 2)
    files = model_files.all_files(world.settings, result.model)
    assert {"model.json", "predictor.json", "MLmodel", "notes/model.onnx", "notes/notes.json"} <= files.keys()
    spec = PredictorSpec.model_validate_json(files["predictor.json"])
    assert spec.notes is not None
    assert spec.notes.notes > 0.3
    assert {"clinical", "sensitive", "specific"} == spec.notes.thresholds.keys()
    assert late_fusion.run(asked, world.settings, "c" * 32) == result
    client = registry.client(world.settings)
    run = client.get_run(client.get_model_version(result.model.name, str(result.model.version)).run_id)
    assert run.data.metrics["tuning_log_loss_together"] == pytest.approx(result.tuning_log_loss["together"])


def test_notes_that_tell_nothing_leave_the_table_alone(world) -> None:
    asked = params(world, note_model(world.settings, world.training.training_set, signal=0.0))
    result = late_fusion.run(asked, world.settings, "c" * 32)
    assert not result.reads_notes
    assert "do not clearly beat" in result.reason
    assert result.p_value is not None
    assert result.p_value > late_fusion.SIGNIFICANCE
    assert result.model == world.model


def test_a_note_model_of_other_stays_is_refused_without_naming_any(world, freeze) -> None:
    trained = note_model(world.settings, world.training.training_set, signal=2.0)
    rows = lake.read(world.settings, world.training.training_set)
    others = [subject + 1 for subject in rows["subject_id"].to_pylist()]
    rows = rows.set_column(rows.schema.get_field_index("subject_id"), "subject_id", [others])
    frozen = freeze(world.settings, "mortality", rows)
    asked = params(world, trained).model_copy(update={"training_set": frozen})
    with pytest.raises(InputError, match=r"does not answer for all of the \d+ tuning stays") as refused:
        late_fusion.run(asked, world.settings, "c" * 32)
    assert not any(str(subject) in str(refused.value) for subject in others)


def test_without_notes_the_table_goes_on(world) -> None:
    result = late_fusion.run(params(world, None), world.settings, "c" * 32)
    assert (result.reads_notes, result.model, result.tuning_log_loss) == (False, world.model, {})


def test_the_gain_is_paired_and_its_share_is_of_what_the_oracle_gains(hospital) -> None:
    made = hospital("mortality", 800)
    y = made.rows["boolean_value"].to_numpy(zero_copy_only=False).astype(float)
    subjects = made.rows["subject_id"].to_numpy()
    times = np.zeros(len(y), "datetime64[us]")
    rows = training_examples.Examples(subjects, times, y, np.zeros((len(y), 0), np.float32), {}, times)
    rng = np.random.default_rng(0)
    truth = metrics.logit(made.truth)
    table, both = (metrics.sigmoid(truth + noise * rng.normal(size=len(y))) for noise in (3.0, 1.5))
    notes = np.where(rng.random(len(y)) < 0.8, truth + 2 * rng.normal(size=len(y)), np.nan)
    held_out = Performance(rows, both, Resamples(subjects, 200, 0))
    told = held_out.together(table, notes, made.truth)
    assert told.read == int(np.isfinite(notes).sum())
    auroc = {name: metrics.point_estimate(metrics.auroc, y, risk) for name, risk in
             {"table": table, "both": both, "truth": made.truth}.items()}  # fmt: skip
    assert told.auroc_gain.value == pytest.approx(auroc["both"] - auroc["table"])
    assert told.auroc_gain.low is not None
    assert told.auroc_gain.low > 0
    assert told.share_of_possible_gain is not None
    expected = (auroc["both"] - auroc["table"]) / (auroc["truth"] - auroc["table"])
    assert told.share_of_possible_gain.value == pytest.approx(expected)
    assert held_out.together(table, notes, None).share_of_possible_gain is None
    no_better = held_out.together(made.truth, notes, made.truth)
    assert no_better.share_of_possible_gain is None
    perhaps_better = held_out.together(
        metrics.sigmoid(truth + 0.1 * rng.normal(size=len(y))), notes, made.truth
    )
    assert perhaps_better.share_of_possible_gain is None
