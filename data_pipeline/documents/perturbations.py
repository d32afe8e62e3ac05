"""Sentences that say the same as a source in other words, and sentences that no longer do: one fact of them is changed.

Nothing is drawn from a generator: a hash of the sentence chooses, so the same sentence always gives the same examples.
"""

import hashlib
import re
from collections.abc import Callable, Sequence

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\d)")
_UNITS = {
    "mg": "g", "g": "mg", "µg": "mg", "mL": "L", "L": "mL", "mmol/L": "mg/dL", "mg/dL": "mmol/L", "mg/kg": "g/kg",
    "mmHg": "kPa", "mg/g": "g/g", "g/L": "mg/L", "mEq/L": "mEq/dL", "minutes": "hours", "minute": "hour",
    "hours": "days", "hour": "day", "days": "weeks", "day": "week", "weeks": "months", "week": "month",
    "months": "years", "month": "year", "years": "months", "year": "month", "%": " mg",
}  # fmt: skip
_UNIT = re.compile(
    r"(?<=[\d\s])(" + "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True)) + r")(?![\w/])"
)
_NEGATED = (
    (r"\b(is|are|was|were|must|should|can|may|does|do|has|have|will) not\b", r"\1"),
    (r"\bwithout\b", "with"),
    (r"\bnever\b", "always"),
    (r"\bno\b", "a"),
    (r"\bcontraindicated\b", "indicated"),
)
_AFFIRMED = (
    (r"\b(is|are|was|were|must|should|can|may|has|have|will)\b(?! not)", r"\1 not"),
    (r"\bwith\b", "without"),
)

SYNONYMS: tuple[tuple[str, str], ...] = (
    ("is given", "is administered"), ("are given", "are administered"), ("is recommended", "is advised"),
    ("is started", "is begun"), ("patients", "people"), ("below", "lower than"), ("above", "higher than"),
    ("such as", "for example"), ("at least", "no less than"), ("usually", "most often"), ("because", "since"),
    ("often", "frequently"), ("about", "approximately"), ("raises", "increases"), ("lowers", "reduces"),
    ("means that", "says that"), ("treatment", "therapy"), ("onset", "beginning"), ("measured", "determined"),
    ("stopped", "discontinued"), ("common", "frequent"), ("severe", "serious"), ("causes", "leads to"),
    ("includes", "comprises"), ("include", "comprise"), ("needs", "requires"), ("shows", "demonstrates"),
    ("before", "prior to"), ("within", "inside"), ("after", "following"), ("damage", "injury"), ("risk", "danger"),
    ("kidney", "renal"), ("dose", "dosage"), ("used", "employed"), ("over", "during"), ("preferred", "favoured"),
    ("reduces", "diminishes"), ("adults", "grown-ups"), ("daily", "every day"), ("weakness", "loss of strength"),
)  # fmt: skip
"""Each way of saying it goes to one split by the hash of its source phrase: the test's are not those of training."""

_FRAMES = (
    "According to the guideline, {}",
    "{} That is what the source says.",
    "In practice, {}",
    "Note that {}",
)


def choice(text: str, purpose: str, n: int) -> int:
    """A number from 0 to n − 1 by a hash."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{text}".encode()).digest()[:8]) % n


def paraphrase(sentence: str, synonyms: Sequence[tuple[str, str]]) -> str:
    """The same statement with up to three phrases replaced, and in every second case within a frame."""
    replaced, text = 0, sentence
    for old, new in synonyms:
        pattern = rf"\b{re.escape(old)}\b"
        if replaced < 3 and re.search(pattern, text):
            text, replaced = re.sub(pattern, new, text, count=1), replaced + 1
    if choice(sentence, "frame", 2):
        frame = _FRAMES[choice(sentence, "which", len(_FRAMES))]
        inner = (
            text if frame.startswith("{}") else text[0].lower() + text[1:] if text[1:2].islower() else text
        )
        text = frame.format(inner)
    return text


def change_number(sentence: str, _drugs: Sequence[str]) -> str | None:
    """Another number in the place of one."""
    matches = list(_NUMBER.finditer(sentence))
    if not matches:
        return None
    match = matches[choice(sentence, "number", len(matches))]
    value = float(match[0])
    other = (value * 10, value * 2, value + 1, value / 2)[choice(sentence, "other number", 4)]
    return f"{sentence[: match.start()]}{other:g}{sentence[match.end() :]}"


def change_unit(sentence: str, _drugs: Sequence[str]) -> str | None:
    """Another unit in the place of one."""
    matches = list(_UNIT.finditer(sentence))
    if not matches:
        return None
    match = matches[choice(sentence, "unit", len(matches))]
    return f"{sentence[: match.start()]}{_UNITS[match[0]]}{sentence[match.end() :]}"


def change_negation(sentence: str, _drugs: Sequence[str]) -> str | None:
    """The opposite statement: a negation more, or less."""
    for pattern, replacement in (*_NEGATED, *_AFFIRMED):
        changed, times = re.subn(pattern, replacement, sentence, count=1)
        if times:
            return changed
    return None


def change_drug(sentence: str, drugs: Sequence[str]) -> str | None:
    """Another drug in the place of one."""
    return _change_name(sentence, drugs)


_DIRECTIONS = (
    ("below", "above"), ("above", "below"), ("raises", "lowers"), ("lowers", "raises"), ("before", "after"),
    ("after", "before"), ("more", "less"), ("less", "more"), ("high", "low"), ("low", "high"), ("first", "last"),
    ("increase", "decrease"), ("reduces", "worsens"), ("early", "late"), ("acute", "chronic"), ("chronic", "acute"),
)  # fmt: skip


def change_direction(sentence: str, _names: Sequence[str]) -> str | None:
    """The other direction or end of a scale."""
    for old, new in _DIRECTIONS:
        changed, times = re.subn(rf"\b{old}\b", new, sentence, count=1)
        if times:
            return changed
    return None


def change_condition(sentence: str, conditions: Sequence[str]) -> str | None:
    """Another condition in the place of one."""
    return _change_name(sentence, conditions)


def _change_name(sentence: str, names: Sequence[str]) -> str | None:
    there = [name for name in names if re.search(rf"\b{re.escape(name)}\b", sentence, re.IGNORECASE)]
    if not there:
        return None
    old = there[choice(sentence, "name", len(there))]
    others = [name for name in names if name not in there]
    new = others[choice(sentence, "other name", len(others))]
    return re.sub(rf"\b{re.escape(old)}\b", new, sentence, flags=re.IGNORECASE)


KINDS: dict[str, Callable[[str, Sequence[str]], str | None]] = {
    "number": change_number,
    "unit": change_unit,
    "negation": change_negation,
    "drug": change_drug,
    "direction": change_direction,
}
UNKNOWN = "condition"
"""The kind that neither the checker's features nor its training know of."""
