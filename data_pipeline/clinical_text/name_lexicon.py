"""The name lexicon: people's names in some fifty languages, and words that are not only names.

The names are Faker's lists, and the general vocabulary is that of the offline encoder; ``names.yaml`` holds both, so
that a server needs neither package, and ``name_sources`` writes it. A list alone decides little. Many names are also
words (Rose, Long, Hand), diseases or instruments (Parkinson, Foley), and no list is complete. ``kind`` says what a word
by itself is evidence of; ``name_cues`` and ``name_detection`` use the words around it.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Literal

import yaml

from data_pipeline.drugs.mentions import packaged

Evidence = Literal["name", "either", "word", "rare", "unknown"]
"""What a word is evidence of.

``name``: only a name. ``either``: a name or a word. ``word``: a frequent word. ``rare``: a rarer word, which may be a
name that is not listed. ``unknown``: in no list."""

FREQUENT = 9_000
"""Words of a lower rank in the general vocabulary are frequent ones."""
NAMES_FILE = Path(__file__).with_name("names.yaml")
_COMPOUND = re.compile(r"(?:Ma?c|O['’]|Fitz)[A-Z][a-z]")
"""Names such as MacLeod and O'Brien; no other word is written in this way."""


def listed_words(part: str) -> frozenset[str]:
    """The words of one part of ``lexicon.yaml``."""
    return frozenset(_lexicon_file()[part].split())


@cache
def _lexicon_file() -> dict[str, str]:
    text = Path(__file__).with_name("lexicon.yaml").read_text(encoding="utf-8")
    parts: dict[str, str] = yaml.load(text, yaml.CSafeLoader)
    return parts


ORDINARY = listed_words("ordinary")
"""Lower-case words that are also names: alone they count as words, beside a name or a title as names."""
EPONYMS = listed_words("eponyms")
"""Lower-case surnames that diseases, signs, scales, operations and instruments are named after."""
CLINICAL = listed_words("clinical") | packaged().words
"""Lower-case drugs, organisms, devices and terms that a general vocabulary lacks."""

_CLINICAL_FORM = re.compile(
    r"(?:itis|os[ei]s|otic|a?emi[ac]|uria|path(?:y|ies|ic)|(?:ec|o)tom(?:y|ies)|ostomy|plasty|scop(?:y|ic|e)"
    r"|graph(?:y|ic|er)?|gram|algia|penia|megaly|[a-z]{3}omas?|log(?:y|ic|ical|ist)|therap(?:y|ist)|genic|lytic|tensi(?:on|ve)"
    r"|plegi[ac]|paresis|phas(?:ia|ic)|phagia|pnea|rrhea|rrhagi[ac]|rrhoids?|centesis|thorax|cardi(?:a|al|um|ac)"
    r"|vascular|intestinal|pulmonary|cellular|articular|muscular|thyroid(?:ism)?|troph(?:y|ic)|plas(?:ia|tic)"
    r"|coccus|cocci|coccal|bacter(?:ia)?|olol|[a-z]{3}pril|sartan|statin|mycin|micin|cillin|floxacin|azole|azine"
    r"|[a-z]{3}[iae]dine|[eo]xetine|epine|zepam|zolam|thiazide|semide|parin|[a-z]{2}caine|cycline|[a-z]{3}ovir"
    r"|[a-z]{4}mab|tinib|gliptin|gliflozin|dronate|olone|[ai]sone|phylline|barbital|profen|triptan|setron|dipine"
    r"|prazole|[a-z]{4}(?:amide|amine|ase|ium|cath)|(?:[cstu]|at)ions?|ements?|ically|[a-z]{3}ally|ingly|edly|ously|iz(?:ed|ing)"
    r"|ability|atory|istic|iform|[a-z]{3}at(?:ed|ing)|[a-z]{3}ular|erior|[a-z]{3}(?:inal|ional|ical|eral|ious|eous|ative|ible|able))$"
    r"|^(?:hyper|hypo|neuro|cardio|gastro|electro|echocard|intra|micro|osteo|ortho|ophthalm|otolaryng|dermat|hemat"
    r"|hemo|hepat|nephro|pneumo|psycho|thromb|thorac|laparo|musculo|supra|retro|ventricul|immuno|lympho|cyto"
    r"|fibro|bronch|cerebr|atheroscl|encephal|angio|arthr)[a-z]{2}"
)
"""Prefixes and suffixes that mostly occur in clinical terms."""
_PREFIX = re.compile(
    r"(?:un|non|re|pre|post|sub|peri|anti|inter|semi|mid|over|under|bi|trans|multi|dis|de)-?"
)
_ENDINGS = (
    "s",
    "es",
    "ed",
    "d",
    "ing",
    "ings",
    "ly",
    "er",
    "ness",
    "less",
    "al",
    "ally",
    "ies",
    "ity",
    "ic",
    "ize",
)


@dataclass(frozen=True)
class Lexicon:
    """Given names and surnames as ``plain`` writes them, and the words of a general vocabulary by frequency rank."""

    given: frozenset[str]
    family: frozenset[str]
    ranks: dict[str, int]

    def kind(self, word: str) -> Evidence:
        """What a word by itself is evidence of; only compound names such as MacLeod depend on case."""
        return self._cached_kind(word)

    @cached_property
    def _cached_kind(self) -> Callable[[str], Evidence]:
        return lru_cache(maxsize=100_000)(self._classify)

    def _classify(self, word: str) -> Evidence:
        token = plain(word)
        if _COMPOUND.match(word) and token not in EPONYMS:
            return "name"
        if token in self.given or token in self.family:
            return "either" if token in ORDINARY or token in EPONYMS or len(token) < 3 else "name"
        if len(token) < 3:
            return "word"
        if token in ORDINARY or token in EPONYMS:
            return "either"
        if token in CLINICAL:
            return "word"
        if token in self.ranks:
            return "word" if self.ranks[token] < FREQUENT else "rare"
        parts = re.split(r"['’-]", token)
        if len(parts) > 1:
            kinds = {self.kind(part) for part in parts if len(part) > 1}
            if len(kinds) == 1:
                return kinds.pop()
            return "either" if kinds & {"name", "either"} else "rare"
        return "rare" if _CLINICAL_FORM.search(token) or self._derived(token) else "unknown"

    def _derived(self, token: str) -> bool:
        """Whether the token is a word of the vocabulary with a prefix or an ending."""
        prefix = _PREFIX.match(token)
        bare = {token, token[prefix.end() :] if prefix else token}
        cut = {b[: -len(e)] for b in bare for e in _ENDINGS if b.endswith(e)}
        stems = {
            stem for stem in {*bare, *cut, *(c + "e" for c in cut), *(c + "y" for c in cut)} if len(stem) > 3
        }
        return any(self._is_word(stem) for stem in stems)

    def _is_word(self, stem: str) -> bool:
        rank = self.ranks.get(stem)
        is_listed = rank is not None and (rank < FREQUENT or len(stem) > 5)
        return is_listed and stem not in self.given and stem not in self.family


def plain(word: str) -> str:
    """The word in lower case and without accents, because names are written with and without them."""
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFKD", word.lower()).replace("ł", "l").replace("ø", "o")
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


@cache
def load() -> Lexicon:
    """The packaged lexicon."""
    part = _names()
    ranks = {word: rank for words, rank in (("frequent", 0), ("seldom", FREQUENT)) for word in part[words]}
    return Lexicon(frozenset(part["given"]), frozenset(part["family"]), ranks)


@cache
def american(part: Literal["first", "last"]) -> tuple[str, ...]:
    """American given names or surnames as they are written, of which surrogates are chosen."""
    return _names()[f"american_{part}"]


@cache
def _names() -> dict[str, tuple[str, ...]]:
    """The lists of the packaged file: each is a line, and a line is read much faster than YAML."""
    lines = NAMES_FILE.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(": ") for line in lines if not line.startswith("#"))
    return {part: tuple(words.split()) for part, _, words in pairs}
