"""Kinds of the rows that features are computed from: a concept, a treatment group, an administrative event, a task's
own code. Each is a small number, so that rows of one kind are found and sorted fast."""

import re
from dataclasses import dataclass
from functools import cache

from data_pipeline.cohort.stays import NOT_INPATIENT
from data_pipeline.features import comorbidity
from mediscale.core import task_features, tasks
from mediscale.core.concepts import CONCEPTS, TREATMENTS
from mediscale.core.tasks import TaskName

CONCEPT = {concept.name: kind for kind, concept in enumerate(CONCEPTS)}
TREATMENT = {group: len(CONCEPTS) + i for i, group in enumerate(TREATMENTS)}
N_MEASURED = len(CONCEPTS) + len(TREATMENTS)
(
    BIRTH, FEMALE, MALE, ADMITTED, ADMITTED_URGENTLY, OBSERVED, DISCHARGED, TO_ICU, FROM_ICU, DIAGNOSED, AGE
) = range(N_MEASURED, N_MEASURED + 11)  # fmt: skip
FIRST_OWN = AGE + 1
"""From here on, the kinds of a task's own codes."""
NOTHING = 255
"""Of a code that no feature reads."""


def reads_code(code: str) -> bool:
    """Whether some feature is computed from events of this code."""
    return of_code(code) != NOTHING


@cache
def of_code(code: str) -> int:
    """The kind of the events of a code."""
    head, _, tail = code.partition("//")
    if head in ("ICD9CM", "ICD10CM"):
        return DIAGNOSED if comorbidity.group_bits(code) else NOTHING
    if head == "HOSPITAL_ADMISSION":
        if tail in NOT_INPATIENT:
            return OBSERVED
        return ADMITTED_URGENTLY if tail in ("EMERGENCY", "URGENT") else ADMITTED
    return _code_kinds().get(code, _code_kinds().get(head, NOTHING))


@cache
def _code_kinds() -> dict[str, int]:
    return {
        **{concept.code: CONCEPT[concept.name] for concept in CONCEPTS},
        **{f"TREATMENT//{group}": kind for group, kind in TREATMENT.items()},
        "MEDS_BIRTH": BIRTH,
        "GENDER//F": FEMALE,
        "GENDER//M": MALE,
        "HOSPITAL_DISCHARGE": DISCHARGED,
        "ICU_ADMISSION": TO_ICU,
        "ICU_DISCHARGE": FROM_ICU,
        "AGE": AGE,
    }


@dataclass(frozen=True)
class OwnCode:
    """A code that a task declares itself; its rows have a kind of their own."""

    name: str
    pattern: re.Pattern[str]
    kind: int
    numeric: bool

    def matches(self, code: str) -> bool:
        return self.pattern.fullmatch(code) is not None


@cache
def own_codes(task: TaskName) -> tuple[OwnCode, ...]:
    """The codes that a task declares itself, those of numbers first."""
    declared = tasks.load(task).features
    numbers = {name: code for name, code, _, _ in declared.numbers}
    flags = {name: code for name, code, _ in declared.occurrences}
    named = [(name, code, True) for name, code in numbers.items()] + [(n, c, False) for n, c in flags.items()]
    return tuple(
        OwnCode(name, task_features.code_pattern(code), kind, numeric)
        for kind, (name, code, numeric) in enumerate(named, start=FIRST_OWN)
    )
