"""People's names in notes, by what a word is evidence of and by what stands around it.

After a title, a label, a relation or before a degree a capitalised word is a name unless it is clearly something else;
alone it is one when it is a name and nothing else. What is found in one of a patient's notes is looked for in all of
them, so that a family doctor introduced once is also found when called by the surname only.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from data_pipeline.cues import (
    ACTS_AFTER,
    BESIDE,
    BOTH,
    CAPITAL,
    DOING,
    END_OF_SENTENCE,
    EPONYM_NEXT,
    FEELING,
    INITIALS,
    INTRODUCTIONS,
    LOWER_TITLE,
    NAME,
    OWNING,
    POSSESSIVE,
    SAYING,
    THING_AFTER,
    THING_BEFORE,
    WITH,
    WORD,
)
from data_pipeline.identifiers import Found, without_overlaps
from data_pipeline.names import EPONYMS, ORDINARY, Evidence, Lexicon, plain


class Names:
    """Names in one patient's notes. ``taken`` are the identifiers of other kinds, per note."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._known: dict[str, Evidence] = {}
        self._texts: Sequence[str] = ()

    def find(self, texts: Sequence[str], taken: Sequence[list[Found]]) -> list[list[Found]]:
        """Per note every identifier, names among them, in order."""
        self._texts = texts
        first = [
            without_overlaps(held, _merged(self._in_context(text)))
            for text, held in zip(texts, taken, strict=True)
        ]
        again = self._again(texts, first)
        return [without_overlaps(held, more) for held, more in zip(first, again, strict=True)]

    def _kind(self, word: str) -> Evidence:
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = self._lexicon.kind(word)
        return found

    def _in_context(self, text: str) -> Iterator[Found]:
        for pattern, strong, backwards in INTRODUCTIONS:
            for match in pattern.finditer(text):
                yield from self._introduced(text, *match.span("name"), strong, backwards)
        for match in LOWER_TITLE.finditer(text):
            yield from self._lower(text, *match.span("name"))
        for pattern in (WITH, DOING):
            for match in pattern.finditer(text):
                yield from self._mentioned(text, *match.span("name"))
        for pattern in (SAYING, FEELING):
            for match in pattern.finditer(text):
                yield from self._acting(text, *match.span("name"))
        for match in BESIDE.finditer(text):
            if self._is_called(text, *match.span("name")):
                yield Found("name", *match.span("name"))
        for match in INITIALS.finditer(text):
            yield from self._initialled(text, match)
        for match in BOTH.finditer(text):
            if {self._kind(match["name"]), self._kind(match["other"])} <= {"unknown", "name"}:
                yield from (Found("name", *match.span(group)) for group in ("name", "other") if match[group][1:].islower())
        for match in POSSESSIVE.finditer(text):
            if self._kind(match["name"]) in ("unknown", "name") and not EPONYM_NEXT.match(text, match.end()):
                yield Found("name", *match.span("name"))
        for match in OWNING.finditer(text):
            if self._is_surname(match["name"]):
                yield Found("name", *match.span("name"))
        yield from self._alone(text)

    def _introduced(
        self, text: str, start: int, end: int, strong: bool = False, backwards: bool = False
    ) -> Iterator[Found]:
        """The words of a run next to what announces a person, up to the first that is no name."""
        words = list(_words(text, start, end))
        ordered = words[::-1] if backwards else words
        for i, (at, to) in enumerate(ordered):
            if not (strong and i == 0 and to - at > 1) and not self._fits(text, ordered, i):
                break
            if text[at:to] in _NOT_NAMES or (not strong and self._is_eponym(text, at, to)):
                break
            yield Found("name", at, to)

    def _fits(self, text: str, words: list[tuple[int, int]], i: int) -> bool:
        """Whether a word of an announced run is part of the name, its neighbours being looked at."""
        word = text[slice(*words[i])]
        beside = [text[slice(*words[j])] for j in (i - 1, i + 1) if 0 <= j < len(words)]
        if len(word) == 1:
            return bool(beside)
        if word.isupper() and any(not other.isupper() for other in beside):
            return False  # an abbreviation beside a name
        kind, kinds = self._kind(word), {self._kind(other) for other in beside if len(other) > 1}
        if kind in ("word", "rare"):
            whole = len(words) == 2 and kinds <= {"name", "unknown"}
            return bool(kinds & _PERSONAL) and (kind == "rare" or whole)
        if word.isupper() and len(word) < 4 and kind == "unknown":
            return False
        return kind != "either" or not kinds or bool(kinds & _PERSONAL | kinds & {"rare"})

    def _is_eponym(self, text: str, at: int, to: int) -> bool:
        return EPONYM_NEXT.match(text, to) is not None and plain(text[at:to]) in EPONYMS

    def _lower(self, text: str, start: int, end: int) -> Iterator[Found]:
        """After a title even lower-case words are a name; a second one when it is nothing else."""
        for match in re.compile(WORD).finditer(text, start, end):
            kind = self._kind(match.group())
            if match.group() in _PARTICLES:
                continue
            if kind != "name" and (match.start() != start or kind == "word"):
                break
            yield Found("name", *match.span())

    def _mentioned(self, text: str, start: int, end: int) -> Iterator[Found]:
        """After a preposition two unknown words in a row, or a name and another, are a person."""
        words = list(_words(text, start, end))
        kinds = [self._kind(text[a:b]) for a, b in words]
        if any(text[a:b] in _NOT_NAMES or (text[a:b].isupper() and b - a > 1) for a, b in words):
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

    def _acting(self, text: str, start: int, end: int) -> Iterator[Found]:
        """Who does what only people do: one word that nothing else knows, or a full name."""
        words = list(_words(text, start, end))
        longer = [text[a:b] for a, b in words if b - a > 1]
        kinds = {self._kind(word) for word in longer}
        if not longer or "word" in kinds or any(word in _NOT_NAMES or len(word) < 3 for word in longer):
            return
        if len(longer) == 1:
            told = not longer[0].isupper() and (kinds == {"unknown"} or self._is_listed_word(longer[0]))
        else:
            told = (bool(kinds & {"unknown", "name"}) and not (kinds - _PERSONAL - {"rare"})) or self._both_listed(text, words)
        if told and len({word.isupper() for word in longer}) == 1:
            yield from (Found("name", at, to) for at, to in words)

    def _initialled(self, text: str, match: re.Match[str]) -> Iterator[Found]:
        """``J. Lindqvist``; not ``R. Hand`` or ``E. Coli``."""
        word = match["name"]
        sided = plain(word) in _SIDED
        if word.isupper() or sided or word in _NOT_NAMES or word in _OPENERS or EPONYM_NEXT.match(text, match.end()):
            return
        if self._kind(word) in ("unknown", "name") or (
            self._kind(word) == "either" and plain(word) in self._lexicon.family
        ):
            yield from (Found("name", *span) for span in _words(text, *match.span()))

    def _is_listed_word(self, word: str) -> bool:
        """A word, but no eponym, that people are called by as well."""
        token = plain(word)
        listed = token in self._lexicon.given or token in self._lexicon.family
        return self._kind(word) == "either" and listed and word not in _OPENERS and word not in _NOT_NAMES

    def _is_called(self, text: str, at: int, to: int) -> bool:
        """A listed or rare word that is capitalised though the words around it are not."""
        word = text[at:to]
        if not word[1:].islower() or len(word) < 3 or THING_AFTER.match(text, to) or EPONYM_NEXT.match(text, to):
            return False
        seldom = self._kind(word) == "rare" and plain(word) in self._lexicon.ranks
        return seldom or (self._is_listed_word(word) and plain(word) not in EPONYMS)

    def _is_surname(self, word: str) -> bool:
        kind = self._kind(word)
        return kind in ("unknown", "name") or (kind == "either" and plain(word) in self._lexicon.family)

    def _alone(self, text: str) -> Iterator[Found]:
        """Full names, ``Last, First``, and single words that are nothing but names."""
        for match in _RUNS.finditer(text):
            words = list(_words(text, *match.span()))
            kinds = [self._kind(text[a:b]) for a, b in words]
            whole = self._unheard_of(text, words)
            for i, (at, to) in enumerate(words):
                part = whole or self._unheard_of(text, _between_commas(text, words, i))
                if (part and text[at:to] not in _NOT_NAMES) or self._stands(text, words, kinds, i):
                    yield Found("name", at, to)

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
        if word in _NOT_NAMES or EPONYM_NEXT.match(text, to):
            return False
        beside = [j for j in (i - 1, i + 1) if 0 <= j < len(words)]
        if len(word) == 1:
            return any(kinds[j] == "name" for j in beside) and not _AFTER_LETTER.match(text, to)
        if word.isupper() and (len(word) < 4 or not all(text[slice(*words[j])].isupper() for j in beside)):
            return False
        named = any(kinds[j] == "name" for j in beside)
        full = self._is_full(text, words, kinds, i)
        begins = END_OF_SENTENCE.search(text, max(0, at - 8), at) is not None
        if kinds[i] == "name":
            return not word.isupper() or named
        if kinds[i] == "either":
            comma = text[to : to + 1] == ","
            return full or (named and (comma or not begins or plain(word) not in ORDINARY))
        alone = len(words) == 1 or (i == 1 and len(words) == 2 and text[slice(*words[0])] in _CONJUNCTIONS)
        if kinds[i] == "unknown" and alone and (not begins or ACTS_AFTER.match(text, to)):
            return self._is_nothing_else(text, at, to)
        return full or (kinds[i] in ("unknown", "rare") and named and not begins)

    def _is_full(self, text: str, words: list[tuple[int, int]], kinds: list[Evidence], i: int) -> bool:
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
        return not any(f" {word.lower()}" in other for other in self._texts)

    def _both_listed(self, text: str, words: list[tuple[int, int]]) -> bool:
        """``Rose Park``: a listed given name and a listed surname, and nothing else."""
        return len(words) == 2 and self._are_listed(text, *words)

    def _are_listed(self, text: str, one: tuple[int, int], other: tuple[int, int]) -> bool:
        first, last = text[slice(*one)], text[slice(*other)]
        if first.isupper() or last.isupper() or {first, last} & _NOT_NAMES or THING_AFTER.match(text, other[1]):
            return False
        if self._kind(first) == "unknown" and self._kind(last) == "either":
            return not EPONYM_NEXT.match(text, other[1])
        if plain(first) not in self._lexicon.given:
            return False
        if END_OF_SENTENCE.search(text, max(0, one[0] - 8), one[0]) and first in _OPENERS:
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
        forms = sorted(
            {form for name in seen for form in (name, name.title(), name.upper())}, key=lambda f: (-len(f), f)
        )
        pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, forms))})(?![\w-])") if forms else None
        for text in texts:
            yield self._repeats(text, pattern) if pattern else iter(())

    def _repeats(self, text: str, pattern: re.Pattern[str]) -> Iterator[Found]:
        for match in pattern.finditer(text):
            word = match.group()
            is_word = plain(word) in ORDINARY or self._kind(word) == "word"
            if EPONYM_NEXT.match(text, match.end()) and plain(word) in EPONYMS:
                continue
            if is_word and (
                word.isupper() or END_OF_SENTENCE.search(text, max(0, match.start() - 8), match.start())
            ):
                continue
            yield Found("name", *match.span())


_PERSONAL: frozenset[Evidence] = frozenset({"name", "either", "unknown"})
_PARTICLES = frozenset(
    {"van", "der", "den", "ter", "ten", "von", "de", "la", "las", "los", "del", "della", "da", "dos", "das", "do", "di",
     "du", "le", "el", "al", "bin", "ibn"}
)  # fmt: skip
_RUNS = re.compile(rf"(?<![\w'’-]){NAME}(?:,? {NAME})*")
_CONJUNCTIONS = frozenset(
    {"As", "When", "If", "While", "Since", "After", "Before", "Then", "Both", "Though", "Although", "Because", "Once", "Until",
     "Unless", "Where", "Whether", "Per", "With", "By", "And", "But", "For", "From", "To", "Yesterday", "Today", "Overnight"}
)  # fmt: skip
"""What a sentence begins with before a name."""
_SIDED = frozenset(
    {"hand", "foot", "feet", "arm", "leg", "hip", "knee", "ear", "eye", "shoulder", "side", "flank", "lung", "breast",
     "chest", "wrist", "elbow", "ankle", "heel", "toe", "finger", "thumb", "thigh", "groin", "neck", "temple", "base", "wall"}
)  # fmt: skip
"""What an ``L.`` or ``R.`` stands before."""
_OPENERS = frozenset(
    {"Add", "All", "Can", "Colon", "Come", "Cord", "Even", "Ever", "Gauge", "General", "German", "Given", "Hip", "Infant",
     "Kit", "Labor", "Less", "Line", "Little", "Long", "Made", "Major", "Male", "May", "Media", "Nail", "Noble", "North",
     "Oral", "Over", "Per", "Prior", "Red", "Said", "Side", "Some", "Stone", "The", "Tone", "True", "Unknown", "Valid",
     "Valves", "Wash", "West", "Will", "Young"}
)  # fmt: skip
"""Given names that begin a sentence far more often."""
_AFTER_LETTER = re.compile(r"[-/]?\d")
_NOT_NAMES = frozenset({
    "Per", "With", "By", "And", "From", "For", "To", "In", "On", "At", "Of", "As", "But", "If", "Or",
    "Admission", "ADMISSION", "DISCHARGE", "DATE", "PATIENT", "SERVICE", "SEX", "ATTENDING", "AGE", "I",
    "A", "DNR", "DNI", "ICU", "ED", "ER", "OR", "HPI", "PMH", "MD", "RN", "NP", "PA", "DO", "PT", "OT",
    "ID", "IV", "PO", "MI", "CT", "MRI", "EKG", "ECG", "CXR", "COPD", "CHF", "CAD", "HTN", "DM", "AAA",
    "ABD", "AP", "PCP", "HCP", "The", "This", "That", "He", "She", "They", "His", "Her", "It", "We", "You",
    "Patient", "Pt", "Not", "No", "None", "Yes", "Unknown", "Unit", "Date", "Sex", "Service", "Time", "Dr",
    "Mr", "Mrs", "Ms", "Attending", "Physical", "Social", "Medical", "History", "Hospital", "Clinic",
    "Sister", "Brother", "Mother", "Father", "Son", "Daughter", "Wife", "Husband", "Spouse", "Partner", "Niece",
    "Nephew", "Aunt", "Uncle", "Cousin", "Friend", "Neighbor", "Neighbour", "Interpreter", "Age", "Stent", "Test",
    "Center", "General", "Neuro", "Resp", "Cardiac", "Labs", "Assessment", "Plan", "Exam", "Discharge",
})  # fmt: skip


def _words(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The capitalised words of a run: ``van der`` tells nobody's name without ``Berg``."""
    for match in _CAPITALS.finditer(text, start, end):
        yield match.span()


def _between_commas(text: str, words: list[tuple[int, int]], i: int) -> list[tuple[int, int]]:
    """The words around the ``i``-th that no comma parts from it."""
    first, last = i, i
    while first and "," not in text[words[first - 1][1] : words[first][0]]:
        first -= 1
    while last + 1 < len(words) and "," not in text[words[last][1] : words[last + 1][0]]:
        last += 1
    return words[first : last + 1]


_CAPITALS = re.compile(rf"(?<!\w){CAPITAL}")


def _merged(found: Iterable[Found]) -> list[Found]:
    """In order, each place once."""
    result: list[Found] = []
    for span in sorted(set(found), key=lambda f: (f.start, -f.end)):
        if not result or result[-1].end <= span.start:
            result.append(span)
    return result
