"""Near duplicates of short texts: exact Jaccard similarity of word pairs, found by prefix filtering."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

Pair = tuple[str, str]

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Words and numbers of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def shingles(text: str) -> frozenset[Pair]:
    """Pairs of adjacent words, with a mark at both ends; so the order of words counts, and one word has pairs, too."""
    return frozenset(pairwise(("", *words(text), "")))


def jaccard(one: frozenset[Pair], other: frozenset[Pair]) -> float:
    """Size of the intersection over size of the union."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


class NearDuplicateIndex:
    """Texts added so far, asked whether one of them has a Jaccard similarity of at least ``threshold``.

    Prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007): in any common order of shingles, two sets that are
    this similar share one of their first ``n - ceil(threshold * n) + 1``. Only those are looked up, and what they find
    is compared exactly, so nothing is missed and nothing is estimated. ``texts`` are all that will be added or looked
    up; their rare shingles come first in the order, so that few are compared.
    """

    def __init__(self, texts: Iterable[str], threshold: float) -> None:
        self._threshold = threshold
        self._frequency = Counter(pair for text in texts for pair in shingles(text))
        self._added: list[frozenset[Pair]] = []
        self._by_prefix: dict[Pair, list[int]] = defaultdict(list)

    def add(self, text: str) -> None:
        """Adds a text."""
        pairs = shingles(text)
        for pair in self._prefix(pairs):
            self._by_prefix[pair].append(len(self._added))
        self._added.append(pairs)

    def has_near_duplicate(self, text: str) -> bool:
        """Whether a text added before is this similar."""
        pairs = shingles(text)
        candidates = {each for pair in self._prefix(pairs) for each in self._by_prefix.get(pair, ())}
        return any(jaccard(pairs, self._added[each]) >= self._threshold for each in candidates)

    def _prefix(self, pairs: frozenset[Pair]) -> list[Pair]:
        ordered = sorted(pairs, key=lambda pair: (self._frequency[pair], pair))
        return ordered[: len(pairs) - math.ceil(self._threshold * len(pairs)) + 1]
