"""Kafka: the messages of a topic, taken in batches by Spark's Structured Streaming, and rows published to another.

Spark keeps how far it read in a checkpoint, and writes down which offsets a batch holds before the batch begins. Which
rows are new is for the tables to say (``stream``), so a lost checkpoint costs time and no row. One that is ahead of the
lake would cost rows: a backup leaves it out, and where the dataset is gone it is not believed.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.ingest.messages import Message, file_of
from data_pipeline.ingest.stream import BatchCounts, Stream
from mediscale.core.errors import InputError, MediscaleError, StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.query import StreamingQuery

log = logging.getLogger(__name__)

MAX_MESSAGES = 20_000
"""Of one batch: they are in memory, with all rows of their patients."""

INTERVAL = "5 seconds"
"""Between the beginnings of two batches, unless one takes longer."""

_PATIENCE_MS = "10000"
"""How long a broker may take to answer; it is asked twice."""


@dataclass(frozen=True)
class Topic:
    """A topic and how its brokers are reached; ``options`` are Kafka's own client settings."""

    name: str
    brokers: str
    options: Mapping[str, str]

    @property
    def client(self) -> dict[str, str]:
        """Spark's options for a client of the brokers."""
        own = {f"kafka.{name}": value for name, value in self.options.items()}
        patience = {f"kafka.{which}.timeout.ms": _PATIENCE_MS for which in ("default.api", "request")}
        return {**patience, "fetchOffset.numRetries": "1", **own, "kafka.bootstrap.servers": self.brokers}


def client_options(file: Path) -> dict[str, str]:
    """Kafka's client settings in a properties file, as its own tools take it: for TLS and SASL.

    Raises:
        UsageError: a line is no setting.
        InputError: the file can't be read.
    """
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise InputError(f"{file} can't be read: {error.strerror}.") from error
    options = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line and not line.startswith(("#", "!")):
            name, equals, value = line.partition("=")
            if not equals:
                raise UsageError(f"{file}: line {number} is no NAME=VALUE.")
            options[name.strip()] = value.strip()
    return options


class Consumer:
    """Takes a topic's messages into a stream, batch after batch."""

    def __init__(
        self,
        settings: Settings,
        topic: Topic,
        stream: Stream,
        dataset: str,
        then: Callable[[BatchCounts], None] = lambda _taken: None,
    ) -> None:
        """``then`` is called with what became of each batch; a batch may come again after a crash."""
        self._settings, self._topic, self._stream, self._then = settings, topic, stream, then
        self._dataset = dataset
        self._checkpoint = settings.home / "spark" / "streams" / dataset / topic.name
        self._working = threading.Lock()
        self._failure: BaseException | None = None
        self.batches = self.messages = self.landed = self.appended = 0

    def run(self, once: bool, stop: threading.Event) -> None:
        """Takes what there is and, unless ``once``, what comes until ``stop``; a batch that was begun is finished.

        Raises:
            InputError: the brokers don't answer, there is no such topic, or unread messages were deleted.
            MediscaleError: a batch could not be taken; nothing of it is lost, and the next run takes it again.
        """
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException, StreamingQueryException

        query = self._start(once)
        try:
            while query.isActive and not stop.wait(0.5):
                self._log_lag(query)
            with self._working:  # not in the middle of a batch
                query.stop()
            query.awaitTermination()
        except StreamingQueryException as error:
            failure = self._failure
            if isinstance(failure, MediscaleError):
                raise failure from None
            if failure is None or isinstance(failure, PySparkException | Py4JError):
                raise _sentence(self._topic, f"{error} {failure}", self._settings) from error
            raise failure from error

    def _start(self, once: bool) -> "StreamingQuery":
        from mediscale.storage import spark

        self._seen = -1
        log.info("asking %s for the topic %s", self._topic.brokers, self._topic.name)
        if not lake.tables(self._settings, self._dataset):
            shutil.rmtree(self._checkpoint, ignore_errors=True)
        reader = spark.session(self._settings).readStream.format("kafka")
        reader = reader.options(**self._topic.client).option("subscribe", self._topic.name)
        reader = reader.option("startingOffsets", "earliest").option("maxOffsetsPerTrigger", MAX_MESSAGES)
        writer = reader.load().writeStream.foreachBatch(self._take)
        writer = writer.option("checkpointLocation", str(self._checkpoint))
        return (
            writer.trigger(availableNow=True) if once else writer.trigger(processingTime=INTERVAL)
        ).start()

    def _take(self, frame: "DataFrame", batch: int) -> None:
        with self._working:
            try:
                self._take_batch(frame, batch)
            except BaseException as error:
                self._failure = error
                raise

    def _take_batch(self, frame: "DataFrame", batch: int) -> None:
        began = time.monotonic()
        rows = frame.select("topic", "partition", "offset", "value").toArrow()
        rows = rows.sort_by([("topic", "ascending"), ("partition", "ascending"), ("offset", "ascending")])
        columns = (rows[name].to_pylist() for name in ("topic", "partition", "offset", "value"))
        messages = [
            Message(file_of(topic, partition), offset, value)
            for topic, partition, offset, value in zip(*columns, strict=True)
        ]
        log.info("batch %d begins with %s messages", batch, f"{len(messages):,}")
        counts = self._stream.take(messages)
        self._then(counts)
        seconds = time.monotonic() - began
        self.batches += 1
        self.messages += counts.messages
        self.landed += counts.landed
        self.appended += counts.appended
        log.info("batch %d: %s", batch, _line(counts, seconds))

    def _log_lag(self, query: "StreamingQuery") -> None:
        progress: Any = query.lastProgress
        if progress is None or progress["batchId"] == self._seen or not progress["numInputRows"]:
            return
        self._seen = progress["batchId"]
        behind = (progress["sources"][0].get("metrics") or {}).get("maxOffsetsBehindLatest")
        if behind is not None:
            log.info(
                "after batch %d the stream is at most %s messages of a partition behind", self._seen, behind
            )


def _line(counts: BatchCounts, seconds: float) -> str:
    return (
        f"{counts.messages:,} messages in {seconds:.1f} s ({counts.messages / max(seconds, 1e-3):,.0f} a second): "
        f"{counts.landed:,} landed, {counts.dead_letters:,} of the messages dead letters; {counts.appended:,} events "
        f"appended, {counts.replaced:,} changed by late rows"
    )


def _sentence(topic: Topic, error: str, settings: Settings) -> MediscaleError:
    """What a person is told of an error that Spark or Kafka's client raised."""
    place = f"The topic {topic.name} at {topic.brokers}"
    if "UnknownTopicOrPartition" in error:
        return InputError(f"{place} does not exist; create it, or check its name.")
    if "Timeout" in error or "bootstrap" in error or "TimedOut" in error:
        return InputError(
            f"{place} can't be reached; check the brokers' addresses, and TLS and SASL settings."
        )
    if "data loss" in error.lower() or "data may have been lost" in error or "OffsetOutOfRange" in error:
        return InputError(
            f"{place} no longer has messages that were not read yet (were they deleted by its retention, or the topic "
            "made anew?). Give its producer's events another topic, or ingest the extract of those days."
        )
    return StorageError(
        f"{place} could not be read ({settings.home / 'spark' / 'java.log'} says more); the same command goes on."
    )


def publish(settings: Settings, topic: Topic, messages: Sequence[tuple[str, str]]) -> None:
    """Writes messages, each a key and a value, to a topic; returns when the brokers have them.

    Raises:
        InputError: the brokers don't take them.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    from mediscale.storage import spark

    frame = spark.session(settings).createDataFrame(list(messages), "key string, value string")
    try:
        frame.write.format("kafka").options(**topic.client).option("topic", topic.name).save()
    except (PySparkException, Py4JJavaError) as error:
        raise _sentence(topic, str(error), settings) from error
