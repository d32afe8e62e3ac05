"""Folding: identifiers in any look-alike characters are masked in the original, and nothing else changes."""

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.clinical_text.folding import fold
from data_pipeline.notes.deidentification.phi_patterns import replace_spans
from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier

DEIDENTIFIER = RuleBasedDeidentifier(b"a secret of the tests")
NOTE = (
    "Mr. Quillfeather, MRN 7654321, SSN 482-61-7730, was seen on 2019-03-14 by Dr. O'Wexcombe-Lind. "
    "Call 617-555-0148 or (617) 555-0149; he lives at 12 Elm St, Easton, MA 02356. A 94 year old man - well. "
    "Born 3/14/1946, at 14:05; j.lind@clinic.example."
)
LOOKS_LIKE = {
    "-": "-\u2010\u2011\u2012\u2013\u2212\uff0d",
    " ": " \u00a0\u2009\u202f\u3000",
    "'": "'\u2019\u02bc\u2032",
    "Q": "Q\uff31\U0001d410",
    "4": "4\uff14\U0001d7d2\u0664\u096a",
    "/": "/\u2044\u2215\uff0f",
    ".": ".\u2024\uff0e",
    ":": ":\u2236\uff1a",
    "@": "@\uff20\ufe6b",
}
INVISIBLE = "\u00ad\u200b\u2060\ufeff"


def masked(text: str) -> str:
    [spans] = DEIDENTIFIER.find([text])
    return replace_spans(text, spans, lambda span: f"<{span.kind}>")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("SSN 482\u201161\u20117730", "SSN <record>"),
        ("617\u2013555\u20130148", "<phone>"),
        ("2019\u201103\u201114", "<date>"),
        ("Mr. Quillf\u00adeather", "Mr. <name>"),
        ("(617)  555-0148", "<phone>"),
        ("Mr. Jose\u0301 Mu\u0308ller-Wexcombe", "Mr. <name> <name>"),
        ("Dr. \uff31\uff55\uff49\uff4c\uff4c\uff46eather", "Dr. <name>"),
        (
            "born 3\u20444\u20441957, tel \u0666\u0661\u0667-\u0665\u0665\u0665-\u0660\u0661\u0664\u0668",
            "born <date>, tel <phone>",
        ),
        ("QUILLFEATHER,TESSA", "<name>,<name>"),
        ("94\u00a0years\u00a0old", "<age>\u00a0years\u00a0old"),
        ("Dr.\u00a0Qu\u200bi\ufb03eld\u2014seen today", "Dr.\u00a0<name>\u2014seen today"),
        ("caf\u00e9 au lait, 10\u00b3 cells, 1\u00bd tablets, \u03b2-blocker\u2122, 37\u2103",) * 2,
    ],
)
def test_what_a_word_processor_writes_is_masked_in_the_original(text: str, wanted: str) -> None:
    assert masked(text) == wanted


@st.composite
def written_otherwise(draw: st.DrawFn) -> str:
    """The note with look-alikes in place of characters, and invisible characters inside of words."""
    letters = []
    for letter, following in zip(NOTE, NOTE[1:] + " ", strict=True):
        letters.append(draw(st.sampled_from(LOOKS_LIKE[letter])) if letter in LOOKS_LIKE else letter)
        if letter.isalnum() and following.isalnum() and draw(st.integers(0, 9)) == 0:
            letters.append(draw(st.sampled_from(INVISIBLE)))
    return "".join(letters)


@given(written_otherwise())
def test_the_same_places_are_masked_however_the_characters_are_written(text: str) -> None:
    assert fold(text).text == NOTE
    assert fold(masked(text)).text == masked(NOTE)


@given(
    st.text(
        st.sampled_from([*"aQ4é -'.\n", *"".join(LOOKS_LIKE.values()), *INVISIBLE, *"\u0301\ufb01\u2014µ½王"])
    )
)
def test_folding_keeps_the_way_back_and_folds_nothing_twice(text: str) -> None:
    folded = fold(text)
    assert fold(folded.text).text == folded.text
    end = 0
    for i in range(len(folded.text)):
        start, to = folded.original_span(i, i + 1)
        assert folded.text[i] in fold(text[start:to]).text
        assert start >= end or (start, to) == folded.original_span(i - 1, i)
        assert not fold(text[end:start]).text
        end = to
    assert not fold(text[end:]).text


@given(st.text(st.characters(codec="utf-8"), max_size=80), st.text(st.characters(codec="utf-8"), max_size=80))
def test_what_is_outside_of_the_spans_stays_as_it_was(before: str, after: str) -> None:
    text = f"{before} Mr. Quill\u00adfeather\u00a0{after}"
    [spans] = DEIDENTIFIER.find([text])
    [note] = DEIDENTIFIER.deidentify(1, [text], [datetime(2150, 3, 20)])
    kept, end = [], 0
    for span in spans:
        assert span.start >= end
        kept.append(text[end : span.start])
        end = span.end
    outside = "(.*?)".join(map(re.escape, [*kept, text[end:]]))
    assert re.fullmatch(outside, note.text, re.DOTALL)
    assert "feather" not in note.text


@given(st.text(max_size=200))
def test_any_text_folds_to_itself_when_folded_again(text: str) -> None:
    assert fold(fold(text).text).text == fold(text).text
