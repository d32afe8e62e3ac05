"""Abstention: a logistic regression of what speaks for an answer, and the threshold below which an index abstains."""

from collections.abc import Mapping

import numpy as np
from pydantic import field_validator

from mediscale.core.refs import Frozen

FEATURES = (
    "cosine", "cosine_margin", "cosine_contrast", "sentence_cosine", "coverage", "unknown", "bm25", "bm25_margin",
)  # fmt: skip
"""What speaks for an answer: see ``candidates.evidence``."""


class Abstention(Frozen):
    """Abstention of an index: a logistic regression of ``FEATURES``, and the confidence that an answer needs.

    Both are fitted on questions, each with its passage in the index and with it taken out, the threshold on scores out
    of fold (``data_pipeline.documents.abstention_fit``).
    """

    weights: dict[str, float]
    intercept: float
    threshold: float
    questions: int
    """That it was fitted on."""

    @field_validator("weights")
    @classmethod
    def _one_for_each_feature(cls, weights: dict[str, float]) -> dict[str, float]:
        if set(weights) != set(FEATURES):
            raise ValueError("the weights are of another release's features")
        return weights

    def confidence(self, features: Mapping[str, float]) -> float:
        """Probability that the index holds the answer."""
        log_odds = self.intercept + sum(self.weights[name] * features[name] for name in FEATURES)
        return float(1 / (1 + np.exp(-log_odds)))
