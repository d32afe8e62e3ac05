"""The training set: labels and features of given versions, joined and frozen, with groups for subgroup evaluation."""

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline import shards
from data_pipeline.cohort.bitemporal import latest_as_of, map_codes
from mediscale.core.annotations import PatientCount, RuntimeInput
from mediscale.core.errors import QualityError, StorageError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import SPLITS
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tasks import TaskName
from mediscale.storage import lake

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

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
_JUDGED_BY = ["boolean_value", "outcome_time", "discharge_time", "split"]


class Params(Frozen):
    dataset: RuntimeInput[str]
    events: RuntimeInput[TableRef]
    labels: RuntimeInput[TableRef]
    features: RuntimeInput[TableRef]
    task: RuntimeInput[TaskName]
    min_events_per_class: int = 5
    """The training stays needed with the outcome, and without it: with fewer, trees learn single patients."""


class Result(Frozen):
    training_set: TableRef
    counts: dict[str, dict[str, PatientCount]]
    """The counts of each split: rows ``n``, ``events`` (rows with the outcome) and ``subjects``."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``training_set_<task>``.

    Raises:
        QualityError: too few training rows have the outcome, or too few do not have it.
        StorageError: the labels and the features are not of the same predictions.
    """
    labels = lake.read(settings, params.labels, [*_KEY, "boolean_value", "split"])
    _refuse_too_few(params, labels)
    _refuse_mismatch(params, labels, lake.read(settings, params.features, _KEY))
    from mediscale.storage import spark

    frame = _joined(params, settings)
    written = spark.write(settings, frame, params.dataset, f"training_set_{params.task}", key)
    return Result(training_set=written, counts=_counts(labels))


def _counts(labels: pa.Table) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        rows = labels.filter(pc.equal(labels["split"], split))
        counts[split] = {
            "n": rows.num_rows,
            "events": pc.sum(rows["boolean_value"], min_count=0).as_py() or 0,
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


def _refuse_mismatch(params: Params, labels: pa.Table, features: pa.Table) -> None:
    order = [(name, "ascending") for name in _KEY]
    if not labels.select(_KEY).sort_by(order).equals(features.select(_KEY).sort_by(order)):
        raise StorageError(
            f"{params.features} ({count(features.num_rows)} rows) was not computed for {params.labels} "
            f"({count(labels.num_rows)} rows); run gold again for these labels."
        )


def _joined(params: Params, settings: Settings) -> "DataFrame":
    from pyspark.sql import functions as f

    from mediscale.storage import spark

    labels = spark.read(settings, params.labels).select(*_KEY, *_JUDGED_BY)
    features = spark.read(settings, params.features)
    joined = labels.join(features, on=_KEY, how="inner").join(
        _ethnicities(params, settings), on="subject_id", how="left"
    )
    return joined.select(
        *_KEY,
        *_JUDGED_BY,
        f.expr("CASE sex_female WHEN 1 THEN 'female' WHEN 0 THEN 'male' ELSE 'unknown' END").alias("sex"),
        _age_band(f.col("age_years")).alias("age_band"),
        f.coalesce("ethnicity", f.lit("unknown")).alias("ethnicity"),
        *(name for name in features.columns if name not in _KEY),
    )


def _age_band(age: "Column") -> "Column":
    from pyspark.sql import functions as f

    bands = f.lit("unknown")
    for band, below in reversed(AGE_BANDS.items()):
        bands = f.when(age < below, band).otherwise(bands)
    return bands


def age_bands(age: NDArray[np.float64]) -> NDArray[np.str_]:
    """The age band of each age (n) in years, NaN where unknown."""
    names = np.array([*AGE_BANDS, "unknown"])
    bands: NDArray[np.str_] = names[np.searchsorted([*AGE_BANDS.values()], age, side="right")]
    return bands


def _ethnicities(params: Params, settings: Settings) -> "DataFrame":
    """The ethnicity group of each subject whose events give a race."""
    schema = "subject_id long not null, ethnicity string not null"
    return shards.map_shards(
        settings, params.events, partial(_shard_ethnicities, settings, params.events), schema
    )


_RACE = "RACE//"
RACE_COLUMNS = ("subject_id", "time", "code", "numeric_value", "available_time", "event_id", "retracted")
"""The columns of events that ``ethnicity_by_subject`` reads."""


def _shard_ethnicities(settings: Settings, events: TableRef, shard: int) -> pa.Table:
    return ethnicity_by_subject(shards.read(settings, events, shard, RACE_COLUMNS))


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
    splits = (f"{split} {count(of['n'])}/{count(of['events'])}" for split, of in result.counts.items())
    return f"rows/outcomes: {', '.join(splits)}"


STAGE = Stage(Params, Result, run, display_name="freeze the training set", summary=_summary, resources=SPARK)
