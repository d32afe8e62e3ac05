"""The deidentifier: finds identifiers in one patient's notes and replaces them with surrogates."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from data_pipeline.notes.deidentification import name_lexicon
from data_pipeline.notes.deidentification.name_detection import NameDetector
from data_pipeline.notes.deidentification.name_lexicon import Lexicon
from data_pipeline.notes.deidentification.phi_patterns import PhiSpan, find_patterns, replace_spans
from data_pipeline.notes.deidentification.surrogates import Surrogates


@dataclass(frozen=True)
class DeidentifiedNote:
    """A note with surrogates in place of identifiers, and the number of replaced identifiers of each kind."""

    text: str
    replaced: dict[str, int]


@dataclass(frozen=True)
class Deidentifier:
    """Replaces identifiers with surrogates that are derived from a secret.

    ``without`` removes languages from the lexicon, to measure how well names that are not listed are found.
    """

    secret: bytes
    without: frozenset[str] = frozenset()

    @cached_property
    def _lexicon(self) -> Lexicon:
        return name_lexicon.load(self.without)

    def find(self, texts: Sequence[str]) -> list[list[PhiSpan]]:
        """The identifiers in each note of one patient, in order and without overlaps."""
        return NameDetector(self._lexicon).find(texts, [find_patterns(text) for text in texts])

    def deidentify(
        self, subject_id: int, texts: Sequence[str], written: Sequence[datetime]
    ) -> list[DeidentifiedNote]:
        """The notes of one patient with surrogates; a name that one note introduces is replaced in the others too.

        ``written`` gives the time of each note, by which dates without a year are read.
        """
        surrogates = Surrogates(self.secret, subject_id)
        return [
            _replace(text, spans, surrogates, time)
            for text, spans, time in zip(texts, self.find(texts), written, strict=True)
        ]


def _replace(text: str, spans: list[PhiSpan], surrogates: Surrogates, written: datetime) -> DeidentifiedNote:
    def surrogate(span: PhiSpan) -> str:
        return surrogates.text(span.kind, text[span.start : span.end], written)

    return DeidentifiedNote(replace_spans(text, spans, surrogate), dict(Counter(span.kind for span in spans)))
