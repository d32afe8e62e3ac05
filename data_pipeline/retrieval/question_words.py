"""Words of a question that an index does not have: of another spelling, misspelt, or another name of a drug.

Only those are read otherwise, by the words of the passages that are nearest to the question; an answer says how it was
read. A word becomes the name of a drug only where it sounds like it, for names of other drugs are a letter or two away.
"""

import re
from collections.abc import Sequence

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.clinical_text.spelling import Speller, may_be_misspelt, sounds
from data_pipeline.drugs.mentions import packaged
from data_pipeline.retrieval.index import Index, Passage
from data_pipeline.retrieval.words import stems

_LETTERS = re.compile(r"[^\W\d_]+")
_SPELLINGS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"[ao]e", "e"), (r"z", "s"), (r"(?<=\w{3})our", "or"), (r"(?<=[bt])re$", "er"), (r"sulph", "sulf"),
        (r"ll(?=ed$|ing$)", "l"),
    )
)  # fmt: skip
"""In which British English differs from American English."""


def in_words_of(index: Index, question: str, nearest: Sequence[Passage]) -> str:
    """A question whose words the index has, as far as the passages nearest to it have them in another form."""
    question = _with_indexed_drugs(index, question)
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


def _with_indexed_drugs(index: Index, question: str) -> str:
    """The question with each drug by its nonproprietary name, where the index has that alone."""
    text = clinical_text.read(question)
    for mention in reversed(packaged().find(text)):
        start, end = text.span(mention.first, mention.last)
        is_one = len(mention.drugs) == 1 and not mention.drug_class
        if is_one and _is_unknown(index, question[start:end]) and not _is_unknown(index, mention.drugs[0]):
            question = question[:start] + mention.drugs[0] + question[end:]
    return question


def _is_unknown(index: Index, words: str) -> bool:
    """Whether the index has none of some words."""
    its = stems(words)
    return bool(its) and not any(index.knows(word) for word in its)


def _spelling(word: str) -> str:
    for pattern, plain in _SPELLINGS:
        word = pattern.sub(plain, word)
    return word
