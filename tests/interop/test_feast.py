"""Feast, in an environment of its own, reads our export: its point-in-time join and its online store give our features,
but where a row was corrected later and computed again, which Feast then takes for what was known before."""

import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import CommitProperties, write_deltalake
from fixtures import lake_patients
from fixtures.lake_patients import Line, hours
from pyarrow import parquet

from data_pipeline import feast_repository
from data_pipeline.cohort import bitemporal, cohort_flow
from data_pipeline.features import gold, kernel
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS
from mediscale.storage import lake

PYTHON = Path(__file__).parents[2] / ".venv-interop" / "feast" / "bin" / "python"

PROGRAM = """
import json, sys
from datetime import datetime, timezone
import pandas as pd
from feast import FeatureStore
from features_mortality import source, stay, subject, view
store = FeatureStore(repo_path=".")
store.apply([subject, stay, source, view])
asked = pd.read_json(sys.stdin, convert_dates=["event_timestamp"])
names = [f"{view.name}:{field.name}" for field in view.schema if field.name not in ("subject_id", "stay_id")]
historical = store.get_historical_features(entity_df=asked, features=names).to_df()
store.materialize(datetime(2100, 1, 1, tzinfo=timezone.utc), datetime(2200, 1, 1, tzinfo=timezone.utc))
keys = ["subject_id", "stay_id"]
online = store.get_online_features(features=names, entity_rows=asked[keys].to_dict("records")).to_df()
print("RESULT" + json.dumps([json.loads(rows.to_json(orient="records")) for rows in (historical, online)]))
"""
"""A data scientist's session: definitions applied, features joined to times and patients, the newest ones online."""

CORRECTED = [
    (101, (1, hours(2), "LOINC//8867-4", 150.0, hours(50))),
    (102, (6, hours(3), "LOINC//2160-0", 8.5, hours(60))),
]
"""Two measurements of the first day that the hospital corrected after the prediction, by their events' numbers."""
FURTHER: list[Line] = [
    line
    for subject in (6, 7)
    for line in (
        (subject, hours(-600_000), "MEDS_BIRTH", None, hours(-600_000)),
        (subject, hours(0), "HOSPITAL_ADMISSION//EMERGENCY", None, hours(0)),
        (subject, hours(3), "LOINC//2160-0", 1.5, hours(4)),
        (subject, hours(90), "HOSPITAL_DISCHARGE//HOME", None, hours(90)),
    )
]


def assertions() -> pa.Table:
    """Events of the lake, without the one that was known late, and the corrections."""
    lines = [line for line in lake_patients.EVENT_LINES if line[4] - line[1] < timedelta(hours=20)] + FURTHER
    rows = [lake_patients.row_of(number, line) for number, line in enumerate(lines)]
    by_event = {(row["subject_id"], row["time"], row["code"]): row["event_id"] for row in rows}
    rows += [{**lake_patients.row_of(0, line), "event_id": by_event[line[:3]]} for _, line in CORRECTED]
    return pa.Table.from_pylist(rows, schema=EVENTS.arrow_schema())


@pytest.fixture
def events() -> pa.Table:
    return assertions()


@pytest.fixture
def features(settings: Settings, events: pa.Table) -> TableRef:
    """Gold of a lake in which two measurements were corrected after the prediction."""
    stated = CommitProperties(custom_metadata={"userMetadata": '{"shards": 2}'})
    uri = settings.table_uri("synthetic", "events")
    write_deltalake(uri, events, partition_by="shard", commit_properties=stated)
    cohort = cohort_flow.cohort(events, "mortality", None, 0).drop_columns(["steps", "outcome"])
    cohort = cohort.filter(cohort["prediction_time"].is_valid())
    shard = pc.bit_wise_and(cohort["subject_id"], 1)
    cohort = cohort.set_column(cohort.schema.get_field_index("shard"), "shard", shard)
    write_deltalake(settings.table_uri("synthetic", "labels_mortality"), cohort)
    newest = {name: lake.latest(settings, "synthetic", name) for name in ("events", "labels_mortality")}
    params = gold.Params(
        dataset="synthetic", task="mortality", events=newest["events"], labels=newest["labels_mortality"]
    )
    return gold.run(params, settings, "key").features


def ask_feast(repository: Path, rows: pa.Table) -> tuple[dict[int, Any], dict[int, Any]]:
    """Historical features of each row's patient at its prediction time, and online ones, by stay."""
    asked = rows.select(["subject_id", "stay_id", "prediction_time"]).rename_columns(
        ["subject_id", "stay_id", "event_timestamp"]
    )
    done = subprocess.run(
        [str(PYTHON), "-c", PROGRAM], cwd=repository, capture_output=True, text=True, check=False,
        input=json.dumps([{**row, "event_timestamp": f"{row['event_timestamp']}Z"} for row in asked.to_pylist()]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    historical, online = json.loads(done.stdout.rpartition("RESULT")[2])
    return values_of(historical), values_of(online)


def values_of(rows: list[dict[str, Any]]) -> dict[int, Any]:
    """The features of each stay; NaN where there is none."""
    names = kernel.names("mortality")
    return {row["stay_id"]: np.array([row[name] for name in names], float) for row in rows}


def different(ours: dict[int, Any], theirs: dict[int, Any]) -> set[int]:
    assert ours.keys() == theirs.keys()
    return {stay for stay in ours if not np.allclose(ours[stay], theirs[stay], rtol=1e-9, equal_nan=True)}


def test_historical_and_online_features_equal_ours(
    settings: Settings, features: TableRef, tmp_path: Path
) -> None:
    rows = lake.read(settings, features)
    written = feast_repository.write_repository(rows, features, "mortality", tmp_path / "feast")
    assert written == (rows.num_rows, len(kernel.names("mortality")))
    assert rows.num_rows >= 4
    for theirs in ask_feast(tmp_path / "feast", rows):
        assert different(values_of(rows.to_pylist()), theirs) == set()


def test_what_was_corrected_and_computed_again_differs_and_nothing_else(
    settings: Settings, features: TableRef, events: pa.Table, tmp_path: Path
) -> None:
    """A pipeline that keys features by event time computes each row again once a value of it is corrected, and writes
    it beside the old one. Feast's join knows the moment that is asked for only as a bound of event times: of two rows
    of one event time it takes the one created last, though that was after the moment. Ours takes what was known."""
    rows = lake.read(settings, features)
    repository = tmp_path / "feast"
    feast_repository.write_repository(rows, features, "mortality", repository)
    known_now = bitemporal.latest_as_of(events, None)
    column = known_now.column_names.index("available_time")
    hindsight = kernel.compute(
        known_now.set_column(column, "available_time", known_now["time"]), rows, "mortality"
    )
    values = [pa.array(hindsight[:, i], mask=np.isnan(hindsight[:, i])) for i in range(hindsight.shape[1])]
    keys = rows.select(["subject_id", "stay_id", "admission_time", "prediction_time"])
    again = feast_repository.with_times(
        pa.table([*keys.columns, *values], names=[*keys.column_names, *kernel.names("mortality")])
    )
    later = pc.add(again["known_time"], pa.scalar(timedelta(days=5), pa.duration("us")))
    again = again.set_column(again.column_names.index("known_time"), "known_time", later)
    file = repository / "features_mortality.parquet"
    parquet.write_table(
        pa.concat_tables([parquet.read_table(file), again.cast(parquet.read_schema(file))]), file
    )
    corrected = {line[0] for _, line in CORRECTED}
    stays = {row["stay_id"] for row in rows.to_pylist() if row["subject_id"] in corrected}
    assert len(stays) == len(corrected) < rows.num_rows
    for theirs in ask_feast(repository, rows):
        assert different(values_of(rows.to_pylist()), theirs) == stays
