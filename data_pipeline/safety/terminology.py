"""Terminology: clinical words of an answer that no vocabulary has, and neither the question nor a source."""

import re
from collections.abc import Callable
from functools import cache

from data_pipeline.clinical_text import name_lexicon
from data_pipeline.safety.layer import CheckedText, without_repetition
from data_pipeline.safety.report import LayerFinding

NAME = "terminology"
_CLINICAL_ENDING = re.compile(
    r"(?:itis|emia|aemia|uria|pathy|ectomy|ostomy|plasty|penia|megaly|algia|plegia|paresis|phasia|pnea|rrhea|olol|pril|sartan"
    r"|statin|mycin|micin|cillin|floxacin|azole|zepam|zolam|semide|parin|cycline|tidine|oxetine|mab|tinib|gliptin|gliflozin"
    r"|dronate|triptan|setron|dipine|prazole|ciclib|tide|coxib|vir|xaban|gatran)s?$"
)


def checker(allowed: frozenset[str]) -> Callable[[CheckedText], LayerFinding]:
    """The layer for an answer, of whose words ``allowed`` stand in the question or a source."""

    def check(checked: CheckedText) -> LayerFinding:
        unknown = [
            (i, word)
            for i, word in enumerate(checked.text.words)
            if len(word) > 6
            and _CLINICAL_ENDING.search(word)
            and word not in allowed
            and not _is_listed(word)
        ]
        findings = without_repetition(
            checked.finding(
                "A clinical word of the answer is in no vocabulary and no source; it may be misspelt or made up.",
                i,
                i + 1,
                "low",
                word,
            )
            for i, word in unknown
        )
        return LayerFinding(layer=NAME, findings=findings)

    return check


@cache
def _vocabulary() -> frozenset[str]:
    return frozenset(name_lexicon.load().ranks) | name_lexicon.CLINICAL


def _is_listed(word: str) -> bool:
    return word in _vocabulary() or word.removesuffix("s") in _vocabulary()
