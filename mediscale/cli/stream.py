"""Verbs of a dataset that grows: take a topic's events, and compact what many batches or nights left."""

import argparse
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, add_purpose, path, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from data_pipeline.ingest.kafka import Topic
    from data_pipeline.ingest.stream import BatchCounts
    from mediscale.core.settings import Settings


def _add_stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, help="dataset in the lake that takes the events")
    parser.add_argument(
        "--source",
        required=True,
        metavar="NAME|FILE",
        help="the events' type: a shipped source, or a YAML file of your own",
    )
    parser.add_argument("--topic", required=True, help="Kafka topic of the events")
    parser.add_argument(
        "--brokers", default="127.0.0.1:9092", help="HOST:PORT, with commas between (127.0.0.1:9092)"
    )
    parser.add_argument(
        "--client-properties", type=path, metavar="FILE", help="Kafka's client settings, such as TLS and SASL"
    )
    parser.add_argument(
        "--risks-topic",
        default="",
        metavar="TOPIC",
        help="Kafka topic to publish risks to, for the patients of each batch, by the versions in production",
    )
    parser.add_argument(
        "--result",
        type=path,
        metavar="FILE",
        help="file to write the tables' versions to, for stages (--from FILE)",
    )
    add_purpose(parser, "treatment")
    parser.add_argument(
        "--once", action="store_true", help="take what there is, then end (default: go on until SIGTERM)"
    )


def _stream(options: argparse.Namespace) -> int:
    import json
    import signal
    import threading
    from contextlib import ExitStack

    from data_pipeline.ingest import kafka, stream_record
    from data_pipeline.ingest import source as sources
    from data_pipeline.ingest.stream import Stream
    from mediscale.cli.stage import write_result
    from mediscale.core import logs
    from mediscale.storage import spark

    home = settings()
    source = sources.load(sources.register(options.source))
    client = kafka.client_options(options.client_properties) if options.client_properties else {}
    topic = kafka.Topic(options.topic, options.brokers, client)
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(logs.handled_by(logs.to_standard_error()))
        stack.enter_context(stream_record.writing(home, options.dataset, source.name))
        then = _publisher(home, options, topic, stack) if options.risks_topic else lambda _taken: None
        stream = Stream(home, source, options.dataset)
        consumer = kafka.Consumer(home, topic, stream, options.dataset, then)
        spark.session(home)  # which handles signals its own way
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        consumer.run(options.once, stop)
        if options.result:
            write_result(json.dumps(stream.references(), indent=2), options.result)
    print(
        f"{consumer.messages:,} messages of {topic.name} in {consumer.batches:,} batches: {consumer.landed:,} landed, "
        f"{consumer.appended:,} events appended to {options.dataset}."
    )
    return 0


def _publisher(
    home: "Settings", options: argparse.Namespace, events: "Topic", stack: "ExitStack"
) -> "Callable[[BatchCounts], None]":
    """What publishes the risks of a batch's patients."""
    from dataclasses import replace

    from data_pipeline.ingest import kafka
    from mediscale.storage import signing
    from serving.log.logged_answers import Requester
    from serving.stream_scoring import StreamScorer

    scorer = StreamScorer(home, options.dataset, Requester(signing.actor(home), options.purpose))
    stack.callback(scorer.close)
    risks = replace(events, name=options.risks_topic)

    def publish(batch: "BatchCounts") -> None:
        messages = scorer.score(batch.subjects["source_subject"].to_pylist())
        if messages:
            kafka.publish(home, risks, messages)

    return publish


def _add_compact(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, help="the dataset whose events are rewritten")


def _compact(options: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from data_pipeline import shards
    from data_pipeline.ingest import stream_record
    from mediscale.core.errors import NotFoundError
    from mediscale.storage import locks

    home = settings()
    source = stream_record.landed_source(home, options.dataset)
    if source is None:
        raise NotFoundError(f"Nothing was landed in {options.dataset}, so there is nothing to compact.")
    subject = source.subjects.id
    with ExitStack() as stack:
        for stage in ("bronze", "silver"):
            what = f"A stream or the stage {stage} of {options.dataset}"
            stack.enter_context(locks.exclusive(home, f"{stage}-{options.dataset}", what))
        n, spared = shards.compact(home, options.dataset, subject)
    print(
        f"{n} shards of {options.dataset} lay in several files; each is one now. Bronze has {spared:,} files less."
    )
    return 0


VERBS = (
    Verb("stream", "ingest the events of a Kafka topic into the lake, each once", _stream, _add_stream),
    Verb(
        "compact",
        "rewrite the many small files of streams and nights as few large ones",
        _compact,
        _add_compact,
    ),
)
