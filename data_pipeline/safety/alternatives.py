"""Alternatives: drugs of which an answer says that one is given in another's place, and so not beside it.

"Apixaban is preferred to warfarin" warns of no combination. Conservative: the phrase stands between two drugs, or two
lists of drugs, that the sentence names once, and no sentence that names one of them, nor one that goes on from there,
speaks of a combination.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, groupby, pairwise, product

from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.drugs.mentions import DrugMention

Name = tuple[tuple[str, ...], str]
Pair = frozenset[Name]

_OTHER = (
    r"(?:(?!(?:and|with|without|plus|while|when|if|after|before|until|then|but|on|who|also|still|not|alone|to|tak\w+"
    r"|continu\w+|receiv\w+|stop\w*|add\w*) )\S+ )"
)
"""A word that joins nothing."""
_BETWEEN = re.compile(
    rf"{_OTHER}*?(?:(?:preferred|preferable|superior|inferior|an alternative|in preference) to|preferred over"
    r"|rather than|instead of|in place of|versus|vs|(?:compared|in comparison|replaced) (?:to|with|by)"
    rf"|(?:switched|changed) to) {_OTHER}{{,2}}"
)
_INSTEAD = re.compile(r"(?:instead of|rather than|in place of) ")
"""At a sentence's beginning: "Instead of warfarin, apixaban is given"."""
_BEFORE = (
    (_INSTEAD, re.compile(rf"{_OTHER}{{,6}}")),
    (
        re.compile(rf".*\b(?:switch|chang|convert)(?:ed|e|es|ing)? {_OTHER}{{,3}}from "),
        re.compile(rf"to {_OTHER}{{,2}}"),
    ),
    (re.compile(r".*\b(?:replac(?:e|es|ed|ing)) "), re.compile(rf"(?:with|by) {_OTHER}{{,2}}")),
)
"""What stands before the first drug, and what then stands between the two."""
_LISTED = re.compile(r"(?:(?:and |or |and or )?|such as |like |including |e ?g )")
_TAKEN = {"on ", "with ", "take ", "takes ", "taking ", "receive ", "receives ", "receiving ", "using "}
"""After which a drug may be what the patient takes: "on warfarin, ibuprofen or naproxen is …", "takes warfarin, or
ibuprofen as needed"."""
_SEVERAL = re.compile(r"(?:are|were) .*")
_COMBINED = re.compile(
    r" (?:together|combin\w+|concomitant\w*|concurrent\w*|simultaneous\w*|alongside|both|plus|co|co(?:admin|prescri)\w+"
    r"|add|adds|adding|added|addition|bridg\w+|overlap\w*|interact\w*|dual|triple|same time"
    r"|(?:it|them|they|this|these|that|either|one) (?:and|with)|each other) "
)
_WORDS_BEFORE = 6


def alternatives(text: ClinicalText, mentions: list[DrugMention]) -> set[Pair]:
    """The pairs of drugs that a text names as alternatives and nowhere together."""
    apart: set[Pair] = set()
    together: set[Pair] = set()
    combined: set[Name] = set()
    sentences = [
        (start, list(its)) for start, its in groupby(mentions, lambda each: text.sentence(each.first)[0])
    ]
    following = [start for start, _ in sentences[1:]] + [len(text.words)]
    for (start, of_sentence), end in zip(sentences, following, strict=False):
        names = Counter(name_of(mention) for mention in of_sentence)
        if _COMBINED.search(f" {_words(text, start, end)}"):
            combined |= names.keys()
        pairs = {pair for pair in _pairs(text, start, of_sentence) if all(names[name] == 1 for name in pair)}
        apart |= pairs
        together |= {frozenset(pair) for pair in combinations(names, 2)} - pairs
    return {pair for pair in apart - together if pair.isdisjoint(combined)}


def name_of(mention: DrugMention) -> Name:
    """What a mention names, wherever it stands."""
    return mention.drugs, mention.drug_class


def _pairs(text: ClinicalText, start: int, mentions: list[DrugMention]) -> Iterator[Pair]:
    """The alternatives of a sentence: within a list by "or", and between two lists that stand side by side."""
    lists = list(_lists(text, mentions))
    for (first, *others), joined in lists:
        if "or" in joined and "and" not in joined and not _is_taken(text, first):
            yield from map(frozenset, combinations(map(name_of, (first, *others)), 2))
        elif not joined and _INSTEAD.fullmatch(_words(text, start, first.first)):
            yield from (frozenset((name_of(first), name_of(other))) for other in others)
    for (left, joined), (right, joined_right) in pairwise(lists):
        gap = _words(text, left[-1].last, right[0].first)
        before = _words(text, max(start, left[0].first - _WORDS_BEFORE), left[0].first)
        is_list = (joined or len(left) == 1) and (joined_right or len(right) == 1)
        is_apart = "and" not in joined_right and ("and" not in joined or _SEVERAL.fullmatch(gap))
        if (
            is_list
            and is_apart
            and (
                _BETWEEN.fullmatch(gap)
                or any(one.fullmatch(before) and other.fullmatch(gap) for one, other in _BEFORE)
            )
        ):
            yield from map(frozenset, product(map(name_of, left), map(name_of, right)))


def _lists(text: ClinicalText, mentions: list[DrugMention]) -> Iterator[tuple[list[DrugMention], set[str]]]:
    """Drugs side by side, such as "apixaban, dabigatran or rivaroxaban", with the words that join them."""
    drugs: list[DrugMention] = []
    joined: set[str] = set()
    for mention in mentions:
        gap = _words(text, drugs[-1].last, mention.first) if drugs else ""
        is_of_patient = len(drugs) == 1 and not gap and _is_taken(text, drugs[0])
        if drugs and (is_of_patient or not _LISTED.fullmatch(gap)):
            yield drugs, joined
            drugs, joined = [], set()
        elif drugs:
            joined |= set(gap.split())
        joined |= {"("} if _opens(text, mention) else set()
        drugs.append(mention)
    if drugs:
        yield drugs, joined


def _is_taken(text: ClinicalText, mention: DrugMention) -> bool:
    return _words(text, mention.first - 1, mention.first) in _TAKEN


def _opens(text: ClinicalText, mention: DrugMention) -> bool:
    """Whether a bracket opens before a drug, as in "anticoagulants (apixaban, …)"."""
    before = text.ends[mention.first - 1] if mention.first else 0
    return "(" in text.plain[before : text.starts[mention.first]]


def _words(text: ClinicalText, first: int, last: int) -> str:
    return "".join(f"{word} " for word in text.words[first:last])
