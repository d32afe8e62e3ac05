"""People's names in notes, by what a word is evidence of and by what stands around it.

After a title, a label, a relation or before a degree a capitalised word is a name unless it is clearly something else;
alone it is one when it is a name and nothing else. What is found in one of a patient's notes is looked for in all of
them, so that a family doctor introduced once is also found when called by the surname only.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cached_property

from data_pipeline.notes.deidentification.name_lexicon import EPONYMS, ORDINARY, Evidence, Lexicon, plain
from data_pipeline.notes.deidentification.name_patterns import (
    ACTS_AFTER,
    ANOTHER_SCRIPT,
    APPOSED,
    BESIDE,
    BOTH,
    CAPITAL,
    CONJUNCTIONS,
    DOING,
    END_OF_SENTENCE,
    EPONYM_NEXT,
    FEELING,
    INITIALS,
    INTRODUCTIONS,
    LAST_FIRST,
    LOWER_TITLE,
    NAME,
    NOT_NAMES,
    OPENERS,
    OWNING,
    PARTICLES,
    POSSESSIVE,
    SAYING,
    SIDED,
    THING_AFTER,
    THING_BEFORE,
    WITH,
    WORD,
)
from data_pipeline.notes.deidentification.phi_patterns import SAID_AGE, Found, without_overlaps


class Names:
    """Names in one patient's notes. ``taken`` are the identifiers of other kinds, per note."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._kind = lexicon.kind
        self._written_small: list[str] = []

    def find(self, texts: Sequence[str], taken: Sequence[list[Found]]) -> list[list[Found]]:
        """Per note every identifier, in order: names and the ages that are told of them among those held."""
        self._written_small = sorted({word for text in texts for word in _SMALL.findall(text)})
        first = [
            without_overlaps(held, _merged(self._in_context(text)))
            for text, held in zip(texts, taken, strict=True)
        ]
        again = self._again(texts, first)
        named = [without_overlaps(held, more) for held, more in zip(first, again, strict=True)]
        return [without_overlaps(held, _ages(text, held)) for text, held in zip(texts, named, strict=True)]

    def _in_context(self, text: str) -> Iterator[Found]:
        for pattern, strong, backwards in INTRODUCTIONS:
            for match in pattern.finditer(text):
                yield from self._introduced(text, *match.span("name"), strong, backwards)
        for pattern, judged in self._judges:
            for match in pattern.finditer(text):
                yield from judged(text, match)
        yield from self._alone(text)
        yield from (Found("name", *match.span()) for match in ANOTHER_SCRIPT.finditer(text))

    @cached_property
    def _judges(self) -> tuple[tuple[re.Pattern[str], Callable[[str, re.Match[str]], Iterator[Found]]], ...]:
        """What each of the weaker cues says of the words that it was found at."""
        return (
            (LOWER_TITLE, self._lower),
            (WITH, self._mentioned),
            (DOING, self._mentioned),
            (SAYING, self._acting),
            (FEELING, self._acting),
            (BESIDE, self._called),
            (APPOSED, self._set_off),
            (INITIALS, self._initialled),
            (LAST_FIRST, self._initialled),
            (BOTH, self._both),
            (POSSESSIVE, self._possessing),
            (OWNING, self._owning),
        )

    def _introduced(
        self, text: str, start: int, end: int, strong: bool = False, backwards: bool = False
    ) -> Iterator[Found]:
        """The words of a run next to what announces a person, up to the first that is no name."""
        words = list(_words(text, start, end))
        ordered = words[::-1] if backwards else words
        for i, (at, to) in enumerate(ordered):
            if not (strong and i == 0 and to - at > 1) and not self._fits(text, ordered, i):
                break
            if text[at:to] in NOT_NAMES or (not strong and self._is_eponym(text, at, to)):
                break
            yield Found("name", at, to)

    def _fits(self, text: str, words: list[tuple[int, int]], i: int) -> bool:
        """Whether a word of an announced run is part of the name, its neighbours being looked at."""
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

    def _lower(self, text: str, cue: re.Match[str]) -> Iterator[Found]:
        """After a title even lower-case words are a name; a second one when it is nothing else."""
        start, end = cue.span("name")
        for match in _LETTERS.finditer(text, start, end):
            kind = self._kind(match.group())
            if match.group() in PARTICLES:
                continue
            if kind != "name" and (match.start() != start or kind == "word"):
                break
            yield Found("name", *match.span())

    def _set_off(self, text: str, cue: re.Match[str]) -> Iterator[Found]:
        """``wife, maria, at bedside``; not ``father: cad, dm``."""
        start, end = cue.span("name")
        for match in _LETTERS.finditer(text, start, end):
            kind = self._kind(match.group())
            if kind != "name" and (kind != "unknown" or match.end() - match.start() < 5):
                break
            yield Found("name", *match.span())

    def _mentioned(self, text: str, cue: re.Match[str]) -> Iterator[Found]:
        """After a preposition two unknown words in a row, or a name and another, are a person."""
        start, end = cue.span("name")
        words = list(_words(text, start, end))
        kinds = [self._kind(text[a:b]) for a, b in words]
        if any(text[a:b] in NOT_NAMES or (text[a:b].isupper() and b - a > 1) for a, b in words):
            return
        people = [kind for kind, (a, b) in zip(kinds, words, strict=True) if b - a > 1]
        known = "name" in people or (
            "either" in people and plain(text[slice(*words[0])]) in self._lexicon.given
        )
        known |= (
            "either" in people[1:]
            and people[0] in ("rare", "unknown")
            and text[max(0, start - 3) : start] == "by "
        )
        if (
            len(people) >= 2
            and "word" not in people
            and (known or ("unknown" in people and "either" not in people))
        ):
            yield from (Found("name", at, to) for at, to in words)

    def _acting(self, text: str, cue: re.Match[str]) -> Iterator[Found]:
        """Who does what only people do: one word that nothing else knows, or a full name."""
        words = list(_words(text, *cue.span("name")))
        longer = [text[a:b] for a, b in words if b - a > 1]
        kinds = {self._kind(word) for word in longer}
        if not longer or "word" in kinds or any(word in NOT_NAMES or len(word) < 3 for word in longer):
            return
        if len(longer) == 1:
            told = not longer[0].isupper() and (kinds == {"unknown"} or self._is_listed_word(longer[0]))
        else:
            told = (
                bool(kinds & {"unknown", "name"}) and not (kinds - _PERSONAL - {"rare"})
            ) or self._both_listed(text, words)
        if told and len({word.isupper() for word in longer}) == 1:
            yield from (Found("name", at, to) for at, to in words)

    def _initialled(self, text: str, match: re.Match[str]) -> Iterator[Found]:
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
            yield from (Found("name", *span) for span in _words(text, *match.span()))

    def _is_listed_word(self, word: str) -> bool:
        """A word, but no eponym, that people are called by as well."""
        token = plain(word)
        listed = token in self._lexicon.given or token in self._lexicon.family
        return self._kind(word) == "either" and listed and word not in OPENERS and word not in NOT_NAMES

    def _called(self, text: str, cue: re.Match[str]) -> Iterator[Found]:
        """A listed or rare word that is capitalised though the words around it are not."""
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
            yield Found("name", *cue.span("name"))

    def _both(self, _: str, cue: re.Match[str]) -> Iterator[Found]:
        """``Eira and Bence``: two words that nothing else knows, or that are names."""
        if {self._kind(cue["name"]), self._kind(cue["other"])} <= {"unknown", "name"}:
            yield from (
                Found("name", *cue.span(part)) for part in ("name", "other") if cue[part][1:].islower()
            )

    def _possessing(self, text: str, cue: re.Match[str]) -> Iterator[Found]:
        if self._kind(cue["name"]) in ("unknown", "name") and not EPONYM_NEXT.match(text, cue.end()):
            yield Found("name", *cue.span("name"))

    def _owning(self, _: str, cue: re.Match[str]) -> Iterator[Found]:
        if self._is_surname(cue["name"]):
            yield Found("name", *cue.span("name"))

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

    def _alone(self, text: str) -> Iterator[Found]:
        """Full names, ``Last, First``, and single words that are nothing but names."""
        for match in _RUNS.finditer(text):
            words = list(_words(text, *match.span()))
            kinds = [self._kind(text[a:b]) for a, b in words]
            unheard_of = set(words if self._unheard_of(text, words) else self._parts(text, words))
            for i, (at, to) in enumerate(words):
                if ((at, to) in unheard_of and text[at:to] not in NOT_NAMES) or self._stands(
                    text, words, kinds, i
                ):
                    yield Found("name", at, to)

    def _parts(self, text: str, words: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The words of a run's unheard-of parts, which commas, abbreviations and ordinary words set apart."""
        part: list[tuple[int, int]] = []
        for at, to in [*words, (len(text), len(text))]:
            if part and (not self._is_of_a_name(text[at:to]) or "," in text[part[-1][1] : at]):
                yield from part if self._unheard_of(text, part) else ()
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

    def _unheard_of(self, text: str, words: list[tuple[int, int]]) -> bool:
        """Two or three words that nothing knows, written as names are: better a lost term than a person told."""
        longer = [text[a:b] for a, b in words if b - a > 1]
        if len(longer) not in (2, 3) or any(word.isupper() for word in longer):
            return False
        told = {self._kind(word) for word in longer}
        return told <= {"name", "unknown", "rare"} and bool(told & {"name", "unknown"})

    def _stands(self, text: str, words: list[tuple[int, int]], kinds: list[Evidence], i: int) -> bool:
        at, to = words[i]
        word = text[at:to]
        if word in NOT_NAMES or EPONYM_NEXT.match(text, to):
            return False
        beside = [j for j in (i - 1, i + 1) if 0 <= j < len(words)]
        if len(word) == 1:
            return any(kinds[j] == "name" for j in beside) and not _AFTER_LETTER.match(text, to)
        if word.isupper() and not self._is_loud(text, words, kinds, i):
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

    def _is_loud(self, text: str, words: list[tuple[int, int]], kinds: list[Evidence], i: int) -> bool:
        """Whether a word in capitals is no abbreviation: all beside it are so written, or it follows a given name."""
        word = text[slice(*words[i])]
        beside = {j: text[slice(*words[j])] for j in (i - 1, i + 1) if 0 <= j < len(words)}
        if all(other.isupper() for other in beside.values()):
            return len(word) > 3
        given = any(
            kinds[j] == "name" and not self._lexicon.given.isdisjoint(_JOINT.split(plain(other)))
            for j, other in beside.items()
        )
        return given and self._is_surname_in_capitals(word)

    def _is_full(self, text: str, words: list[tuple[int, int]], i: int) -> bool:
        """Whether the word stands in a listed given name and a surname, listed or unheard of."""
        pairs = [(j, j + 1) for j in (i - 1, i) if j >= 0 and j + 1 < len(words)]
        return any(self._are_listed(text, words[a], words[b]) for a, b in pairs)

    def _is_nothing_else(self, text: str, at: int, to: int) -> bool:
        """An unheard-of word inside a sentence, written as names are, where no drug or device would stand."""
        word = text[at:to]
        if not word[1:].islower() or len(word) < 3:
            return False
        if THING_BEFORE.search(text, max(0, at - 16), at) or THING_AFTER.match(text, to):
            return False
        place = bisect_left(self._written_small, word.lower())
        return not any(small.startswith(word.lower()) for small in self._written_small[place : place + 1])

    def _both_listed(self, text: str, words: list[tuple[int, int]]) -> bool:
        """``Rose Park``: a listed given name and a listed surname, and nothing else."""
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

    def _again(self, texts: Sequence[str], found: Sequence[list[Found]]) -> Iterator[Iterator[Found]]:
        """Where the patient's other notes, or other places of the same one, hold names that were found."""
        seen = {
            text[span.start : span.end]
            for text, spans in zip(texts, found, strict=True)
            for span in spans
            if span.kind == "name" and span.end - span.start > 2
        }
        forms = {form for name in seen for form in (name, name.title(), name.upper())}
        for text in texts:
            yield self._repeats(text, forms) if forms else iter(())

    def _repeats(self, text: str, forms: Container[str]) -> Iterator[Found]:
        for at, to in _held(text, forms):
            word = text[at:to]
            is_word = plain(word) in ORDINARY or self._kind(word) == "word"
            if EPONYM_NEXT.match(text, to) and plain(word) in EPONYMS:
                continue
            if is_word and (word.isupper() or END_OF_SENTENCE.search(text, max(0, at - 8), at)):
                continue
            yield Found("name", at, to)


def _held(text: str, forms: Container[str]) -> Iterator[tuple[int, int]]:
    """Where one of ``forms`` stands, the longest where several begin. One alternative each would try all everywhere."""
    taken = 0
    for match in _PIECE.finditer(text):
        at, ends = match.start(), [match.end()]
        while len(ends) < 5 and (more := _ANOTHER_PIECE.match(text, ends[-1])):
            ends.append(more.end())
        to = next((end for end in reversed(ends) if text[at:end] in forms), 0)
        if to and at >= taken:
            yield at, to
            taken = to


def _ages(text: str, held: Iterable[Found]) -> Iterator[Found]:
    """``Maria is 97.``, where ``Glucose is 97.`` is no age."""
    for span in held:
        if span.kind == "name" and (match := _SAID_OF.match(text, span.end)):
            yield Found("age", *match.span("said"))


_PERSONAL: frozenset[Evidence] = frozenset({"name", "either", "unknown"})
_RUNS = re.compile(rf"(?<![\w'’-]){NAME}(?:,? {NAME})*+")
_SMALL = re.compile(r"(?<= )(?=[^\W\d_])[^\sA-Z]\S*")
_PIECE, _ANOTHER_PIECE = re.compile(r"(?<![\w-])[\w-]++"), re.compile(r"['’][\w-]++")
_SAID_OF = re.compile(
    rf"(?:['’]s|[ \t](?:is|was))[ \t](?:(?:now|already|almost|nearly|just)[ \t])?{SAID_AGE}"
)
_JOINT = re.compile(r"['’-]")
_AFTER_LETTER = re.compile(r"[-/]?\d")


def _words(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The capitalised words of a run: ``van der`` tells nobody's name without ``Berg``."""
    for match in _CAPITALS.finditer(text, start, end):
        yield match.span()


_LETTERS = re.compile(WORD)
_CAPITALS = re.compile(rf"(?<!\w){CAPITAL}")


def _merged(found: Iterable[Found]) -> list[Found]:
    """In order, each place once."""
    result: list[Found] = []
    for span in sorted(set(found), key=lambda f: (f.start, -f.end)):
        if not result or result[-1].end <= span.start:
            result.append(span)
    return result
