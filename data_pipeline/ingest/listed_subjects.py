"""Listed subjects: the patients whom an extract lists, by the hospital's identifier and by pseudonym."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards
from data_pipeline.ingest import engine, placing
from data_pipeline.ingest.extract_facts import pseudonym_sql, subjects_query
from data_pipeline.ingest.source import Source
from mediscale.core.errors import InputError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import SUBJECTS
from mediscale.storage import lake, table_files

if TYPE_CHECKING:
    import duckdb


def rows(database: "duckdb.DuckDBPyConnection", source: Source, dataset: str) -> Iterator[pa.RecordBatch]:
    """The rows of ``subjects`` that the loaded table of patients gives."""
    columns = f"source_subject, {pseudonym_sql('source_subject', dataset)} as subject_id"
    return engine.batches(database, engine.transpile(f"select {columns} from ({subjects_query(source)})"))


def write(
    database: "duckdb.DuckDBPyConnection", settings: Settings, source: Source, dataset: str, key: str
) -> TableRef:
    """Writes ``subjects`` of a dataset that begins.

    Raises:
        InputError: two patients of the source would share a subject_id.
    """
    written = table_files.write(settings, dataset, SUBJECTS.name, key, rows(database, source, dataset))
    _check_unique(dataset, lake.read(settings, written, ["subject_id"]))
    return written


def append_new(
    database: "duckdb.DuckDBPyConnection", settings: Settings, source: Source, there: TableRef, key: str
) -> TableRef:
    """Appends the patients whom the version ``there`` does not list.

    Raises:
        InputError: as ``write``.
    """
    schema, dataset = SUBJECTS.arrow_schema(), there.dataset
    before = lake.read(settings, there, schema.names)
    new = shards.except_all(placing.table_of(rows(database, source, dataset), schema), before)
    if not len(new):
        return there
    _check_unique(dataset, pa.concat_tables([before, new]))
    return table_files.write(settings, dataset, SUBJECTS.name, key, new.to_batches(), onto=there)


def _check_unique(dataset: str, subjects: pa.Table) -> None:
    collisions = pc.sum(pc.greater(pc.value_counts(subjects["subject_id"]).field("counts"), 1)).as_py()
    if collisions:
        raise InputError(
            f"In {dataset} {collisions} subject numbers stand for two patients each; give the dataset another "
            "name, which gives its patients other numbers."
        )
