"""Linear models over the embedding of a question, for what neither phrases nor words find.

The embedding is the one that retrieval searches with (``Embedder.question``), computed once.
``benchmarks/safety_model.py`` trained the weights; they are arrays of numbers without pickle.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

FILE = Path(__file__).with_name("embedding_model.npz")
OUT_OF_SCOPE = "out_of_scope"
"""Is flagged where a request has nothing to do with medicine, such as a joke: to the other models it is as strange as
harm, or as an instruction, and is neither."""
EMBEDDER = "bge-small-en-v1.5"
"""Whose embeddings the weights are for."""


@dataclass(frozen=True)
class EmbeddingModel:
    """A layer's name is flagged where its score is above 0."""

    layers: tuple[str, ...]
    weights: NDArray[np.float32]
    """Layers × dimensions."""
    word_weights: NDArray[np.float32]
    """Of the words' own log-odds of harm (``harm_model``), for each layer; 0 where a layer does not look at them."""
    intercepts: NDArray[np.float32]
    """With the thresholds subtracted."""

    def flags(self, embedding: Vector, harm_score: float) -> frozenset[str]:
        """The layers that the question is flagged for, by its embedding and its words' log-odds of harm; one out of
        scope may be flagged as an emergency alone.

        Raises:
            ValueError: the embedding is that of another network.
        """
        if embedding.shape != self.weights.shape[1:]:
            raise ValueError(f"The weights are for embeddings of {EMBEDDER}.")
        scores = self.weights @ embedding + self.word_weights * harm_score + self.intercepts
        flagged = frozenset(layer for layer, score in zip(self.layers, scores, strict=True) if score > 0)
        return flagged & {"emergency"} if OUT_OF_SCOPE in flagged else flagged


@cache
def load() -> EmbeddingModel:
    """The packaged weights."""
    with np.load(FILE, allow_pickle=False) as arrays:
        layers = tuple(str(name) for name in arrays["layers"])
        return EmbeddingModel(layers, arrays["weights"], arrays["word_weights"], arrays["intercepts"])
