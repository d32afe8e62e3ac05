"""Random cells of the feature matrix against a computation from the raw files by plain Python.

    .venv/bin/python benchmarks/brute_force_cells.py [mimic-iii=DIR] [mimic-iv=DIR] [synthea=DIR]

Each cell is a feature of a stay at its prediction time. Ours comes from the functions that a run has (facts, rules,
events, cohort, kernel), the other from ``brute_force_records.py``: loops over the rows of the CSV files. Half of the
cells are drawn from all, half from those in which ours is neither missing nor 0. Comorbidities are left out: what they
read is a table of codes and no computation. Without arguments, the extract is the synthetic hospital's.
"""

import math
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.brute_force_records import READERS, Hospital, Record
from data_pipeline import synthetic
from data_pipeline.cohort import cohort_flow
from data_pipeline.features import kernel
from data_pipeline.ingest import engine, extract_files, extract_parts, facts, placing
from data_pipeline.ingest import source as sources
from mediscale.core import tasks
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS

CELLS = 4_000
"""Of each task."""
TASKS = ("mortality", "readmission")
DATASET = "cells"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LEFT_OUT = ("elixhauser_", "charlson_")


class Difference(NamedTuple):
    """A cell in which the two differ; the stay's number is of its row in the cohort, and nobody's."""

    task: str
    feature: str
    row: int
    ours: float
    theirs: tuple[float, ...]


class Compared(NamedTuple):
    """What came of the comparison of one task."""

    cells: int
    filled: int
    differences: list[Difference]


def events_of(settings: Settings, name: str, root: Path) -> pa.Table:
    """The events of an extract, as silver would have them."""
    source = sources.load(name)
    files = extract_files.locate(source, root)
    parts = {n: tuple(extract_parts.part_of(source, n, f, root) for f in own) for n, own in files.items()}
    readers = {n: partial(_landed, own) for n, own in parts.items()}
    with engine.connection(settings) as database:
        judged = facts.judged(database, source, readers, DATASET)
        database.execute(f"create table judged as {judged}")
        schema = pa.schema([EVENTS.arrow_schema().field(column) for column in kernel.COLUMNS])
        placed = placing.placed_events(database, source, DATASET, "judged", n_shards=1)
        return pa.Table.from_batches([batch.select(kernel.COLUMNS) for batch in placed], schema)


def _landed(parts: Sequence[extract_parts.Part]) -> Iterator[pa.RecordBatch]:
    columns = extract_parts.columns_of(tuple(parts))
    return chain.from_iterable(part.landed(columns) for part in parts)


def compare(events: pa.Table, hospital: Hospital, task: str, cells: int, seed: int = 7) -> Compared:
    """Draws cells of a task and compares each with the brute force."""
    cohort = cohort_flow.cohort(events, task, None, 0)
    cohort = cohort.filter(pc.equal(cohort["steps"], len(tasks.load(task).steps)))
    if not cohort.num_rows:
        return Compared(0, 0, [])
    values, names = kernel.compute(events, cohort, task), kernel.names(task)
    patients = list(hospital.records)
    numbers = engine.pseudonyms(pa.array(patients), DATASET).to_pylist()
    by_number = dict(zip(numbers, patients, strict=True))
    stays = cohort.select(["subject_id", "admission_time", "prediction_time"]).to_pylist()
    differences, filled = [], 0
    chosen = _drawn(values, names, cells, seed)
    for row, column in chosen:
        stay, ours = stays[row], float(values[row, column])
        records = hospital.records[by_number[stay["subject_id"]]]
        theirs = cell(names[column], records, stay["admission_time"], stay["prediction_time"])
        filled += not math.isnan(ours) and ours != 0
        if not any(_equal(ours, value) for value in theirs):
            differences.append(Difference(task, names[column], row, ours, tuple(theirs)))
    return Compared(len(chosen), filled, differences)


def _drawn(
    values: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", names: Sequence[str], n: int, seed: int
) -> list[tuple[int, int]]:
    """Cells, half of them from all and half from those with something in them; none twice."""
    columns = [i for i, name in enumerate(names) if not name.startswith(LEFT_OUT)]
    every = [(row, column) for row in range(len(values)) for column in columns]
    full = [(row, column) for row, column in every if values[row, column] == values[row, column] != 0]
    draw = random.Random(seed)
    return list(
        dict.fromkeys(
            [*draw.sample(every, min(n // 2, len(every))), *draw.sample(full, min(n // 2, len(full)))]
        )
    )


def _equal(ours: float, theirs: float) -> bool:
    if math.isnan(ours) or math.isnan(theirs):
        return math.isnan(ours) and math.isnan(theirs)
    return math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-6)


# --- the brute force ---------------------------------------------------------------------------------------------


def cell(feature: str, records: Sequence[Record], admitted: datetime, at: datetime) -> list[float]:
    """The values that a feature may have; several where rows of one time and one age of knowledge may stand in either
    order."""
    visible = [record for record in _latest(records, at) if record.time <= at]
    if feature in _HISTORY:
        return [_HISTORY[feature](visible, admitted, at)]
    head, _, window = feature.rpartition("_")
    begin = admitted - DAY if window == "stay" else at - int(window.removesuffix("h")) * HOUR
    inside = [record for record in visible if record.time > begin]
    if head.startswith("treatment_"):
        return [float(any(record.what == head.removeprefix("treatment_") for record in inside))]
    concept, _, statistic = head.rpartition("_")
    own = sorted((r for r in inside if r.what == concept), key=lambda r: (r.time, r.known))
    return _statistic(statistic, own, at)


def _latest(records: Sequence[Record], at: datetime) -> list[Record]:
    """Of each event the statement that was known last by then; of several at one time, the first row."""
    latest: dict[tuple[object, ...], Record] = {}
    for record in records:
        before = latest.get(record.event)
        if record.known <= at and (before is None or record.known > before.known):
            latest[record.event] = record
    return list(latest.values())


def _statistic(name: str, own: Sequence[Record], at: datetime) -> list[float]:
    values = [record.value for record in own]
    if name == "count":
        return [float(len(values))]
    if not values:
        return [math.nan]
    if name == "last":
        return [r.value for r in own if (r.time, r.known) == (own[-1].time, own[-1].known)]
    if name == "trend":
        return [_slope([(r.time - at) / HOUR for r in own], values)]
    simple = {
        "min": min(values),
        "max": max(values),
        "sum": math.fsum(values),
        "mean": math.fsum(values) / len(values),
    }
    return [simple[name]]


def _slope(hours: Sequence[float], values: Sequence[float]) -> float:
    mean_hour, mean = math.fsum(hours) / len(hours), math.fsum(values) / len(values)
    spread = math.fsum((hour - mean_hour) ** 2 for hour in hours)
    if min(hours) == max(hours):
        return math.nan
    return (
        math.fsum((hour - mean_hour) * (value - mean) for hour, value in zip(hours, values, strict=True))
        / spread
    )


def _age(visible: Sequence[Record], _admitted: datetime, at: datetime) -> float:
    born = [record.time for record in visible if record.what == "birth"]
    return min((at - born[-1]) / (365.2425 * DAY), 90.0) if born else math.nan


def _female(visible: Sequence[Record], _admitted: datetime, _at: datetime) -> float:
    sexes = [record.what for record in visible if record.what in ("female", "male")]
    return float(sexes[-1] == "female") if sexes else math.nan


def _inpatient(visible: Sequence[Record]) -> list[Record]:
    kinds = ("admission OBSERVATION", "admission NEWBORN")
    admissions = [r for r in visible if r.what.startswith("admission ") and r.what not in kinds]
    return sorted(admissions, key=lambda record: record.time)


def _urgent(visible: Sequence[Record], admitted: datetime, _at: datetime) -> float:
    own = [record for record in _inpatient(visible) if record.time >= admitted]
    return float(own[0].what in ("admission EMERGENCY", "admission URGENT")) if own else math.nan


def _prior(visible: Sequence[Record], admitted: datetime, _at: datetime) -> float:
    return float(sum(admitted - 365 * DAY <= record.time < admitted for record in _inpatient(visible)))


def _since_discharge(visible: Sequence[Record], admitted: datetime, _at: datetime) -> float:
    ends = [
        record.time for record in visible if record.what == "discharge inpatient" and record.time < admitted
    ]
    return (admitted - max(ends)) / DAY if ends else math.nan


def _icu_stays(visible: Sequence[Record], admitted: datetime, _at: datetime) -> float:
    return float(sum(record.what == "to_icu" and record.time > admitted - DAY for record in visible))


def _in_icu(visible: Sequence[Record], admitted: datetime, at: datetime) -> float:
    left = sum(record.what == "from_icu" and record.time > admitted - DAY for record in visible)
    return float(_icu_stays(visible, admitted, at) > left)


def _hours(_visible: Sequence[Record], admitted: datetime, at: datetime) -> float:
    return (at - admitted) / HOUR


_HISTORY = {
    "age_years": _age,
    "sex_female": _female,
    "emergency_admission": _urgent,
    "prior_visits_365d": _prior,
    "days_since_last_discharge": _since_discharge,
    "icu_stays_this_visit": _icu_stays,
    "in_icu": _in_icu,
    "hours_since_admission": _hours,
}


def main(arguments: Sequence[str]) -> int:
    """Prints what came of each source and task, and up to ten differences; returns 1 where there are any."""
    differing = 0
    with tempfile.TemporaryDirectory() as scratch:
        home = Settings(home=Path(scratch))
        for argument in arguments or [f"mimic-iv={home.home / _synthetic(home)}"]:
            name, _, path = argument.partition("=")
            root = Path(path).resolve()
            hospital, events = READERS[name](root), events_of(home, name, root)
            for task in TASKS:
                found = compare(events, hospital, task, CELLS)
                differing += len(found.differences)
                print(f"{name}, {task}: {found.cells:,} cells, {found.filled:,} of them with something in it")
                print(f"figure: cells of {name} for {task} that differ = {len(found.differences)}")
                for one in found.differences[:10]:
                    print(f"  row {one.row}, {one.feature}: ours {one.ours:.6g}, by brute force {one.theirs}")
    return int(bool(differing))


def _synthetic(home: Settings) -> str:
    """The extract of a synthetic hospital, where none is given."""
    return synthetic.run(synthetic.Params(size="tiny", notes=False), home, "cells").path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
