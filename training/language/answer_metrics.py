"""Answer metrics: agreement with the reference by exact match, token F1, BLEU and ROUGE-L, each from 0 to 1.

Texts are normalised as in SQuAD's evaluation (Rajpurkar et al. 2016, arXiv:1606.05250): lower case, without
punctuation and articles.
"""

import re
import string
from collections import Counter

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> list[str]:
    """The words that are compared.

    >>> normalised("The kidney, of course!")
    ['kidney', 'of', 'course']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(answer: str, reference: str) -> float:
    """1 where both are the same words, else 0."""
    return float(normalised(answer) == normalised(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the share of the answer's words that the reference has, and the other way round.

    >>> token_f1("the left kidney", "kidney")
    0.6666666666666666
    """
    words, expected = normalised(answer), normalised(reference)
    shared = sum((Counter(words) & Counter(expected)).values())
    return 2 * shared / (len(words) + len(expected)) if shared else float(words == expected)


def bleu(answer: str, reference: str) -> float:
    """Sentence BLEU of sacreBLEU (Post 2018) with effective order, for answers are short."""
    from sacrebleu import sentence_bleu

    return float(sentence_bleu(answer, [reference]).score) / 100


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of words.

    Written here, for the package of that name was last released in 2022.

    >>> rouge_l("the left kidney is small", "the left kidney was quite small")
    0.6666666666666666
    """
    words, expected = normalised(answer), normalised(reference)
    if not words or not expected:
        return float(words == expected)
    lengths = [0] * (len(expected) + 1)
    for word in words:
        before = 0
        for i, other in enumerate(expected, start=1):
            longest = before + 1 if word == other else max(lengths[i], lengths[i - 1])
            before, lengths[i] = lengths[i], longest
    return 2 * lengths[-1] / (len(words) + len(expected))
