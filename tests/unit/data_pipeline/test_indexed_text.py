"""A pattern is tried only where it can begin, and what is found is what a search at every character finds."""

import tracemalloc
from importlib import import_module
from pkgutil import iter_modules

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.notes import deidentification
from data_pipeline.notes.deidentification.beginnings import beginnings
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern, IndexedText

PATTERNS = {
    f"{module.name}.{name}": pattern
    for module in iter_modules(deidentification.__path__)
    for name, pattern in vars(import_module(f"{deidentification.__name__}.{module.name}")).items()
    if isinstance(pattern, IndexedPattern)
}
FIRST = sorted({one.letters for pattern in PATTERNS.values() for one in beginnings(pattern.regex.pattern)})
PIECES = (
    *("Quillfeather", "Wexcombe", "O'Shaughnessy", "d'Arc", "Ěva", "van der Merwe", "de", "TESSA", "J.", "TM"),
    *("Clostridioides", "difficile", "MD", "denies", "is", "tearful", "and", "family", "'s", "wife", "named"),
    *("94", "yo", "x_Lind", "7Lind", "2019", "3/14", "03", "555", "0123", "-", "(", ")", "+", "#", ":", "@", "&"),
    *("March", "Street", "FL", "12", "two thousand", "12月3日", "1ª", "²"),
    *(" ", " ", " ", " ", " ", ", ", "/", ". ", "\n", "’", "é", "ſ", "ı", "İ", "K"),
)  # fmt: skip
WORDS = st.sampled_from(FIRST).flatmap(
    lambda word: st.sampled_from(
        [word, word.title(), word.upper(), word.replace("i", "ı"), word.replace("i", "İ")]
    )
)


def spans(pattern: IndexedPattern, text: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    indexed = [match.span() for match in IndexedText(text).matches(pattern)]
    return indexed, [match.span() for match in pattern.regex.finditer(text)]


def test_there_are_patterns_to_try() -> None:
    assert len(PATTERNS) > 50
    assert len(FIRST) > 500


@given(st.lists(st.one_of(st.sampled_from(PIECES), WORDS), max_size=30).map("".join))
def test_no_match_is_lost_and_none_is_added(text: str) -> None:
    for name, pattern in PATTERNS.items():
        indexed, everywhere = spans(pattern, text)
        assert indexed == everywhere, name


@given(st.data())
def test_what_an_expression_describes_is_found_in_it(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(PATTERNS)))
    written = data.draw(st.from_regex(PATTERNS[name].regex))
    indexed, everywhere = spans(PATTERNS[name], f"Then. {written} It.")
    assert indexed == everywhere


@pytest.mark.parametrize("expression", [r"\w+ said", r"(?:wife)?.", r"[^a]", r"#\d+", r"(?i:[A-Z]+)"])
def test_a_pattern_that_can_begin_anywhere_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="can begin with"):
        IndexedPattern(expression)


def test_of_a_word_without_end_only_the_beginning_is_looked_at() -> None:
    """A note may be one word of a megabyte, of which every beginning together would fill the memory."""
    tracemalloc.start()
    try:
        IndexedText("x" * 20_000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10**6
