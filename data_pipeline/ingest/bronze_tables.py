"""Tables of bronze: the commits that take an extract's files in, and what they replace out."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from data_pipeline.ingest.landing import Plan
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import BRONZE
from mediscale.storage import lake, table_files
from mediscale.storage.table_files import TableFile


@dataclass(frozen=True)
class BronzeTable:
    """A table of bronze as the extract before left it (``before``; None: there is none), and what becomes of it."""

    settings: Settings
    dataset: str
    name: str
    """Of the table in the source."""
    before: TableRef | None
    plan: Plan

    @property
    def table(self) -> str:
        return f"{BRONZE.name}_{self.name}"

    @cached_property
    def _kept_columns(self) -> tuple[str, ...]:
        """The columns of the rows that stay."""
        if self.before is None or self.name not in self.plan.kept:
            return ()
        names = lake.column_names(self.settings, self.before)
        return tuple(name for name in names if name not in BRONZE.column_names)

    def schema(self, new: Collection[str]) -> pa.Schema:
        """The columns of rows that stay and of ``new`` ones; rows of the other kind are null in them."""
        columns = dict.fromkeys((*self._kept_columns, *new))
        return pa.schema([*BRONZE.arrow_schema(), *(pa.field(column, pa.string()) for column in columns)])

    def commit(self, key: str, files: Sequence[TableFile], new: Collection[str]) -> TableRef:
        """Takes files with the columns ``new`` in, in one commit that carries ``key``; where nothing changes there is
        none."""
        removed = self.plan.gone.get(self.name, {})
        if self.before is not None and not files and not removed:
            return self.before
        schema = self.schema(new)
        if self.before is None or self.name not in self.plan.kept:
            return table_files.commit(self.settings, self.dataset, self.table, key, files, schema)
        if not set(new) <= set(self._kept_columns):  # all of its files get the new columns
            stays = list(self._rewritten_without(lake.files(self.settings, self.before), removed, schema))
            return table_files.commit(self.settings, self.dataset, self.table, key, [*files, *stays], schema)
        own = lake.files(self.settings, self.before) if removed else []
        taken_out = [uri for uri in own if self._holds(uri, removed)]
        return table_files.commit(
            self.settings,
            self.dataset,
            self.table,
            key,
            [*files, *self._rewritten_without(taken_out, removed, schema)],
            schema,
            onto=self.before,
            removed=[uri.rpartition("/")[2] for uri in taken_out],
        )

    def _holds(self, uri: str, removed: Collection[str]) -> bool:
        """Whether a file of the table has rows of some files of the extract."""
        filesystem, path = lake.filesystem(uri)
        own = parquet.read_table(path, columns=["file"], filesystem=filesystem, partitioning=None)
        return not set(removed).isdisjoint(own["file"].unique().to_pylist())

    def _rewritten_without(
        self, uris: Sequence[str], removed: Collection[str], schema: pa.Schema
    ) -> Iterator[TableFile]:
        """The rows that stay of files of the table that have others, too."""
        for uri in uris:
            file = table_files.write_file(
                self.settings, self.dataset, self.table, _staying(uri, removed, schema), schema
            )
            if file.rows:
                yield file
            else:
                table_files.discard(self.settings, self.dataset, self.table, [file])


def _staying(uri: str, removed: Collection[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    filesystem, path = lake.filesystem(uri)
    with filesystem.open_input_file(path) as opened:
        for batch in parquet.ParquetFile(opened).iter_batches():
            stays = batch.filter(
                pc.invert(pc.is_in(batch["file"], value_set=pa.array(sorted(removed), pa.string())))
            )
            columns = [
                stays[field.name] if field.name in stays.schema.names else pa.nulls(len(stays), field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
