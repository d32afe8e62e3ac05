"""Name detection: people's names in notes, by what a word is evidence of and by the words around it.

A capitalised word after a title, a label or a relation, or before a degree, is a name unless it is clearly something
else. Alone it is a name only where it is no other word. Names from one of a patient's notes are searched in all of
them, so that a family doctor who is introduced once is also found where only the surname is written.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cached_property

from data_pipeline.clinical_text.name_lexicon import (
    CLINICAL,
    EPONYMS,
    ORDINARY,
    Evidence,
    Lexicon,
    plain,
)
from data_pipeline.notes.deidentification.name_patterns import (
    ACTS_AFTER,
    ANOTHER_SCRIPT,
    APPOSED,
    BESIDE,
    BINOMIAL,
    BOTH,
    CAPITAL,
    CAPITALS_COMMA,
    CAPITALS_PAIR,
    CONJUNCTIONS,
    DOING,
    END_OF_SENTENCE,
    EPONYM_NEXT,
    FEELING,
    INITIALISMS,
    INITIALS,
    INITIALS_AFTER,
    INTRODUCTIONS,
    LAST_FIRST,
    LOWER_SUBJECT,
    LOWER_TITLE,
    NOT_NAMES,
    OPENERS,
    OWNING,
    PARTICLES,
    POSSESSIVE,
    RECIPIENT_NEXT,
    RUNS,
    SAYING,
    SEVERAL,
    SIDED,
    SLASHED,
    SUBJECT_DOES,
    THING_AFTER,
    THING_BEFORE,
    WITH,
    WORD,
    NamePatternSearch,
)
from data_pipeline.notes.deidentification.phi_patterns import SAID_AGE, PhiSpan, add_non_overlapping


class NameDetector:
    """Finds the names in the notes of one patient at a time."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._kind = lexicon.kind
        self._lower_case_words: list[str] = []

    def find(self, texts: Sequence[str], patterns: Sequence[list[PhiSpan]]) -> list[list[PhiSpan]]:
        """The identifiers in each note, in order: those of ``patterns``, names, and ages that follow a name.

        ``patterns`` are the identifiers of each note that have been found by patterns.
        """
        self._lower_case_words = sorted({word for text in texts for word in _LOWER_CASE_WORD.findall(text)})
        first_pass = [
            add_non_overlapping(spans, _merged(self._in_context(text)))
            for text, spans in zip(texts, patterns, strict=True)
        ]
        repeats = self._repeated_names(texts, first_pass)
        second_pass = [
            add_non_overlapping(spans, more) for spans, more in zip(first_pass, repeats, strict=True)
        ]
        return [
            add_non_overlapping(spans, _ages(text, spans))
            for text, spans in zip(texts, second_pass, strict=True)
        ]

    def _in_context(self, text: str) -> Iterator[PhiSpan]:
        search = NamePatternSearch(text)
        for pattern, strong, backwards in INTRODUCTIONS:
            for match in search.matches(pattern):
                yield from self._introduced(text, *match.span("name"), strong, backwards)
        genera = {match.start() for match in search.matches(BINOMIAL) if self._is_species(match)}
        for pattern, detect in self._weak_cues:
            for match in search.matches(pattern):
                yield from (span for span in detect(text, match) if span.start not in genera)
        yield from (span for span in self._alone(text, search.matches(RUNS)) if span.start not in genera)
        if not text.isascii():
            yield from (PhiSpan("name", *match.span()) for match in ANOTHER_SCRIPT.finditer(text))

    @cached_property
    def _weak_cues(
        self,
    ) -> tuple[tuple[re.Pattern[str], Callable[[str, re.Match[str]], Iterator[PhiSpan]]], ...]:
        """The weaker cues, each with the function that decides which of the words at a match are names."""
        return (
            (LOWER_TITLE, self._lower),
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
            (SLASHED, self._slashed),
            (BOTH, self._both),
            (POSSESSIVE, self._possessing),
            (OWNING, self._possessive_surname),
        )

    def _introduced(
        self, text: str, start: int, end: int, strong: bool = False, backwards: bool = False
    ) -> Iterator[PhiSpan]:
        """The names in the words next to an introduction of a person, up to the first word that is no name."""
        words = list(_words(text, start, end))
        ordered = words[::-1] if backwards else words
        for i, (at, to) in enumerate(ordered):
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
            return self._is_surname_in_capitals(word)
        kind, kinds = self._kind(word), {self._kind(other) for other in beside if len(other) > 1}
        if kind in ("word", "rare"):
            whole = len(words) == 2 and kinds <= {"name", "unknown"}
            return bool(kinds & _PERSONAL) and (kind == "rare" or whole)
        if word.isupper() and len(word) < 4 and kind == "unknown":
            return False
        return kind != "either" or not kinds or bool(kinds & _PERSONAL | kinds & {"rare"})

    def _is_eponym(self, text: str, at: int, to: int) -> bool:
        return EPONYM_NEXT.match(text, to) is not None and plain(text[at:to]) in EPONYMS

    def _lower(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """After a title even a lower-case word is a name; a second one only where it is no other word."""
        start, end = cue.span("name")
        for match in _LETTERS.finditer(text, start, end):
            kind = self._kind(match.group())
            if match.group() in PARTICLES:
                continue
            if kind != "name" and (match.start() != start or kind == "word"):
                break
            yield PhiSpan("name", *match.span())

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
            self._is_surname(cue["name"]) and RECIPIENT_NEXT.search(text, max(0, at - 6), at) is not None
        ):
            yield from (PhiSpan("name", *cue.span(part)) for part in ("name", "initials"))

    def _is_species(self, match: re.Match[str]) -> bool:
        """Whether a small word after a capitalised one is a species, so that the word before it is a genus."""
        species, genus = match["species"], match["name"]
        if species in CLINICAL:
            return True
        return (
            len(genus) > 2 and self._kind(species) == "unknown" and self._kind(genus) in ("unknown", "rare")
        )

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
        words = list(_words(text, start, end))
        kinds = [self._kind(text[a:b]) for a, b in words]
        if any(text[a:b] in NOT_NAMES or (text[a:b].isupper() and b - a > 1) for a, b in words):
            return
        people = [kind for kind, (a, b) in zip(kinds, words, strict=True) if b - a > 1]
        has_listed_name = "name" in people or (
            "either" in people and plain(text[slice(*words[0])]) in self._lexicon.given
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
        words = list(_words(text, *cue.span("name")))
        longer = [text[a:b] for a, b in words if b - a > 1]
        kinds = {self._kind(word) for word in longer}
        if not longer or "word" in kinds or any(word in NOT_NAMES or len(word) < 3 for word in longer):
            return
        if len(longer) == 1:
            is_name = not longer[0].isupper() and (kinds == {"unknown"} or self._is_listed_word(longer[0]))
        else:
            is_name = (
                bool(kinds & {"unknown", "name"}) and not (kinds - _PERSONAL - {"rare"})
            ) or self._both_listed(text, words)
        if is_name and len({word.isupper() for word in longer}) == 1:
            yield from (PhiSpan("name", at, to) for at, to in words)

    def _initialled(self, text: str, match: re.Match[str]) -> Iterator[PhiSpan]:
        """``J. Lindqvist`` or ``Lindqvist, J.``; not ``R. Hand`` or ``E. Coli``."""
        word = match["name"]
        sided = plain(word) in SIDED
        if (
            (word.isupper() and not self._is_surname_in_capitals(word))
            or sided
            or word in NOT_NAMES
            or word in OPENERS
            or EPONYM_NEXT.match(text, match.end())
        ):
            return
        if self._kind(word) in ("unknown", "name") or (
            self._kind(word) == "either" and plain(word) in self._lexicon.family
        ):
            yield from (PhiSpan("name", *span) for span in _words(text, *match.span()))

    def _is_listed_word(self, word: str) -> bool:
        """Whether a word is also a listed name and may be one here."""
        token = plain(word)
        listed = token in self._lexicon.given or token in self._lexicon.family
        return self._kind(word) == "either" and listed and word not in OPENERS and word not in NOT_NAMES

    def _called(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """A listed or rare word that is capitalised while the words around it are not."""
        word, end = cue["name"], cue.end("name")
        if (
            not word[1:].islower()
            or len(word) < 3
            or THING_AFTER.match(text, end)
            or EPONYM_NEXT.match(text, end)
        ):
            return
        seldom = self._kind(word) == "rare" and plain(word) in self._lexicon.ranks
        if seldom or (self._is_listed_word(word) and plain(word) not in EPONYMS):
            yield PhiSpan("name", *cue.span("name"))

    def _in_capitals(self, _: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``QUILLFEATHER, TESSA``; not ``ASTHMA, COPD``: a listed name and another, or two long words in no list."""
        words = [cue["name"], cue["other"]]
        kinds = {self._kind(word) for word in words}
        listed = "name" in kinds and kinds <= {"name", "unknown", "either", "rare"}
        if listed or (kinds == {"unknown"} and all(len(word) > 4 and _VOWEL.search(word) for word in words)):
            yield from (PhiSpan("name", *cue.span(part)) for part in ("name", "other"))

    def _listed_together(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        yield from (
            PhiSpan("name", *span)
            for span in _words(text, *cue.span("list"))
            if text[slice(*span)] not in NOT_NAMES
        )

    def _slashed(self, text: str, cue: re.Match[str]) -> Iterator[PhiSpan]:
        """``Lind/Wexcombe``; not ``Tylenol/Codeine`` or ``Hashimoto/Graves``."""
        spans = list(_words(text, *cue.span("list")))
        words = [text[slice(*span)] for span in spans]
        kinds = {self._kind(word) for word in words}
        if any(word.isupper() for word in words) or not kinds & {"name", "unknown"}:
            return
        if all(self._is_surname(word) for word in words):
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
        if self._is_surname(cue["name"]):
            yield PhiSpan("name", *cue.span("name"))

    def _is_surname(self, word: str) -> bool:
        kind = self._kind(word)
        return kind in ("unknown", "name") or (kind == "either" and plain(word) in self._lexicon.family)

    def _is_surname_in_capitals(self, word: str) -> bool:
        """``Anna MUELLER``; not ``Anna ECMO``, ``Anna PLAN`` or ``Anna DO``."""
        kind = self._kind(word)
        if len(word) < 4:
            return kind == "name" and len(word) == 3
        parts = _JOINT.split(plain(word))
        listed = any(part in self._lexicon.family and part not in ORDINARY for part in parts)
        return kind == "name" or (kind == "unknown" and len(word) > 4) or (kind == "either" and listed)

    def _alone(self, text: str, runs: Iterable[re.Match[str]]) -> Iterator[PhiSpan]:
        """Full names, ``Last, First``, and single words that are only names."""
        for match in runs:
            words = list(_words(text, *match.span()))
            kinds = [self._kind(text[a:b]) for a, b in words]
            unlisted = set(words if self._is_unlisted_name(text, words) else self._parts(text, words))
            for i, (at, to) in enumerate(words):
                if ((at, to) in unlisted and text[at:to] not in NOT_NAMES) or self._is_name_alone(
                    text, words, kinds, i
                ):
                    yield PhiSpan("name", at, to)

    def _parts(self, text: str, words: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The words of a run's parts that are unlisted names; commas, abbreviations and other words separate parts."""
        part: list[tuple[int, int]] = []
        for at, to in [*words, (len(text), len(text))]:
            if part and (not self._is_of_a_name(text[at:to]) or "," in text[part[-1][1] : at]):
                yield from part if self._is_unlisted_name(text, part) else ()
                part = []
            if self._is_of_a_name(text[at:to]):
                part.append((at, to))

    def _is_of_a_name(self, word: str) -> bool:
        return len(word) == 1 or bool(
            word
            and not word.isupper()
            and word not in NOT_NAMES
            and self._kind(word) not in ("word", "either")
        )

    def _is_unlisted_name(self, text: str, words: list[tuple[int, int]]) -> bool:
        """Whether two or three words in no list are written as a name; a lost term is better than a revealed person."""
        longer = [text[a:b] for a, b in words if b - a > 1]
        if len(longer) not in (2, 3) or any(word.isupper() for word in longer):
            return False
        kinds = {self._kind(word) for word in longer}
        return kinds <= {"name", "unknown", "rare"} and bool(kinds & {"name", "unknown"})

    def _is_name_alone(self, text: str, words: list[tuple[int, int]], kinds: list[Evidence], i: int) -> bool:
        """Whether a word of a run of capitalised words is a name, without any introduction."""
        at, to = words[i]
        word = text[at:to]
        if word in NOT_NAMES or EPONYM_NEXT.match(text, to):
            return False
        beside = [j for j in (i - 1, i + 1) if 0 <= j < len(words)]
        if len(word) == 1:
            return any(kinds[j] == "name" for j in beside) and not _AFTER_LETTER.match(text, to)
        if word.isupper() and not self._is_no_abbreviation(text, words, kinds, i):
            return False
        named = any(kinds[j] == "name" for j in beside)
        full = self._is_full(text, words, i)
        begins = END_OF_SENTENCE.search(text, max(0, at - 8), at) is not None
        if kinds[i] == "name":
            return not word.isupper() or named
        if kinds[i] == "either":
            comma = text[to : to + 1] == ","
            return full or (named and (comma or not begins or plain(word) not in ORDINARY))
        alone = len(words) == 1 or (i == 1 and len(words) == 2 and text[slice(*words[0])] in CONJUNCTIONS)
        if kinds[i] == "unknown" and alone and (not begins or ACTS_AFTER.match(text, to)):
            return self._is_nothing_else(text, at, to)
        return full or (kinds[i] in ("unknown", "rare") and named and not begins)

    def _is_no_abbreviation(
        self, text: str, words: list[tuple[int, int]], kinds: list[Evidence], i: int
    ) -> bool:
        """Whether a word in capitals is no abbreviation: its neighbours are in capitals, or one is a given name."""
        word = text[slice(*words[i])]
        beside = {j: text[slice(*words[j])] for j in (i - 1, i + 1) if 0 <= j < len(words)}
        if all(other.isupper() for other in beside.values()):
            return len(word) > 3
        follows_given_name = any(
            kinds[j] == "name" and not self._lexicon.given.isdisjoint(_JOINT.split(plain(other)))
            for j, other in beside.items()
        )
        return follows_given_name and self._is_surname_in_capitals(word)

    def _is_full(self, text: str, words: list[tuple[int, int]], i: int) -> bool:
        """Whether the word is part of a listed given name and a surname, which is listed or in no list."""
        pairs = [(j, j + 1) for j in (i - 1, i) if j >= 0 and j + 1 < len(words)]
        return any(self._are_listed(text, words[a], words[b]) for a, b in pairs)

    def _is_nothing_else(self, text: str, at: int, to: int) -> bool:
        """Whether an unknown word inside a sentence is written as a name, where no drug or device is expected."""
        word = text[at:to]
        if not word[1:].islower() or len(word) < 3:
            return False
        if THING_BEFORE.search(text, max(0, at - 16), at) or THING_AFTER.match(text, to):
            return False
        index = bisect_left(self._lower_case_words, word.lower())
        return not any(
            word_in_note.startswith(word.lower())
            for word_in_note in self._lower_case_words[index : index + 1]
        )

    def _both_listed(self, text: str, words: list[tuple[int, int]]) -> bool:
        """``Rose Park``: exactly a listed given name and a listed surname."""
        return len(words) == 2 and self._are_listed(text, *words)

    def _are_listed(self, text: str, one: tuple[int, int], other: tuple[int, int]) -> bool:
        first, last = text[slice(*one)], text[slice(*other)]
        if (
            first.isupper()
            or last.isupper()
            or {first, last} & NOT_NAMES
            or THING_AFTER.match(text, other[1])
        ):
            return False
        if self._kind(first) == "unknown" and self._kind(last) == "either":
            return not EPONYM_NEXT.match(text, other[1])
        if plain(first) not in self._lexicon.given:
            return False
        if END_OF_SENTENCE.search(text, max(0, one[0] - 8), one[0]) and first in OPENERS:
            return False
        return plain(last) in self._lexicon.family or self._kind(last) == "unknown"

    def _repeated_names(
        self, texts: Sequence[str], by_text: Sequence[list[PhiSpan]]
    ) -> Iterator[Iterator[PhiSpan]]:
        """The places in each note where a name occurs that was found anywhere in the patient's notes."""
        names = {
            text[span.start : span.end]
            for text, spans in zip(texts, by_text, strict=True)
            for span in spans
            if span.kind == "name" and span.end - span.start > 2
        }
        forms = {form for name in names for form in (name, name.title(), name.upper())}
        for text in texts:
            yield self._repeats_in(text, forms) if forms else iter(())

    def _repeats_in(self, text: str, forms: Container[str]) -> Iterator[PhiSpan]:
        for at, to in _occurrences(text, forms):
            word = text[at:to]
            is_word = plain(word) in ORDINARY or self._kind(word) == "word"
            if EPONYM_NEXT.match(text, to) and plain(word) in EPONYMS:
                continue
            if is_word and (word.isupper() or END_OF_SENTENCE.search(text, max(0, at - 8), at)):
                continue
            yield PhiSpan("name", at, to)


def _occurrences(text: str, forms: Container[str]) -> Iterator[tuple[int, int]]:
    """The places of ``forms``, the longest where several begin; a pattern of all forms would be far slower."""
    covered = 0
    for match in _PIECE.finditer(text):
        at, ends = match.start(), [match.end()]
        while len(ends) < 5 and (more := _ANOTHER_PIECE.match(text, ends[-1])):
            ends.append(more.end())
        to = next((end for end in reversed(ends) if text[at:end] in forms), 0)
        if to and at >= covered:
            yield at, to
            covered = to


def _ages(text: str, spans: Iterable[PhiSpan]) -> Iterator[PhiSpan]:
    """Ages after a name: ``Maria is 97.`` tells an age, and ``Glucose is 97.`` does not."""
    for span in spans:
        if span.kind == "name" and (match := _SAID_OF.match(text, span.end)):
            yield PhiSpan("age", *match.span("said"))


_PERSONAL: frozenset[Evidence] = frozenset({"name", "either", "unknown"})
_LOWER_CASE_WORD = re.compile(r"(?<= )(?=[^\W\d_])[^\sA-Z]\S*")
_PIECE, _ANOTHER_PIECE = re.compile(r"(?<![\w-])[\w-]++"), re.compile(r"['’][\w-]++")
_SAID_OF = re.compile(
    rf"(?:['’]s|[ \t](?:is|was))[ \t](?:(?:now|already|almost|nearly|just)[ \t])?{SAID_AGE}"
)
_VOWEL = re.compile("[AEIOUY]")
_JOINT = re.compile(r"['’-]")
_AFTER_LETTER = re.compile(r"[-/]?\d")


def _words(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The capitalised words of a run; particles such as ``van der`` name nobody alone."""
    for match in _CAPITALS.finditer(text, start, end):
        yield match.span()


_LETTERS = re.compile(WORD)
_CAPITALS = re.compile(rf"(?<!\w){CAPITAL}")


def _merged(spans: Iterable[PhiSpan]) -> list[PhiSpan]:
    """The spans in order and without overlaps; the longest one wins where several begin."""
    result: list[PhiSpan] = []
    for span in sorted(set(spans), key=lambda f: (f.start, -f.end)):
        if not result or result[-1].end <= span.start:
            result.append(span)
    return result
