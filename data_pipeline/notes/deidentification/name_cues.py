"""Name cues: the words at a cue of a person, such as a title or a verb of speech, that are a name."""

import re
from collections.abc import Callable, Iterator
from functools import cached_property

from data_pipeline.clinical_text.name_lexicon import EPONYMS, plain
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern, IndexedText
from data_pipeline.notes.deidentification.name_patterns import (
    AMONG_PEOPLE,
    APPOSED,
    BESIDE,
    BOTH,
    CAPITALS_COMMA,
    CAPITALS_PAIR,
    DOING,
    EPONYM_NEXT,
    FEELING,
    INITIAL_SUBJECT,
    INITIALISMS,
    INITIALS,
    INITIALS_AFTER,
    INITIALS_TITLED,
    INTRODUCTIONS,
    LAST_FIRST,
    LOWER_DESCRIBED,
    LOWER_SUBJECT,
    LOWER_TITLE,
    NOT_NAMES,
    OPENERS,
    OWNING,
    PARTICLES,
    PLURAL,
    POSSESSIVE,
    RECIPIENT_NEXT,
    SAYING,
    SEVERAL,
    SIDED,
    SLASHED,
    SPELLED,
    SUBJECT_DOES,
    THING_AFTER,
    WITH,
    WORD,
)
from data_pipeline.notes.deidentification.name_words import PERSONAL, NameWords, capitalised_words
from data_pipeline.notes.deidentification.phi_patterns import PhiSpan

_LETTERS = re.compile(WORD)
_ABBREVIATED = 5
"""A shorter word that stands alone in capitals, such as "CIWA", abbreviates something unless it is a listed name."""
_VOWEL = re.compile("[AEIOUY]")


class NameCues:
    """Finds the names beside the cues of a text, by the cue and by what each word can be."""

    def __init__(self, words: NameWords) -> None:
        self._words, self._kind = words, words.kind

    def introduced(self, note: IndexedText) -> Iterator[PhiSpan]:
        """The names after a title, a label or a relation, or before a degree."""
        for pattern, strong, backwards in INTRODUCTIONS:
            for match in note.matches(pattern):
                yield from self._introduced(note.text, *match.span("name"), strong, backwards)

    def weak(self, note: IndexedText) -> Iterator[PhiSpan]:
        """The names beside weaker cues."""
        for pattern, detect in self._weak_cues:
            for match in note.matches(pattern):
                yield from detect(note.text, match)

    @cached_property
    def _weak_cues(
        self,
    ) -> tuple[
        tuple[IndexedPattern | re.Pattern[str], Callable[[str, re.Match[str]], Iterator[PhiSpan]]], ...
    ]:
        """The weaker cues, each with the function that decides which of the words at a match are names."""
        return (
            (LOWER_TITLE, self._lower),
            (INITIAL_SUBJECT, self._spelled),
            (LOWER_DESCRIBED, self._in_small),
            (LOWER_SUBJECT, self._lower_subject),
            (INITIALS_AFTER, self._with_initials_after),
            (WITH, self._mentioned),
            (DOING, self._mentioned),
            (SAYING, self._acting),
            (FEELING, self._acting),
            (BESIDE, self._called),
            (APPOSED, self._set_off),
            (INITIALS, self._initialled),
            (LAST_FIRST, self._initialled),
            (CAPITALS_COMMA, self._in_capitals),
            (CAPITALS_PAIR, self._in_capitals),
            (SEVERAL, self._listed_together),
            (SPELLED, self._spelled),
            (INITIALS_TITLED, self._letters),
            (PLURAL, self._family),
            (SLASHED, self._slashed),
            (BOTH, self._both),
            (POSSESSIVE, self._possessing),
            (OWNING, self._possessive_surname),
        )

    def _introduced(
        self, text: str, start: int, end: int, strong: bool, backwards: bool
    ) -> Iterator[PhiSpan]:
        """The names in the words next to an introduction of a person, up to the first word that is no name."""
        words = list(capitalised_words(text, start, end))
        ordered = words[::-1] if backwards else words
        for i, (at, to) in enumerate(ordered):
            if plain(text[at:to]) in PARTICLES and 0 < i < len(ordered) - 1:
                continue  # the "Ní" of "Siobhán Ní Mhaoláin" names nobody alone and ends no name
            if not (strong and i == 0 and to - at > 1) and not self._fits(text, ordered, i):
                break
            if text[at:to] in NOT_NAMES or (not strong and self._is_eponym(text, at, to)):
                break
            yield PhiSpan("name", at, to)

    def _fits(self, text: str, words: list[tuple[int, int]], i: int) -> bool:
        """Whether a word after an introduction is part of the name, by the word and its neighbours."""
        word = text[slice(*words[i])]
        beside = [text[slice(*words[j])] for j in (i - 1, i + 1) if 0 <= j < len(words)]
        if len(word) == 1:
            return bool(beside)
        if word.isupper() and any(not other.isupper() for other in beside):
            return self._words.is_surname_in_capitals(word)
        kind, kinds = self._kind(word), {self._kind(other) for other in beside if len(other) > 1}
        if kind in ("word", "rare"):
            whole = len(words) == 2 and kinds <= {"name", "unknown"}
            return bool(kinds & PERSONAL) and (kind == "rare" or whole)
        if word.isupper() and len(word) < (4 if beside else _ABBREVIATED) and kind == "unknown":
            return False
        return kind != "either" or not kinds or bool(kinds & PERSONAL | kinds & {"rare"})

    def _is_eponym(self, text: str, at: int, to: int) -> bool:
        return EPONYM_NEXT.match(text, to) is not None and plain(text[at:to]) in EPONYMS

    def _spelled(self, _text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        yield PhiSpan("name", *cue.span("name"))

    def _letters(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        yield from (PhiSpan("name", *span) for span in capitalised_words(text, *cue.span("name")))

    def _family(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``the Abernathys``, by the name without its plural; an unlisted one is a family if it does what people do."""
        start, end = cue.span("name")
        lengths = (2, 1) if text[start:end].endswith(("ses", "zes", "xes", "ches", "shes")) else (1,)
        for length in lengths:
            word = text[start : end - length]
            kind = self._kind(word)
            if len(word) < 3 or not word[1:].islower() or word in NOT_NAMES:
                continue
            listed = plain(word) in self._words.lexicon.family and kind in ("name", "either")
            among = kind == "name" and AMONG_PEOPLE.search(text, max(0, cue.start() - 12), cue.start())
            if (cue["does"] and (listed or kind == "unknown")) or (listed and among):
                yield PhiSpan("name", start, end - length)
                return

    def _lower(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """A lower-case word after a title is a name, too; a second one only where it is no other word."""
        start, end = cue.span("name")
        for match in _LETTERS.finditer(text, start, end):
            kind = self._kind(match.group())
            if match.group() in PARTICLES:
                continue
            if kind != "name" and (match.start() != start or kind == "word"):
                break
            yield PhiSpan("name", *match.span())

    def _in_small(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``quillfeather tessa is a 56 y/o``; not ``pleasant lady is a 56 y/o`` or ``nulliparous woman 34 yo``."""
        spans = [match.span() for match in _LETTERS.finditer(text, *cue.span("name"))]
        kinds = {self._kind(text[a:b]) for a, b in spans}
        if kinds <= PERSONAL and ("name" in kinds or kinds == {"unknown"}):
            yield from (PhiSpan("name", *span) for span in spans)

    def _lower_subject(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``pt maria quillfeather``, ``pt quillfeather c/o``; not ``pt satting well`` or ``mother htn``."""
        spans = [match.span() for match in _LETTERS.finditer(text, *cue.span("name"))]
        kinds = [self._kind(text[a:b]) for a, b in spans]
        while kinds and kinds[-1] not in ("name", "unknown"):
            spans, kinds = spans[:-1], kinds[:-1]
        if not kinds or kinds[0] not in ("name", "unknown"):
            return
        whole = "name" in kinds or len(kinds) == 2 or spans[0][1] - spans[0][0] > 4
        if kinds == ["unknown"] and text[slice(*spans[0])].endswith(("ed", "ing", "ly")):
            return
        if whole and (kinds[0] == "name" or SUBJECT_DOES.match(text, spans[-1][1])):
            yield from (PhiSpan("name", *span) for span in spans)

    def _with_initials_after(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``Quillfeather TM``; not ``Zosyn IV`` or ``Chest CT``."""
        if cue["initials"] in INITIALISMS or cue["name"].isupper():
            return
        is_name, at = self._kind(cue["name"]) == "name", cue.start()
        if is_name or (
            self._words.is_surname(cue["name"])
            and RECIPIENT_NEXT.search(text, max(0, at - 6), at) is not None
        ):
            yield from (PhiSpan("name", *cue.span(part)) for part in ("name", "initials"))

    def _set_off(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``wife, maria, at bedside``; not ``father: cad, dm``."""
        start, end = cue.span("name")
        for match in _LETTERS.finditer(text, start, end):
            kind = self._kind(match.group())
            if kind != "name" and (kind != "unknown" or match.end() - match.start() < 5):
                break
            yield PhiSpan("name", *match.span())

    def _mentioned(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """After a preposition two unknown words in a row, or a name and another word, are a person's name."""
        start, end = cue.span("name")
        words = list(capitalised_words(text, start, end))
        kinds = [self._kind(text[a:b]) for a, b in words]
        if any(text[a:b] in NOT_NAMES or (text[a:b].isupper() and b - a > 1) for a, b in words):
            return
        people = [kind for kind, (a, b) in zip(kinds, words, strict=True) if b - a > 1]
        has_listed_name = "name" in people or (
            "either" in people and plain(text[slice(*words[0])]) in self._words.lexicon.given
        )
        has_listed_name |= (
            "either" in people[1:]
            and people[0] in ("rare", "unknown")
            and text[max(0, start - 3) : start] == "by "
        )
        if (
            len(people) >= 2
            and "word" not in people
            and (has_listed_name or ("unknown" in people and "either" not in people))
        ):
            yield from (PhiSpan("name", at, to) for at, to in words)

    def _acting(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """The subject of what only people do: one word that is in no list, or a full name."""
        words = list(capitalised_words(text, *cue.span("name")))
        longer = [text[a:b] for a, b in words if b - a > 1]
        kinds = {self._kind(word) for word in longer}
        if not longer or "word" in kinds or any(word in NOT_NAMES or len(word) < 3 for word in longer):
            return
        if self._is_eponym(text, *words[-1]):
            return
        if len(longer) == 1:
            is_name = not longer[0].isupper() and (
                kinds == {"unknown"} or self._words.is_listed_word(longer[0])
            )
        else:
            is_name = (
                bool(kinds & {"unknown", "name"}) and not (kinds - PERSONAL - {"rare"})
            ) or self._words.both_listed(text, words)
        if is_name and len({word.isupper() for word in longer}) == 1:
            yield from (PhiSpan("name", at, to) for at, to in words)

    def _initialled(self, text: str, match: re.Match[str]) -> Iterator[PhiSpan]:
        """``J. Lindqvist`` or ``Lindqvist, J.``; not ``R. Hand`` or ``E. Coli``."""
        word = match["name"]
        sided = plain(word) in SIDED
        if (
            (word.isupper() and not self._words.is_surname_in_capitals(word))
            or sided
            or word in NOT_NAMES
            or word in OPENERS
            or EPONYM_NEXT.match(text, match.end())
        ):
            return
        if self._kind(word) in ("unknown", "name") or (
            self._kind(word) == "either" and plain(word) in self._words.lexicon.family
        ):
            yield from (PhiSpan("name", *span) for span in capitalised_words(text, *match.span()))

    def _called(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """A listed or rare word that is capitalised while the words around it are not."""
        word, end = cue["name"], cue.end("name")
        if (
            not word[1:].islower()
            or len(word) < 3
            or word in NOT_NAMES
            or THING_AFTER.match(text, end)
            or EPONYM_NEXT.match(text, end)
        ):
            return
        seldom = self._kind(word) == "rare" and plain(word) in self._words.lexicon.ranks
        if seldom or (self._words.is_listed_word(word) and plain(word) not in EPONYMS):
            yield PhiSpan("name", *cue.span("name"))

    def _in_capitals(self, _: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``QUILLFEATHER, TESSA``; not ``ASTHMA, COPD``: a listed name and another, or two long words in no list."""
        words = [cue["name"], cue["other"]]
        if not NOT_NAMES.isdisjoint(words):
            return
        kinds = {self._kind(word) for word in words}
        listed = "name" in kinds and kinds <= {"name", "unknown", "either", "rare"}
        if listed or (kinds == {"unknown"} and all(len(word) > 4 and _VOWEL.search(word) for word in words)):
            yield from (PhiSpan("name", *cue.span(part)) for part in ("name", "other"))

    def _listed_together(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        yield from (
            PhiSpan("name", *span)
            for span in capitalised_words(text, *cue.span("list"))
            if text[slice(*span)] not in NOT_NAMES
        )

    def _slashed(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``Lind/Wexcombe``; not ``Tylenol/Codeine`` or ``Hashimoto/Graves``."""
        spans = list(capitalised_words(text, *cue.span("list")))
        words = [text[slice(*span)] for span in spans]
        kinds = {self._kind(word) for word in words}
        if any(word.isupper() for word in words) or not kinds & {"name", "unknown"}:
            return
        if all(self._words.is_surname(word) for word in words):
            yield from (PhiSpan("name", *span) for span in spans)

    def _both(self, _: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``Eira and Bence``: two words that are names or in no list."""
        if {self._kind(cue["name"]), self._kind(cue["other"])} <= {"unknown", "name"}:
            yield from (
                PhiSpan("name", *cue.span(part)) for part in ("name", "other") if cue[part][1:].islower()
            )

    def _possessing(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        if self._kind(cue["name"]) in ("unknown", "name") and not EPONYM_NEXT.match(text, cue.end()):
            yield PhiSpan("name", *cue.span("name"))

    def _possessive_surname(self, _: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        if self._words.is_surname(cue["name"]):
            yield PhiSpan("name", *cue.span("name"))
