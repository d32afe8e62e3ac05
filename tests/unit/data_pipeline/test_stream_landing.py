"""A message lands in bronze once, whatever comes again, in whichever batches, before or after a compaction."""

import random
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from fixtures import stream_messages

from data_pipeline import shards
from data_pipeline.ingest import patient_facts
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.messages import Message
from data_pipeline.ingest.stream import Stream
from mediscale.core.errors import BusyError
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS, QUARANTINE, SUBJECTS
from mediscale.storage import lake


@pytest.fixture
def stream(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Stream:
    """A stream whose rows say nothing."""
    events, quarantine, subjects = (
        table.arrow_schema().empty_table() for table in (EVENTS, QUARANTINE, SUBJECTS)
    )
    nothing = patient_facts.PatientFacts(events, quarantine, subjects, pa.array([], pa.int64()))
    monkeypatch.setattr(patient_facts, "derive", lambda *_: nothing)
    return Stream(settings, sources.load("fhir"), "streamed")


def landed(settings: Settings) -> Counter[tuple[Any, ...]]:
    tables = (name for name in lake.tables(settings, "streamed") if name.startswith("bronze_"))
    refs = (lake.latest(settings, "streamed", name) for name in tables)
    rows = (row for ref in refs for row in lake.read(settings, ref, ["file", "line"]).to_pylist())
    return Counter((row["file"], row["line"]) for row in rows)


def test_each_offset_lands_once(settings: Settings, stream: Stream) -> None:
    values = stream_messages.fhir(2, seed=1)
    messages = [Message(f"ehr/{i % 3}", i // 3, value) for i, value in enumerate(values)]
    rng, end = random.Random(1), 0
    while end < len(messages):
        # what came before comes again
        begin, end = (max(0, end - rng.randrange(12)), end + rng.randrange(1, 20))
        stream.take(messages[begin:end])
        if rng.random() < 0.3:
            shards.compact(settings, "streamed", "patient")
    stream.take(messages)
    assert landed(settings) == Counter((message.file, message.line) for message in messages)
    n_quarantined = lake.read(settings, lake.latest(settings, "streamed", "quarantine")).num_rows
    assert n_quarantined == 3, "each dead letter once, too"
    shards.compact(settings, "streamed", "patient")
    observations = lake.latest(settings, "streamed", "bronze_observations")
    assert len(lake.files(settings, observations)) == 1


def test_who_was_second_writes_nothing(settings: Settings, stream: Stream) -> None:
    stream.take([Message("ehr/0", i, value) for i, value in enumerate(stream_messages.ordered(1))])
    before = lake.latest(settings, "streamed", "events")
    rows = EVENTS.arrow_schema().empty_table()
    shards.revise(settings, "streamed", "events", rows, before, n_shards=8)
    with pytest.raises(BusyError, match="Another process wrote streamed/events"):
        shards.revise(settings, "streamed", "events", rows, before, n_shards=8)
    after = lake.latest(settings, "streamed", "events")
    assert after.version == before.version + 1
    assert lake.fact(settings, after, shards.SHARD_COUNT) == 8
