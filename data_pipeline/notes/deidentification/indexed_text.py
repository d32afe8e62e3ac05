"""An indexed text: where in it the matches of each pattern can begin, from one look at its words, numbers and signs.

A text has hundreds of characters and few places where a label, a title or a date can begin; sixty patterns that are
tried at every character cost three times as much.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

from data_pipeline.notes.deidentification.beginnings import (
    CAPITAL,
    NUMBER,
    Beginning,
    beginnings,
    without_case,
)

_SIGNS = "&(+-"
_TOKEN = re.compile(rf"([^\W\d_]+)|\d+|[{re.escape(_SIGNS)}]")
_LONGEST = 32
"""Letters of a beginning; of a longer word no more are looked at, for a note may be one word of a million letters."""
_groups: dict[frozenset[Beginning], int] = {}
"""The beginnings of every indexed pattern, and the number of the group of patterns that have the same."""
_led: dict[Beginning, list[int]] = defaultdict(list)
"""The groups of each beginning."""


class IndexedPattern:
    """A pattern whose matches begin with certain words, capitals, numbers or signs.

    A letter that they begin with must stand behind no letter, and a digit behind no digit.
    """

    def __init__(self, expression: str) -> None:
        self.regex = re.compile(expression)
        found = beginnings(expression)
        if signs := {one.letters for one in found if not one.letters.isalnum()}.difference(_SIGNS):
            raise ValueError(f"Matches of {expression[:40]!r} can begin with {signs}, which is not indexed.")
        assert all(len(one.letters) <= _LONGEST for one in found)
        if found not in _groups:
            _groups[found] = len(_groups)
            for beginning in found:
                _led[beginning].append(_groups[found])
            _led_by_word.cache_clear()
        self.group = _groups[found]


class IndexedText:
    """A text and the places where the patterns of each group can begin."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._places: list[list[int]] = [[] for _ in _groups]
        numbers = _led.get(Beginning(NUMBER, is_word=False), [])
        for token in _TOKEN.finditer(text):
            characters = token.group()
            if token.lastindex:
                groups = _led_by_word(characters[: _LONGEST + 1])
            elif characters in _SIGNS:
                groups = _led.get(Beginning(characters, is_word=False), [])
            else:
                groups = numbers
            for group in groups:
                self._places[group].append(token.start())

    def matches(self, pattern: IndexedPattern | re.Pattern[str]) -> Iterator[re.Match[str]]:
        """The matches that ``finditer`` gives; a pattern that is not indexed is tried everywhere."""
        if isinstance(pattern, re.Pattern):
            yield from pattern.finditer(self.text)
            return
        end, match = 0, pattern.regex.match
        for place in self._places[pattern.group]:
            if place >= end and (found := match(self.text, place)):
                yield found
                end = found.end()


@lru_cache(maxsize=100_000)
def _led_by_word(word: str) -> list[int]:
    """The groups of patterns that may begin with a word, of which a letter more than ``_LONGEST`` is enough."""
    letters = without_case(word)
    possible = [Beginning(letters, is_word=True)]
    possible += [Beginning(letters[:length], is_word=False) for length in range(1, len(letters) + 1)]
    possible += [Beginning(CAPITAL, is_word=False)] * word[0].isupper()
    return list({group for beginning in possible for group in _led.get(beginning, [])})
