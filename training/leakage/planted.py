"""Oracle facts: made-up facts that tell the outcome, which nobody can have known at the prediction time.

They are added to the record of sampled patients under every code that a feature is computed from and every table of the
extract, and then the real kernel computes the features again: a single differing bit is a leak.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data_pipeline.cohort.bitemporal import DAY, HOUR, Ints, microseconds
from data_pipeline.features import comorbidity
from mediscale.core import tasks
from mediscale.core.concepts import CONCEPTS, TREATMENTS
from mediscale.core.outcomes import OUTCOME, DeclaredOutcome
from mediscale.core.tasks import Task
from training.leakage.sample import Sample

MOMENT = 1_000_000
"""A second, in microseconds."""
_CODES_PER_TABLE = 3
FIRST_PLANTED = 1 << 60
"""Identifiers of planted events and notes: the extract's own are hashes, and none is of such a run of numbers."""

_ADMINISTRATIVE = (
    "MEDS_BIRTH", "GENDER//F", "GENDER//M", "AGE", "HOSPITAL_ADMISSION//EMERGENCY", "HOSPITAL_ADMISSION//ELECTIVE",
    "HOSPITAL_ADMISSION//OBSERVATION", "HOSPITAL_DISCHARGE//HOME", "HOSPITAL_DISCHARGE//DIED", "ICU_ADMISSION//MICU",
    "ICU_DISCHARGE//MICU", "MEDS_DEATH", "HOSPITAL_EXPIRE_FLAG", f"{OUTCOME}//planted",
)  # fmt: skip


def codes(sample: Sample) -> dict[str, str]:
    """Every code that facts are planted under, with the table that they are said to come from."""
    task = tasks.load(sample.task)
    read = [
        *(concept.code for concept in CONCEPTS),
        *(f"TREATMENT//{group}" for group in TREATMENTS),
        *_ADMINISTRATIVE,
        *(f"ICD10CM//{_first(group.icd10)}" for group in comorbidity.GROUPS),
        *(f"ICD9CM//{_first(group.icd9)}" for group in comorbidity.GROUPS),
        *_own_codes(task),
    ]
    return dict.fromkeys(read, "planted") | dict(_most_frequent(sample.events))


def _first(prefixes: str) -> str:
    return prefixes.split()[0].partition("-")[0]


def _own_codes(task: Task) -> Iterator[str]:
    declared = task.features
    for code in (
        *(code for _, code, _, _ in declared.numbers),
        *(code for _, code, _ in declared.occurrences),
    ):
        yield code.replace("*", "PLANTED")


def _most_frequent(events: pa.Table) -> Iterator[tuple[str, str]]:
    """The most frequent codes of each table of the extract, as (code, table)."""
    counted = events.group_by(["source", "code"]).aggregate([("code", "count")])
    ordered = counted.sort_by([("source", "ascending"), ("code_count", "descending"), ("code", "ascending")])
    n_codes: dict[str, int] = {}
    for source, code in zip(ordered["source"].to_pylist(), ordered["code"].to_pylist(), strict=True):
        n_codes[source] = n_codes.get(source, 0) + 1
        if n_codes[source] <= _CODES_PER_TABLE:
            yield code, source


def later_facts(sample: Sample) -> pa.Table:
    """The record with facts that become known after the prediction: dated after it, just before it, and long before."""
    at, admitted = sample.times, microseconds(sample.predictions["admission_time"])
    moments = [
        (at + MOMENT, at + MOMENT),
        (at + HOUR, at + HOUR),
        (at + 2 * DAY, at + 2 * DAY),
        (at - HOUR, at + MOMENT),
        (np.minimum(admitted, at) - 10 * DAY, at + MOMENT),
    ]
    return _with(sample, codes(sample), moments)


def outcome_facts(sample: Sample) -> pa.Table:
    """The record with the outcome itself, known an hour before the prediction: no feature may read it even then."""
    outcome = tasks.load(sample.task).outcome
    outcome_codes = ["MEDS_DEATH", "HOSPITAL_EXPIRE_FLAG", f"{OUTCOME}//planted", "HOSPITAL_DISCHARGE//DIED"]
    outcome_codes += [outcome.code] if isinstance(outcome, DeclaredOutcome) else []
    at = sample.times - HOUR
    return _with(sample, dict.fromkeys(outcome_codes, "planted"), [(at, at)])


def _with(sample: Sample, planted: dict[str, str], moments: list[tuple[Ints, Ints]]) -> pa.Table:
    """The record with a fact of each code at each moment (time, available time), in the stay's own visit and in none
    that the extract has. Its value tells whether the stay has the outcome."""
    n, own = len(sample), sample.predictions
    visits = np.asarray(own["stay_id"].to_numpy())
    shape = (len(moments), 2, len(planted), n)
    size = int(np.prod(shape))

    def spread(values: np.ndarray, axis: int) -> np.ndarray:
        """One axis of ``shape`` (moment, visit, code, stay) as a column."""
        return np.broadcast_to(np.expand_dims(values, [i for i in range(4) if i != axis]), shape).ravel()

    def times(which: int) -> pa.Array:
        stacked = np.stack([moment[which] for moment in moments])[:, None, None, :]
        return pa.array(np.broadcast_to(stacked, shape).ravel(), pa.timestamp("us"))

    rows = {
        "subject_id": spread(sample.subjects, 3),
        "time": times(0),
        "code": spread(np.array(list(planted)), 2).tolist(),
        "numeric_value": spread(np.where(sample.outcomes, 1000.0, -1000.0), 3),
        "available_time": times(1),
        "visit_id": np.broadcast_to(
            np.stack([visits, visits + FIRST_PLANTED])[None, :, None, :], shape
        ).ravel(),
        "event_id": FIRST_PLANTED + np.arange(size),
        "retracted": np.zeros(size, np.bool_),
        "source": spread(np.array(list(planted.values())), 2).tolist(),
    }
    return _appended(sample.events, rows)


def later_corrections(sample: Sample) -> pa.Table:
    """The record in which, after the prediction, everything that was known then is corrected or withdrawn in turn."""
    visible = sample.visible_at_prediction(sample.events)
    n, later = visible.num_rows, sample.times_of(visible) + MOMENT
    withdrawn = np.arange(n) % 2 == 1
    rows = {name: visible[name] for name in visible.column_names} | {
        "numeric_value": np.where(withdrawn, visible["numeric_value"].to_numpy(), 1000.0),
        "available_time": pa.array(later, pa.timestamp("us")),
        "retracted": withdrawn,
    }
    return _appended(sample.events, rows)


def _appended(events: pa.Table, rows: dict[str, object]) -> pa.Table:
    return pa.concat_tables([events, pa.table(rows).select(events.column_names).cast(events.schema)])
