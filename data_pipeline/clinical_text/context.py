"""Negation, experiencer and time of a mention, by the words around it (NegEx, Chapman 2001; ConText, Harkema 2009)."""

from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path

from data_pipeline.clinical_text import phrases
from data_pipeline.clinical_text.phrases import PhraseMatch, Phrases
from data_pipeline.clinical_text.text import ClinicalText


@cache
def _cue_phrases() -> Phrases:
    return Phrases(phrases.load(Path(__file__).with_name("context.yaml"))["phrases"])


class Context:
    """The context of every place of one text; computed once, asked for by many rules."""

    def __init__(self, text: ClinicalText) -> None:
        self._text = text

    @cached_property
    def _cues(self) -> dict[str, list[PhraseMatch]]:
        cues: dict[str, list[PhraseMatch]] = {}
        for match in _cue_phrases().find(self._text):
            cues.setdefault(match.label, []).append(match)
        return cues

    def is_negated(self, first: int, last: int, reach: int = 12) -> bool:
        """Whether a cue before the words ``first`` to before ``last``, or right after them, denies them."""
        start, end = self._text.sentence(first)
        real = [
            cue
            for cue in self._within("negated", max(start, first - reach), first)
            if not any(other.first <= cue.first < other.last for other in self._cues.get("not negated", ()))
        ]
        before = max((cue.last for cue in real), default=None)
        if before is not None and not self._ends(before, first):
            return True
        return any(self._within("negated after", last, min(end, last + 5)))

    def _ends(self, start: int, stop: int) -> bool:
        return any(self._within("end", start, stop))

    def is_family(self, first: int) -> bool:
        """Whether the sentence speaks of a relative before the word."""
        start, _ = self._text.sentence(first)
        return any(self._within("family", start, first))

    def is_past(self, first: int) -> bool:
        """Whether the sentence puts the words into the past."""
        start, end = self._text.sentence(first)
        return any(self._within("past", start, end))

    def _within(self, label: str, start: int, stop: int) -> Iterable[PhraseMatch]:
        return (cue for cue in self._cues.get(label, ()) if start <= cue.first and cue.last <= stop)
