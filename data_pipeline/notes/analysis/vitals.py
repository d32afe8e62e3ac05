"""Vital signs of a note, as they are written; a range, such as "110-130/60-80", is none."""

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


def find(text: ClinicalText) -> list[Vital]:
    """The vital signs in the order of the note; of equal ones the first."""
    spans: dict[tuple[VitalKind, str], tuple[int, int]] = {}
    for kind, pattern in _PATTERNS:
        for match in re.finditer(pattern, text.plain):
            value = next(filter(None, match.groupdict().values()))
            written = value.replace("over", "/").replace(",", ".")
            spans.setdefault((kind, "".join(written.split())), match.span())
    vitals = []
    for (kind, value), span in spans.items():
        start, end = text.original_span(*span)
        vitals.append(Vital(kind=kind, value=value, start=start, end=end))
    return sorted(vitals, key=lambda vital: vital.start)
