"""Frames: whether a sentence speaks of somebody now, or asks about a matter in general."""

from functools import cache, cached_property

from data_pipeline.clinical_text.phrases import PhraseMatch, Phrases
from data_pipeline.safety.layer import CheckedText, rules


@cache
def _frame_phrases() -> Phrases:
    return Phrases(rules("frames")["phrases"])


class Frames:
    """The frames of the sentences of one text."""

    def __init__(self, checked: CheckedText) -> None:
        self._checked = checked
        self._text = checked.text

    @cached_property
    def _matches(self) -> dict[str, list[PhraseMatch]]:
        matches: dict[str, list[PhraseMatch]] = {}
        for match in _frame_phrases().find(self._text):
            matches.setdefault(match.label, []).append(match)
        return matches

    def is_happening(self, match: PhraseMatch) -> bool:
        """Whether what a phrase names is so, of somebody, and now."""
        context = self._checked.context
        if context.is_negated(match.first, match.last):
            return False
        sentence = self._text.sentence(match.first)
        is_now = self._has("now", *sentence)
        if context.is_past(match.first) and not is_now:
            return False
        if self._has("study", 0, len(self._text.words)):
            return False
        return not self._is_general(match, sentence)

    def may_be_happening(self) -> bool:
        """Whether any sentence speaks of somebody, or states something, outside of a study."""
        if self._has("study", 0, len(self._text.words)):
            return False
        return any(
            not self._is_general(PhraseMatch("", start, end), (start, end))
            for start, end in self._text.sentences()
        )

    def _is_general(self, match: PhraseMatch, sentence: tuple[int, int]) -> bool:
        """Whether the sentence asks or states something about a matter, and speaks of nobody."""
        start, end = sentence
        if self.speaks_of_somebody(start, end):
            return self._has("about", max(start, match.first - 4), match.first) and not self._has(
                "now", start, end
            )
        opens = self._has("question", start, min(start + 2, end)) or self._asks(end)
        if opens and self._has("now", start, end):
            return self._has("question", start, min(start + 2, end)) and not self._has("acting", start, end)
        return opens or self._has("statement", start, end) or self._has("hypothetical", start, end)

    def _asks(self, end: int) -> bool:
        """Whether a sentence that ends before a word ends with a question mark."""
        return (
            end < len(self._text.words)
            and "?" in self._text.plain[self._text.starts[end] : self._text.ends[end]]
        )

    def speaks_of_somebody(self, start: int, end: int) -> bool:
        """Whether the words name a person, apart from who asks for information."""
        general = [m for m in self._matches.get("general", ()) if start <= m.first < end]
        return any(
            start <= m.first < end and not any(g.first <= m.first < g.last for g in general)
            for m in self._matches.get("person", ())
        )

    def _has(self, label: str, start: int, end: int) -> bool:
        return any(start <= m.first < end for m in self._matches.get(label, ()))
