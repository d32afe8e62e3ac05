"""The evidence of a version: complete, of held-out patients alone, the same when it is made again."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from mediscale.core import tasks
from mediscale.core.errors import InputError, QualityError, StorageError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.tables import NOTE_TOKENS, SUBJECTS
from mediscale.inference import model_files
from mediscale.storage import lake, registry
from training.evaluation import evaluate, evaluation_report
from training.promotion import gate

KEY = "e" * 32


@pytest.fixture
def judged(world) -> evaluation_report.Evidence:
    return evaluation_report.read(world.settings, world.judged.evidence, world.judged.evidence_digest)


def test_counts_are_of_the_held_out_split(world, judged) -> None:
    rows = lake.read(world.settings, world.training.training_set)
    held_out = rows.filter([split == "held_out" for split in rows["split"].to_pylist()])
    assert judged.counts.n == held_out.num_rows
    assert judged.counts.events == sum(held_out["boolean_value"].to_pylist())
    assert judged.counts.subjects == len(set(held_out["subject_id"].to_pylist())) < judged.counts.n


def test_every_part_is_there(judged) -> None:
    assert (
        0.7 < judged.metrics["auroc"].low < judged.metrics["auroc"].value < judged.metrics["auroc"].high < 0.9
    )
    assert {b.kind for b in judged.baselines} == {"bedside rule", "points score", "logistic regression"}
    points = next(b for b in judged.baselines if b.kind == "points score")
    assert points.auroc.value > 0.65
    assert points.calibration_slope.low < 1 < points.calibration_slope.high
    assert len(judged.calibration_curve) == 10
    assert {len(curve) for _, curve in judged.curves} == {50, 51}
    assert all(0 < point.y.low <= point.y.value <= point.y.high < 1 for point in judged.curves.roc[5:20])
    assert [len(b.roc) for b in judged.baselines] == [51, 51, 51]
    assert [a.threshold for a in judged.alarms] == [0.05, 0.1, 0.2]
    assert judged.alarms[0].flag_rate.value > judged.alarms[1].flag_rate.value
    assert [b.threshold for b in judged.net_benefit] == [0.05, 0.1, 0.2]
    assert {g.attribute for g in judged.subgroups} == {"sex", "age_band", "ethnicity"}
    assert [len(p.inputs) for p in judged.plain_inputs] == [2, 7]
    assert any(text.startswith("laboratory_delay") for text in judged.assumptions)
    assert judged.oracle is judged.comparison is None
    assert judged.alert_burden.lead_time.counts.n == judged.alert_burden.right_alerts
    assert [test.kind for test in judged.robustness] == [
        "missing",
        "missing",
        "unavailable",
        "noise",
        "noise",
    ]
    assert judged.robustness[2].auroc_loss.value > judged.robustness[0].auroc_loss.value > 0
    assert (judged.data_quality.judged, judged.data_quality.broken) == (5000, {"value_plausible": 40})
    assert 10_000 < judged.files.bytes < 10_000_000
    assert 0 < judged.files.median_seconds <= judged.files.slowest_seconds < 1
    assert judged.subgroup_family.size == 2 * sum(g.status == "estimated" for g in judged.subgroups)


def test_small_subgroups_are_named_and_not_measured(judged) -> None:
    small = next(g for g in judged.subgroups if g.value == "group b")
    assert small.status == "too few"
    assert small.auroc is None
    assert small.counts.n > 0


def test_nothing_is_told_of_a_handful_of_patients(world, freeze) -> None:
    rows = lake.read(world.settings, world.training.training_set)
    values = ["rare" if i % 150 == 0 else "common" for i in range(rows.num_rows)]
    rows = rows.set_column(rows.schema.get_field_index("ethnicity"), "ethnicity", [values])
    params = world.judging.model_copy(update={"training_set": freeze(world.settings, "mortality", rows)})
    result = evaluate.run(params, world.settings, KEY)
    groups = evaluation_report.read(world.settings, result.evidence, result.evidence_digest).subgroups
    rare = next(group for group in groups if group.value == "rare")
    assert (rare.status, rare.counts, rare.auroc) == ("too few", None, None)


def test_the_file_is_canonical_and_made_again_the_same_but_for_times(world, judged) -> None:
    again = evaluate.run(world.judging, world.settings, "0123456789abcdef" * 2)
    digest = {"evidence_digest": world.judged.evidence_digest}
    assert again.model_copy(update=digest) == world.judged
    made = evaluation_report.read(world.settings, again.evidence, again.evidence_digest)
    assert made.model_copy(update={"files": judged.files}) == judged
    assert (made.files.bytes, made.files.answers) == (judged.files.bytes, judged.files.answers)
    text = (world.settings.home / again.evidence).read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_no_patient_is_in_it(world) -> None:
    subjects = lake.read(world.settings, world.training.training_set, ["subject_id"])[
        "subject_id"
    ].to_pylist()
    text = (world.settings.home / world.judged.evidence).read_text()
    assert not any(str(subject) in text for subject in set(subjects) if subject > 10**9)


def test_mlflow_shows_the_figures_on_the_run_that_trained_it(world) -> None:
    client = registry.client(world.settings)
    run = client.get_run(world.run_id)
    assert run.data.metrics["held_out_auroc"] == pytest.approx(world.judged.metrics["auroc"])
    tags = client.get_model_version(world.model.name, "1").tags
    assert tags["mediscale.evidence_digest"] == world.judged.evidence_digest


def test_the_oracle_is_found_by_patient_and_time_and_bounds_the_model(world) -> None:
    made = world.hospital
    subjects = made.rows["subject_id"].to_pylist()
    people = sorted(set(subjects))
    table = pa.table({"source_subject": [f"p{i}" for i in range(len(people))], "subject_id": people})
    write_deltalake(world.settings.table_uri("synthetic", SUBJECTS.name), table)
    named = dict(zip(people, table["source_subject"].to_pylist(), strict=True))
    times = np.datetime_as_string(made.rows["prediction_time"].to_numpy(), unit="s")
    lines = [
        f"{named[s]},{i},mortality,{time.replace('T', ' ')},{p}"
        for i, (s, time, p) in enumerate(zip(subjects, times, made.truth, strict=True))
    ]
    path = world.settings.home / "truth.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("subject_id,hadm_id,task,prediction_time,probability\n" + "\n".join(lines) + "\n")
    params = world.judging.model_copy(
        update={"oracle": "truth.csv.gz", "subjects": lake.latest(world.settings, "synthetic", SUBJECTS.name)}
    )
    result = evaluate.run(params, world.settings, KEY)
    oracle = evaluation_report.read(world.settings, result.evidence, result.evidence_digest).oracle
    assert oracle.counts.n == world.judged.counts.n
    assert 0 < oracle.gap.value < 0.15
    assert oracle.auroc.value > oracle.model_auroc.value == pytest.approx(world.judged.metrics["auroc"])
    with gzip.open(path, "wt") as file:
        file.write(
            "subject_id,hadm_id,task,prediction_time,probability\nnobody,1,mortality,2150-01-01 00:00:00,0.5\n"
        )
    with pytest.raises(InputError, match="belongs to other records"):
        evaluate.run(params, world.settings, KEY)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b",mortality,", b",another,")))
    result = evaluate.run(params, world.settings, KEY)
    silent = evaluation_report.read(world.settings, result.evidence, result.evidence_digest)
    assert (silent.oracle, silent.oracle_silent) == (None, True)


def test_a_version_is_no_better_than_itself(world) -> None:
    params = world.judging.model_copy(update={"incumbent": world.model})
    result = evaluate.run(params, world.settings, KEY)
    comparison = evaluation_report.read(world.settings, result.evidence, result.evidence_digest).comparison
    assert comparison.probability_better == 0
    assert comparison.auroc_gain.model_dump() == {"value": 0, "low": None, "high": None}


@pytest.fixture
def reading(world, add_notes) -> ModelRef:
    """The world's own version, as one that reads notes too."""
    folder = world.settings.home / "artifacts" / "reads"
    shutil.copytree(world.settings.home / world.model.uri, folder)
    add_notes(folder)
    return ModelRef(
        name=world.model.name, version=7, uri="artifacts/reads", digest=model_files.digest(folder)
    )


def _land(world, table: pa.Table, name: str) -> TableRef:
    write_deltalake(world.settings.table_uri("synthetic", name), table)
    return lake.latest(world.settings, "synthetic", name)


def _with_notes(world, tokenizers: list[str]) -> dict[str, TableRef]:
    """A note of each stay in the numbers of each tokenizer, the word 5 by the first and 11 by the others."""
    stays = lake.read(
        world.settings, world.training.training_set, ["subject_id", "stay_id", "admission_time"]
    ).to_pylist()
    notes = [
        {"note_id": i, "subject_id": stay["subject_id"], "visit_id": stay["stay_id"], "note_type": "x",
         "time": stay["admission_time"], "available_time": stay["admission_time"], "tokenizer": tokenizer,
         "tokens": [5 if k == 0 else 11]}
        for i, stay in enumerate(stays) for k, tokenizer in enumerate(tokenizers)
    ]  # fmt: skip
    return {
        "note_tokens": _land(
            world, pa.Table.from_pylist(notes, schema=NOTE_TOKENS.arrow_schema()), "note_tokens"
        )
    }


def _judged(world, changes) -> evaluation_report.Evidence:
    result = evaluate.run(world.judging.model_copy(update=changes), world.settings, KEY)
    return evaluation_report.read(world.settings, result.evidence, result.evidence_digest)


def test_an_incumbent_reads_only_what_is_in_its_own_tokenizer_s_numbers(world, reading) -> None:
    told = _judged(world, {"incumbent": reading, **_with_notes(world, ["t" * 64, "u" * 64])}).comparison
    assert (told.missing_inputs, told.missing_notes) == (0, False)
    shutil.rmtree(world.settings.table_uri("synthetic", "note_tokens"))
    assert _judged(world, {"incumbent": reading, **_with_notes(world, ["t" * 64])}).comparison == told


def test_a_version_that_reads_notes_tells_what_is_assumed_of_them(world, reading) -> None:
    itself = reading.model_copy(update={"version": 1})
    judged = _judged(world, {"model": itself, **_with_notes(world, ["t" * 64])})
    assert judged.assumptions[-1].startswith("names in notes: ")


@pytest.mark.parametrize("tokenizers", [[], ["u" * 64]], ids=["no notes", "another tokenizer"])
def test_an_incumbent_without_notes_to_read_is_not_comparable(world, reading, tokenizers) -> None:
    notes = _with_notes(world, tokenizers) if tokenizers else {}
    judged = _judged(world, {"incumbent": reading, **notes})
    assert judged.comparison.missing_notes
    assert judged.comparison.probability_better is None
    told = {floor.label: floor for floor in gate.floors(judged, tasks.load("mortality").policy)}
    assert told["better than v7 in production"].observed == "not comparable"
    assert "none in its tokenizer's numbers" in told["better than v7 in production"].objection


def test_a_version_that_reads_notes_is_not_judged_without_them(world, reading) -> None:
    with pytest.raises(InputError, match="made by the tokenizer of its encoder made up"):
        _judged(world, {"model": reading, **_with_notes(world, ["u" * 64])})


def test_changed_model_files_are_refused(world) -> None:
    with (world.settings.home / world.model.uri / "predictor.json").open("a") as file:
        file.write(" ")
    with pytest.raises(StorageError, match="were changed"):
        evaluate.run(world.judging, world.settings, KEY)


def test_a_handful_of_outcomes_is_not_told_in_mlflow(world, freeze, tmp_path) -> None:
    rows = lake.read(world.settings, world.training.training_set)
    held_out = [split == "held_out" for split in rows["split"].to_pylist()]
    died = np.array(rows["boolean_value"].to_pylist())
    kept = ~np.array(held_out) | ~died | (np.cumsum(died & held_out) <= 4)
    frozen = freeze(world.settings, "mortality", rows.filter(kept.tolist()))
    params = world.judging.model_copy(update={"training_set": frozen})
    result = evaluate.run(params, world.settings, KEY)
    assert result.counts.events == 4
    client = registry.client(world.settings)
    told = {
        name: {metric.value for metric in client.get_metric_history(world.run_id, f"held_out_{name}")}
        for name in ("n", "events")
    }
    assert result.counts.n in told["n"]
    assert told["events"] == {world.judged.counts.events}, "only what was told of many before"
    artifact = Path(client.download_artifacts(world.run_id, "evidence/evidence.json", str(tmp_path)))
    shown = json.loads(artifact.read_text())
    assert shown["counts"].keys() == {"n", "subjects"}
    assert not [group for group in shown["subgroups"] if 0 < group["counts"].get("events", 0) < 10]


@pytest.mark.parametrize("outcome", [False, True])
def test_one_class_held_out_is_not_estimable_and_not_a_crash(world, freeze, outcome) -> None:
    rows = lake.read(world.settings, world.training.training_set)
    kept = [
        s != "held_out" or y == outcome
        for s, y in zip(*(rows[c].to_pylist() for c in ("split", "boolean_value")), strict=True)
    ]
    params = world.judging.model_copy(
        update={"training_set": freeze(world.settings, "mortality", rows.filter(kept))}
    )
    result = evaluate.run(params, world.settings, KEY)
    assert result.metrics["auroc"] is result.metrics["calibration_slope"] is None
    assert result.metrics["brier"] is not None
    assert result.counts.n > 0


def test_no_held_out_patients_is_one_sentence(world, freeze) -> None:
    rows = lake.read(world.settings, world.training.training_set)
    kept = [split != "held_out" for split in rows["split"].to_pylist()]
    params = world.judging.model_copy(
        update={"training_set": freeze(world.settings, "mortality", rows.filter(kept))}
    )
    with pytest.raises(QualityError, match="No held-out patients"):
        evaluate.run(params, world.settings, KEY)
