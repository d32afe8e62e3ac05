"""Telephone numbers: with an area code or a label, as in North America, and in the national writings of elsewhere."""

import re
from collections.abc import Iterator

from data_pipeline.notes.deidentification.dates import AMOUNT, Span
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern, IndexedText

_GAP = r"(?:[\s./-]|[ \t]{2,3}|[ \t]{1,2}[./-][ \t]{0,2})"
"""What stands between the parts of a telephone number."""
_EXTENSION = r"(?:\s*(?:x|ext\.?|extension)\s*#?\d{1,6})?"
_WITH_AREA = (
    rf"(?:\+\d{{1,3}}[\s.-]?|001[\s.-]|1[\s.-])?(?:\(\d{{3}}\){_GAP}?|\d{{3}}{_GAP})"
    rf"\d{{3}}{_GAP}\d{{4}}{_EXTENSION}"
)
PHONE = IndexedPattern(
    rf"(?<![\d.-]){_WITH_AREA}(?![\d-])"
    r"|\+\d{1,3}[\s.(-]{0,2}\d(?:[\s.()-]{0,2}\d){6,13}(?!\d)"
    r"|(?i:\b(?:pager|beeper|pgr|pgy|ext(?:ension)?)\b\.?(?:\s*(?:is|at|no\.?"
    rf"|number))?)[:#\s]*(?P<pager>{_WITH_AREA}|\d{{3,7}}(?:[- ]\d{{2,4}}){{0,2}}|\d-\d{{3,4}})(?!\d|{AMOUNT})"
    r"|(?<=[pP]h[ :])\d{4}[ -]\d{4}(?![\d.-])"
    r"|(?<=[pP]h: )[2-9]\d\d[. ]\d{4}(?!\d|[.-]\d)|(?<![\w-])[2-9]\d{2}-\d{4}(?![\d-])|(?<!\w)[pP]\d{5}(?!\d)"
)
_AFTER_LABEL = IndexedPattern(rf"(?<=[:#. \t])\(?\d(?:[\s.()-]{{0,2}}\d){{6,12}}{_EXTENSION}(?![\d-])")
_LABEL = re.compile(
    r"(?i:tel|phone|call|fax|cell|mobile|home|work|contact|number|dial)"
    r"(?:[ \t]*(?i:is|at|no\.?|number|phone|#)){0,2}[:#. \t]{1,3}$"
)
_LONGEST = 32

_NATIONAL = IndexedPattern(
    r"(?<![\w.,/:+-])\(?(?P<code>00\d{1,4}|0\d{1,5})(?P<first>\)[ ./-]?|[ ./-])"
    r"\d{2,8}(?:(?P<between>[ .-])\d{2,8}(?:(?P=between)\d{2,8}){0,4})?(?![\w:/]|[.,-]\d)"
    rf"(?!{AMOUNT})"
)
"""A trunk or an international prefix, and groups of digits with one sign between them."""
_SAID = r"(?i:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple)"
_IN_WORDS = IndexedPattern(rf"(?<!\w){_SAID}(?:[ ,-]{{1,2}}{_SAID}){{6,15}}(?!\w)")
_DAY = re.compile(r"\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d\d)(?!\d|\1\d)")
_HOURS = re.compile(r"(?:[01]\d|2[0-4])[0-5]\d(?:[ -](?:[01]\d|2[0-4])[0-5]\d)+")


def labelled(note: IndexedText) -> Iterator[Span]:
    """Numbers of any writing after a label such as ``tel`` or ``mobile is``."""
    for match in note.matches(_AFTER_LABEL):
        if _LABEL.search(note.text, max(0, match.start() - _LONGEST), match.start()):
            yield match.span()


def national(note: IndexedText) -> Iterator[Span]:
    """Numbers that begin with a zero: ``020 7946 0958``, ``0049-30-901820``, ``030/901820``, ``01.42.68.53.00``.

    They have nine to fifteen digits. A date isn't one, nor are hours in a row, at which something is given. Numbers
    whose digits are written as words are as in any country.
    """
    yield from (match.span() for match in note.matches(_IN_WORDS))
    for match in note.matches(_NATIONAL):
        digits = sum(map(str.isdigit, match.group()))
        if 9 <= digits <= 15 and not _DAY.match(match.group()) and not _HOURS.match(match.group()):
            yield match.span()
