"""Vital signs of a note, as they are written, with sign and unit; a range, such as "110-130/60-80", is none."""

import re

from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.notes.analysis.fields import Vital, VitalKind

_SAYS = (
    r"\s*(?:was|is|of|at|:|,|reading|noted|now|today|approximately|about|around|in the|-|were|measured)*\s*"
)
_PATTERNS: tuple[tuple[VitalKind, str], ...] = (
    (
        "blood pressure",
        r"\b(?:blood pressure|bp|b/p)\b[^\d.]{0,40}?(?P<value>\d{2,3}\s?(?:/|over)\s?\d{2,3})"
        r"(?!/|\d|-\d)|(?<![\d/.-])(?P<bare>(?:[89]\d|1\d\d|2[0-4]\d)/(?:[3-9]\d|1[0-4]\d))(?![\d/]|-\d)"
        r"|(?:(?<=-> )|(?<=->)|(?<=→ )|(?<=→)|(?<=dropped to )|(?<=fell to )|(?<=down to )|(?<=decreased to ))"
        r"(?P<fallen>[3-7]\d/[1-6]\d)(?![\d/])",
    ),
    (
        "heart rate",
        rf"\b(?:heart rate|pulse(?! ox)(?: rate)?|hr|p)\b{_SAYS}[^\d.;]{{0,25}}?(?P<value>\d{{2,3}})"
        rf"(?!\d|\s?%|/(?!\s?min)|\s?-\s?\d)|(?<![\d.-])(?P<bare>\d{{2,3}})\s(?:beats per minute|bpm)",
    ),
    (
        "respiratory rate",
        rf"\b(?:respirat(?:ory rate|ions?)(?: rate)?|rr|resp(?:s)?|r)\b\.?{_SAYS}[^\d.;]{{0,15}}?"
        rf"(?P<value>\d{{1,2}})(?!\d|\.\d|/(?!\s?min)|\s?%|\s?-\s?\d)",
    ),
    (
        "temperature",
        rf"\b(?:temp(?:erature)?|t|tmax)\b\.?{_SAYS}[^\d.;]{{0,20}}?(?P<value>(?:9\d|10\d|3[4-9]"
        rf"|4[0-2])(?:[.,]\d{{1,2}})?)(?!\d|/|[.,]\d|\s?-\s?\d)|(?<=afebrile at )(?P<bare>\d{{2,3}}(?:[.,]\d{{1,2}})?)",
    ),
    (
        "oxygen saturation",
        r"\b(?:o2 sat(?:uration)?s?|oxygen saturations?|sats?|spo2|sao2|saturat\w+|pulse ox"
        rf"(?:imetry)?|o2)\b{_SAYS}[^\d.;]{{0,25}}?(?P<value>(?:[5-9]\d|100))\s?(?:%|percent|on|$|,"
        r"|\.)",
    ),
    (
        "weight",
        rf"\b(?:weight|wt|weighs|weighing)\b{_SAYS}[^\d.;]{{0,15}}?(?P<value>\d{{1,3}}(?:\.\d+|,\d{{1,2}}(?!\d))?"
        rf"(?:-\d/\d)?)\s?(?:pounds|lbs?|kg|kilograms?|kilos|$|,|\.|g\b)|(?P<bare>\d{{2,3}}"
        r"(?:\.\d+)?) pounds(?! (?:of|weight loss))",
    ),
)


_SIGN = re.compile(
    r"(?:(?P<below><|≤|\b(?:less|lower) than|\bbelow|\bunder)|(?P<above>(?<![-=])>|≥|\b(?:greater|higher|more) than"
    r"|\babove|\bover))\s?=?\s?$"
)
"""Before a number that is only a bound."""
_SIGN_CHARACTERS = 14
_UNITS: dict[VitalKind, tuple[tuple[str, re.Pattern[str]], ...]] = {
    "temperature": (
        ("°F", re.compile(r"\s?(?:°|º|degrees?|deg\.?)?\s?(?:f|fahrenheit)\b")),
        ("°C", re.compile(r"\s?(?:°|º|degrees?|deg\.?)?\s?(?:c|celsius|centigrade)\b")),
    ),
    "weight": (
        ("lb", re.compile(r"\s?(?:lbs?|pounds?)\b")),
        ("kg", re.compile(r"\s?(?:kgs?|kilo\w*)\b")),
        ("g", re.compile(r"\s?(?:g|grams?)\b")),
    ),
}
"""Behind a number that has more than one unit."""


def find(text: ClinicalText) -> list[Vital]:
    """The vital signs in the order of the note; of equal ones the first. A pressure of which the diastolic is not the
    lower one is none."""
    spans: dict[tuple[VitalKind, str, str], tuple[int, int]] = {}
    for kind, pattern in _PATTERNS:
        for match in re.finditer(pattern, text.plain):
            group = next(name for name, value in match.groupdict().items() if value)
            value = "".join(match[group].replace("over", "/").replace(",", ".").split())
            systolic, is_pressure, diastolic = value.partition("/")
            if is_pressure and kind == "blood pressure" and int(systolic) <= int(diastolic):
                continue
            value = _sign(text.plain, match.start(group)) + value
            spans.setdefault((kind, value, _unit(kind, text.plain, match.end(group))), match.span())
    vitals = []
    for (kind, value, unit), span in spans.items():
        start, end = text.original_span(*span)
        vitals.append(Vital(kind=kind, value=value, unit=unit, start=start, end=end))
    return sorted(vitals, key=lambda vital: vital.start)


def _sign(plain: str, start: int) -> str:
    match = _SIGN.search(plain, max(0, start - _SIGN_CHARACTERS), start)
    return "" if match is None else "<" if match["below"] else ">"


def _unit(kind: VitalKind, plain: str, end: int) -> str:
    return next((unit for unit, pattern in _UNITS.get(kind, ()) if pattern.match(plain, end)), "")
