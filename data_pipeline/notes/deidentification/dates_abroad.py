"""Dates of other languages, with the months' names as German, French, Spanish, Italian, Portuguese and Dutch have them,
dates in Chinese and Japanese, and weeks of ISO 8601; and what they are in figures."""

from collections.abc import Iterator

from data_pipeline.notes.deidentification.dates import DAY, YEAR, Span
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern, IndexedText

_MONTHS = (
    "januar jänner janvier enero gennaio janeiro januari",
    "februar février fevrier febrero febbraio fevereiro februari",
    "märz maerz mars marzo março marco maart",
    "april avril abril aprile",
    "mai mayo maggio maio mei",
    "juni juin junio giugno junho",
    "juli juillet julio luglio julho",
    "august août aout agosto augustus",
    "september septembre septiembre setiembre settembre setembro",
    "oktober octobre octubre ottobre outubro",
    "november novembre noviembre novembro",
    "dezember décembre decembre diciembre dicembre dezembro december",
)
_NUMBER_OF = {name: number for number, names in enumerate(_MONTHS, start=1) for name in names.split()}
_ALSO_WORDS = frozenset(
    {"mars", "mai", "mayo", "marco", "mei", "april", "august", "september", "november", "december"}
)
"""Words, names or months of English: in another language's date only beside its year."""


def _any_of(names: frozenset[str] | set[str]) -> str:
    return "|".join(sorted(names, key=len, reverse=True))


_PLAIN_MONTH = rf"(?P<month>(?i:{_any_of(set(_NUMBER_OF) - _ALSO_WORDS)}))(?!\w)"
_WORD_MONTH = rf"(?P<month>(?i:{_any_of(_ALSO_WORDS)}))(?!\w)"
_DAY_OF = rf"(?<![\w/.,-])(?P<day>{DAY})(?:\.|º|er|°)?[ \t]+(?:de[ \t]+|d['’])?"
_OF = r"[ \t]+(?:de[ \t]+|del[ \t]+)?"
_OF_YEAR = rf"[,.]?{_OF}(?P<year>{YEAR})(?!\d)"
_NAMED = IndexedPattern(rf"{_DAY_OF}{_PLAIN_MONTH}(?:{_OF_YEAR})?")
_NAMED_WITH_YEAR = IndexedPattern(rf"{_DAY_OF}{_WORD_MONTH}{_OF_YEAR}")
_EASTERN = IndexedPattern(rf"(?<!\d)(?:(?P<year>{YEAR})年)?(?P<month>1[0-2]|0?[1-9])月(?:(?P<day>{DAY})日)?")
_WEEK = IndexedPattern(rf"(?<![\w/.-])(?P<year>{YEAR})-?W(?:[0-4]\d|5[0-3])(?:-?[1-7])?(?![\w-])")
_MONTH_AND_YEAR = IndexedPattern(rf"(?<!\w){_PLAIN_MONTH}{_OF_YEAR}")
_READERS = (_NAMED, _NAMED_WITH_YEAR, _MONTH_AND_YEAR, _EASTERN)


def find(note: IndexedText) -> Iterator[Span]:
    """Where such dates stand."""
    for pattern in (_NAMED, _NAMED_WITH_YEAR, _EASTERN, _WEEK, _MONTH_AND_YEAR):
        yield from (match.span() for match in note.matches(pattern))


def in_figures(text: str) -> str:
    """Such a date in figures; any other text as it is.

    >>> in_figures("12. März 1998"), in_figures("12 de marzo de 1998"), in_figures("2150年3月12日"), in_figures("le 12")
    ('1998-03-12', '1998-03-12', '2150-03-12', 'le 12')
    """
    for pattern in _READERS:
        if match := pattern.regex.fullmatch(text):
            parts = match.groupdict()
            month = _NUMBER_OF.get(parts["month"].lower()) or int(parts["month"])
            day, year = parts.get("day"), parts.get("year")
            if not day:
                return f"{year}-{month:02}" if year else f"{month:02}/15"
            return f"{year}-{month:02}-{int(day):02}" if year else f"{month:02}/{int(day):02}"
    return text
