"""Streaming ingest: a batch of messages is landed in bronze, and its patients' events are brought up to date.

Bronze takes each message once. A row's ``file`` is ``TOPIC/PARTITION`` and its ``line`` the offset, and the offset is
the version of the Delta transaction that appends it: what a table has of a partition is not appended again, whatever
the stream remembers of where it was.

Silver follows from bronze. For the patients of a batch, the same compiled rules as the batch's stages read all of their
rows, and what comes out is compared with the events that are there: what is new is appended as sorted run files of
the shards that it touches. Where a late row changed what earlier ones mean (a visit that is listed after its
measurements, an end that closes it), the touched shards are written anew in the same commit. So a batch that was cut
short, repeated, shuffled or late ends in the events that ingesting all rows at once would give, and a crash between two
commits is made up for when the batch comes again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import shards
from data_pipeline.ingest import parsing, patient_facts
from data_pipeline.ingest.messages import DeadLetter, Message, Messages, Reader
from data_pipeline.ingest.patient_facts import PatientFacts
from data_pipeline.ingest.patient_rows import PatientSearch, newest_bronze
from data_pipeline.ingest.source import Source
from data_pipeline.ingest.stream_record import DEAD_LETTERS, RECORD
from mediscale.core.errors import InputError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import SHARD
from mediscale.core.tables import BRONZE, EVENTS, QUARANTINE, SUBJECTS
from mediscale.storage import commits, exclusions, lake
from mediscale.storage.exclusions import Exclusions

log = logging.getLogger(__name__)

N_SHARDS = 8
"""Of a dataset that begins with a stream."""

APPLICATION = "stream {}"
"""The Delta transactions of bronze, by ``TOPIC/PARTITION``; their versions are offsets."""


@dataclass(frozen=True)
class BatchCounts:
    """What became of a batch of messages."""

    messages: int
    landed: int
    """Messages that were new to bronze."""
    dead_letters: int
    appended: int
    """Events that were new."""
    replaced: int
    """Events that were there and that a late row changed."""
    quarantined: int
    """Facts of the batch's patients that can't be used."""
    subjects: pa.Table
    """The patients whom the batch is about and the source's table of patients lists, as rows of ``subjects``: also
    where the batch came before."""


class Stream:
    """The stream of one source into one dataset."""

    def __init__(self, settings: Settings, source: Source, dataset: str) -> None:
        self._settings, self._source, self._dataset = settings, source, dataset
        self._reader = Reader(source)
        self._erased: Exclusions | None = exclusions.load(settings, dataset)

    def take(self, messages: Sequence[Message]) -> BatchCounts:
        """Lands the messages, and brings events, subjects and quarantine up to date.

        Raises:
            BusyError: another process writes the dataset's tables.
            InputError: two patients of the source would share a subject_id.
        """
        read = self._without_erased(self._reader.read(messages))
        landed = sum(self._land(f"{BRONZE.name}_{name}", rows) for name, rows in read.rows.items())
        if read.dead_letters:
            landed += self._land(DEAD_LETTERS, _records(read.dead_letters))
            self._bring_quarantine_up_to_date(_reasons(read.dead_letters), None)
        appended = replaced = quarantined = 0
        subjects = SUBJECTS.arrow_schema().empty_table()
        if read.rows:
            refs = newest_bronze(self._settings, self._source, self._dataset)
            patients = PatientSearch(self._settings, self._source, refs).rows_of(read.rows)
            facts = patient_facts.derive(
                self._settings,
                self._source,
                patients.bronze,
                self._dataset,
                patients.subjects,
                self._n_shards,
            )
            self._list_subjects(facts.subjects)
            appended, replaced = self._bring_events_up_to_date(facts)
            self._bring_quarantine_up_to_date(facts.quarantine, patients.places())
            quarantined, subjects = facts.quarantine.num_rows, facts.subjects
        return BatchCounts(
            len(messages), landed, len(read.dead_letters), appended, replaced, quarantined, subjects
        )

    def references(self) -> dict[str, Any]:
        """The newest version of each table that the stream writes, under the names by which stages take them."""
        bronze = {}
        for name in self._source.tables:
            if (ref := self._newest(f"{BRONZE.name}_{name}")) is not None:
                bronze[name] = ref.model_dump()
        newest = {table: self._newest(table) for table in (EVENTS.name, SUBJECTS.name, QUARANTINE.name)}
        return {
            "dataset": self._dataset,
            "source": self._source.name,
            "bronze": bronze,
            "absent": self._source.lacks(bronze),
            **{table: ref.model_dump() for table, ref in newest.items() if ref is not None},
        }

    def _without_erased(self, read: Messages) -> Messages:
        """The rows without those of patients who were erased."""
        subject, erased = self._source.subjects.id, self._erased
        if erased is None:
            return read
        rows = {}
        for name, table in read.rows.items():
            if subject in table.column_names:
                numbers = parsing.identifiers(table[subject].combine_chunks(), self._source.null_words)
                theirs = pa.array(sorted(erased.among(numbers.drop_null().unique().to_pylist())), pa.string())
                table = table.filter(pc.invert(pc.is_in(numbers, value_set=theirs)))
            rows[name] = table
        return Messages({name: table for name, table in rows.items() if len(table)}, read.dead_letters)

    def _land(self, table: str, rows: pa.Table) -> int:
        """Appends the rows that the table does not have yet; how many they were."""
        newest = pa.TableGroupBy(rows, "file").aggregate([("line", "max")]).to_pylist()
        applications = {str(row["file"]): APPLICATION.format(row["file"]) for row in newest}
        present = {
            file: lake.last_sequence(self._settings, self._dataset, table, application)
            for file, application in applications.items()
        }
        least = pa.array([present[file] for file in rows["file"].to_pylist()], pa.int64())
        new = rows.filter(pc.greater(rows["line"], least))
        if not len(new):
            return 0
        transactions = {
            applications[row["file"]]: int(row["line_max"])
            for row in newest
            if row["line_max"] > present[row["file"]]
        }
        commits.commit(self._settings, table, new, self._dataset, transactions)
        return int(new.num_rows)

    @cached_property
    def _n_shards(self) -> int:
        ref = self._newest(EVENTS.name)
        return lake.fact(self._settings, ref, shards.SHARD_COUNT) if ref else N_SHARDS

    def _bring_events_up_to_date(self, facts: PatientFacts) -> tuple[int, int]:
        """Makes the patients' events those of their facts; how many are new, and how many stand in others' place."""
        ref = self._newest(EVENTS.name)
        there = EVENTS.arrow_schema().empty_table()
        if ref is not None:
            own = pc.field("subject_id").isin(facts.subject_ids)
            there = lake.dataset(self._settings, ref).to_table(filter=own, columns=list(EVENTS.column_names))
        added, removed = shards.except_all(facts.events, there), shards.except_all(there, facts.events)
        if ref is None or not len(removed):
            if len(added) or ref is None:
                self._commit(EVENTS.name, shards.in_order(added), ref)
        else:
            touched = sorted({*added[SHARD].to_pylist(), *removed[SHARD].to_pylist()})
            rows = shards.except_all(shards.read_shards(self._settings, ref, touched), removed)
            self._commit(
                EVENTS.name, shards.in_order(pa.concat_tables([rows, added])), ref, shards.predicate(touched)
            )
        return max(len(added) - len(removed), 0), len(removed)

    def _bring_quarantine_up_to_date(self, facts: pa.Table, places: pa.Table | None) -> None:
        """Enters the facts that can't be used; those of the same ``places`` that can be used now leave."""
        ref = self._newest(QUARANTINE.name)
        there = QUARANTINE.arrow_schema().empty_table()
        if ref is not None:
            there = lake.read(self._settings, ref, QUARANTINE.column_names)
        own = (
            there.slice(0, 0)
            if places is None
            else there.join(places, ["source", "file", "line"], join_type="left semi")
        )
        own = own.select(QUARANTINE.column_names)
        added, removed = shards.except_all(facts, there), shards.except_all(own, facts)
        if len(removed):
            kept = shards.except_all(there, removed)
            self._commit(QUARANTINE.name, pa.concat_tables([kept, added]), ref, "")
        elif len(added) or ref is None:
            self._commit(QUARANTINE.name, added, ref)

    def _list_subjects(self, listed: pa.Table) -> None:
        ref = self._newest(SUBJECTS.name)
        there = SUBJECTS.arrow_schema().empty_table()
        if ref is not None:
            there = lake.read(self._settings, ref, SUBJECTS.column_names)
        added = shards.except_all(listed, there)
        ids = pa.concat_tables([there, added])["subject_id"]
        if len(ids) > len(ids.unique()):
            raise InputError(
                f"In {self._dataset} two patients' numbers stand for one subject_id; stream into a dataset of another "
                "name, which gives its patients other numbers."
            )
        if len(added) or ref is None:
            self._commit(SUBJECTS.name, added, ref)

    def _newest(self, table: str) -> TableRef | None:
        return lake.find_latest(self._settings, self._dataset, table)

    def _commit(
        self, table: str, rows: pa.Table, made_from: TableRef | None, replacing: str | None = None
    ) -> None:
        n_shards = self._n_shards if table == EVENTS.name else None
        shards.revise(self._settings, self._dataset, table, rows, made_from, replacing, n_shards)


def _records(letters: Sequence[DeadLetter]) -> pa.Table:
    """The dead letters as they came, but for bytes that are no UTF-8."""
    return pa.table({
        RECORD: pa.array([(m.message.value or b"").decode("utf-8", "replace") for m in letters], pa.string()),
        "file": pa.array([m.message.file for m in letters], pa.string()),
        "line": pa.array([m.message.line for m in letters], pa.int64()),
    })  # fmt: skip


def _reasons(letters: Sequence[DeadLetter]) -> pa.Table:
    rows = [
        {"source": m.table, "file": m.message.file, "line": m.message.line, "code": None, "reason": m.reason}
        for m in letters
    ]
    return pa.Table.from_pylist(rows, QUARANTINE.arrow_schema())
