"""Counted records: how many records a file has, and how many of them have a word that no list of the source has."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from data_pipeline.ingest import parsing
from data_pipeline.ingest.extract_parts import Part
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.source_tables import SourceTable

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class CountedRecords:
    """A file's records, counted as they are read, and those of them whose word no list has, by column."""

    table: SourceTable
    part: Part
    rows: int = 0
    unlisted: Counter[str] = field(default_factory=Counter)

    def look(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        lists = self._lists()
        for batch in batches:
            self.rows += batch.num_rows
            for column, listed in lists.items():
                self.unlisted[column] += parsing.unlisted(parsing.words(batch.column(column)), listed)
            yield batch

    def read(self) -> None:
        """Reads the file to its end, of its columns what has to be looked at."""
        for _ in self.look(self.part.records([*self._lists()] or self.part.columns[:1])):
            pass

    def _lists(self) -> dict[str, dict[str, tuple[str, ...]]]:
        lists = self.table.vocabularies
        return {column: lists[column] for column in lists if column in self.part.columns}


def count(source: Source, tables: Mapping[str, tuple[Part, ...]]) -> tuple[dict[str, int], dict[str, int]]:
    """Reads every file to its end; returns the number of records by table, and by ``table.column`` that of the records
    whose word no list has.

    Raises:
        InputError: a file is torn.
    """
    counters = {
        name: [CountedRecords(source.tables[name], part) for part in own] for name, own in tables.items()
    }
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(CountedRecords.read, chain.from_iterable(counters.values())):
            pass
    rows = {name: sum(one.rows for one in own) for name, own in counters.items()}
    return rows, unlisted_words({name: [one.unlisted for one in own] for name, own in counters.items()})


def unlisted_words(by_table: Mapping[str, Iterable[Mapping[str, int]]]) -> dict[str, int]:
    """Counts of the records whose word no list has, by ``table.column``, from those of each file."""
    total = Counter[str]()
    for name, files in by_table.items():
        for words in files:
            total.update({f"{name}.{column}": n for column, n in words.items()})
    return {column: total[column] for column in sorted(total) if total[column]}
