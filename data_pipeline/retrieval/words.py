"""Words as BM25 counts them: lower case, without stop words, singular."""

import re

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’-][^\W\d_]+)*\d*")
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
    """
    return [_singular(word) for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]


def _singular(word: str) -> str:
    """The S stemmer (Harman 1991, How effective is suffixing?): it touches plurals alone."""
    if word.endswith("ies") and not word.endswith(("eies", "aies")) and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")) and len(word) > 3:
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss", "is")) and len(word) > 3:
        return word[:-1]
    return word
