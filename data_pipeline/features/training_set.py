"""The training set: labels and features of given versions, joined and frozen, with groups for subgroup evaluation."""

import re
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from data_pipeline import shards
from data_pipeline.cohort.bitemporal import latest_as_of, map_codes
from data_pipeline.ingest import engine
from mediscale.core import tasks
from mediscale.core.annotations import RuntimeInput, SplitCounts
from mediscale.core.errors import QualityError, StorageError
from mediscale.core.privacy import count, splits_in_words
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import SPLITS
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tables import TRAINING_SET
from mediscale.core.tasks import TaskName
from mediscale.storage import duckdb_tables, lake, table_files

ETHNICITIES: tuple[tuple[str, str], ...] = (
    ("unknown", r"UNKNOWN|UNABLE|DECLINED|NOT SPECIFIED|NOT OBTAINED|NO ANSWER|^$"),
    ("hispanic", r"HISPANIC|LATINO|SOUTH AMERICAN"),
    ("black", r"BLACK|AFRICAN"),
    ("asian", r"\bASIAN"),
    ("white", r"WHITE|PORTUGUESE|EUROPEAN|CAUCASIAN"),
)
"""Groups of ethnicity for subgroup evaluation, never a feature, with a pattern for each.

The first pattern that occurs in the source's upper-case text decides; text without any is ``other``. Sources mix
ethnicity into race, so ``hispanic`` comes before the races."""

AGE_BANDS = {"18-44": 45.0, "45-64": 65.0, "65-79": 80.0, "80+": np.inf}
"""Age bands for subgroup evaluation, each with the age in years that is above it."""

_NOT_HISPANIC = r"\bNO[NT][ -]?(OF )?(HISPANIC|LATINO)([ ,/]+(OR|A|HISPANIC|LATINO|SPANISH|ORIGIN)\b)*"
"""Removed before the patterns are searched: it names no group, and alone it leaves the group unknown."""

_KEY = ["subject_id", "stay_id", "admission_time", "prediction_time"]


class Params(Frozen):
    dataset: RuntimeInput[str]
    events: RuntimeInput[TableRef]
    labels: RuntimeInput[TableRef]
    features: RuntimeInput[TableRef]
    task: RuntimeInput[TaskName]
    min_events_per_class: int = Field(5, ge=1)
    """The training stays needed with the outcome, and without it: with fewer, trees learn single patients."""


class Result(Frozen):
    training_set: TableRef
    counts: SplitCounts
    """The counts of each split: rows ``n``, ``events`` (rows with the outcome) and ``subjects``."""
    too_few: str = ""
    """Of what there is too little held out for any version to be promoted; empty where there is enough."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``training_set_<task>``.

    Raises:
        QualityError: too few training rows have the outcome, or too few do not have it.
        StorageError: the labels and the features are not of the same predictions.
    """
    labels = lake.read(settings, params.labels, [*_KEY, "boolean_value", "split"])
    _refuse_too_few(params, labels)
    _refuse_mismatch(params, labels, lake.read(settings, params.features, _KEY))
    written = lake.find_commit(settings, params.dataset, f"training_set_{params.task}", key)
    if written is None:
        written = _write_joined(params, settings, key)
    return Result(
        training_set=written, counts=_counts(labels), too_few=too_few_to_promote(params.task, labels)
    )


def _counts(labels: pa.Table) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        rows = labels.filter(pc.equal(labels["split"], split))
        counts[split] = {
            "n": rows.num_rows,
            "events": pc.sum(rows["boolean_value"], min_count=0).as_py(),
            "subjects": pc.count_distinct(rows["subject_id"]).as_py(),
        }
    return counts


def _refuse_too_few(params: Params, labels: pa.Table) -> None:
    train = labels.filter(pc.equal(labels["split"], "train"))
    with_outcome, without = (
        pc.count_distinct(train.filter(pc.equal(train["boolean_value"], happened))["stay_id"]).as_py()
        for happened in (True, False)
    )
    if min(with_outcome, without) < params.min_events_per_class:
        raise QualityError(
            f"The {params.task} cohort of {params.dataset} has {count(with_outcome)} training stays with the outcome "
            f"and {count(without)} without; at least {params.min_events_per_class} of each are needed to train. "
            "Land a larger extract, or leave this task out."
        )


def too_few_to_promote(task: TaskName, labels: pa.Table) -> str:
    """The policy's floors on counts that the held-out patients miss, for a warning before hours of training; empty
    where they miss none. It names no count of patients, because a small one would identify them."""
    policy = tasks.load(task).policy
    held_out = labels.filter(pc.equal(labels["split"], "held_out"))
    subjects = pc.count_distinct(held_out["subject_id"]).as_py()
    events = pc.count_distinct(held_out.filter(held_out["boolean_value"])["stay_id"]).as_py()
    short = [
        f"{least:,} {what}"
        for what, n, least in (
            ("held-out patients", subjects, policy.min_subjects),
            ("held-out stays with the outcome", events, policy.min_events),
        )
        if n < least
    ]
    return " and ".join(short)


def _refuse_mismatch(params: Params, labels: pa.Table, features: pa.Table) -> None:
    order = [(name, "ascending") for name in _KEY]
    if not labels.select(_KEY).sort_by(order).equals(features.select(_KEY).sort_by(order)):
        raise StorageError(
            f"{params.features} ({count(features.num_rows)} rows) was not computed for {params.labels} "
            f"({count(labels.num_rows)} rows); run gold again for these labels."
        )


def _write_joined(params: Params, settings: Settings, key: str) -> TableRef:
    """Joins labels, features and groups in DuckDB as they come from their files."""
    table, ethnicities = f"training_set_{params.task}", _ethnicities(params, settings)
    features = [name for name in lake.dataset(settings, params.features).schema.names if name not in _KEY]
    schema = pa.schema([*TRAINING_SET.arrow_schema(), *(pa.field(name, pa.float64()) for name in features)])
    with engine.connection(settings) as database:
        duckdb_tables.view(database, settings, params.labels, "labels")
        duckdb_tables.view(database, settings, params.features, "features")
        database.register("ethnicities", ethnicities)
        groups = {
            "sex": "case sex_female when 1 then 'female' when 0 then 'male' else 'unknown' end",
            "age_band": _age_band("age_years"),
            "ethnicity": "coalesce(ethnicity, 'unknown')",
        }
        selected = [f"{groups[n]} as {n}" if n in groups else n for n in TRAINING_SET.column_names]
        joined = f"""
            select {", ".join([*selected, *map(duckdb_tables.quoted, features)])}
            from labels join features using ({", ".join(_KEY)}) left join ethnicities using (subject_id)"""
        rows = (batch.cast(schema) for batch in engine.batches(database, joined))
        file = table_files.write_file(settings, params.dataset, table, rows, schema)
    return table_files.commit(settings, params.dataset, table, key, [file], schema)


def _age_band(age: str) -> str:
    """SQL of the age band of an age; of NULL the comparisons are not true."""
    bands = " ".join(
        f"when {age} < cast('{below}' as double) then '{band}'" for band, below in AGE_BANDS.items()
    )
    return f"case {bands} else 'unknown' end"


def age_bands(age: NDArray[np.float64]) -> NDArray[np.str_]:
    """The age band of each age (n) in years, NaN where unknown."""
    names = np.array([*AGE_BANDS, "unknown"])
    bands: NDArray[np.str_] = names[np.searchsorted([*AGE_BANDS.values()], age, side="right")]
    return bands


def _ethnicities(params: Params, settings: Settings) -> pa.Table:
    """The ethnicity group of each subject whose events give a race."""
    of_group = partial(_ethnicities_of_group, settings, params.events)
    return pa.concat_tables(shards.map_shards(settings, params.events, of_group))


_RACE = "RACE//"
RACE_COLUMNS = ("subject_id", "time", "code", "numeric_value", "available_time", "event_id", "retracted")
"""The columns of events that ``ethnicity_by_subject`` reads."""


def _ethnicities_of_group(settings: Settings, events: TableRef, group: Sequence[int]) -> pa.Table:
    parts = (shards.read(settings, events, shard, RACE_COLUMNS) for shard in group)
    return pa.concat_tables(map(ethnicity_by_subject, parts))


def ethnicity_by_subject(events: pa.Table) -> pa.Table:
    """The ethnicity group of each subject whose events give a race; the newest race that was not retracted decides."""
    latest = latest_as_of(events, None)
    group = map_codes(latest["code"], _group_of_code, np.object_)
    stated = pa.array(group != "")
    rows = latest.append_column("ethnicity", pa.array(group, pa.string())).filter(stated)
    order = [(name, "ascending") for name in ("subject_id", "time", "available_time", "event_id")]
    newest = rows.sort_by(order).select(["subject_id", "ethnicity"]).to_pylist()
    by_subject = {row["subject_id"]: row["ethnicity"] for row in newest}
    return pa.table(
        {
            "subject_id": pa.array(by_subject.keys(), pa.int64()),
            "ethnicity": pa.array(by_subject.values(), pa.string()),
        }
    )


def _group_of_code(code: str) -> str:
    return ethnicity_group(code.removeprefix(_RACE)) if code.startswith(_RACE) else ""


def ethnicity_group(text: str) -> str:
    """The ethnicity group of a source's text.

    >>> [ethnicity_group(text) for text in ("White - Russian", "HISPANIC/LATINO - CUBAN", "Not Hispanic", "Inuit")]
    ['white', 'hispanic', 'unknown', 'other']
    """
    groups = re.sub(_NOT_HISPANIC, "", text.upper()).strip(" ")
    return next((name for name, pattern in ETHNICITIES if re.search(pattern, groups)), "other")


def _summary(result: Result) -> str:
    rows, outcomes = (
        splits_in_words([of[name] for of in result.counts.values()]) for name in ("n", "events")
    )
    splits = (f"{split} {n}/{events}" for split, n, events in zip(result.counts, rows, outcomes, strict=True))
    summary = f"rows/outcomes: {', '.join(splits)}"
    if result.too_few:
        summary += f". No version can be promoted: the policy needs {result.too_few}; land a larger extract"
    return summary


STAGE = Stage(Params, Result, run, display_name="freeze the training set", summary=_summary, resources=SPARK)
