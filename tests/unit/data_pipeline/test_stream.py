"""A stream that is shuffled, repeated, late or cut short gives the events that the batch makes of the same rows."""

import json
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fixtures import stream_messages
from fixtures.drawn_hospitals import MIMIC_III, through
from fixtures.stream_messages import check_landed, dealt, events, reasons

from data_pipeline import shards
from data_pipeline.features import kernel
from data_pipeline.ingest import patient_facts, stream_record
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.messages import Message
from data_pipeline.ingest.stream import Stream
from mediscale.core import task_names
from mediscale.core.errors import InputError
from mediscale.core.settings import Settings
from mediscale.storage import commits, lake

Row = tuple[str, str]
"""A file of an extract, and one of its lines."""


def rows_of(tables: Mapping[str, str]) -> list[Row]:
    return [(file, line.strip()) for file, text in tables.items() for line in text.strip().splitlines()[1:]]


def as_files(tables: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """The rows in the files that they are of, in their order."""
    lines = {file: [text.strip().splitlines()[0].strip()] for file, text in tables.items()}
    for file, line in rows:
        lines[file].append(line)
    return {file: "\n".join(own) for file, own in lines.items()}


def as_messages(source: str, tables: Mapping[str, str], rows: Sequence[Row]) -> list[bytes]:
    by_file = {table.file.lower(): name for name, table in sources.load(source).tables.items()}
    headers = {file: text.strip().splitlines()[0].strip().split(",") for file, text in tables.items()}
    return [
        json.dumps(
            {"table": by_file[file.lower()], **dict(zip(headers[file], line.split(","), strict=True))}
        ).encode()
        for file, line in rows
    ]


def features(settings: Settings, dataset: str, at: datetime) -> dict[str, Any]:
    """The features of every patient with events at a time, by task, as workers read them: shard after shard."""
    ref = lake.latest(settings, dataset, "events")
    by_task = {}
    for task in task_names.names():
        rows = []
        for shard in range(lake.fact(settings, ref, shards.SHARD_COUNT)):
            own = shards.read(settings, ref, shard, kernel.COLUMNS)
            subjects = sorted(own["subject_id"].unique().to_pylist())
            when = pa.table({
                "subject_id": pa.array(subjects, pa.int64()),
                "stay_id": pa.array([0] * len(subjects), pa.int64()),
                "admission_time": pa.array([at] * len(subjects), pa.timestamp("us")),
                "prediction_time": pa.array([at] * len(subjects), pa.timestamp("us")),
            })  # fmt: skip
            rows += list(zip(subjects, kernel.compute(own, when, task), strict=True))
        by_task[task] = np.array([row for _, row in sorted(rows, key=lambda pair: pair[0])])
    return by_task


def test_a_shuffled_and_repeated_stream_is_the_batch(tmp_path: Path) -> None:
    """Of the same rows in the same order, which decides only between rows that contradict each other."""
    rng = random.Random(4)
    rows = rows_of(MIMIC_III)
    rows += rng.sample(rows, 12)
    rng.shuffle(rows)
    messages = dealt(as_messages("mimic-iii", MIMIC_III, rows), partitions=1)
    settings = Settings(home=tmp_path / "stream")
    stream = Stream(settings, sources.load("mimic-iii"), "mimic-iii")
    first, second = messages[: len(messages) // 2], messages[len(messages) // 2 :]
    assert stream.take(first).landed == len(first)
    assert stream.take(second).landed == len(second)
    again = stream.take(second)
    assert (again.landed, again.appended, again.replaced) == (0, 0, 0)
    batch = through(tmp_path / "batch", "mimic-iii", as_files(MIMIC_III, rows)).settings
    assert events(settings, "mimic-iii") == events(batch, "mimic-iii")
    assert reasons(settings, "mimic-iii") == reasons(batch, "mimic-iii"), "what came late left quarantine"
    for at in (datetime(2160, 1, 1, 9), datetime(2160, 1, 3), datetime(2160, 5, 1)):
        of_stream, of_batch = (features(home, "mimic-iii", at) for home in (settings, batch))
        for task, values in of_batch.items():
            assert np.isfinite(values).any()
            assert np.array_equal(of_stream[task], values, equal_nan=True)


def test_run_files_are_read_as_one_and_compacted(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    stream = Stream(settings, sources.load("fhir"), "runs")
    resources = [json.loads(value) for value in stream_messages.ordered(3)]
    values = [json.dumps(resource).encode() for resource in resources]
    people = [v for v, r in zip(values, resources, strict=True) if r["resourceType"] != "Observation"]
    measured = [v for v, r in zip(values, resources, strict=True) if r["resourceType"] == "Observation"]
    assert stream.take(dealt(people, 1)).replaced == 0
    n = len(people)
    late = [Message("ehr/0", n + i, value) for i, value in enumerate(measured)]
    taken = stream.take(late)
    assert (taken.replaced, taken.landed) == (0, len(measured)), "what follows its patient is appended"
    ref = lake.latest(settings, "runs", "events")
    files = [len(lake.files(settings, ref, ("shard", str(n)))) for n in range(8)]
    assert max(files) == 2
    before, at = events(settings, "runs"), datetime(2150, 1, 2, 12)
    values_before = features(settings, "runs", at)
    assert shards.compact(settings, "runs", "patient") == (files.count(2), 0)
    assert shards.compact(settings, "runs", "patient") == (0, 0)
    ref = lake.latest(settings, "runs", "events")
    assert {len(lake.files(settings, ref, ("shard", str(n)))) for n in range(8)} == {0, 1}
    assert events(settings, "runs") == before
    for task, rows in features(settings, "runs", at).items():
        assert np.array_equal(rows, values_before[task], equal_nan=True)


def test_a_correction_is_appended_and_supersedes_only_from_when_it_was_known(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    stream = Stream(settings, sources.load("fhir"), "corrected")
    values = stream_messages.ordered(1)
    (correction,) = [value for value in values if b"corrected" in value]
    stream.take(dealt([value for value in values if value is not correction], 1))
    known = datetime(2150, 1, 3, 4)
    before = [features(settings, "corrected", known - timedelta(hours=h)) for h in (1, 30)]
    as_it_was = features(settings, "corrected", known)
    rows = events(settings, "corrected")
    taken = stream.take([Message("ehr/0", len(values), correction)])
    assert (taken.appended, taken.replaced) == (1, 0)
    assert [row for row in events(settings, "corrected") if row in rows] == rows, "what was asserted stays"
    for earlier, h in zip(before, (1, 30), strict=True):
        for task, now in features(settings, "corrected", known - timedelta(hours=h)).items():
            assert np.array_equal(now, earlier[task], equal_nan=True)
    changed = features(settings, "corrected", known)
    assert any(not np.array_equal(changed[task], as_it_was[task], equal_nan=True) for task in changed)


def test_a_crash_after_any_commit_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = dealt(stream_messages.fhir(2, seed=2))
    commit, derive = commits.commit, patient_facts.derive
    derived: dict[tuple[tuple[str, int], ...], patient_facts.PatientFacts] = {}

    def derive_once(*arguments: Any) -> patient_facts.PatientFacts:
        """Of the same rows the same facts."""
        rows = tuple((name, len(table)) for name, table in sorted(arguments[2].items()))
        if rows not in derived:
            derived[rows] = derive(*arguments)
        return derived[rows]

    monkeypatch.setattr(patient_facts, "derive", derive_once)
    whole, committed = Settings(home=tmp_path / "whole"), [0]

    def until_the_crash(*arguments: Any, **options: Any) -> Any:
        ref = commit(*arguments, **options)
        committed[0] += 1
        if committed[0] == crash:
            raise OSError("killed")
        return ref

    crash = 0
    monkeypatch.setattr(commits, "commit", until_the_crash)
    Stream(whole, sources.load("fhir"), "streamed").take(messages)
    n = committed[0]
    assert n == 8, (
        "three tables of bronze, dead letters, their entry in quarantine, subjects, events, quarantine"
    )
    for crash in range(1, n + 1):
        committed[0] = 0
        settings = Settings(home=tmp_path / str(crash))
        with pytest.raises(OSError, match="killed"):
            Stream(settings, sources.load("fhir"), "streamed").take(messages)
        Stream(settings, sources.load("fhir"), "streamed").take(messages)
        assert events(settings, "streamed") == events(whole, "streamed")
        assert reasons(settings, "streamed") == reasons(whole, "streamed")
        check_landed(settings, "streamed", len(messages))
    assert len(derived) == 1, "bronze had all rows whenever the facts were derived"


def test_what_a_stream_appended_is_not_replaced_by_an_extract(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with stream_record.writing(settings, "streamed", "fhir"):
        pass
    with pytest.raises(InputError, match="streamed is fed by a stream"):
        stream_record.refuse_replacing(settings, "streamed")
    stream_record.refuse_replacing(settings, "another")
