"""Drug interactions: pairs of drugs in the text, or in the text and what the patient takes, by a curated table.

A pair that the table lacks is unknown and not harmless.
"""

from collections.abc import Collection, Iterable
from functools import cache
from itertools import combinations

from data_pipeline.clinical_text.phrases import Phrases
from data_pipeline.drugs import tables
from data_pipeline.drugs.mentions import DrugMention, packaged
from data_pipeline.drugs.tables import SEVERITIES, Interaction
from data_pipeline.safety.alternatives import Name, Pair, alternatives, name_of
from data_pipeline.safety.layer import CheckedText
from data_pipeline.safety.report import Finding, LayerFinding, RiskLevel

NAME = "interaction"
_RISKS: dict[str, RiskLevel] = {"moderate": "moderate", "major": "high", "contraindicated": "high"}
_NOT_TAKEN = Phrases(
    {
        "not taken": [
            "(allergic to|allergy to|never (took|taken|take|used)|not taking|no longer (take|takes|taking|on))",
            "(stopped (taking)?|discontinued|came off|off)",
        ]
    }
)


def check(checked: CheckedText, apart: Collection[Pair] = ()) -> LayerFinding:
    """The interactions of each pair, the most severe first; what the patient takes pairs with what the text names.

    Pairs of the text in ``apart`` are not given together.
    """
    named, context = _once(_drugs_taken(checked)), _once(packaged().of(checked.patient.medications))
    together = (
        pair
        for pair in combinations(named, 2)
        if frozenset(name_of(mention) for mention in pair) not in apart
    )
    pairs = [*together, *((mention, other) for mention in named for other in context)]
    findings: dict[str, Finding] = {}
    for one, other in pairs:
        interaction = between(one, other)
        if interaction:
            finding = _finding(checked, one, other, interaction)
            findings.setdefault(finding.message, finding)
    ordered = sorted(findings.values(), key=lambda finding: -SEVERITIES.index(finding.code))
    message = "A pharmacist or prescriber must check these drugs together." if ordered else ""
    return LayerFinding(layer=NAME, findings=tuple(ordered), message=message)


def check_answer(checked: CheckedText) -> LayerFinding:
    """The interactions of an answer but those of drugs that it names as alternatives; whoever asks may take both."""
    return check(checked, alternatives(checked.text, checked.drugs))


def _once(mentions: Iterable[DrugMention]) -> list[DrugMention]:
    """The first mention of each drug: a text that names one a thousand times has no million pairs."""
    first: dict[Name, DrugMention] = {}
    for mention in mentions:
        first.setdefault(name_of(mention), mention)
    return list(first.values())


def _drugs_taken(checked: CheckedText) -> list[DrugMention]:
    """The drugs of the text but those of which it says that nobody takes them."""
    ends = {match.last for match in _NOT_TAKEN.find(checked.text)}
    return [mention for mention in checked.drugs if mention.first not in ends]


def between(one: DrugMention, other: DrugMention) -> Interaction | None:
    """The most severe interaction of two mentions; None where the table has none, or they share a drug."""
    if set(one.drugs) & set(other.drugs):
        return None
    pairs = _pairs()
    rows = [pairs.get(frozenset((a, b))) for a in one.drugs for b in other.drugs]
    if one.drug_class or other.drug_class:
        return _of_classes(one, other, rows)
    return max(filter(None, rows), key=_severity, default=None)


def _of_classes(one: DrugMention, other: DrugMention, rows: list[Interaction | None]) -> Interaction | None:
    """The interaction of a class: a row that names it, or what holds for all of its members."""
    sides = {one.drug_class, other.drug_class, *_single(one), *_single(other)} - {""}
    naming = [row for row in rows if row and {row.drug_a, row.drug_b} <= sides]
    if naming:
        return max(naming, key=_severity)
    whole = [row for row in rows if row]
    return min(whole, key=_severity) if len(whole) == len(rows) else None


def _single(mention: DrugMention) -> tuple[str, ...]:
    """What rows may call a mention that names no class: its drugs and their classes."""
    if mention.drug_class:
        return ()
    return (*mention.drugs, *(c for c, members in _classes().items() if members & set(mention.drugs)))


def _severity(row: Interaction) -> int:
    return SEVERITIES.index(row.severity)


def _finding(checked: CheckedText, one: DrugMention, other: DrugMention, interaction: Interaction) -> Finding:
    a, b = (mention.drug_class or " and ".join(mention.drugs) for mention in (one, other))
    verb = "must not be combined" if interaction.severity == "contraindicated" else "interact"
    message = f"{a} and {b} {verb} ({interaction.severity}): {interaction.effect} ({interaction.source})."
    first, last = (
        (min(one.first, other.first), max(one.last, other.last)) if other.last else (one.first, one.last)
    )
    return checked.finding(message, first, last, _RISKS[interaction.severity], interaction.severity)


@cache
def _classes() -> dict[str, frozenset[str]]:
    return tables.drug_classes()


@cache
def _pairs() -> dict[frozenset[str], Interaction]:
    return tables.interactions_by_pair(tables.interactions(), _classes())
