"""Record of a dataset: of which source it is and, where a stream feeds it, who may write it meanwhile."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source
from mediscale.core.errors import InputError, UsageError
from mediscale.core.settings import Settings
from mediscale.core.tables import BRONZE
from mediscale.storage import calls, durable_files, locks

DEAD_LETTERS = f"{BRONZE.name}_dead_letters"
"""The table that keeps each dead letter beside its entry in quarantine."""
RECORD = "record"
"""Its column of what came."""

_STAGES = ("bronze", "validate", "silver")
"""Stages that write the tables that a stream writes: whoever waits until none runs waits for the stream, too."""


def _file(settings: Settings, dataset: str) -> Path:
    return settings.home / "streams" / dataset


def source_of(settings: Settings, dataset: str) -> str:
    """The name of the source whose stream feeds a dataset; empty where none does."""
    file = _file(settings, dataset)
    return file.read_text() if file.exists() else ""


def landed_source(settings: Settings, dataset: str) -> Source | None:
    """What a dataset is landed from, by a stream or by its newest extract; None where nothing was landed here."""
    if streamed := source_of(settings, dataset):
        return sources.load(streamed)
    landed = [call for call in calls.of_stage(settings, "bronze") if call.params["dataset"] == dataset]
    return sources.load(landed[-1].params["source"]) if landed else None


def refuse_replacing(settings: Settings, dataset: str) -> None:
    """Refuses what would replace the rows that a stream appended.

    Raises:
        InputError: a stream feeds the dataset.
    """
    if source_of(settings, dataset):
        raise InputError(
            f"{dataset} is fed by a stream, whose rows an extract would replace; nothing was written. Ingest the "
            "extract as another dataset (--dataset), or send its rows to the stream."
        )


@contextmanager
def writing(settings: Settings, dataset: str, source: str) -> Iterator[None]:
    """The right to stream into a dataset, which then is of that source.

    Raises:
        BusyError: another stream or a stage writes the dataset.
        UsageError: it is of another source.
    """
    with ExitStack() as stack:
        for stage in _STAGES:
            stack.enter_context(
                locks.exclusive(settings, f"{stage}-{dataset}", f"A stream or the stage {stage} of {dataset}")
            )
        before = source_of(settings, dataset)
        if before not in ("", source):
            raise UsageError(
                f"{dataset} is fed by a stream of the source {before}, and not {source}; give the stream another "
                "--dataset."
            )
        if not before:
            durable_files.replace(_file(settings, dataset), source)
        yield
