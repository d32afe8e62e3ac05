"""Drugs and their amounts in a text: brand names resolved, doses with unit, frequency and route."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_pipeline.drugs import tables

if TYPE_CHECKING:
    from data_pipeline.clinical_text.text import ClinicalText


@dataclass(frozen=True)
class DrugMention:
    """A drug, a fixed combination or a class at the words ``first`` to before ``last``."""

    drugs: tuple[str, ...]
    """Nonproprietary names; the members, where a class is named."""
    first: int
    last: int
    drug_class: str = ""


class DrugNames:
    """The names of drugs and classes, searched in a text by their first words."""

    def __init__(self, extra: Path | None = None) -> None:
        self._classes = tables.drug_classes()
        names = tables.drug_names() | (tables.drug_names(extra) if extra else {})
        self.resolve: dict[str, tuple[str, ...]] = dict(names)
        """Nonproprietary names by any name in lower case."""
        for drug in sorted(
            _drugs_of_tables(self._classes) | {drug for drugs in names.values() for drug in drugs}
        ):
            self.resolve.setdefault(drug, (drug,))
        self._by_first: defaultdict[str, list[tuple[tuple[str, ...], tuple[str, ...], str]]] = defaultdict(
            list
        )
        for name, drugs in self.resolve.items():
            self._add(name, drugs, "")
        for name, drug_class in (tables.class_names() | {c: c for c in self._classes}).items():
            self._add(name, tuple(sorted(self._classes[drug_class])), drug_class)
        for entries in self._by_first.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def _add(self, name: str, drugs: tuple[str, ...], drug_class: str) -> None:
        words = tuple(re.findall(r"[^\W\d_]+|\d+", name.replace("'", "")))
        self._by_first[words[0]].append((words, drugs, drug_class))

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of all names."""
        return frozenset(
            word for entries in self._by_first.values() for words, _, _ in entries for word in words
        )

    def find(self, text: "ClinicalText") -> list[DrugMention]:
        """The drugs of a text in order; of overlapping names the longest."""
        mentions, i = [], 0
        while i < len(text.words):
            for words, drugs, drug_class in self._by_first.get(text.words[i], ()):
                if text.words[i : i + len(words)] == words:
                    mentions.append(DrugMention(drugs, i, i + len(words), drug_class))
                    i += len(words) - 1
                    break
            i += 1
        return mentions

    def of(self, names: tuple[str, ...]) -> list[DrugMention]:
        """The drugs of a list of names; those that no table has are left out."""
        resolved = (self.resolve.get(name.strip().casefold()) for name in names)
        return [DrugMention(drugs, 0, 0) for drugs in resolved if drugs]


def _drugs_of_tables(classes: dict[str, frozenset[str]]) -> set[str]:
    drugs = {drug for members in classes.values() for drug in members}
    drugs |= {
        drug for row in tables.interactions() for drug in (row.drug_a, row.drug_b) if drug not in classes
    }
    return drugs | {drug for drug, _ in tables.dose_ranges()}


@cache
def packaged() -> DrugNames:
    """The names of the packaged tables."""
    return DrugNames()


Route = Literal[
    "oral", "intravenous", "intramuscular", "subcutaneous", "rectal", "topical", "inhaled", "other"
]

_NUMBERS = {
    word: float(number)
    for number, words in enumerate(
        [
            "a an one once single",
            "two twice",
            "three thrice",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
        ],
        1,
    )
    for word in words.split()
} | {
    "half": 0.5,
    "twelve": 12.0,
    "fifteen": 15.0,
    "twenty": 20.0,
    "thirty": 30.0,
    "forty": 40.0,
    "fifty": 50.0,
    "sixty": 60.0,
    "eighty": 80.0,
}
_SPELLED_OUT = (
    r"(?:two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|thirty|forty|fifty|sixty|eighty)"
    r"(?: (?:hundred|thousand))?|(?:a|one) (?:hundred|thousand)|half a"
)
_NUMBER = r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?"
_COUNT = rf"(?:{_NUMBER}|{'|'.join(_NUMBERS)})"
_FORM = r"(?:tab(?:let)?|cap(?:sule|let)?|pill|dose)s?"
_AMOUNT = re.compile(
    rf"(?<![\w.,])(?:(?P<count>{_COUNT})\s*(?:x|×|of|times|{_FORM}(?:\s+of)?)?\s+(?:the\s+)?)?"
    rf"(?P<low>{_NUMBER}|{_SPELLED_OUT})(?:\s*(?:-|to|or)\s*(?P<high>{_NUMBER}))?[\s-]*"
    r"(?P<unit>milligrams?|mgs?|grams?|gms?|g|micrograms?|mcgs?|ugs?|[µμ]gs?)\b"
    r"(?P<per_kg>\s*(?:/|per)\s*(?:kg|kilo(?:gram)?))?"
    rf"(?:\s*(?:x|×)\s*(?P<after>{_COUNT})(?!\s*(?:/|a|per|times|daily|days?|weeks?|x)))?"
)
_IN_MG = {"m": 1.0, "g": 1000.0, "u": 0.001, "µ": 0.001, "μ": 0.001}
_TIMES = re.compile(
    rf"(?P<interval>\b(?:every|each|q)\s*\.?(?P<hours>{_COUNT})(?:\s*(?:-|to)\s*\d+)?"
    r"\s*(?:h\b|hrs?\b|hours?|hourly))"
    r"|(?P<hourly>\b(?:every hour|hourly|each hour)\b)"
    rf"|(?P<counted>(?<![\w.])(?P<times>{_COUNT})\s*(?:x|times?)?"
    r"\s*(?:/|a|per|each|every|in a|in)?\s*(?:\bday\b|daily\b|\d*24 ?h))"
    r"|(?P<named>\b(?:bid|b\.i\.d\.?|twice|bd|tid|t\.i\.d\.?|tds|thrice|qid|q\.i\.d\.?|qds)\b)"
    r"|(?P<whole>\b(?:total daily|(?:per|a|each|every|in (?:a|one)) day|(?:per|in|over|within) 24 ?(?:h|hours)"
    r"|/\s*(?:day|d|24 ?h)\b))"
    r"|(?P<once>\b(?:daily|nightly|qd|q\.d\.?|od|qhs|every (?:morning|night|evening)|at (?:night|bedtime)"
    r"|in the (?:morning|evening)))"
)
_NAMED = {
    "bid": 2,
    "b.i.d": 2,
    "twice": 2,
    "bd": 2,
    "tid": 3,
    "t.i.d": 3,
    "tds": 3,
    "thrice": 3,
    "qid": 4,
    "q.i.d": 4,
    "qds": 4,
}
_RARER = re.compile(
    r"\b(?:weekly|(?:a|per|each|every|once) (?:week|month)|monthly|every other day"
    r"|every (?:two|2|three|3) (?:days|weeks))\b"
)
_ROUTES: tuple[tuple[Route, str], ...] = (
    ("intravenous", r"\b(?:iv|i\.v\.?|intravenous(?:ly)?|infusion|ivpb|drip)\b"),
    ("intramuscular", r"\b(?:im|i\.m\.?|intramuscular(?:ly)?)\b"),
    ("subcutaneous", r"\b(?:sc|sq|subq|s\.c\.?|subcut|subcutaneous(?:ly)?)\b"),
    ("rectal", r"\b(?:rectal(?:ly)?|suppositor(?:y|ies)|pr)\b"),
    (
        "topical",
        r"\b(?:topical(?:ly)?|cream|ointment|gel|patch(?:es)?|transdermal|lotion|eye ?drops?|ophthalmic)\b",
    ),
    ("inhaled", r"\b(?:inhal\w+|puffs?|nebuli[sz]\w+|nebs?|mdi|nasal(?: spray)?)\b"),
    ("other", r"\b(?:sublingual(?:ly)?|buccal|intrathecal|epidural|vaginal(?:ly)?|enema)\b"),
    (
        "oral",
        r"\b(?:po|p\.o\.?|oral(?:ly)?|by mouth|tab(?:let)?s?|cap(?:sule|let)?s?|pills?|syrup|swallow\w*)\b",
    ),
)


@dataclass(frozen=True)
class Dose:
    """An amount that a text gives of one drug; milligrams, per kilogram of weight where ``per_kg``."""

    drug: DrugMention
    low_mg: float
    high_mg: float
    per_kg: bool
    times_a_day: float | None
    """How often; None where the amount is that of a whole day, or where nothing is said."""
    is_daily_total: bool
    is_rarer_than_daily: bool
    route: Route | None
    start: int
    """Place in ``plain``: from the amount to its frequency."""
    end: int


def doses(text: "ClinicalText", mentions: list[DrugMention]) -> list[Dose]:
    """The amounts of a text, each with the drug of its sentence that it stands nearest to."""
    read = []
    for match in _AMOUNT.finditer(text.plain):
        start, end = text.sentence(text.word_in_plain(match.start("low")))
        near = [mention for mention in mentions if start <= mention.first < end]
        word = text.word_in_plain(match.start("low"))
        if near:
            read.append(_dose(text, match, min(near, key=lambda m: _gap(m, word)), near, (start, end)))
    return read


def _gap(mention: DrugMention, word: int) -> float:
    """How far a drug is from its amount; that an amount follows is usual, "of" between them is as good."""
    return (
        word - mention.last
        if mention.last <= word
        else mention.first - word + (0.5 if mention.first - word < 4 else 3)
    )


def _dose(
    text: "ClinicalText",
    match: re.Match[str],
    drug: DrugMention,
    near: list[DrugMention],
    sentence: tuple[int, int],
) -> Dose:
    factor = _IN_MG[(match["unit"] if not match["unit"].startswith("micro") else "u")[0]]
    if match["unit"].startswith("mc"):
        factor = 0.001
    count = _number(match["count"] or match["after"]) or 1.0
    low = _number(match["low"]) or 0.0
    high = _number(match["high"]) or low
    begin, stop = _reach(text, match, drug, near, sentence)
    around = text.plain[begin:stop]
    times, total, times_end = _frequency(text.plain[match.end() : stop])
    times, total, times_end = (times, total, times_end) if times or total else (*_frequency(around)[:2], 0)
    return Dose(
        drug,
        low * factor * count,
        high * factor * count,
        bool(match["per_kg"]),
        times,
        total,
        bool(_RARER.search(around)),
        next((route for route, pattern in _ROUTES if re.search(pattern, around)), None),
        match.start(),
        match.end() + times_end,
    )


def _reach(
    text: "ClinicalText",
    match: re.Match[str],
    drug: DrugMention,
    near: list[DrugMention],
    sentence: tuple[int, int],
) -> tuple[int, int]:
    """What of the sentence speaks of this drug: up to the next drug on both sides."""
    begin = max(
        (text.ends[m.last - 1] for m in near if m.last <= drug.first), default=text.starts[sentence[0]]
    )
    stop = min(
        (text.starts[m.first] for m in near if m.first >= drug.last), default=text.ends[sentence[1] - 1]
    )
    return min(begin, match.start()), max(stop, match.end())


def _frequency(text: str) -> tuple[float | None, bool, int]:
    """How many times a day, whether the amount is that of the whole day, and where that ends."""
    match = _TIMES.search(text)
    if not match:
        return None, False, 0
    if match["interval"]:
        hours = _number(match["hours"]) or 24.0
        return 24.0 / hours, False, match.end()
    if match["hourly"]:
        return 24.0, False, match.end()
    if match["named"]:
        return float(_NAMED[match["named"].rstrip(".")]), False, match.end()
    if match["counted"] and (match["times"] not in ("a", "an") or "times" in match.group()):
        return _number(match["times"]), False, match.end()
    if match["once"]:
        return 1.0, False, match.end()
    return None, True, match.end()


def _number(text: str | None) -> float | None:
    if not text:
        return None
    word, _, power = text.partition(" ")
    if word in _NUMBERS:
        return _NUMBERS[word] * {"hundred": 100.0, "thousand": 1000.0}.get(power, 1.0)
    grouped = re.sub(r",(?=\d{3}(?:\D|$))", "", text)
    return float(grouped.replace(",", "."))
