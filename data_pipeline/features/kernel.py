"""The feature kernel: point-in-time features of a patient at a prediction time T, as one row of numbers.

Spark runs it over shards and the server runs it for one patient; both get the same bits. Of each event it uses the
latest assertion with ``available_time <= T``, and of these only those with ``time <= T``; no argument widens that.

A measured feature is ``<concept>_<statistic>_<window>``. A window includes its end T and excludes its start. The
windows ``6h`` and ``24h`` begin 6 and 24 hours before T. The window ``stay`` begins 24 hours before admission
(``stays.TRANSFER_GAP``), because the first laboratory results come from the emergency department; an earlier stay can't
reach into it, because a stay that ends less than a day before is merged. ``trend`` is the least-squares slope per hour;
``recency``, ``interval`` and ``irregularity`` tell in hours how values were charted (``mediscale.core.tasks``);
``treatment_<group>_<window>`` is 1 where such a treatment began or changed in the window. A task may read codes of its
own: ``<name>_<statistic>_<window>`` of their numbers, ``<name>_<window>`` of their occurrence. A missing value is NaN.
Counts and flags of a patient in the lake are 0 where nothing was recorded; in a request that gives plain values they
are NaN, because the request does not say.

Of a task whose unit is the encounter, a prediction sees the rows of its own visit and the patient's rows without a
visit (birth, sex): another visit's rows are another's.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.cohort.bitemporal import HOUR, Floats, Ints, latest_until, map_codes, microseconds
from data_pipeline.features import comorbidity, kinds
from data_pipeline.features.history import History
from data_pipeline.features.windows import STAY, GroupedValues, Predictions, Rows
from mediscale.core import tasks
from mediscale.core.concepts import CONCEPTS
from mediscale.core.tasks import TaskName

COLUMNS = (
    "subject_id", "time", "code", "numeric_value", "available_time", "visit_id", "event_id", "retracted"
)  # fmt: skip
"""The columns of an events table that the kernel reads."""

_MAX_PAIRS = 20_000_000
"""Pairs of a prediction and a row of its subject that are looked at together: some 2 GB. Where a stay is predicted
every few hours there are many times as many as rows."""
_DEMOGRAPHICS = ("age_years", "sex_female")
_UTILIZATION = (
    "emergency_admission",
    "prior_visits_365d",
    "days_since_last_discharge",
    "icu_stays_this_visit",
)
_BETWEEN_VISITS = frozenset({"prior_visits_365d", "days_since_last_discharge"})
"""Which an encounter by itself does not have."""
_COMORBIDITY = (*(group.name for group in comorbidity.GROUPS), "charlson_score")


@cache
def names(task: TaskName) -> tuple[str, ...]:
    """The names of a task's features, in the order of the columns of ``compute``."""
    declared = tasks.load(task).features
    between_visits = _BETWEEN_VISITS if tasks.load(task).unit == "encounter" else ()
    return (
        *_DEMOGRAPHICS,
        *(name for name in _UTILIZATION if name not in between_visits),
        *declared.names,
        *_COMORBIDITY,
    )


@cache
def position(task: TaskName) -> dict[str, int]:
    """The column of each feature."""
    return {name: i for i, name in enumerate(names(task))}


def compute(events: pa.Table, predictions: pa.Table, task: TaskName) -> Floats:
    """The features of each prediction, shape ``[predictions.num_rows, len(names(task))]``, in the same order.

    ``events`` has ``COLUMNS`` of all assertions of the subjects in ``predictions``, in any order, and possibly of other
    subjects. ``predictions`` has ``subject_id``, ``stay_id``, ``admission_time`` (of the stay) and ``prediction_time``,
    in naive UTC; ``stay_id`` is read where the task's unit is the encounter. A missing value is NaN.
    """
    declared = tasks.load(task)
    rows, ids = _rows(events, task)
    if declared.unit == "encounter":
        rows, ids = _of_encounters(rows, ids, predictions)
        predictions = predictions.set_column(
            predictions.schema.get_field_index("subject_id"), "subject_id", predictions["stay_id"]
        )
    rows, requested = rows.ordered(ids), Predictions.of(predictions)
    features = np.full((predictions.num_rows, len(names(task))), np.nan)
    measured = (rows.kind < kinds.N_MEASURED) | (rows.kind >= kinds.FIRST_OWN)
    measurements, history = rows.where(measured), rows.where(~measured)
    for block in requested.blocks(rows, _MAX_PAIRS):
        some, cells = requested.where(block), features[block]
        _measurement_features(measurements, some, task, cells)
        _history_features(history, some, task, cells)
    return features


def _rows(events: pa.Table, task: TaskName) -> tuple[Rows, Ints]:
    """The rows that features of the task are computed from, with their events; a row stands once for each of its
    kinds."""
    # Computed before any row is left out: a correction may change an event's code into one that no feature uses.
    until = latest_until(events)
    value = np.asarray(events["numeric_value"].to_numpy(), dtype=np.float64)
    rows = Rows(
        subject=np.asarray(events["subject_id"].to_numpy()),
        time=microseconds(events["time"]),
        available=microseconds(events["available_time"]),
        latest_until=until,
        value=value,
        kind=map_codes(events["code"], kinds.of_code, np.uint8),
        visit=pc.fill_null(events["visit_id"], 0).to_numpy(),
        diagnosis_bits=map_codes(events["code"], comorbidity.group_bits, np.int64),
    )
    ids = np.asarray(events["event_id"].to_numpy())
    standing = np.ones(len(ids), dtype=np.bool_)
    if pc.any(events["retracted"]).as_py():
        standing = ~events["retracted"].to_numpy()
    read = standing & (rows.kind != kinds.NOTHING) & ~(np.isnan(value) & (rows.kind < len(CONCEPTS)))
    chosen, chosen_ids = [rows.where(read)], [ids[read]]
    for own in kinds.own_codes(task):
        matching = standing & map_codes(events["code"], own.matches, np.bool_)
        if own.numeric:
            matching &= ~np.isnan(value)
        if matching.any():
            chosen.append(replace(rows, kind=np.full(len(ids), own.kind, np.uint8)).where(matching))
            chosen_ids.append(ids[matching])
    return Rows.concatenated(chosen), np.concatenate(chosen_ids)


def _of_encounters(rows: Rows, ids: Ints, predictions: pa.Table) -> tuple[Rows, Ints]:
    """The rows with the visit in the subject's place; a row without a visit stands once for each visit of its patient
    that is predicted."""
    shared = rows.visit == 0
    own = replace(rows.where(~shared), subject=rows.visit[~shared])
    patients = np.asarray(predictions["subject_id"].to_numpy())
    visits, first = np.unique(np.asarray(predictions["stay_id"].to_numpy()), return_index=True)
    common = np.flatnonzero(shared)
    common = common[np.argsort(rows.subject[common], kind="stable")]
    begin = np.searchsorted(rows.subject[common], patients[first], "left")
    n = np.searchsorted(rows.subject[common], patients[first], "right") - begin
    position = np.repeat(begin - (np.cumsum(n) - n), n) + np.arange(n.sum())
    copied = common[position]
    theirs = replace(rows.where(copied), subject=np.repeat(visits, n))
    return Rows.concatenated([own, theirs]), np.concatenate([ids[~shared], ids[copied]])


def _measurement_features(rows: Rows, predictions: Predictions, task: TaskName, features: Floats) -> None:
    """Writes the statistics of measurements and treatments over their windows into ``features``."""
    occurrences = {f"{name}_{window}" for name, _, window in tasks.load(task).features.occurrences}
    for name, i in position(task).items():
        if name.startswith("treatment_") or "_count_" in name or name in occurrences:
            features[:, i] = 0
    prediction, row = predictions.visible_rows(rows, predictions.start(STAY))
    # The predictions are in order already, so one stable sort of bytes (a radix sort) groups by kind and prediction.
    order = np.argsort(rows.kind[row], kind="stable")
    prediction, visible = prediction[order], rows.where(row[order])
    hours = (visible.time - predictions.time[prediction]) / HOUR
    values = GroupedValues.of(visible.kind, prediction, hours, visible.value)
    for window, cells in _cells(task).items():
        used = np.max([columns for _, columns in cells], axis=0) >= 0
        inside = values.where((visible.time > predictions.start(window)[prediction]) & used[visible.kind])
        for stat, columns in cells:
            inside.write(stat, columns, features)


@cache
def _cells(task: TaskName) -> dict[str, tuple[tuple[str, Ints], ...]]:
    """The statistics of each window, and for each statistic the column of every kind of value (-1 for none)."""
    columns_of = position(task)
    cells: dict[str, dict[str, Ints]] = {}
    declared = tasks.load(task).features
    own = {(code.name, code.numeric): code.kind for code in kinds.own_codes(task)}
    named = [
        *((kinds.CONCEPT[c], stat, w, f"{c}_{stat}_{w}") for c, stat, w in declared.measurements),
        *((own[n, True], stat, w, f"{n}_{stat}_{w}") for n, _, stat, w in declared.numbers),
        *((kinds.TREATMENT[g], "any", w, f"treatment_{g}_{w}") for g, w in declared.treated),
        *((own[n, False], "any", w, f"{n}_{w}") for n, _, w in declared.occurrences),
    ]
    for kind, stat, window, name in named:
        columns = cells.setdefault(window, {}).setdefault(stat, np.full(kinds.NOTHING, -1))
        columns[kind] = columns_of[name]
    return {window: tuple(stats.items()) for window, stats in cells.items()}


def _history_features(rows: Rows, predictions: Predictions, task: TaskName, features: Floats) -> None:
    """Writes the features of the whole record into ``features``: demographics, earlier visits and comorbidity."""
    prediction, row = predictions.visible_rows(rows)
    history = History(predictions, prediction, rows.where(row))
    columns_of = position(task)
    for name, column in history.features(task):
        if name in columns_of:
            features[:, columns_of[name]] = column
