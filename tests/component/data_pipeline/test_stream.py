"""A stream of a real Kafka broker that is killed at random moments gives the events of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures import stream_messages
from fixtures.kafka_broker import Broker
from fixtures.stream_messages import check_landed, dealt, events, reasons

from data_pipeline.ingest import kafka
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.stream import Stream
from data_pipeline.ingest.stream_record import DEAD_LETTERS
from mediscale.core.errors import InputError
from mediscale.core.settings import Settings
from mediscale.storage import lake

pytestmark = pytest.mark.timeout(7200)

PATIENCE_SECONDS = 900


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
        self._silent = self.said.stat().st_size if self.said.exists() else 0
        with self.said.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--topic", topic, "--brokers", brokers, *options],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def batch_begun(self) -> bool:
        """Whether this process has taken the messages of a batch, also of one that another did not finish."""
        return b" begins with " in self.said.read_bytes()[self._silent :]

    def wait_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            assert self.process.poll() is None, f"the stream ended by itself: {self.said.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"no batch was begun: {self.said.read_text()[-3000:]}"
            time.sleep(0.05)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.soak
def test_killed_at_random_moments_no_event_is_lost_and_none_is_there_twice(
    broker: Broker, tmp_path: Path, soak: bool
) -> None:
    kills = 50 if soak else 2  # one at any moment, one in a batch
    rng = random.Random(7)
    values = stream_messages.fhir(2 * kills, seed=3)
    home, topic = tmp_path / "home", f"killed-{kills}"
    for i in range(kills):
        broker.produce(topic, values[i::kills])
        process = Process(home, topic, broker.brokers)
        try:
            if i % 4:  # or else at any moment of its start
                process.wait_until(process.batch_begun)
            time.sleep(rng.uniform(0, 3))
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
        process.wait_until(lambda: lake.exists(settings, "synthetic", "bronze_patients"))
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


def test_a_topic_that_is_not_there_is_said(broker: Broker, settings: Settings) -> None:
    topic = kafka.Topic("nowhere", broker.brokers, {})
    stream = Stream(settings, sources.load("fhir"), "ward")
    with pytest.raises(InputError, match=r"The topic nowhere at .* does not exist"):
        kafka.Consumer(settings, topic, stream, "ward").run(once=True, stop=threading.Event())
