"""Grouping alternatives changes how fast they are tried and nothing else."""

import re

from data_pipeline.notes.deidentification.regex import caseless

WORDS = r"wife|widow(?:er)?|son|step(?:son|daughter)|(?:great )?aunt|a\.?k\.?a\.?|[ck]in|p[|)]o"


def test_the_same_is_found_in_any_case() -> None:
    text = "Wife WIDOWER son StepSon great aunt Aunt a.k.a. aka KIN cin p|o p)o stepx"
    plain, grouped = (re.compile(rf"\b(?:{pattern})") for pattern in (f"(?i:{WORDS})", caseless(WORDS)))
    assert plain.findall(text) == grouped.findall(text)
    assert len(plain.findall(text)) == 12
