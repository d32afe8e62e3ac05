"""The rule-based deidentifier: patterns, a name lexicon and the words around a word, on a folded copy of the text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from data_pipeline.clinical_text import name_lexicon
from data_pipeline.clinical_text.folding import FoldedText, fold
from data_pipeline.clinical_text.name_lexicon import Lexicon
from data_pipeline.notes.deidentification.deidentified_note import DeidentifiedNote
from data_pipeline.notes.deidentification.indexed_text import IndexedText
from data_pipeline.notes.deidentification.name_detection import NameDetector
from data_pipeline.notes.deidentification.phi_patterns import PhiSpan, find_patterns, replace_spans
from data_pipeline.notes.deidentification.surrogates import Surrogates


@dataclass(frozen=True)
class RuleBasedDeidentifier:
    """Replaces identifiers with surrogates that are derived from a secret.

    ``lexicon`` is another one than the packaged, to measure how well names that are not listed are found.
    """

    secret: bytes
    lexicon: Lexicon | None = None

    @cached_property
    def _lexicon(self) -> Lexicon:
        return self.lexicon or name_lexicon.load()

    def find(self, texts: Sequence[str]) -> list[list[PhiSpan]]:
        """The identifiers in each note of one patient, in order and without overlaps."""
        folded = [fold(text) for text in texts]
        notes = [IndexedText(copy.text) for copy in folded]
        detected = NameDetector(self._lexicon).find(notes, [find_patterns(note) for note in notes])
        return [list(_in_original(copy, spans)) for copy, spans in zip(folded, detected, strict=True)]

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


def _in_original(folded: FoldedText, spans: list[PhiSpan]) -> Iterator[PhiSpan]:
    """The spans in the text that was folded; one of two that share a character of it has it."""
    end = 0
    for span in spans:
        start, to = folded.original_span(span.start, span.end)
        if max(start, end) < to:
            yield PhiSpan(span.kind, max(start, end), to)
        end = to


def _replace(text: str, spans: list[PhiSpan], surrogates: Surrogates, written: datetime) -> DeidentifiedNote:
    def surrogate(span: PhiSpan) -> str:
        return surrogates.text(span.kind, fold(text[span.start : span.end]).text, written)

    return DeidentifiedNote(replace_spans(text, spans, surrogate), dict(Counter(span.kind for span in spans)))
