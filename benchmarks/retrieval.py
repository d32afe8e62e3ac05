"""Retrieval: recall of the passage that answers, by meaning, by words and by both; and speed on 100,000 passages.

Recall is on the project's own questions among its own passages, and with ``--medquad FILE`` among so many answers of
MedQuAD besides. For the speed, passages beyond the real ones are perturbed copies: a third of the words exchanged, and
vectors with noise. One thread; the question's embedding alone is the yardstick.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipeline.documents import abstention_fit, corpus, question_sets, readers
from data_pipeline.documents.passages import Document, table
from data_pipeline.documents.questions import Question
from data_pipeline.retrieval import Index, answer_from, embedders, index_files, passage_vectors
from data_pipeline.retrieval.index import Ids, Ranked
from data_pipeline.retrieval.index_files import Contents
from data_pipeline.retrieval.passage_vectors import PassageVectors, SentenceVectors
from mediscale.core.settings import Settings

WAYS: dict[str, Callable[[Ranked], Ids]] = {
    "meaning (FAISS)": lambda ranked: ranked.rows[
        np.argsort(-np.nan_to_num(ranked.cosine, nan=-1), kind="stable")
    ],
    "words (BM25)": lambda ranked: ranked.rows[np.argsort(-ranked.bm25, kind="stable")],
    "both (fusion)": lambda ranked: ranked.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=100_000, help="of the measurement of speed")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--medquad", type=Path, help="MedQuAD as JSONL, for passages among which to search")
    parser.add_argument("--answers", type=int, default=2000, help="of MedQuAD")
    options = parser.parse_args()
    embedder = embedders.load(Settings(home=Path(tempfile.gettempdir())), threads=1)
    real = table([*readers.read([corpus.FOLDER / "passages.jsonl"]).documents, *_medquad(options)])
    vectors = passage_vectors.embed(embedder, real)
    questions = corpus.questions()[:: max(1, len(corpus.questions()) // options.questions)]
    with tempfile.TemporaryDirectory() as folder:
        fitted = abstention_fit.of_own_questions(Settings(home=Path(folder)), embedder)
        index_files.write(Path(folder) / "real", "real", 1, Contents(real, vectors, embedder))
        _recall(Index.open(Path(folder) / "real"), questions)
        many, copies = _perturbed(real, vectors, options.passages)
        index_files.write(
            Path(folder) / "many", "many", 1, Contents(many, copies, embedder, abstention=fitted)
        )
        _speed(Path(folder) / "many", questions, copies)


def _medquad(options: argparse.Namespace) -> list[Document]:
    if options.medquad is None:
        return []
    answers = question_sets.read_medquad(options.medquad)[: options.answers]
    return [Document(file="medquad", place=each.id, text=each.answer, digest="") for each in answers]


def _recall(index: Index, questions: Sequence[Question]) -> None:
    places = index.passages["place"].to_pylist()
    hits: dict[str, list[float]] = {name: [] for name in WAYS}
    for question in questions:
        ranked = index.rank(question.question, index.embedder.question(question.question))
        for name, order in WAYS.items():
            best = [places[row] for row in order(ranked)[:10]]
            hits[name].append(float(any(place in question.references for place in best)))
    print(f"{len(questions)} questions, {index.manifest.passages:,} passages")
    for name, each in hits.items():
        print(f"figure: recall@10 by {name}, % = {100 * np.mean(each):.1f}")


def _perturbed(real: pa.Table, vectors: PassageVectors, n: int) -> tuple[pa.Table, PassageVectors]:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, real.num_rows, n)
    rows[: real.num_rows] = np.arange(real.num_rows)
    words = [np.array(text.split(), dtype=object) for text in real["text"].to_pylist()]
    pool = np.concatenate(words)
    texts = []
    for place, row in enumerate(rows):
        exchanged = words[row].copy()
        if place >= real.num_rows:
            where = rng.integers(0, len(exchanged), len(exchanged) // 3)
            exchanged[where] = pool[rng.integers(0, len(pool), len(where))]
        texts.append(" ".join(exchanged))
    copies = vectors.whole[rows] + rng.normal(0, 0.03, (n, vectors.whole.shape[1])).astype(np.float32)
    copies[: real.num_rows] = vectors.whole
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    taken = real.take(rows)
    many = taken.set_column(taken.schema.get_field_index("text"), "text", pa.array(texts))
    first = passage_vectors.sentences_of(many)[1]
    drawn = rng.integers(0, len(vectors.sentences.values), first[-1])
    return many, PassageVectors(copies, SentenceVectors(vectors.sentences.values[drawn], first))


def _speed(folder: Path, questions: Sequence[Question], vectors: PassageVectors) -> None:
    began = time.perf_counter()
    index = Index.open(folder)
    opened = time.perf_counter() - began
    asked = [each.question for each in questions]
    index.search(asked[0], 10)
    embedding = _times(lambda text: index.embedder.question(text), asked)
    whole = _times(lambda text: index.search(text, 10), asked)
    answered = _times(lambda text: answer_from(index, text), asked)
    found = [index.rank(text, index.embedder.question(text)) for text in asked[:100]]
    exact = [np.argsort(-(vectors.whole @ index.embedder.question(text)))[:10] for text in asked[:100]]
    same = np.mean([np.isin(best, ranked.rows).mean() for best, ranked in zip(exact, found, strict=True)])
    print(f"{index.manifest.passages:,} passages, one thread, {len(asked)} questions")
    print(f"figure: index opened, s = {opened:.2f}")
    for name, times in (
        ("question embedded", embedding),
        ("question embedded and searched", whole),
        ("question answered", answered),
    ):
        print(f"figure: {name}, p50 ms = {np.percentile(times, 50):.2f}")
        print(f"figure: {name}, p95 ms = {np.percentile(times, 95):.2f}")
    for name in (index_files.SENTENCES, index_files.VECTORS):
        print(f"figure: size of {name}, MB = {(folder / name).stat().st_size / 1e6:.0f}")
    alone = np.percentile(embedding, 95)
    print(f"figure: p95 of search over p95 of embedding = {np.percentile(whole, 95) / alone:.2f}")
    print(f"figure: p95 of an answer over p95 of embedding = {np.percentile(answered, 95) / alone:.2f}")
    print(f"figure: the ten exact nearest that are candidates, % = {100 * same:.1f}")


def _times(work: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Milliseconds of CPU: another process on the core is not counted."""
    times = []
    for text in texts:
        began = time.process_time()
        work(text)
        times.append(1000 * (time.process_time() - began))
    return times


if __name__ == "__main__":
    main()
