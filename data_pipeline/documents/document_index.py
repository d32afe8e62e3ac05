"""Stage: documents and notes as an index that is searched and quoted: a signed version under the artifact root."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipeline.documents import corpus, index_versions, note_documents, readers
from data_pipeline.retrieval.embedders import PACKAGED
from mediscale.core.annotations import Digest, PatientCount, RuntimeInput
from mediscale.core.errors import StorageError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SMALL, Context, Stage
from mediscale.core.tables import NOTES
from mediscale.storage import lake

OWN = corpus.FOLDER / "passages.jsonl"


class Params(Frozen):
    """Which documents, and with which embedder."""

    dataset: RuntimeInput[str]
    documents: str = ""
    """A file or folder of documents; empty for the project's own passages."""
    documents_digest: RuntimeInput[Digest]
    notes_of: str = ""
    """A dataset of the lake whose de-identified notes are indexed, too, for clinicians; empty for none."""
    notes: RuntimeInput[TableRef | None] = None
    embedder: str = PACKAGED
    """The packaged embedder, or a model of sentence-transformers by its name on the hub."""


class Result(Frozen):
    """The index that was made."""

    index: str
    """``NAME/VERSION``."""
    index_digest: Digest
    """SHA-256 of its manifest, which its signature covers."""
    passages: PatientCount
    files: PatientCount
    """Documents, and notes where there are some."""
    rejected: int
    """Files that were left out, wholly or in part; the index's manifest has the reasons."""
    abstention_threshold: float
    abstention_questions: int
    """That the threshold was chosen on."""


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The documents' digest, and the newest version of the notes."""
    path = Path(str(params.get("documents") or OWN))
    notes_of = str(params.get("notes_of") or "")
    yield Context(
        {
            "documents_digest": readers.digest(path),
            "notes": lake.latest(settings, notes_of, NOTES.name) if notes_of else None,
        }
    )


def run(params: Params, settings: Settings, key: str) -> Result:
    """Makes the index, or finds the version that this call made before.

    Raises:
        InputError: there is no document that can be read.
        StorageError: the documents were changed since the run began.
        UsageError: the embedder is not to be had.
    """
    path = Path(params.documents or OWN)
    if readers.digest(path) != params.documents_digest:
        raise StorageError(f"The documents in {path.name} were changed since the run began; run again.")
    read = readers.read([path])
    if params.notes:
        read.documents += note_documents.read(settings, params.notes).documents
    index = index_versions.version_of_call(settings, params.dataset, key) or index_versions.build(
        settings, params.dataset, read, params.embedder, key
    )
    abstention = index.abstention
    return Result(
        index=f"{index.manifest.name}/{index.manifest.version}",
        index_digest=index_versions.digest(index),
        passages=index.manifest.passages,
        files=index.manifest.documents,
        rejected=len(index.manifest.rejected),
        abstention_threshold=abstention.threshold,
        abstention_questions=abstention.questions,
    )


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="index the documents",
    summary=lambda r: (
        f"{r.index}: {count(r.passages)} passages, {r.rejected} files left out in part or wholly"
    ),
    resources=SMALL,
    runtime_inputs=runtime_inputs,
)
