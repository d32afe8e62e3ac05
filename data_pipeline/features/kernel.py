"""The feature kernel: what is known about a patient at a moment, as one row of numbers.

Spark schedules it over shards and the server calls it for one patient; both get the same bits. It sees, per event, the
latest assertion with ``available_time <= T`` and of those only ``time <= T``: there is no way to ask for more.

A measured feature is ``<concept>_<statistic>_<window>``. Windows end at T, included, and are open at their start:
``6h`` and ``24h`` before T, and ``stay``, which begins 24 hours before admission (``stays.TRANSFER_GAP``), because the
first laboratory results come from the emergency department; an earlier stay never reaches into it, being merged when it
ends less than a day before. ``trend`` is the least-squares slope per hour; ``treatment_<group>_<window>`` is 1 when one
was begun or changed in the window. Missing is NaN. Counts and flags of a patient known to the lake are 0 when nothing
was recorded; in a request that gives plain values they are NaN, because it did not say.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.cohort.bitemporal import Floats, Ints, mapped, microseconds, superseded_at
from data_pipeline.cohort.stays import NOT_INPATIENT, TRANSFER_GAP
from data_pipeline.features import comorbidity
from data_pipeline.features.windows import DAY, HOUR, Asked, Bools, Groups, Rows
from mediscale.core import tasks
from mediscale.core.concepts import CONCEPTS, TREATMENTS, by_name
from mediscale.core.errors import InputError
from mediscale.core.tasks import TaskName

COLUMNS = (
    "subject_id", "time", "code", "numeric_value", "available_time", "visit_id", "event_id", "retracted"
)  # fmt: skip
"""What the kernel reads of an events table."""

YEAR = 365.2425 * DAY

OLDEST = 90.0
"""Ages above are given as 90: sources blur them (MIMIC-III moves these births 300 years back), and so does HIPAA."""

_STAY = "stay"
_BEFORE_ADMISSION = TRANSFER_GAP // timedelta(microseconds=1)
"""How long before admission the stay's window begins, in microseconds."""
_WINDOW_HOURS = {"6h": 6, "24h": 24}

_PERSON = ("age_years", "sex_female")
_USE = ("emergency_admission", "prior_visits_365d", "days_since_last_discharge", "icu_stays_this_visit")
_COMORBIDITY = (*(group.name for group in comorbidity.GROUPS), "charlson_score")

_CONCEPT_KIND = {concept.name: kind for kind, concept in enumerate(CONCEPTS)}
_TREATMENT_KIND = {group: len(CONCEPTS) + i for i, group in enumerate(TREATMENTS)}
_N_MEASURED = len(CONCEPTS) + len(TREATMENTS)
(
    _BIRTH, _FEMALE, _MALE, _ADMITTED, _ADMITTED_URGENTLY, _OBSERVED, _DISCHARGED, _TO_ICU, _FROM_ICU, _DIAGNOSED
) = range(_N_MEASURED, _N_MEASURED + 10)  # fmt: skip
_NOTHING = 255


@cache
def names(task: TaskName) -> tuple[str, ...]:
    """The features of a task, in the order of ``compute``'s columns."""
    declared = tasks.load(task).features
    return (
        *_PERSON,
        *_USE,
        *declared.course,
        *(f"{concept}_{stat}_{window}" for concept, stat, window in declared.measurements),
        *(f"treatment_{group}_{window}" for group, window in declared.treated),
        *_COMORBIDITY,
    )


@cache
def plain_inputs(task: TaskName) -> tuple[str, ...]:
    """What a request may give by its plain name: ``age`` in years, ``sex`` (1 female, 0 male), and concepts."""
    return ("age", "sex", *dict.fromkeys(concept for concept, _, _ in tasks.load(task).features.measurements))


@cache
def _position(task: TaskName) -> dict[str, int]:
    return {name: i for i, name in enumerate(names(task))}


@cache
def _plain_targets(task: TaskName) -> dict[str, tuple[int, ...]]:
    """The features that one plain value fills, the one that holds a known patient's newest value first."""
    position = _position(task)
    targets: dict[str, tuple[int, ...]] = {"age": (position["age_years"],), "sex": (position["sex_female"],)}
    ranks = {"last": 0, "mean": 1, "min": 2, "max": 3}
    measured = tasks.load(task).features.measurements
    for concept in plain_inputs(task)[2:]:
        cells = [(ranks[stat], f"{concept}_{stat}_{window}")
                 for name, stat, window in measured if name == concept and stat in ranks]  # fmt: skip
        targets[concept] = tuple(position[name] for _, name in sorted(cells))
    return targets


def from_values(values: Mapping[str, float], task: TaskName) -> npt.NDArray[np.float32]:
    """The row of a request that gives plain values, shape ``[len(names(task))]``: one value is its own last, lowest,
    highest and mean; everything that the request did not say is NaN.

    Raises:
        InputError: a name is not among ``plain_inputs`` or an alias of one.
    """
    row = np.full(len(names(task)), np.nan, dtype=np.float32)
    targets = _plain_targets(task)
    for name, value in values.items():
        known = by_name().get(name)
        plain = known.name if known else name
        if plain not in targets:
            raise InputError(f"The {task} model has no input {name!r}; it takes {', '.join(targets)}.")
        row[list(targets[plain])] = min(value, OLDEST) if plain == "age" else value
    return row


def plain_values(row: npt.NDArray[np.floating], task: TaskName) -> dict[str, float]:
    """What a request about a patient with this row of ``compute`` would say: the newest value of each plain input."""
    newest = {plain: float(row[targets[0]]) for plain, targets in _plain_targets(task).items()}
    return {plain: value for plain, value in newest.items() if not np.isnan(value)}


def as_request(
    rows: npt.NDArray[np.floating], task: TaskName, inputs: Sequence[str]
) -> npt.NDArray[np.floating]:
    """What ``from_values`` would make of patients' rows if a request gave only the newest value of each of ``inputs``.

    For training with, and judging on, what requests can say. A new array of the same shape and type.
    """
    asked = np.full_like(rows, np.nan)
    for plain in inputs:
        targets = _plain_targets(task)[plain]
        asked[:, targets] = rows[:, targets[:1]]
    return asked


def compute(events: pa.Table, predictions: pa.Table, task: TaskName) -> Floats:
    """Features of each prediction, shape ``[predictions, len(names(task))]``, in the order of ``predictions``.

    ``events`` has ``COLUMNS`` of all assertions of the subjects asked about, in any order and possibly of others;
    ``predictions`` has ``subject_id``, ``admission_time`` (of the stay) and ``prediction_time``.
    """
    rows, asked = _rows(events), Asked.of(predictions)
    found = np.full((len(asked.at), len(names(task))), np.nan)
    _measure(rows.where(rows.kind < _N_MEASURED), asked, task, found)
    _recount(rows.where(rows.kind >= _N_MEASURED), asked, task, found)
    return found


def _rows(events: pa.Table) -> Rows:
    # Before anything is left out: a correction may have turned the event into one of no interest.
    until = superseded_at(events)
    kind = mapped(events["code"], _kind, np.uint8)
    value = np.asarray(events["numeric_value"].to_numpy(), dtype=np.float64)
    visit = pc.fill_null(events["visit_id"], 0).to_numpy()
    wanted = (kind != _NOTHING) & ~(np.isnan(value) & (kind < len(CONCEPTS)))
    if pc.any(events["retracted"]).as_py():
        wanted &= ~events["retracted"].to_numpy()
    rows = Rows(
        subject=np.asarray(events["subject_id"].to_numpy()),
        time=microseconds(events["time"]),
        available=microseconds(events["available_time"]),
        until=until,
        value=value,
        kind=kind,
        about=np.where(kind == _DIAGNOSED, mapped(events["code"], comorbidity.bits_of, np.int64), visit),
    )
    return rows.where(wanted).ordered(np.asarray(events["event_id"].to_numpy())[wanted])


@cache
def _kind(code: str) -> int:
    head, _, tail = code.partition("//")
    if head in ("ICD9CM", "ICD10CM"):
        return _DIAGNOSED if comorbidity.bits_of(code) else _NOTHING
    if head == "HOSPITAL_ADMISSION":
        if tail in NOT_INPATIENT:
            return _OBSERVED
        return _ADMITTED_URGENTLY if tail in ("EMERGENCY", "URGENT") else _ADMITTED
    return _code_kinds().get(code, _code_kinds().get(head, _NOTHING))


@cache
def _code_kinds() -> dict[str, int]:
    return {
        **{concept.code: _CONCEPT_KIND[concept.name] for concept in CONCEPTS},
        **{f"TREATMENT//{group}": kind for group, kind in _TREATMENT_KIND.items()},
        "MEDS_BIRTH": _BIRTH,
        "GENDER//F": _FEMALE,
        "GENDER//M": _MALE,
        "HOSPITAL_DISCHARGE": _DISCHARGED,
        "ICU_ADMISSION": _TO_ICU,
        "ICU_DISCHARGE": _FROM_ICU,
    }


def _measure(rows: Rows, asked: Asked, task: TaskName, found: Floats) -> None:
    for name, i in _position(task).items():
        if name.startswith("treatment_") or "_count_" in name:
            found[:, i] = 0
    prediction, row = asked.sees(rows, _start(asked, _STAY))
    # Predictions are in order already, so one stable sort of bytes, a radix sort, groups by value and prediction.
    order = np.argsort(rows.kind[row], kind="stable")
    prediction, seen = prediction[order], rows.where(row[order])
    hours = (seen.time - asked.at[prediction]) / HOUR
    values = Groups.of(seen.kind, prediction, hours, seen.value)
    for window, cells in _cells(task).items():
        used = np.max([columns for _, columns in cells], axis=0) >= 0
        inside = values.where((seen.time > _start(asked, window)[prediction]) & used[seen.kind])
        for stat, columns in cells:
            inside.write(stat, columns, found)


def _start(asked: Asked, window: str) -> Ints:
    return asked.admission - _BEFORE_ADMISSION if window == _STAY else asked.at - _WINDOW_HOURS[window] * HOUR


@cache
def _cells(task: TaskName) -> dict[str, tuple[tuple[str, Ints], ...]]:
    """For each window its statistics, and for each statistic the column of every kind of value, -1 for none."""
    position = _position(task)
    cells: dict[str, dict[str, Ints]] = {}
    declared = tasks.load(task).features
    named = [
        *((_CONCEPT_KIND[c], stat, w, f"{c}_{stat}_{w}") for c, stat, w in declared.measurements),
        *((_TREATMENT_KIND[g], "any", w, f"treatment_{g}_{w}") for g, w in declared.treated),
    ]
    for kind, stat, window, name in named:
        columns = cells.setdefault(window, {}).setdefault(stat, np.full(_N_MEASURED, -1))
        columns[kind] = position[name]
    return {window: tuple(stats.items()) for window, stats in cells.items()}


def _recount(rows: Rows, asked: Asked, task: TaskName, found: Floats) -> None:
    """Everything that looks back over the whole record: who the patient is, earlier visits, known diagnoses."""
    prediction, row = asked.sees(rows)
    history = _History(asked, prediction, rows.where(row))
    for name, column in history.features(task):
        found[:, _position(task)[name]] = column


@dataclass(frozen=True)
class _History:
    asked: Asked
    prediction: Ints
    seen: Rows

    def features(self, task: TaskName) -> Iterator[tuple[str, Floats]]:
        yield "age_years", np.minimum((self.asked.at - self._time(_BIRTH)) / YEAR, OLDEST)
        yield (
            "sex_female",
            self._newest(self._of(_FEMALE, _MALE), (self.seen.kind == _FEMALE).astype(np.float64)),
        )
        earlier = self.seen.time < self.asked.admission[self.prediction]
        recent = self.seen.time >= self.asked.admission[self.prediction] - 365 * DAY
        admitted = self._of(_ADMITTED, _ADMITTED_URGENTLY)
        yield "emergency_admission", self._urgent(admitted & ~earlier)
        yield "prior_visits_365d", self._count(admitted & earlier & recent)
        left = self._newest(
            self._of(_DISCHARGED) & earlier & ~self._not_inpatient(), self.seen.time.astype(np.float64)
        )
        yield "days_since_last_discharge", (self.asked.admission - left) / DAY
        # The stay's window: who comes straight to intensive care may be charted there minutes before the admission.
        of_stay = self.seen.time > _start(self.asked, _STAY)[self.prediction]
        to_icu = self._count(self._of(_TO_ICU) & of_stay)
        yield "icu_stays_this_visit", to_icu
        course = tasks.load(task).features.course
        if "in_icu" in course:
            yield "in_icu", (to_icu > self._count(self._of(_FROM_ICU) & of_stay)).astype(np.float64)
        if "hours_since_admission" in course:
            yield "hours_since_admission", (self.asked.at - self.asked.admission) / HOUR
        yield from self._comorbidity()

    def _of(self, *kinds: int) -> Bools:
        return np.isin(self.seen.kind, kinds)

    def _not_inpatient(self) -> Bools:
        """Rows of visits that were no admissions, by what each prediction knew of the visit."""
        _, visit = np.unique(self.seen.about, return_inverse=True)
        of = self.prediction * (len(visit) + 1) + visit
        return np.asarray(np.isin(of, of[self._of(_OBSERVED)]) & (self.seen.about != 0))

    def _count(self, chosen: Bools) -> Floats:
        return np.bincount(self.prediction[chosen], minlength=len(self.asked.at)).astype(np.float64)

    def _newest(self, chosen: Bools, value: Floats) -> Floats:
        newest = np.full(len(self.asked.at), np.nan)
        newest[self.prediction[chosen]] = value[chosen]  # in time order: the last assignment stays
        return newest

    def _time(self, kind: int) -> Floats:
        return self._newest(self._of(kind), self.seen.time.astype(np.float64))

    def _urgent(self, admitted: Bools) -> Floats:
        """How the stay began: a later part of a merged stay is a transfer and says nothing about it."""
        backwards = np.flatnonzero(admitted)[::-1]
        urgent = np.full(len(self.asked.at), np.nan)
        urgent[self.prediction[backwards]] = self.seen.kind[backwards] == _ADMITTED_URGENTLY
        return urgent

    def _comorbidity(self) -> Iterator[tuple[str, Floats]]:
        held = np.zeros(len(self.asked.at), dtype=np.int64)
        coded = self._of(_DIAGNOSED)
        np.bitwise_or.at(held, self.prediction[coded], self.seen.about[coded])
        yield from zip((group.name for group in comorbidity.GROUPS), comorbidity.flags(held).T, strict=True)
        yield "charlson_score", comorbidity.charlson_score(held)
