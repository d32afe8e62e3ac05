"""Words in lower case, without stop words and accents: singular, and as BM25 counts them, without the ends of other
forms."""

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’-][^\W\d_]+)*\d*")
_LETTERS = re.compile(r"[^\W\d_]+")
_POSSESSIVE = re.compile(r"['’]s$")
STOP_WORDS = frozenset({
    "a", "about", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do",
    "does", "for", "from", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "may",
    "me", "my", "of", "on", "or", "our", "shall", "should", "so", "such", "than", "that", "the", "their",
    "them", "then", "there", "these", "they", "this", "those", "to", "was", "we", "were", "what", "when",
    "where", "which", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
})  # fmt: skip


def words(text: str) -> list[str]:
    """Words and numbers of a text.

    >>> words("What are the symptoms of 2.5 mg rt-PA?")
    ['symptom', '2.5', 'mg', 'rt-pa']
    >>> words("Ménière's disease")
    ['meniere', 'disease']
    """
    plain = _without_accents(text.lower())
    whole = (_POSSESSIVE.sub("", word) for word in _WORD.findall(plain))
    return [_singular(word) for word in whole if word not in STOP_WORDS]


def spelled(text: str) -> list[str]:
    """Words of letters alone, stop words among them: what a date or a number has none of.

    >>> spelled("Reviewed 2026-05-02.")
    ['Reviewed']
    """
    return _LETTERS.findall(text)


def stems(text: str) -> list[str]:
    """Words and numbers of a text as BM25 counts them, so that a question may use another form of a word; those that a
    hyphen joins are two.

    >>> stems("Is febuxostat contraindicated?") == stems("contraindications of febuxostat")[::-1]
    True
    >>> stems("stopping beta-blockers") == stems("stopped beta blocker")
    True
    """
    return [_stem(word) for word in words(text.replace("-", " ")) if word not in _USE]


_ENDS = re.compile(r"(?:[ai]tion|[ai]ted|[ai]ting|ates?|ions?|ings?|ed|ments?|ly|ity|e)$")
_USE = frozenset({"use", "used", "using"})
"""What is used for something is given, taken or done; which of these a passage says makes no difference."""
_DOUBLED = re.compile(r"([bdgmnprt])\1$")
"""As in stopped and stopping: of "stop"."""
_SHORTEST_STEM = 4


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    """Strips the longest ending of a verb, or of a word derived from one, if four letters are left."""
    end = _ENDS.search(word, _SHORTEST_STEM)
    return _DOUBLED.sub(r"\1", word[: end.start()]) if end else word


def _without_accents(text: str) -> str:
    """The text with letters as a keyboard without accents has them."""
    if text.isascii():
        return text
    parts = (letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
    return unicodedata.normalize("NFC", "".join(parts))


def _singular(word: str) -> str:
    """The S stemmer (Harman 1991, How effective is suffixing?): it touches plurals alone."""
    if word.endswith("ies") and not word.endswith(("eies", "aies")) and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")) and len(word) > 3:
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss", "is")) and len(word) > 3:
        return word[:-1]
    return word
