"""Correction of misspelt words towards a vocabulary, by symmetric deletion (Garbe 2012, SymSpell).

Only a word that no list of English or clinical words has is corrected, so a rare drug never becomes a common one that
is written alike.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Set
from functools import cache, lru_cache

from data_pipeline.clinical_text import name_lexicon

SHORTEST = 5
"""Words of fewer letters are left as they are: too many others are one letter away."""
LONGEST = 40
"""No word of a language is longer; of one of 30,000 letters the deletions alone would take a gigabyte."""
LONG = 9
"""From this length two letters may be wrong."""
_SOUNDS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in ((r"ph", "f"), (r"y", "i"), (r"z", "s"), (r"ck", "k"), (r"(.)\1", r"\1"))
)

_BRITISH = tuple(
    (re.compile(pattern), american)
    for pattern, american in (
        (r"aem", "em"), (r"aes(?=th)", "es"), (r"aet(?=iol)", "et"), (r"aec", "ec"), (r"(?<=p)aed|^aed(?=em)", "ed"),
        (r"oed(?=em)", "ed"), (r"rrhoe", "rrhe"), (r"(?<=[yrt])oea(?=l?$)|(?<=pn)oea", "ea"), (r"^oes", "es"),
        (r"oest", "est"), (r"foet", "fet"), (r"tumour", "tumor"), (r"odour", "odor"), (r"colour", "color"),
        (r"fibre", "fiber"), (r"litre", "liter"), (r"sulph", "sulf"), (r"lys(?=ed$|ing$)", "lyz"),
    )
)  # fmt: skip


class Speller:
    """Finds the word of a vocabulary that a misspelt word stands for."""

    def __init__(self, vocabulary: Iterable[str], most_wrong: int = 2) -> None:
        """``most_wrong``: letters of a long word; of another one it is one letter."""
        self._vocabulary, self._most_wrong = frozenset(vocabulary), most_wrong
        self._by_deletion: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for word in sorted(self._vocabulary):
            if len(word) >= SHORTEST and word.isalpha():
                sound = sounds(word)
                for shorter in {sound, *_deletions(sound)}:
                    self._by_deletion[shorter].append((word, sound))
        self.correct = lru_cache(maxsize=50_000)(self._correct)

    def _correct(self, word: str) -> str:
        """The word of the vocabulary that is meant, or the word itself."""
        if not may_be_misspelt(word) or _is_among(self._vocabulary, word):
            return word
        allowed = self._most_wrong if len(word) >= LONG else 1
        near = self._near(word)
        fitting = sorted((d, w) for d, w in near if d <= allowed and w[0] == word[0])
        fitting = fitting or sorted((d, w) for d, w in near if d <= 1)
        return fitting[0][1] if fitting else word

    def only(self, word: str) -> str:
        """The word of the vocabulary that is a letter away, where no other one is two away; else the word itself."""
        near = {other: distance for distance, other in self._near(word) if distance <= 2}
        is_sure = may_be_misspelt(word) and list(near.values()) in ([0], [1])
        return next(iter(near)) if is_sure else word

    def _near(self, word: str) -> set[tuple[int, str]]:
        """Words of the vocabulary that sound like a word, or nearly so, with how many letters are wrong."""
        sound = sounds(word)
        return {
            (_distance(sound, other), other_word)
            for shorter in (sound, *_deletions(sound))
            for other_word, other in self._by_deletion.get(shorter, ())
        }


def american(word: str) -> str:
    """A clinical word in lower case as American English spells it, in which the terms of notes are written.

    >>> [american(word) for word in ("oedema", "haematuria", "dyspnoea", "diarrhoea", "paralysed", "does", "aerobic")]
    ['edema', 'hematuria', 'dyspnea', 'diarrhea', 'paralyzed', 'does', 'aerobic']
    """
    for pattern, plain in _BRITISH:
        word = pattern.sub(plain, word)
    return word


def may_be_misspelt(word: str) -> bool:
    """Whether a word in lower case, neither short nor endless, is in no list of English or clinical words."""
    return SHORTEST <= len(word) <= LONGEST and word.isalpha() and not _is_among(_listed(), word)


@cache
def _listed() -> frozenset[str]:
    lexicon = name_lexicon.load()
    return frozenset(lexicon.ranks) | lexicon.given | name_lexicon.CLINICAL | name_lexicon.ORDINARY


def _is_among(words: Set[str], word: str) -> bool:
    """Whether words hold a word, or one that it is a form of."""
    forms = (word, *(word.removesuffix(ending) for ending in ("s", "es", "ed", "ing")))
    return any(len(form) > 2 and form in words for form in forms)


def sounds(word: str) -> str:
    """A word in lower case as it sounds: misspelt ones are often alike in that.

    >>> sounds("nephrotic") == sounds("nefrotic"), sounds("amoxicillin") == sounds("amoxicilin")
    (True, True)
    """
    for pattern, plain in _SOUNDS:
        word = pattern.sub(plain, word)
    return word


def _deletions(word: str) -> set[str]:
    return {word[:i] + word[i + 1 :] for i in range(len(word))}


def _distance(a: str, b: str) -> int:
    """The optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
