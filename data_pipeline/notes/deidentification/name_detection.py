"""Name detection: people's names in notes, by what a word is evidence of and by the words around it.

A capitalised word after a title, a label or a relation, or before a degree, is a name unless it is clearly something
else. Alone it is a name only where it is no other word. Names from one of a patient's notes are searched in all of
them, so that a family doctor who is introduced once is also found where only the surname is written.
"""

import re
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence

from data_pipeline.clinical_text.name_lexicon import CLINICAL, EPONYMS, ORDINARY, Evidence, Lexicon, plain
from data_pipeline.notes.deidentification.indexed_text import IndexedText
from data_pipeline.notes.deidentification.name_cues import NameCues
from data_pipeline.notes.deidentification.name_patterns import (
    ACTS_AFTER,
    ANOTHER_SCRIPT,
    BINOMIAL,
    CONJUNCTIONS,
    END_OF_SENTENCE,
    EPONYM_NEXT,
    NOT_NAMES,
    RUNS,
    THING_AFTER,
    THING_BEFORE,
)
from data_pipeline.notes.deidentification.name_words import JOINT, NameWords, capitalised_words
from data_pipeline.notes.deidentification.phi_patterns import SAID_AGE, PhiSpan, add_non_overlapping

_LOWER_CASE_WORD = re.compile(r"(?<= )(?=[^\W\d_])[^\sA-Z]\S*")
_PIECE, _ANOTHER_PIECE = re.compile(r"(?<![\w-])[\w-]++"), re.compile(r"['’][\w-]++")
_SAID_OF = re.compile(
    rf"(?:['’]s|[ \t](?:is|was))[ \t](?:(?:now|already|almost|nearly|just)[ \t])?{SAID_AGE}"
)
_BROKEN = re.compile(r"-[ \t]*\n[ \t]*(?P<rest>[a-zß-ÿ]+)(?!\w)")
"""The rest of a name that is broken up at the end of a line."""
_AFTER_LETTER = re.compile(r"[-/]?\d")


class NameDetector:
    """Finds the names in the notes of one patient at a time."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._words, self._kind = NameWords(lexicon), lexicon.kind
        self._cues = NameCues(self._words)
        self._lower_case_words: list[str] = []

    def find(self, notes: Sequence[IndexedText], patterns: Sequence[list[PhiSpan]]) -> list[list[PhiSpan]]:
        """The identifiers in each note, in order: those of ``patterns``, names, and ages that follow a name.

        ``patterns`` are the identifiers of each note that have been found by patterns.
        """
        texts = [note.text for note in notes]
        self._lower_case_words = sorted({word for text in texts for word in _LOWER_CASE_WORD.findall(text)})
        first_pass = [
            add_non_overlapping(spans, self._whole(note.text, _merged(self._in_context(note))))
            for note, spans in zip(notes, patterns, strict=True)
        ]
        repeats = self._repeated_names(texts, first_pass)
        second_pass = [
            add_non_overlapping(spans, more) for spans, more in zip(first_pass, repeats, strict=True)
        ]
        return [
            add_non_overlapping(spans, _ages(text, spans))
            for text, spans in zip(texts, second_pass, strict=True)
        ]

    def _in_context(self, note: IndexedText) -> Iterator[PhiSpan]:
        yield from self._cues.introduced(note)
        genera = {match.start() for match in note.matches(BINOMIAL) if self._is_species(match)}
        yield from (span for span in self._cues.weak(note) if span.start not in genera)
        alone = self._alone(note.text, note.matches(RUNS))
        yield from (span for span in alone if span.start not in genera)
        if not note.text.isascii():
            yield from (PhiSpan("name", *match.span()) for match in ANOTHER_SCRIPT.finditer(note.text))

    def _whole(self, text: str, spans: Iterable[PhiSpan]) -> Iterator[PhiSpan]:
        """The names with their rest on the next line, where a hyphen ends theirs: ``Kettle-`` and ``burn``.

        A drug or a common word there is a line of its own.
        """
        for span in spans:
            broken = _BROKEN.match(text, span.end)
            rest = broken and self._kind(broken["rest"]) in ("name", "either", "unknown")
            yield PhiSpan(span.kind, span.start, broken.end()) if broken and rest else span

    def _is_species(self, match: re.Match[str]) -> bool:
        """Whether a small word after a capitalised one is a species, so that the word before it is a genus."""
        species, genus = match["species"], match["name"]
        if species in CLINICAL:
            return True
        return (
            len(genus) > 2 and self._kind(species) == "unknown" and self._kind(genus) in ("unknown", "rare")
        )

    def _alone(self, text: str, runs: Iterable[re.Match[str]]) -> Iterator[PhiSpan]:
        """Full names, ``Last, First``, and single words that are only names."""
        for match in runs:
            words = list(capitalised_words(text, *match.span()))
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
            kinds[j] == "name" and not self._words.lexicon.given.isdisjoint(JOINT.split(plain(other)))
            for j, other in beside.items()
        )
        return follows_given_name and self._words.is_surname_in_capitals(word)

    def _is_full(self, text: str, words: list[tuple[int, int]], i: int) -> bool:
        """Whether the word is part of a listed given name and a surname, which is listed or in no list."""
        pairs = [(j, j + 1) for j in (i - 1, i) if j >= 0 and j + 1 < len(words)]
        return any(self._words.are_listed(text, words[a], words[b]) for a, b in pairs)

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


def _merged(spans: Iterable[PhiSpan]) -> list[PhiSpan]:
    """The spans in order and without overlaps; the longest one wins where several begin."""
    result: list[PhiSpan] = []
    for span in sorted(set(spans), key=lambda f: (f.start, -f.end)):
        if not result or result[-1].end <= span.start:
            result.append(span)
    return result
