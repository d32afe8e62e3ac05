"""Leak checks catch every known leak by name, each a patch of the real pipeline, and find none in it as it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fixtures import leaky_hospital
from fixtures.leaky_hospital import EXPIRED, Record, certify

from data_pipeline.cohort import cohort_flow, prediction_times
from data_pipeline.cohort.bitemporal import DAY, HOUR
from data_pipeline.features import gold, history, kernel, kinds, plain_inputs
from data_pipeline.features.windows import Predictions, Rows
from data_pipeline.notes import note_visibility
from mediscale.cli import main
from mediscale.core import task_names, tasks
from mediscale.core.concepts import CONCEPTS
from mediscale.core.errors import LeakError, NotFoundError
from mediscale.core.settings import Settings
from mediscale.core.splits import SPLITS
from mediscale.pipeline import runtime_inputs
from mediscale.storage import calls, lake
from training import training_examples
from training.leakage import declared, fitted, leakage
from training.tabular import xgboost_training
from training.tabular.recipe import Recipe
from training.training_examples import Examples

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def recorded() -> Record:
    return leaky_hospital.record()


@pytest.mark.parametrize("task", ["mortality", "readmission"])
def test_no_false_alarm_on_the_clean_pipeline(settings: Settings, recorded: Record, task: str) -> None:
    certificate = certify(settings, recorded, task)
    assert certificate.failed == ()
    assert certificate.findings == ()
    assert len(certificate.checks) >= 16


def test_no_false_alarm_where_a_stay_is_predicted_every_few_hours(
    settings: Settings, recorded: Record
) -> None:
    certificate = certify(settings, leaky_hospital.with_steady_creatinine(recorded), "kidney_injury")
    assert certificate.failed == ()
    frozen = lake.read(settings, lake.latest(settings, leaky_hospital.DATASET, "training_set_kidney_injury"))
    assert frozen.num_rows > 4 * pc.count_distinct(frozen["stay_id"]).as_py()
    assert 0.05 < pc.mean(frozen["boolean_value"].cast("int8")).as_py() < 0.6


# --- leaks of the cohort ------------------------------------------------------------------------------------------


def _hours_before_the_death(patch: Patch) -> None:
    honest, before = prediction_times.of_stay, timedelta(hours=10)
    patch.setattr(
        prediction_times,
        "of_stay",
        lambda patient, stay, task: (
            (stay.death.time - before,) if stay.death else honest(patient, stay, task)
        ),
    )


def _prediction_a_day_late(patch: Patch) -> None:
    honest, late = prediction_times.of_stay, timedelta(days=1)

    def of_stay(patient: Any, stay: Any, task: Any) -> Any:
        return tuple(at + late for at in honest(patient, stay, task))

    patch.setattr(prediction_times, "of_stay", of_stay)


def _the_dead_are_at_risk(patch: Patch) -> None:
    """The window of the label begins with the admission, before the prediction."""
    patch.setattr(prediction_times, "_alive_in_hospital", lambda _stay, _at: True)


def _split_by_stay(patch: Patch) -> None:
    turn = iter(np.tile(["train", "tuning", "held_out"], 10_000).tolist())
    patch.setattr(cohort_flow, "assign_split", lambda _unit: next(turn))


def _splits_drawn_anew(patch: Patch) -> None:
    """Patients are whole, but held-out ones of yesterday are trained on today."""
    patch.setattr(
        cohort_flow, "assign_split", lambda unit: ("train", "train", "tuning", "held_out")[unit % 4]
    )


# --- leaks of the features ----------------------------------------------------------------------------------------


def _rows(patch: Patch, change: Callable[[Rows], Rows]) -> None:
    honest = kernel._rows

    def rows(events: pa.Table, task: str) -> tuple[Rows, Any]:
        made, ids = honest(events, task)
        return change(made), ids

    patch.setattr(kernel, "_rows", rows)


def _by_time_alone(patch: Patch) -> None:
    _rows(patch, lambda rows: replace(rows, available=rows.time))


def _orders_as_of_admission(patch: Patch) -> None:
    def change(rows: Rows) -> Rows:
        ordered = (rows.kind >= len(CONCEPTS)) & (rows.kind < kinds.N_MEASURED)
        early = np.where(ordered, rows.time - 5 * DAY, rows.time)
        return replace(rows, time=early, available=np.where(ordered, early, rows.available))

    _rows(patch, change)


def _codes_at_admission(patch: Patch) -> None:
    def change(rows: Rows) -> Rows:
        coded = rows.kind == kinds.DIAGNOSED
        early = np.where(coded, rows.time - 30 * DAY, rows.time)
        return replace(rows, time=early, available=np.where(coded, early, rows.available))

    _rows(patch, change)


def _visible(patch: Patch, seen: Callable[[Rows, Predictions, Any, Any, Any], Any]) -> None:
    """Every row of the patient is offered; ``seen(rows, predictions, prediction, row, start)`` says which are taken."""

    def visible_rows(self: Predictions, rows: Rows, start: Any = None) -> tuple[Any, Any]:
        first = np.searchsorted(rows.subject, self.subject, "left")
        n = np.searchsorted(rows.subject, self.subject, "right") - first
        prediction = np.repeat(np.arange(len(n)), n)
        row = np.arange(len(prediction)) + np.repeat(first - (np.cumsum(n) - n), n)
        begin = np.full(len(n), np.iinfo(np.int64).min) if start is None else start
        taken = seen(rows, self, prediction, row, begin)
        return prediction[taken], row[taken]

    patch.setattr(Predictions, "visible_rows", visible_rows)


def _latest(rows: Rows, at: Any, row: Any) -> Any:
    return (rows.available[row] <= at) & (at < rows.latest_until[row])


def _start_and_end_swapped(patch: Patch) -> None:
    def seen(rows: Rows, asked: Predictions, prediction: Any, row: Any, start: Any) -> Any:
        at = asked.time[prediction]
        return (rows.time[row] > at) & (rows.time[row] <= 2 * at - np.maximum(start[prediction], 0))

    _visible(patch, seen)


def _whole_stay(patch: Patch) -> None:
    def seen(rows: Rows, _asked: Predictions, prediction: Any, row: Any, start: Any) -> Any:
        return (rows.time[row] > start[prediction]) & (rows.latest_until[row] == np.iinfo(np.int64).max)

    _visible(patch, seen)


def _newest_correction(patch: Patch) -> None:
    def seen(rows: Rows, asked: Predictions, prediction: Any, row: Any, start: Any) -> Any:
        inside = (rows.time[row] > start[prediction]) & (rows.time[row] <= asked.time[prediction])
        return inside & (rows.latest_until[row] == np.iinfo(np.int64).max)

    _visible(patch, seen)


def _an_hour_too_long(patch: Patch) -> None:
    def seen(rows: Rows, asked: Predictions, prediction: Any, row: Any, start: Any) -> Any:
        until = asked.time[prediction] + HOUR
        return (rows.time[row] > start[prediction]) & (rows.time[row] <= until) & _latest(rows, until, row)

    _visible(patch, seen)


def _future_visits_as_earlier(patch: Patch) -> None:
    def seen(rows: Rows, asked: Predictions, prediction: Any, row: Any, start: Any) -> Any:
        at = asked.time[prediction]
        known = (rows.time[row] > start[prediction]) & (rows.time[row] <= at) & _latest(rows, at, row)
        admitted = np.isin(rows.kind[row], [kinds.ADMITTED, kinds.ADMITTED_URGENTLY])
        return known | admitted

    _visible(patch, seen)
    patch.setattr(
        history.History,
        "_count",
        lambda self, _chosen: np.bincount(
            self.prediction[self._of(kinds.ADMITTED_URGENTLY)], minlength=len(self.predictions.time)
        ).astype(float),
    )


def _length_of_stay(patch: Patch) -> None:
    honest = kernel._history_features

    def with_length(rows: Rows, asked: Predictions, task: str, features: Any) -> None:
        honest(rows, asked, task, features)
        left = rows.where(rows.kind == kinds.DISCHARGED)
        after = np.searchsorted(left.subject, asked.subject)
        ended = np.append(left.time, 0)[after]
        features[:, kernel.names(task).index("prior_visits_365d")] = (ended - asked.admission) / HOUR

    patch.setattr(kernel, "_history_features", with_length)


def _death_among_demographics(patch: Patch) -> None:
    leaking = {**kinds._code_kinds(), "MEDS_DEATH": kinds.FEMALE}
    patch.setattr(kinds, "_code_kinds", lambda: leaking)
    kinds.of_code.cache_clear()


def _in_place_of_a_feature(patch: Patch, name: str, values: Callable[[pa.Table], Any]) -> None:
    """What gold writes has a column that no kernel computed."""
    honest = gold._table

    def table(predictions: pa.Table, features: Any, task: str) -> pa.Table:
        made = honest(predictions, features, task)
        column = pa.array(np.asarray(values(predictions), dtype=np.float64))
        if name not in made.column_names:
            return made.append_column(name, column)
        return made.set_column(made.column_names.index(name), name, column)

    patch.setattr(gold, "_table", table)


def _mean_outcome_of_the_patient(recorded: Record) -> Callable[[pa.Table], Any]:
    cohort = cohort_flow.cohort(recorded.events, "mortality", None, 0).filter(pc.field("steps") == 8)
    mean = cohort.group_by("subject_id").aggregate([("boolean_value", "mean")])
    encoded = dict(zip(mean["subject_id"].to_pylist(), mean["boolean_value_mean"].to_pylist(), strict=True))
    return lambda predictions: [encoded[subject] for subject in predictions["subject_id"].to_pylist()]


# --- leaks of what a fit reads ------------------------------------------------------------------------------------


def _imputed_over_all_splits(patch: Patch) -> None:
    honest = training_examples.load

    def load(settings: Settings, ref: Any, split: Any, features: Any, part: Any = (0, 1)) -> Any:
        rows = honest(settings, ref, split, features, part)
        everyone = [honest(settings, ref, each, features).inputs for each in ("train", "tuning", "held_out")]
        mean = np.nanmean(np.vstack([*everyone, np.zeros((1, rows.inputs.shape[1]), np.float32)]), axis=0)
        return replace(rows, inputs=np.where(np.isnan(rows.inputs), mean, rows.inputs).astype(np.float32))

    patch.setattr(training_examples, "load", load)


def _trained_on_held_out(patch: Patch) -> None:
    honest = training_examples.load
    patch.setattr(
        training_examples,
        "load",
        lambda settings, ref, split, features, part=(0, 1): honest(
            settings, ref, "held_out" if split == "train" else split, features, part
        ),
    )


def _trained_on_tuning_rows(patch: Patch) -> None:
    honest = xgboost_training.train

    def train(train: Examples, tuning: Examples, task: str, recipe: Recipe) -> Any:
        both = replace(
            train,
            inputs=np.vstack([train.inputs, tuning.inputs]),
            outcomes=np.concatenate([train.outcomes, tuning.outcomes]),
            stays=None,
        )
        return honest(both, tuning, task, recipe)

    patch.setattr(xgboost_training, "train", train)


# --- leaks of notes -----------------------------------------------------------------------------------------------


def _notes_by_time_alone(patch: Patch) -> None:
    """'Patient expired' stands in a note that was begun at admission and signed after the death."""
    honest = note_visibility.visible_tokens
    patch.setattr(
        note_visibility,
        "visible_tokens",
        lambda notes, admitted, time: honest([replace(n, available=n.time) for n in notes], admitted, time),
    )


def _newest_version_of_a_note(patch: Patch) -> None:
    honest = note_visibility.visible_tokens

    def visible(notes: Any, admitted: Any, time: Any) -> Any:
        newest: dict[int, Any] = {}
        for note in sorted(notes, key=lambda n: n.available):
            first = newest.get(note.note_id, note)
            newest[note.note_id] = replace(note, available=first.available)
        return honest(list(newest.values()), admitted, time)

    patch.setattr(note_visibility, "visible_tokens", visible)


@dataclass(frozen=True)
class Leak:
    caught_by: str
    patch: Callable[[Patch], None]


LEAKS: Mapping[str, Leak] = {
    "a prediction time that depends on the outcome": Leak("prediction_time_known", _hours_before_the_death),
    "a prediction later than its task declares": Leak("prediction_time_as_declared", _prediction_a_day_late),
    "a label whose window begins before the prediction": Leak(
        "outcome_after_prediction", _the_dead_are_at_risk
    ),
    "one patient in two splits": Leak("one_patient_one_split", _split_by_stay),
    "held-out patients of yesterday in today's training": Leak("one_patient_one_split", _splits_drawn_anew),
    "events by their time instead of when they were known": Leak("features_known_then", _by_time_alone),
    "start and end of a window swapped": Leak("features_known_then", _start_and_end_swapped),
    "the last value of the whole stay": Leak("features_known_then", _whole_stay),
    "a window that ends an hour late": Leak("later_facts", _an_hour_too_long),
    "the newest correction whenever it was made": Leak("later_corrections", _newest_correction),
    "orders after the outcome": Leak("features_known_then", _orders_as_of_admission),
    "discharge codes at admission": Leak("features_known_then", _codes_at_admission),
    "later visits counted as earlier ones": Leak("features_known_then", _future_visits_as_earlier),
    "the length of stay as a feature": Leak("features_known_then", _length_of_stay),
    "a death column among demographics": Leak("outcome_facts", _death_among_demographics),
    "an identifier as a feature": Leak(
        "columns_are_features", lambda patch: _in_place_of_a_feature(patch, "hadm_id", lambda p: p["stay_id"])
    ),
    "imputation over all splits": Leak("rows_of_each_split", _imputed_over_all_splits),
    "training on held-out rows": Leak("rows_of_each_split", _trained_on_held_out),
    "trees grown on the rows that judge them": Leak("shuffled_labels", _trained_on_tuning_rows),
    "patient expired, in a note of later": Leak("notes_known_then", _notes_by_time_alone),
    "the newest version of a note": Leak("later_notes", _newest_version_of_a_note),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_known_leak_is_caught_by_name(
    leak: str, settings: Settings, recorded: Record, monkeypatch: Patch
) -> None:
    LEAKS[leak].patch(monkeypatch)
    if LEAKS[leak].caught_by != "shuffled_labels":
        monkeypatch.setattr(fitted, "SHUFFLES", 2)  # which takes most of the time
    certificate = certify(settings, recorded)
    assert LEAKS[leak].caught_by in {check.name for check in certificate.failed}
    assert not certificate.passed


def test_what_few_patients_cannot_show_is_no_pass(
    settings: Settings, recorded: Record, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(fitted, "SHUFFLES", 2)
    monkeypatch.setattr(fitted, "_LEAST", 1_000_000)
    certificate = certify(settings, recorded)
    assert {check.name: check.verdict for check in certificate.unjudged} == {"shuffled_labels": "not judged"}
    assert certificate.passed, "nothing speaks against it; the gate refuses it by name"


@pytest.fixture(autouse=True)
def honest_codes() -> Any:
    yield
    kinds.of_code.cache_clear()


def test_target_encoded_identifiers_are_caught(
    settings: Settings, recorded: Record, monkeypatch: Patch
) -> None:
    """Under a name of their own, and in the place of an honest feature; and the feature tells too much alone."""
    encoded = _mean_outcome_of_the_patient(recorded)
    _in_place_of_a_feature(monkeypatch, "lactate_last_stay", encoded)
    certificate = certify(settings, recorded)
    failed = {check.name: check.shown for check in certificate.failed}
    assert failed["features_known_then"].startswith("lactate_last_stay differ")
    assert failed["single_features"].startswith("lactate_last_stay ")
    assert [finding.name for finding in certificate.findings] == ["lactate_last_stay"]


@pytest.mark.parametrize(
    ("head", "words"),
    [("ICD10CM", "diagnosis codes without a time of their own"), ("HOSPITAL_EXPIRE_FLAG", "flags")],
)
def test_a_source_that_dates_the_end_of_a_stay_at_its_admission_is_caught(
    head: str, words: str, settings: Settings, recorded: Record
) -> None:
    """As an edit of the source's file (``available: visit.admitted``) would have it in silver."""
    admitted = {
        row["visit_id"]: row["time"]
        for row in recorded.events.select(["visit_id", "time", "code"]).to_pylist()
        if row["code"].startswith("HOSPITAL_ADMISSION")
    }
    rows = recorded.events.to_pylist()
    for row in rows:
        if row["code"].startswith(head):
            row["time"] = row["available_time"] = admitted[row["visit_id"]]
    early = replace(recorded, events=pa.Table.from_pylist(rows, schema=recorded.events.schema))
    failed = {check.name: check.shown for check in certify(settings, early).failed}
    assert words in failed["known_at_the_end"]


def test_a_source_whose_discharge_summaries_are_known_at_admission_is_caught(
    settings: Settings, recorded: Record
) -> None:
    """'Patient expired' is then read in time, as far as the lake knows: the word tells too much."""
    notes = recorded.notes
    early = notes.set_column(
        notes.schema.get_field_index("available_time"), "available_time", notes["time"]
    ).cast(notes.schema)
    certificate = certify(settings, replace(recorded, notes=early))
    assert {check.name for check in certificate.failed} == {"single_tokens"}
    assert f"token {EXPIRED}" in {finding.name for finding in certificate.findings}


def test_a_task_that_reads_the_discharge_is_caught(
    settings: Settings, recorded: Record, monkeypatch: Patch
) -> None:
    """An edited YAML: where the patient is discharged to, as a feature."""
    file = task_names.file_of("mortality")
    assert file is not None
    leak = '  occurred: [{codes: {left_dead: "HOSPITAL_DISCHARGE//DIED"}, window: stay}]\n'
    text = file.read_text()
    assert "features:\n" in text
    edited = tasks.parse("mortality", text.replace("features:\n", f"features:\n{leak}", 1))
    monkeypatch.setattr(tasks, "load", lambda _name: edited)
    caches = (kernel.names, kernel.position, kernel._cells, kinds.own_codes, plain_inputs._targets)
    for cached in caches:
        cached.cache_clear()
    try:
        failed = {check.name: check.shown for check in certify(settings, recorded).failed}
    finally:
        for cached in caches:
            cached.cache_clear()
    assert failed["outcome_facts"].startswith("left_dead_stay differ")


def test_a_patient_in_three_splits_is_one_patient() -> None:
    frozen = pa.table(
        {"subject_id": list(range(12)) * 3, "split": [split for split in SPLITS for _ in range(12)]}
    )
    check = declared.one_patient_one_split(frozen)
    assert check.shown.startswith("12 patients stand in several splits")


def test_a_person_names_a_dataset_and_a_task_alone(one_run: Settings) -> None:
    """The rest is that of the newest training set, as a run gives it."""
    given = {"dataset": "synthetic", "task": "mortality"}
    made = calls.of_stage(one_run, "training_set")
    newest = next(call for call in reversed(made) if call.task == "mortality")
    (context,) = leakage.runtime_inputs(given, one_run)
    params = leakage.Params.model_validate(given | context.params)
    assert params.training_set.model_dump() == newest.result["training_set"]
    assert params.labels.model_dump() == newest.params["labels"]
    assert params.source == "mimic-iv"
    assert params.note_tokens is not None
    assert list(leakage.runtime_inputs(given | context.params, one_run)) == []
    with pytest.raises(NotFoundError, match="has no training set of mortality yet"):
        list(leakage.runtime_inputs({"dataset": "elsewhere", "task": "mortality"}, one_run))


def test_the_command_says_what_failed_and_ends_with_the_exit_code_of_a_leak(
    settings: Settings, recorded: Record, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    _newest_correction(monkeypatch)
    monkeypatch.setattr(fitted, "SHUFFLES", 2)
    made = leaky_hospital.checked(settings, recorded, "mortality")
    monkeypatch.setattr(runtime_inputs, "call", lambda *_arguments: SimpleNamespace(result=made))
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    command = ["leakcheck", "--dataset", leaky_hospital.DATASET, "--task", "mortality"]
    assert main.main(command) == LeakError.exit_code
    told = capsys.readouterr().out
    assert "FAILED  later corrections: corrections that became known after the prediction" in told
    assert "passed  one patient one split: " in told
    assert told.splitlines()[-1].startswith("FAILED: ")
