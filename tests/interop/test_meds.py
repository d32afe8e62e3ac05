"""What reads the MEDS standard reads our export: its own schemas accept it, and ACES finds the cohort that we find."""

import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake
from fixtures import lake_patients
from pyarrow import parquet

from data_pipeline import meds_dataset
from data_pipeline.cohort import cohort_flow
from mediscale.core import caller
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS

ENVIRONMENT = Path(__file__).parents[2] / ".venv-interop" / "meds" / "bin"

SCHEMAS = """
import json, pathlib, sys
import meds, pyarrow.parquet as pq
root = pathlib.Path(sys.argv[1])
for file in root.glob("data/*/*.parquet"):
    meds.DataSchema.validate(pq.read_table(file, partitioning=None))
meds.CodeMetadataSchema.validate(pq.read_table(root / "metadata" / "codes.parquet"))
meds.SubjectSplitSchema.validate(pq.read_table(root / "metadata" / "subject_splits.parquet"))
meds.DatasetMetadataSchema.validate(json.loads((root / "metadata" / "dataset.json").read_text()))
assert meds.__version__.startswith(json.loads((root / "metadata" / "dataset.json").read_text())["meds_version"])
"""

DEATH_IN_HOSPITAL = """
predicates:
  admission: {code: {regex: "^HOSPITAL_ADMISSION//.*"}}
  discharge: {code: {regex: "^HOSPITAL_DISCHARGE//.*"}}
  death: {code: MEDS_DEATH}
  end_of_stay: {expr: "or(discharge, death)"}
trigger: admission
windows:
  first_day:
    start: trigger
    end: start + 24h
    start_inclusive: false
    end_inclusive: true
    has: {end_of_stay: "(None, 0)"}
    index_timestamp: end
  rest_of_stay:
    start: first_day.end
    end: start -> end_of_stay
    start_inclusive: false
    end_inclusive: true
    label: death
"""
"""Our task mortality as ACES says it, without the age at admission: the only child of these has no discharge."""


@pytest.fixture
def events() -> pa.Table:
    rows = [lake_patients.row_of(number, line) for number, line in enumerate(lake_patients.EVENT_LINES)]
    return pa.Table.from_pylist(rows, schema=EVENTS.arrow_schema())


@pytest.fixture
def exported(tmp_path: Path, events: pa.Table) -> Path:
    settings = Settings(home=tmp_path / "home", trust=tmp_path / "trust")
    write_deltalake(
        settings.table_uri("synthetic", "events"),
        events,
        partition_by="shard",
        commit_properties=CommitProperties(custom_metadata={"userMetadata": '{"shards": 2}'}),
    )
    folder = tmp_path / "meds"
    meds_dataset.write(settings, "synthetic", folder, by=caller.account(), purpose="research")
    return folder


def test_the_standard_s_own_schemas_accept_it(exported: Path) -> None:
    command = [str(ENVIRONMENT / "python"), "-c", SCHEMAS, str(exported)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_aces_finds_the_cohort_and_the_outcomes_that_we_find(
    exported: Path, events: pa.Table, tmp_path: Path
) -> None:
    cohorts = tmp_path / "cohorts"
    cohorts.mkdir()
    (cohorts / "death.yaml").write_text(DEATH_IN_HOSPITAL)
    theirs: list[dict[str, Any]] = []
    for number, file in enumerate(exported.glob("data/*/*.parquet")):
        output = cohorts / f"{number}.parquet"
        command = [
            str(ENVIRONMENT / "aces-cli"), "cohort_name=death", f"cohort_dir={cohorts}", "data.standard=meds",
            f"data.path={file}", f"output_filepath={output}", f"log_dir={cohorts}", f"hydra.run.dir={cohorts}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        theirs += parquet.read_table(output).to_pylist()
    unended = {row["subject_id"] for row in theirs if row["prediction_time"] is None}
    assert unended == {3, 4}, (
        "a stay that has not ended: ACES gives it a row without a label, and we give it none"
    )
    found = {
        (row["subject_id"], row["prediction_time"]): row["boolean_value"]
        for row in theirs
        if row["prediction_time"]
    }
    ours = [
        row for row in cohort_flow.cohort(events, "mortality", None, 0).to_pylist() if row["prediction_time"]
    ]
    assert found == {(row["subject_id"], row["prediction_time"]): row["boolean_value"] for row in ours}
    assert sorted(found.values()) == [False, True]
