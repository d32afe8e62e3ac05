"""Gold as a Feast feature repository (feast.dev, 0.67): what data scientists with a feature store read.

The folder has a task's features as a Parquet file, the definitions of entities, source and feature view, and a
configuration with files offline and SQLite online: ``feast apply`` and ``feast materialize-incremental`` run in it.
The event time of a row is its prediction time, and so is its created time: a row says what was known then, and nothing
that was known later changes it. So there is no second row of a prediction that was computed again: it would have the
same event time and a later created time, and Feast takes the row created last, whatever the moment that is asked for
(``tests/interop/test_feast.py``).
"""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from data_pipeline import exports
from data_pipeline.features import kernel
from mediscale.core.errors import NotFoundError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import FEATURES
from mediscale.core.tasks import TaskName
from mediscale.storage import calls, lake

EVENT_TIME, CREATED_TIME = "prediction_time", "known_time"

_CONFIGURATION = """\
project: {view}
provider: local
registry: registry.db
offline_store: {{type: dask}}
online_store: {{type: sqlite, path: online.db}}
entity_key_serialization_version: 3
"""

_DEFINITIONS = '''\
"""Features of the task {task}, of {features}, as they were known at each prediction."""

from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

subject = Entity(name="subject", join_keys=["subject_id"], value_type=ValueType.INT64)
stay = Entity(name="stay", join_keys=["stay_id"], value_type=ValueType.INT64)

source = FileSource(
    name="{view}_file",
    path="{view}.parquet",
    timestamp_field="{event_time}",
    created_timestamp_column="{created_time}",
)

view = FeatureView(
    name="{view}",
    entities=[subject, stay],
    ttl=timedelta(0),  # a row stays the newest of its stay until the next prediction
    schema=[
{fields}
    ],
    source=source,
    online=True,
)
'''


class ExportCounts(NamedTuple):
    """What an export holds."""

    rows: int
    features: int


def write(
    settings: Settings, dataset: str, task: TaskName, output: Path, *, by: str, purpose: str
) -> ExportCounts:
    """Writes the newest features of a task into a new folder, as ``exports.write`` does.

    Raises:
        NotFoundError: the features were not computed yet; and what ``exports.write`` raises.
    """
    call = calls.newest_night(settings, "gold", dataset, task)
    if call is None:
        raise NotFoundError(f"The home has no features of {dataset} for {task}; run `mediscale run` first.")
    features = TableRef.model_validate(call.result["features"])
    return exports.write(
        settings, dataset, output, f"{features} as a Feast repository",
        lambda folder: write_repository(lake.read(settings, features), features, task, folder),
        by=by, purpose=purpose,
    )  # fmt: skip


def write_repository(rows: pa.Table, features: TableRef, task: TaskName, folder: Path) -> ExportCounts:
    """Writes rows of gold, with the definitions that Feast reads."""
    names, view = kernel.names(task), f"features_{task}"
    folder.mkdir(parents=True)
    parquet.write_table(with_times(rows), folder / f"{view}.parquet")
    fields = "\n".join(f'        Field(name="{name}", dtype=Float64),' for name in names)
    definitions = _DEFINITIONS.format(
        task=task,
        features=features,
        view=view,
        event_time=EVENT_TIME,
        created_time=CREATED_TIME,
        fields=fields,
    )
    (folder / f"{view}.py").write_text(definitions)
    (folder / "feature_store.yaml").write_text(_CONFIGURATION.format(view=view))
    return ExportCounts(rows.num_rows, len(names))


def with_times(rows: pa.Table) -> pa.Table:
    """Rows of gold in the order of their key, with the two times that Feast knows, in UTC."""
    ordered = rows.sort_by([(name, "ascending") for name in FEATURES.key]).drop_columns("admission_time")
    times = ordered[EVENT_TIME].cast(pa.timestamp("us", "UTC"))
    at = ordered.column_names.index(EVENT_TIME)
    return ordered.set_column(at, EVENT_TIME, times).append_column(CREATED_TIME, times)
