"""Retrieval: an index of passages, its search, answers of quoted sentences, and whether a sentence is supported."""

from data_pipeline.retrieval.grounded_answer import GroundedAnswer, Sentence, answer_from
from data_pipeline.retrieval.index import Citation, Index, Passage
from data_pipeline.retrieval.support import Support, support

__all__ = ["Citation", "GroundedAnswer", "Index", "Passage", "Sentence", "Support", "answer_from", "support"]
