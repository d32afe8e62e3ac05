"""Gold: shards do not matter, a leak stops everything, and the audit can see one."""

import datetime as dt
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_pipeline import shards
from data_pipeline.cohort import cohort_flow
from data_pipeline.features import gold, kernel
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake

Draw = Callable[[str], pa.Table]
GoldOf = Callable[..., tuple[pa.Table, gold.Result]]

ONE = """
{s} | 2080-06-01 00:00 | 2080-06-01 00:00 | MEDS_BIRTH                    |       |
{s} | 2150-01-01 10:00 | 2150-01-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY |       | 1{s}
{s} | 2150-01-01 11:00 | 2150-01-01 12:00 | LOINC//2160-0                 | 1.{s} | 1{s}
{s} | 2150-01-01 20:00 | 2150-01-01 21:00 | LOINC//2160-0                 | 2.{s} | 1{s}
{s} | 2150-01-02 09:00 | 2150-01-02 12:00 | LOINC//2160-0                 | 9     | 1{s}
{s} | 2150-01-04 12:00 | 2150-01-04 12:00 | HOSPITAL_DISCHARGE//HOME      |       | 1{s}
"""
HEADER = "subject_id | time | available_time | code | numeric_value | visit_id"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"spark_master": "local[2]"})


@pytest.fixture
def gold_of(settings: Settings, land_events: Callable[..., TableRef]) -> GoldOf:
    def run(events: pa.Table, shards: int, as_of: dt.datetime | None = None) -> tuple[pa.Table, gold.Result]:
        return _gold_of(settings, land_events(events, shards, f"in-{shards}-shards"), events, shards, as_of)

    return run


def _gold_of(
    settings: Settings, ref: TableRef, events: pa.Table, shards: int, as_of: dt.datetime | None
) -> tuple[pa.Table, gold.Result]:
    dataset = ref.dataset
    everyone = cohort_flow.cohort(events, "mortality", as_of, 0).drop_columns(["steps", "outcome"])
    shard = pa.array([subject % shards for subject in everyone["subject_id"].to_pylist()], pa.int64())
    placed = everyone.set_column(everyone.schema.get_field_index("shard"), "shard", shard)
    write_deltalake(settings.table_uri(dataset, "labels_mortality"), placed)
    cohort = lake.latest(settings, dataset, "labels_mortality")
    params = gold.Params(dataset=dataset, events=ref, labels=cohort, task="mortality", as_of=as_of)
    result = gold.run(params, settings, "key")
    return lake.read(settings, result.features).sort_by("subject_id"), result


def test_number_of_shards_and_of_processes_does_not_matter(
    gold_of: GoldOf, events: Draw, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = events(HEADER + "".join(ONE.format(s=s) for s in range(1, 6)))
    rows, result = gold_of(drawn, 1)
    assert rows.num_rows == 5
    assert result.audited == 5
    assert rows.column_names == [
        "subject_id",
        "stay_id",
        "admission_time",
        "prediction_time",
        *kernel.names("mortality"),
    ]
    assert rows["creatinine_max_stay"].to_pylist() == [2.1, 2.2, 2.3, 2.4, 2.5], (
        "the value stored after T is not known"
    )
    assert rows["heart_rate_last_24h"].null_count == 5
    again, _ = gold_of(drawn, 3)
    assert again.equals(rows)
    monkeypatch.setattr(shards, "_EVENTS_OF_A_PROCESS", 1)
    beside, result = gold_of(drawn, 4)
    assert beside.equals(rows)
    assert len(lake.files(settings, result.features)) == 2, "two processes wrote a file each"


def test_audit_finds_a_feature_that_read_the_future(events: Draw) -> None:
    drawn = events(HEADER + ONE.format(s=1))
    asked = cohort_flow.cohort(drawn, "mortality", None, 0).filter(pa.array([True]))
    honest = kernel.compute(drawn, asked, "mortality")
    assert gold.count_leaks(drawn, asked, honest, "mortality") == 0
    leaking = honest.copy()
    leaking[0, kernel.names("mortality").index("creatinine_max_stay")] = 9
    assert gold.count_leaks(drawn, asked, leaking, "mortality") == 1
    leaking[0, kernel.names("mortality").index("creatinine_max_stay")] = np.nan
    assert gold.count_leaks(drawn, asked, leaking, "mortality") == 1


def test_as_of_gives_a_night_what_it_had(gold_of: GoldOf, events: Draw) -> None:
    """A backfill over a table that has grown since: later assertions are not even read."""
    drawn = events(
        HEADER + ONE.format(s=1) + "1 | 2150-01-01 11:30 | 2150-03-01 11:30 | LOINC//2160-0 | 7 | 11\n"
    )
    rows, _ = gold_of(drawn, 1, as_of=dt.datetime(2150, 1, 10))
    assert rows["creatinine_max_stay"].to_pylist() == [2.1]
