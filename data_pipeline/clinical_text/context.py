"""Negation, experiencer and time of a mention, by the words around it (NegEx, Chapman 2001; ConText, Harkema 2009)."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
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

    @cached_property
    def _firsts(self) -> dict[str, list[int]]:
        """Where the cues of each label begin, in order: a note of many findings has many cues, too."""
        return {label: [cue.first for cue in cues] for label, cues in self._cues.items()}

    @cached_property
    def _tellers(self) -> frozenset[int]:
        """Where relatives are named who tell of the patient, or came with them."""
        cues = self._cues.get("not family", ())
        return frozenset(i for cue in cues for i in range(cue.first, cue.last))

    @cached_property
    def _longest_exception(self) -> int:
        return max((cue.last - cue.first for cue in self._cues.get("not negated", ())), default=0)

    def is_negated(self, first: int, last: int, reach: int = 12) -> bool:
        """Whether a cue before the words ``first`` to before ``last``, or right after them, denies them."""
        start, end = self._text.sentence(first)
        real = [
            cue
            for cue in self._within("negated", max(start, first - reach), first)
            if not self._is_exception(cue)
        ]
        before = max((cue.last for cue in real), default=None)
        if before is not None and not self._ends(before, first):
            return True
        after = self._within("negated after", last, min(end, last + 5))
        return any(not self._is_exception(cue) for cue in after)

    def _is_exception(self, cue: PhraseMatch) -> bool:
        """Whether a cue is part of words that deny nothing, such as "no increase", which "no longer has" is not."""
        nearby = self._beginning("not negated", cue.first - self._longest_exception, cue.first + 1)
        return any(
            cue.first < other.last and (other.first < cue.first or cue.last <= other.last) for other in nearby
        )

    def _ends(self, start: int, stop: int) -> bool:
        return any(self._within("end", start, stop))

    def is_family(self, first: int) -> bool:
        """Whether the sentence speaks of a relative before the word, who does not only tell of the patient."""
        start, _ = self._text.sentence(first)
        return any(cue.first not in self._tellers for cue in self._within("family", start, first))

    def is_past(self, first: int) -> bool:
        """Whether the sentence puts the words into the past."""
        start, end = self._text.sentence(first)
        return any(self._within("past", start, end))

    def _within(self, label: str, start: int, stop: int) -> Iterable[PhraseMatch]:
        return (cue for cue in self._beginning(label, start, stop) if cue.last <= stop)

    def _beginning(self, label: str, start: int, stop: int) -> Iterator[PhraseMatch]:
        firsts = self._firsts.get(label, [])
        for i in range(bisect_left(firsts, start), bisect_left(firsts, stop)):
            yield self._cues[label][i]
