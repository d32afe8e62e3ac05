"""Prompt injection in passages: those that instruct the model are left out of an index, when it is made.

Each passage is read once, by the rules of questions and answers, and by a linear model over the embedding of each of
its sentences; an answer then costs nothing more. ``benchmarks/passage_injection.py`` trained the weights and says how
many it finds, and how many passages it takes for what they are not.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.retrieval.embedder import Vectors
from data_pipeline.safety import injection
from data_pipeline.safety.layer import CheckedText

FILE = Path(__file__).with_name("injected_passages.npz")


def are_injected(
    texts: Sequence[str], sentences: Sequence[str], of_sentences: Vectors, first: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each passage has a sentence that instructs the model.

    ``of_sentences``: by the packaged embedder; those of passage ``i`` are the rows ``first[i]`` to ``first[i + 1]``.
    """
    instructs = np.array(
        [bool(injection.check(CheckedText(clinical_text.read(text))).findings) for text in texts], bool
    )
    if len(of_sentences):
        weights, intercept = _weights()
        passage_of = np.repeat(np.arange(len(texts)), np.diff(first))
        is_sentence = np.array(
            [len(sentence.strip("# ").split()) >= injection.FEWEST_WORDS for sentence in sentences]
        )
        instructs[passage_of[is_sentence & (of_sentences @ weights + intercept > 0)]] = True
    return instructs


@cache
def _weights() -> tuple[Vectors, float]:
    """The packaged weights; the threshold is subtracted from the intercept."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return arrays["weights"], float(arrays["intercept"])
