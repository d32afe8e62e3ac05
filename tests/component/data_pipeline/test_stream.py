"""A stream that is shuffled, repeated, late or killed gives the events that the batch makes of the same rows."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fixtures import stream_messages
from fixtures.drawn_hospitals import MIMIC_III, Hospital
from fixtures.kafka_broker import Broker

from data_pipeline import shards
from data_pipeline.features import kernel
from data_pipeline.ingest import patient_facts, stream_record
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.messages import Message
from data_pipeline.ingest.stream import Stream
from data_pipeline.ingest.stream_record import DEAD_LETTERS
from mediscale.core import task_names
from mediscale.core.errors import InputError
from mediscale.core.settings import Settings
from mediscale.core.tables import EVENTS
from mediscale.storage import lake

pytestmark = pytest.mark.timeout(7200)

PATIENCE_SECONDS = 900


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


def dealt(values: "Sequence[bytes | None]", partitions: int = 2) -> list[Message]:
    """The messages as a topic has them."""
    return [Message(f"ehr/{i % partitions}", i // partitions, value) for i, value in enumerate(values)]


def events(settings: Settings, dataset: str) -> list[dict[str, Any]]:
    """The events in an order of their own, without the shard."""
    columns = [name for name in EVENTS.column_names if name != "shard"]
    rows = lake.read(settings, lake.latest(settings, dataset, "events"), columns).to_pylist()
    return sorted(rows, key=lambda row: json.dumps(row, default=str))


def reasons(settings: Settings, dataset: str) -> Counter[tuple[Any, ...]]:
    rows = lake.read(settings, lake.latest(settings, dataset, "quarantine")).to_pylist()
    return Counter((row["source"], row["code"], row["reason"]) for row in rows)


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


def test_a_shuffled_and_repeated_stream_is_the_batch(
    take_in: Callable[..., Hospital], tmp_path: Path
) -> None:
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
    batch = take_in("mimic-iii", as_files(MIMIC_III, rows)).settings
    assert events(settings, "mimic-iii") == events(batch, "mimic-iii")
    assert reasons(settings, "mimic-iii") == reasons(batch, "mimic-iii"), "what came late left quarantine"
    for at in (datetime(2160, 1, 1, 9), datetime(2160, 1, 3), datetime(2160, 5, 1)):
        of_stream, of_batch = (features(home, "mimic-iii", at) for home in (settings, batch))
        for task, values in of_batch.items():
            assert np.isfinite(values).any()
            assert np.array_equal(of_stream[task], values, equal_nan=True)


def test_run_files_are_read_as_one_and_compacted(spark: object, tmp_path: Path) -> None:
    assert spark
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
    assert shards.compact(settings, "runs") == (files.count(2), 0)
    assert shards.compact(settings, "runs") == (0, 0)
    ref = lake.latest(settings, "runs", "events")
    assert {len(lake.files(settings, ref, ("shard", str(n)))) for n in range(8)} == {0, 1}
    assert events(settings, "runs") == before
    for task, rows in features(settings, "runs", at).items():
        assert np.array_equal(rows, values_before[task], equal_nan=True)


def test_a_crash_after_any_commit_loses_nothing_and_doubles_nothing(
    spark: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts are derived once by Spark; every crash after that finds the same rows in bronze, and is made up for."""
    assert spark
    messages = dealt(stream_messages.fhir(2, seed=2))
    derive, commit = patient_facts.derive, lake.commit
    derived: list[patient_facts.PatientFacts] = []
    rows_of_bronze: list[dict[str, int]] = []

    def derive_once(*arguments: Any) -> patient_facts.PatientFacts:
        rows_of_bronze.append({name: len(rows) for name, rows in sorted(arguments[2].items())})
        if not derived:
            derived.append(derive(*arguments))
        return derived[0]

    monkeypatch.setattr(patient_facts, "derive", derive_once)
    whole = Settings(home=tmp_path / "whole")
    commits: list[str] = []

    def and_write_down(*arguments: Any, **options: Any) -> Any:
        commits.append(arguments[1])
        return commit(*arguments, **options)

    monkeypatch.setattr(lake, "commit", and_write_down)
    Stream(whole, sources.load("fhir"), "streamed").take(messages)
    assert len(commits) == 8
    for crash in range(len(commits)):
        settings = Settings(home=tmp_path / str(crash))
        left = [crash]

        def until_the_crash(*arguments: Any, _left: list[int] = left, **options: Any) -> Any:
            ref = commit(*arguments, **options)
            _left[0] -= 1
            if _left[0] == -1:
                raise OSError("killed")
            return ref

        monkeypatch.setattr(lake, "commit", until_the_crash)
        with pytest.raises(OSError, match="killed"):
            Stream(settings, sources.load("fhir"), "streamed").take(messages)
        Stream(settings, sources.load("fhir"), "streamed").take(messages)
        assert events(settings, "streamed") == events(whole, "streamed")
        assert reasons(settings, "streamed") == reasons(whole, "streamed")
        check_landed(settings, "streamed", len(messages))
    assert len({json.dumps(rows) for rows in rows_of_bronze}) == 1


def check_landed(settings: Settings, dataset: str, n: int) -> None:
    """Every message is in bronze, once."""
    places = [
        (row["file"], row["line"])
        for table in lake.tables(settings, dataset)
        if table.startswith("bronze_")
        for row in lake.read(settings, lake.latest(settings, dataset, table), ["file", "line"]).to_pylist()
    ]
    assert len(places) == len(set(places)) == n


def test_what_a_stream_appended_is_not_replaced_by_an_extract(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with stream_record.writing(settings, "streamed", "fhir"):
        pass
    with pytest.raises(InputError, match="streamed is fed by a stream"):
        stream_record.refuse_replacing(settings, "streamed")
    stream_record.refuse_replacing(settings, "another")


class Process:
    """``mediscale stream`` as a process with a group of its own, so that Java is killed with it."""

    def __init__(self, home: Path, topic: str, brokers: str, *options: str, dataset: str = "killed") -> None:
        self.said = home.parent / f"{topic}.log"
        environment = {
            **os.environ,
            "MEDISCALE_HOME": str(home),
            "MEDISCALE_SPARK_MEMORY": "768m",
            "MEDISCALE_SPARK_MASTER": "local[1]",
        }
        command = [sys.executable, "-m", "mediscale", "stream", "--dataset", dataset, "--source", "fhir"]
        self._checkpoint = home / "streams" / dataset / topic
        with self.said.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--topic", topic, "--brokers", brokers, *options],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait_for_a_batch(self) -> None:
        """Returns when a batch was begun that was not finished before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the stream ended by itself: {self.said.read_text()[-3000:]}"
            begun, finished = (
                {path.name for path in self._checkpoint.glob(f"{folder}/[0-9]*")}
                for folder in ("offsets", "commits")
            )
            if begun - finished:
                return
            time.sleep(0.05)
        raise AssertionError(f"no batch was begun: {self.said.read_text()[-3000:]}")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.soak
def test_killed_at_random_moments_no_event_is_lost_and_none_is_there_twice(
    broker: Broker, tmp_path: Path, soak: bool
) -> None:
    kills = 50 if soak else 3
    rng = random.Random(7)
    values = stream_messages.fhir(2 * kills, seed=3)
    home, topic = tmp_path / "home", f"killed-{kills}"
    for i in range(kills):
        broker.produce(topic, values[i::kills])
        process = Process(home, topic, broker.brokers)
        try:
            process.wait_for_a_batch()
            time.sleep(rng.uniform(0, 6))
        finally:
            process.kill()
    last = Process(home, topic, broker.brokers, "--once")
    try:
        assert last.process.wait(PATIENCE_SECONDS) == 0, last.said.read_text()[-3000:]
    finally:
        if last.process.poll() is None:
            last.kill()
    said = last.said.read_text()
    assert "p0" not in said
    assert "events appended to killed" in said
    settings, at_once = Settings(home=home), Settings(home=tmp_path / "at once")
    check_landed(settings, "killed", len(values))
    Stream(at_once, sources.load("fhir"), "killed").take(dealt(values))
    assert events(settings, "killed") == events(at_once, "killed")
    assert reasons(settings, "killed") == reasons(at_once, "killed")
    letters = lake.read(settings, lake.latest(settings, "killed", DEAD_LETTERS), ["record"])[
        "record"
    ].to_pylist()
    assert sorted(letters) == sorted(["", '{"resourceType": "Device", "id": "d1"}', "no JSON \ufffd"])


def test_until_it_is_told_to_end_it_publishes_risks_by_the_version_in_production(
    broker: Broker, settings: Settings, promote: Any
) -> None:
    promote("mortality")
    promote("readmission", 2)
    broker.produce("ended", stream_messages.fhir(2, seed=5))
    options = ("--risks-topic", "risks", "--purpose", "quality")
    process = Process(settings.home, "ended", broker.brokers, *options, dataset="synthetic")
    try:
        process.wait_for_a_batch()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(PATIENCE_SECONDS) == 0, process.said.read_text()[-3000:]
    finally:
        if process.process.poll() is None:
            process.kill()
    assert "events appended to synthetic" in process.said.read_text()
    risks = {number: json.loads(text) for number, text in broker.consume("risks")}
    assert set(risks) == {"p0", "p1"}
    for number, message in risks.items():
        (risk,) = message["predictions"]
        assert (message["patient"], message["needs_clinician_review"]) == (number, True)
        assert (risk["task"], risk["model"], risk["version"]) == ("readmission", "synthetic-readmission", 2)
    log = lake.read(settings, lake.latest(settings, "synthetic", "predictions")).to_pylist()
    assert {row["prediction_id"] for row in log} >= {message["prediction_id"] for message in risks.values()}
    assert {row["purpose"] for row in log} == {"quality"}


def test_a_topic_that_is_not_there_is_said(broker: Broker, tmp_path: Path) -> None:
    process = Process(tmp_path / "home", "nowhere", broker.brokers, "--once")
    try:
        assert process.process.wait(PATIENCE_SECONDS) == InputError.exit_code
    finally:
        if process.process.poll() is None:
            process.kill()
    assert "The topic nowhere at" in process.said.read_text().splitlines()[-1]
