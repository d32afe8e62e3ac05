"""Annotated types that say what a field of a stage's Params or Result means to the platform, beside its type."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

T = TypeVar("T")


class Meaning(Enum):
    """What a field means to the platform, beside its type."""

    RUNTIME_INPUT = "runtime input"
    PATIENT_COUNT = "patient count"
    COHORT_FLOW = "cohort flow"
    DIGEST = "digest"
    COMPARED_WITH = "compared with"


@dataclass(frozen=True)
class Parts:
    """Marks counts of patients by part of a total."""

    released_elsewhere: int
    """Position of the part whose count also stands elsewhere, so that leaving it out here would hide nothing."""


RuntimeInput = Annotated[T, Meaning.RUNTIME_INPUT]
"""A parameter that a run gives itself (upstream results, its own options, look-ups): it can't be configured."""
PatientCount = Annotated[int, Meaning.PATIENT_COUNT]
"""A count of patients, or of what is theirs: suppressed outside the lake where it is small."""
CohortFlow = Annotated[dict[str, int], Meaning.COHORT_FLOW]
"""Counts of patients that are left after each step: outside the lake, no two of them differ by a small count."""
OutcomeCounts = Annotated[dict[str, int], Parts(released_elsewhere=0)]
"""Counts of a cohort by what came, the outcome that is predicted first: outside the lake, no small one follows from the
total and the other ones'."""
SplitCounts = Annotated[dict[str, dict[str, int]], Parts(released_elsewhere=-1)]
"""The same of splits, the held-out one last: split → what is counted → how many."""
Digest = Annotated[str, Meaning.DIGEST]
"""SHA-256 of an artifact, by which lineage finds who made it and who used it."""
ComparedWith = Annotated[T, Meaning.COMPARED_WITH]
"""A reference to another run's artifact that a call is only compared with: it is no part of its lineage."""


@dataclass(frozen=True)
class Declaration:
    """Marks a field that names a file of declarations (a source, a task): the parsed file is part of a call's key."""

    load: Callable[[str], BaseModel]


def meanings(annotation: Any) -> Iterator[Any]:
    """The markers anywhere in a type, for example in ``dict[str, PatientCount]``."""
    if get_origin(annotation) is Annotated:
        yield from get_args(annotation)[1:]
    for argument in get_args(annotation):
        yield from meanings(argument)


def field_meanings(field: FieldInfo) -> list[Any]:
    """The markers of a field: pydantic takes the outermost ones out of the annotation."""
    return [*field.metadata, *meanings(field.annotation)]


def annotated(field: FieldInfo) -> Any:
    """A field's type with all of its markers."""
    annotation: Any = field.annotation
    for marker in field.metadata:
        annotation = Annotated[annotation, marker]
    return annotation
