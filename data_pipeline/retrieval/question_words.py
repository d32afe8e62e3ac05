"""Words of a question that an index does not have: of another spelling, misspelt, an abbreviation, or another name of
a drug or of its class.

Only those are read otherwise, by the words of the passages that are nearest to the question; an answer says how it was
read. A word becomes the name of a drug only where it sounds like it, or begins like it and is a letter away from it and
from no other drug's: names of some are a letter or two away from each other.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.clinical_text.spelling import Speller, may_be_misspelt, sounds
from data_pipeline.drugs.mentions import DrugMention, packaged
from data_pipeline.retrieval.abbreviations import written_out
from data_pipeline.retrieval.index import Index, Passage
from data_pipeline.retrieval.subjects import names
from data_pipeline.retrieval.words import stems

_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"\w+(?:-\w+)*")
_SPELLINGS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"[ao]e", "e"), (r"z", "s"), (r"(?<=\w{3})our", "or"), (r"(?<=[bt])re$", "er"), (r"sulph", "sulf"),
        (r"ll(?=ed$|ing$)", "l"),
    )
)  # fmt: skip
"""In which British English differs from American English."""
_LONG = 7
"""Letters of a drug's name that may be misspelt by one."""


def in_words_of(index: Index, question: str, nearest: Sequence[Passage]) -> str:
    """A question whose words the index has, as far as the passages nearest to it have them in another form."""
    question = _written_out(index, _with_indexed_drugs(index, with_spelled_drugs(index, question)))
    unknown = {word for word in _LETTERS.findall(question) if _is_unknown(index, word)} - packaged().words
    if not unknown:
        return question
    words = [word for each in nearest for word in _LETTERS.findall(f"{each.title} {each.text}".lower())]
    spelled = {_spelling(word): word for word in words}
    speller = Speller(words, most_wrong=1) if any(may_be_misspelt(word.lower()) for word in unknown) else None

    def read(match: re.Match[str]) -> str:
        word = match[0].lower()
        if match[0] not in unknown:
            return match[0]
        meant = spelled.get(_spelling(word)) or (speller.correct(word) if speller else word)
        is_near = meant not in packaged().words or sounds(meant) == sounds(word)
        return meant if meant != word and is_near else match[0]

    return _LETTERS.sub(read, question)


def in_other_words(index: Index, question: str) -> str:
    """A question with abbreviations in full and drugs by the names of their classes, though the index has the words of
    the question: another passage may speak of "estimated filtration rate", or of all nonsteroidal drugs."""
    return _renamed(index, written_out(question), lambda mention, _: names(mention)[1:])


def with_spelled_drugs(index: Index, question: str) -> str:
    """The question with the drug's name that each word which the index does not have is surely meant for."""

    def spelled(match: re.Match[str]) -> str:
        word = match[0].lower()
        meant = _drugs().only(word) if _is_unknown(index, match[0]) else word
        return meant if meant != word and _is_spelling_of(meant, word) else match[0]

    return _LETTERS.sub(spelled, question)


def _is_spelling_of(name: str, word: str) -> bool:
    """Whether a word begins like a name which is that of a drug by itself, for methanol is no ethanol and kalium no
    Valium, and is long enough not to be another one: Caplan's syndrome is not of Calan."""
    is_drug = any(not mention.drug_class for mention in packaged().find(clinical_text.read(name)))
    return is_drug and len(word) >= _LONG and sounds(name)[0] == sounds(word)[0]


def _written_out(index: Index, question: str) -> str:
    """The question with each abbreviation in full that the index does not have, where it has the words of that."""

    def full(match: re.Match[str]) -> str:
        name = written_out(match[0])
        return name if _is_unknown(index, match[0]) and _has_all(index, name) else match[0]

    return _WORD.sub(full, question)


@cache
def _drugs() -> Speller:
    return Speller(packaged().words)


def _with_indexed_drugs(index: Index, question: str) -> str:
    """The question with each drug by its nonproprietary name, else by a name of its class, where the index has that
    alone."""
    return _renamed(
        index, question, lambda mention, written: names(mention) if _is_unknown(index, written) else ()
    )


def _renamed(index: Index, question: str, others: Callable[[DrugMention, str], Sequence[str]]) -> str:
    """The question with each drug by the first of other names that the index has, where there are some: they depend on
    the mention and on how it is written."""
    text = clinical_text.read(question)
    for mention in reversed(packaged().find(text)):
        start, end = text.span(mention.first, mention.last)
        written = question[start:end]
        name = next((name for name in others(mention, written) if _has_all(index, name)), written)
        question = question[:start] + name + question[end:]
    return question


def _has_all(index: Index, words: str) -> bool:
    """Whether the index has all of some words."""
    return all(index.knows(word) for word in stems(words))


def _is_unknown(index: Index, words: str) -> bool:
    """Whether the index has none of some words."""
    its = stems(words)
    return bool(its) and not any(index.knows(word) for word in its)


def _spelling(word: str) -> str:
    for pattern, plain in _SPELLINGS:
        word = pattern.sub(plain, word)
    return word
