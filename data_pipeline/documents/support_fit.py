"""The support checker's examples and fit: sentences of the project's corpus, paraphrased, or with one fact changed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.documents import corpus
from data_pipeline.documents.perturbations import (
    KINDS,
    SYNONYMS,
    UNKNOWN,
    change_condition,
    choice,
    paraphrase,
)
from data_pipeline.drugs import tables
from data_pipeline.retrieval.support import FEATURES, Checker, differences
from mediscale.core.splits import Split, assign_split

Floats = NDArray[np.float64]

UNRELATED = "unrelated"
"""The kind of a sentence that is about something else; it is always trained with."""


class Example(NamedTuple):
    """A sentence, the passage that it is about and others, and whether the passage supports it."""

    sentence: str
    sources: tuple[str, ...]
    supported: bool
    kind: str
    """Of the changed fact; ``verbatim``, ``paraphrase`` or ``UNRELATED`` where none is."""


def examples(split: Split) -> list[Example]:
    """Examples from the passages of a split, in its own words: training's synonyms are not those of the others."""
    passages = corpus.passages()
    synonyms = [pair for pair in SYNONYMS if (assign_split(pair[0]) == "train") == (split == "train")]
    names = {
        "drug": sorted({drug for drug, _ in tables.dose_ranges()}),
        UNKNOWN: sorted({passage.topic for passage in passages}),
    }
    of_split: list[Example] = []
    for number, passage in enumerate(passages):
        if assign_split(passage.id) == split:
            others = (passages[number - 1].text, passages[(number + 1) % len(passages)].text)
            of_split += _of(passage.text, others, synonyms, names)
            elsewhere = passages[(number + len(passages) // 2) % len(passages)].text
            of_split.append(_unrelated(elsewhere, (others[0], passage.text, others[1])))
    return of_split


def _of(
    text: str,
    others: tuple[str, ...],
    synonyms: Sequence[tuple[str, str]],
    names: Mapping[str, Sequence[str]],
) -> Iterator[Example]:
    sources = (others[0], text, others[1])
    for start, end in sentences(text):
        sentence = text[start:end]
        paraphrased = paraphrase(sentence, synonyms)
        yield Example(sentence, sources, True, "verbatim")
        if paraphrased != sentence:
            yield Example(paraphrased, sources, True, "paraphrase")
        for kind, change in {**KINDS, UNKNOWN: change_condition}.items():
            base = paraphrased if choice(sentence, kind, 2) else sentence
            changed = change(base, names.get(kind, ()))
            if changed is not None:
                yield Example(changed, sources, False, kind)


def _unrelated(text: str, sources: tuple[str, ...]) -> Example:
    """The first sentence of a passage on something else."""
    start, end = sentences(text)[0]
    return Example(text[start:end], sources, False, UNRELATED)


def features(example: Example) -> Floats:
    """Differences from every sentence of the sources: (sentences, features)."""
    return np.array(
        [
            differences(example.sentence, source[start:end])
            for source in example.sources
            for start, end in sentences(source)
        ]
    )


def fit(training: Sequence[Example], tuning: Sequence[Example]) -> Checker:
    """Weights from training, the threshold with the best F1 of unsupported sentences from tuning.

    Of an example's sources only the sentence with the fewest differences is learned from.
    """
    from sklearn.linear_model import LogisticRegression

    values = np.array([_closest(example) for example in training])
    supported = np.array([example.supported for example in training])
    weights_of = {True: 0.5 / supported.mean(), False: 0.5 / (1 - supported.mean())}
    model = LogisticRegression(C=1.0, class_weight=weights_of, max_iter=1000).fit(values, supported)
    checker = Checker(
        weights=dict(zip(FEATURES, map(float, model.coef_[0].round(4)), strict=True)),
        intercept=float(model.intercept_[0].round(4)),
        threshold=0.5,
    )
    scores = np.array([score(checker, example) for example in tuning])
    truth = np.array([example.supported for example in tuning])
    grid = np.linspace(0.02, 0.98, 97)
    best = max(grid, key=lambda threshold: (f1(truth, scores >= threshold), -abs(threshold - 0.5)))
    return checker.model_copy(update={"threshold": round(float(best), 2)})


def _closest(example: Example) -> Floats:
    values = features(example)
    closest: Floats = values[np.argmin(values[:, 1] + values[:, 2])]
    return closest


def score(checker: Checker, example: Example) -> float:
    """The score of the sentence of the sources that supports it best."""
    return max(checker.score(list(row)) for row in features(example))


def f1(supported: NDArray[np.bool_], said_supported: NDArray[np.bool_]) -> float:
    """F1 of finding the sentences that are not supported."""
    detected = float((~supported & ~said_supported).sum())
    return 2 * detected / max(float((~supported).sum() + (~said_supported).sum()), 1.0)
