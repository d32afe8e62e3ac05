"""One patient's notes without what tells who the patient is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from data_pipeline.notes.deidentification import name_lexicon
from data_pipeline.notes.deidentification.name_detection import Names
from data_pipeline.notes.deidentification.name_lexicon import Lexicon
from data_pipeline.notes.deidentification.phi_patterns import Found, shaped, substituted
from data_pipeline.notes.deidentification.surrogates import Surrogates


@dataclass(frozen=True)
class Scrubbed:
    """A note with surrogates in place of identifiers, and how many of each kind were replaced."""

    text: str
    replaced: dict[str, int]


@dataclass(frozen=True)
class Scrubber:
    """Replaces identifiers under a secret. The lexicon can be given gaps, to measure what is not listed."""

    secret: bytes
    without: frozenset[str] = frozenset()

    @cached_property
    def _lexicon(self) -> Lexicon:
        return name_lexicon.load(self.without)

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        """Per note of one patient the identifiers, in order, none overlapping another."""
        return Names(self._lexicon).find(texts, [shaped(text) for text in texts])

    def scrub(self, subject_id: int, texts: Sequence[str], written: Sequence[datetime]) -> list[Scrubbed]:
        """One patient's notes, together: a name that one introduces is found in the others too."""
        surrogates = Surrogates(self.secret, subject_id)
        return [
            _replaced(text, found, surrogates, moment)
            for text, found, moment in zip(texts, self.find(texts), written, strict=True)
        ]


def _replaced(text: str, found: list[Found], surrogates: Surrogates, written: datetime) -> Scrubbed:
    def surrogate(span: Found) -> str:
        return surrogates.text(span.kind, text[span.start : span.end], written)

    return Scrubbed(substituted(text, found, surrogate), dict(Counter(span.kind for span in found)))
