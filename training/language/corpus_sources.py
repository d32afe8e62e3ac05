"""Sources of the project's own questions: its passages, searched as a served index is."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.documents import corpus, passages, readers
from data_pipeline.documents.questions import Question
from data_pipeline.retrieval import embedders, index_files, passage_vectors
from data_pipeline.retrieval.index import Index
from data_pipeline.retrieval.index_files import Contents
from data_pipeline.retrieval.support import support
from mediscale.core.settings import Settings
from training.language.statements import Sources

FOUND = 2
"""Passages that stand before a question."""


class CorpusSources:
    """The passages that the project wrote, by an index that is opened."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._by_id = {passage.id: passage.text for passage in corpus.passages()}

    def best_passages(self, question: Question) -> Sequence[str]:
        """The best passages of the index."""
        return [passage.text for passage in self._index.search(question.question, FOUND)]

    def gold(self, question: Question) -> Sequence[str]:
        """The passages that the question names."""
        return [self._by_id[name] for name in question.references if name in self._by_id]

    def supported(self, answer: str, passages: Sequence[str]) -> Sequence[bool]:
        """Sentence by sentence, by the rule that serving applies."""
        spans = sentences(answer)
        return [support(answer[span.start : span.end], passages).supported for span in spans]


@contextmanager
def opened(settings: Settings, questions: Sequence[Question]) -> Iterator[Sources | None]:
    """The sources of some questions while the block runs; None where these are not about the project's passages."""
    ids = {passage.id for passage in corpus.passages()}
    if not any(ids & set(question.references) for question in questions):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mediscale-index-") as folder:
        yield CorpusSources(_index(settings, Path(folder) / "corpus"))


def _index(settings: Settings, folder: Path) -> Index:
    rows = passages.table(readers.read([corpus.FOLDER / "passages.jsonl"]).documents)
    embedder = embedders.load(settings)
    index_files.write(folder, "corpus", 1, Contents(rows, passage_vectors.embed(embedder, rows), embedder))
    return Index.open(folder)
