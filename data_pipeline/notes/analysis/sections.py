"""Sections of a note, by their headings."""

import re
from bisect import bisect_right
from dataclasses import dataclass

_HEADING = re.compile(
    r"(?:^|[,.\n][^\S\n]*+)(?P<heading>[A-Z][A-Z /&'()-]{2,45}|(?:[A-Z][a-z]+ ){0,3}[A-Z][a-z]+(?= ?:)"
    r"|CC|HX|PE|CV|GI|GU|MS|[SOA]|P(?!\s?:[\s,]*\d\d))\s?:"
    r"|(?:^|[,\n])(?P<bare>[A-Z][A-Z /&'()-]{2,45})(?=,[A-Z\d]|[^\S\n]*\n)"
)
"""A heading with its colon, or a line of capitals alone, whose end is a comma in texts that have lost their lines. A
"P" with a large number is a pulse."""
KINDS: dict[str, tuple[str, ...]] = {
    "family": ("family history", "family medical history", "family hx", "fh"),
    "allergies": ("allergies", "allergy", "drug allergies"),
    "plan": (
        "plan", "recommendation", "instructions", "disposition", "follow", "discharge plan", "(?<!and )treatment$",
        "activity", "diet", "^p$", "a/p$",
    ),
    "medications": ("medication", "meds", "prescription"),
    "assessment": ("assessment", "impression", "diagnos", "conclusion", "^a$"),
    "complaint": ("chief complaint", "reason for", "presenting", "complaint", "^cc$"),
    "history": (
        "history of present", "present illness", "hpi", "subjective", "interval history", "course", "^hx$",
        "^s$", "^(?:brief |clinical )?history$",
    ),
    "past": ("past medical", "medical history", "past history", "pmh", "risk factors", "surgical history"),
    "social": ("social history", "social hx", "shx", "habits", "personal history"),
    "review": ("review of systems", "review of symptoms", "ros"),
    "vitals": ("vital",),
    "exam": (
        "exam", "objective", "^pe$", "^o$", "laborator", "labs?", "radiograph", "x-ray", "imaging", "ekg", "eeg",
        "findings?", "studies", "data",
    ),
    "organs": (
        "constitutional", "general appearance", "general", "heent", "ent", "head", "eyes", "ears", "nose", "mouth",
        "throat", "neck", "chest", "lungs?", "heart", "cardiac", "cardiovascular", "cv", "vascular", "respiratory",
        "pulmonary", "breasts?", "abdomen", "abdominal", "gastrointestinal", "gi", "genitourinary", "genitalia", "gu",
        "urinary", "pelvic", "rectal", "back", "spine", "extremit", "musculoskeletal", "ms$", "neuro", "skin",
        "integument", "dermatolog", "lymph", "hematolog", "endocrin", "psych", "mental status", "urolog", "^gen$",
        "^ext$", "^abd$", "^cor$", "cranial nerves", "cns?$", "motor", "sensory", "sensation", "reflexes", "coord",
        "station$", "gait",
    ),
}  # fmt: skip
"""Kinds of sections by what their headings begin with or contain; all others are of the kind "other".

A part of the body ("organs") is a heading of the review of systems, where that goes before, and else of the exam.
"""


@dataclass(frozen=True)
class Sections:
    """The sections of one note: where each begins, and its kind."""

    starts: tuple[int, ...]
    kinds: tuple[str, ...]
    headings: tuple[int, ...]
    """Where the heading of each section begins."""

    def is_heading(self, position: int) -> bool:
        """Whether a character stands in a heading."""
        i = bisect_right(self.headings, position) - 1
        return i >= 0 and position < self.starts[i]

    def kind(self, position: int) -> str:
        """The kind of section that a character stands in."""
        i = bisect_right(self.starts, position) - 1
        return self.kinds[i] if i >= 0 else "other"

    def of(self, kind: str, length: int) -> list[tuple[int, int]]:
        """The sections of a kind, from behind the heading to the next."""
        ends = (*self.headings[1:], length)[: len(self.starts)]
        return [(s, e) for s, e, k in zip(self.starts, ends, self.kinds, strict=True) if k == kind]


def find(text: str) -> Sections:
    """The sections of a note by its headings; ``text`` keeps the case of the letters."""
    starts, kinds, headings = [], [], []
    of_organs = "exam"
    for match in _HEADING.finditer(text):
        heading = "heading" if match["heading"] else "bare"
        kind = _kind(match[heading].lower())
        if heading == "bare" and kind == "other":
            continue
        starts.append(match.end())
        headings.append(match.start(heading))
        if kind == "organs":
            kind = of_organs
        elif kind != "other":
            of_organs = "review" if kind == "review" else "exam"
        kinds.append(kind)
    return Sections(tuple(starts), tuple(kinds), tuple(headings))


def _kind(heading: str) -> str:
    for kind, names in KINDS.items():
        if any(re.search(rf"\b{name}", heading) for name in names):
            return kind
    return "other"
