"""Facts of a bundle that can't be true together: swapped blood pressures, and an age that nobody reaches."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from mediscale.core.concepts import CONCEPTS
from serving.requests.fhir_facts import Fact
from serving.schemas import ADULT

_PRESSURES = tuple(
    next(concept.code for concept in CONCEPTS if concept.name == f"{which}_blood_pressure")
    for which in ("diastolic", "mean", "systolic")
)
"""In the order of what they can be."""


def consistent(facts: Sequence[Fact], unused: Counter[str]) -> Iterator[Fact]:
    """The facts without those that can't be true together: an age that nobody reaches, pressures swapped."""
    admitted = [fact.time for fact in facts if fact.code.startswith("HOSPITAL_ADMISSION")]
    oldest = min(admitted, default=datetime.max)
    pressures: dict[datetime, list[tuple[int, float]]] = defaultdict(list)
    for fact in facts:
        if fact.code in _PRESSURES and fact.value is not None:
            pressures[fact.time].append((_PRESSURES.index(fact.code), fact.value))
    disordered = {time for time, measured in pressures.items() if not _are_in_order(measured)}
    for fact in facts:
        if fact.code in _PRESSURES and fact.time in disordered:
            unused["blood pressures of a moment that are not in order (diastolic, mean, systolic)"] += 1
        elif fact.code == "MEDS_BIRTH" and oldest < datetime.max and oldest.year - fact.time.year > ADULT[1]:
            unused[f"births more than {ADULT[1]:g} years before the admission"] += 1
        else:
            yield fact


def _are_in_order(pressures: Sequence[tuple[int, float]]) -> bool:
    """Whether no pressure is above one that bounds it; each is (its kind's place in ``_PRESSURES``, value)."""
    highest = -math.inf
    for kind in range(len(_PRESSURES)):
        values = [value for place, value in pressures if place == kind]
        if min(values, default=math.inf) < highest:
            return False
        highest = max(highest, *values) if values else highest
    return True
