"""Features of a task: of concepts, treatments and codes, each with its statistics and windows.

The grammar of a task's file is in ``mediscale/core/tasks.py``.
"""

import fnmatch
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mediscale.core.concepts import CONCEPTS, TREATMENTS
from mediscale.core.near_names import suggestion
from mediscale.core.outcomes import OUTCOME
from mediscale.core.refs import Frozen

Statistic = Literal[
    "last", "min", "max", "mean", "sum", "count", "trend", "recency", "interval", "irregularity"
]  # fmt: skip
"""Of measurements in a window."""
CHARTING: frozenset[Statistic] = frozenset({"count", "recency", "interval", "irregularity"})
"""Of how measurements were charted and not of what they were: how many there are, hours since the newest, mean hours
between them, and the standard deviation of these."""
STATISTICS: dict[str, str] = {
    "last": "newest",
    "min": "lowest",
    "max": "highest",
    "mean": "mean",
    "sum": "total",
    "count": "number of measurements of",
    "trend": "trend per hour of",
    "recency": "hours since the newest",
    "interval": "mean hours between measurements of",
    "irregularity": "spread of the hours between measurements of",
}
"""Each statistic in words, before those of what is measured."""
Window = Literal["6h", "24h", "stay"]
WINDOWS: dict[str, str] = {"6h": "in the last 6 h", "24h": "in the last 24 h", "stay": "in this stay"}
"""Each window in words."""
CourseFeature = Literal["in_icu", "hours_since_admission"]


MAX_CODES = 150
"""Names of codes that a task can have: the kernel numbers what it reads by a byte."""


class Measured(Frozen):
    """Features ``<concept>_<statistic>_<window>`` of every concept with every statistic."""

    concepts: tuple[str, ...] = Field(min_length=1)
    window: Window
    statistics: tuple[Statistic, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _concepts_exist(self) -> Self:
        concepts = [concept.name for concept in CONCEPTS]
        if unknown := sorted(set(self.concepts) - set(concepts)):
            raise ValueError(
                f"mediscale/core/concepts.py has no concept {', '.join(unknown)}; {suggestion(unknown[0], concepts)}"
            )
        return self


class Treated(Frozen):
    """Features ``treatment_<group>_<window>``: 1 when a treatment of the group was begun or changed in the window."""

    groups: tuple[str, ...] = Field(min_length=1)
    window: Window

    @model_validator(mode="after")
    def _groups_exist(self) -> Self:
        if unknown := sorted(set(self.groups) - set(TREATMENTS)):
            raise ValueError(
                f"mediscale/core/concepts.py has no treatment group {', '.join(unknown)}; "
                f"{suggestion(unknown[0], TREATMENTS)}"
            )
        return self


_ICD = ("ICD9CM", "ICD10CM", "ICD9PCS", "ICD10PCS")
_HEADS = frozenset({
    *_ICD, OUTCOME, "LOINC", "TREATMENT", "HOSPITAL_ADMISSION", "HOSPITAL_DISCHARGE", "ICU_ADMISSION",
    "ICU_DISCHARGE", "MEDS_BIRTH", "MEDS_DEATH", "GENDER", "RACE",
})  # fmt: skip
"""Vocabularies whose codes every source has in one spelling; all others are the sources' own."""


def _checked(code: str) -> str:
    """A code as a task's file may name it: what silver never has would be read as an event that did not happen."""
    head, slashes, rest = code.partition("//")
    start = code.partition("*")[0].strip().upper()
    if start.startswith(OUTCOME) or ("*" in code and OUTCOME.startswith(start)):
        raise ValueError(f"{code} could read the codes {OUTCOME}//…, which are outcomes; write a longer code")
    if code != code.strip():
        raise ValueError(f"{code!r} has blanks around it; no event has such a code")
    if head not in _HEADS and head.upper() in _HEADS:
        raise ValueError(f"{code} would be no event's: write {head.upper()}{slashes}{rest}")
    if head in _ICD and rest != rest.upper().replace(".", "").replace(" ", ""):
        plain = rest.upper().replace(".", "").replace(" ", "")
        raise ValueError(f"{code} would be no event's: ICD codes are without dots, {head}//{plain}")
    if head == "TREATMENT" and "*" not in rest and rest not in TREATMENTS:
        raise ValueError(f"there is no treatment group {rest}; {suggestion(rest, TREATMENTS)}")
    return code


EventCode = Annotated[str, Field(min_length=1), AfterValidator(_checked)]
"""A code of events, in which ``*`` stands for any characters; none of an outcome."""
Codes = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], EventCode]
"""By the name of a feature, the code of its events."""


def _no_concepts(codes: Codes) -> Codes:
    for name in codes:
        if name in {concept.name for concept in CONCEPTS}:
            raise ValueError(f"{name} is a concept of mediscale/core/concepts.py; list it under measured")
    return codes


def code_pattern(code: str) -> re.Pattern[str]:
    """The codes that a code of a task's file stands for: ``*`` is any characters, all else is itself."""
    return re.compile(fnmatch.translate(code.replace("[", "[[]").replace("?", "[?]")))


class Coded(Frozen):
    """Features ``<name>_<statistic>_<window>`` of numbers under codes that are no concepts, of one source maybe."""

    codes: Annotated[Codes, AfterValidator(_no_concepts)] = Field(min_length=1)
    window: Window
    statistics: tuple[Statistic, ...] = Field(min_length=1)


class Occurred(Frozen):
    """Features ``<name>_<window>``: 1 where an event of the code was in the window, else 0."""

    codes: Annotated[Codes, AfterValidator(_no_concepts)] = Field(min_length=1)
    window: Window


class Features(Frozen):
    """What a model of the task reads beside the person, earlier use of the hospital and comorbidity, which all read."""

    course: tuple[CourseFeature, ...] = ()
    measured: tuple[Measured, ...] = ()
    treatments: tuple[Treated, ...] = ()
    coded: tuple[Coded, ...] = ()
    occurred: tuple[Occurred, ...] = ()

    @property
    def measurements(self) -> tuple[tuple[str, Statistic, Window], ...]:
        """(concept, statistic, window) of each measured feature, in order."""
        return tuple(
            (concept, statistic, block.window)
            for block in self.measured
            for concept in block.concepts
            for statistic in block.statistics
        )

    @property
    def treated(self) -> tuple[tuple[str, Window], ...]:
        """(treatment group, window) of each treatment feature, in order."""
        return tuple((group, block.window) for block in self.treatments for group in block.groups)

    @property
    def numbers(self) -> tuple[tuple[str, str, Statistic, Window], ...]:
        """(name, code, statistic, window) of each feature of the codes' numbers, in order."""
        return tuple(
            (name, code, statistic, block.window)
            for block in self.coded
            for name, code in block.codes.items()
            for statistic in block.statistics
        )

    @property
    def occurrences(self) -> tuple[tuple[str, str, Window], ...]:
        """(name, code, window) of each feature of the codes' occurrence, in order."""
        return tuple(
            (name, code, block.window) for block in self.occurred for name, code in block.codes.items()
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        return (
            *self.course,
            *(f"{concept}_{statistic}_{window}" for concept, statistic, window in self.measurements),
            *(f"{name}_{statistic}_{window}" for name, _, statistic, window in self.numbers),
            *(f"treatment_{group}_{window}" for group, window in self.treated),
            *(f"{name}_{window}" for name, _, window in self.occurrences),
        )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not self.measured and not self.coded:
            raise ValueError("give measured or coded: what would be left is the person and earlier visits")
        own: dict[str, str] = {}
        for name, code in [(n, c) for n, c, _, _ in self.numbers] + [(n, c) for n, c, _ in self.occurrences]:
            if own.setdefault(name, code) != code:
                raise ValueError(f"{name} has two codes")
        if len(own) > MAX_CODES:
            raise ValueError(f"{len(own)} names of codes, and a task can have {MAX_CODES}")
        numbers = tuple((n, s, w) for n, _, s, w in self.numbers)
        occurrences = tuple((n, w) for n, _, w in self.occurrences)
        for declared in (self.course, self.measurements, self.treated, numbers, occurrences):
            if twice := next(
                (feature for i, feature in enumerate(declared) if feature in declared[:i]), None
            ):
                words = (twice,) if isinstance(twice, str) else twice
                raise ValueError(f"{' '.join(words)} is declared twice")
        if same := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f"two features are called {', '.join(same)}; name the codes otherwise")
        newest = {concept for concept, statistic, _ in self.measurements if statistic == "last"}
        if without := sorted({concept for concept, _, _ in self.measurements} - newest):
            raise ValueError(
                f"{', '.join(without)} needs the statistic last in some window, the value that a request gives"
            )
        return self
