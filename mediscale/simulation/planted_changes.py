"""Planted changes: what happens from one day on to the patients of a simulated hospital, and what has to notice it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.synthetic.analyser import READS_HIGH

PLANTED_DAY = 14
"""From this day on the change is there; a window of performance begins with it."""


@dataclass(frozen=True)
class Change:
    """What is planted, and what has to come of it."""

    name: str
    apply: Callable[["Drawn"], None] | None
    signal: str
    """What has to notice it: ``inputs``, ``performance`` or a subgroup's attribute; empty where nothing happens."""


@dataclass
class Drawn:
    """The patients of one day, before their risks are computed."""

    inputs: NDArray[np.float32]
    outcomes: NDArray[np.float64]
    features: tuple[str, ...]
    generator: np.random.Generator

    def column(self, name: str) -> int:
        return self.features.index(name)


def analyser(day: Drawn) -> None:
    """An analyser of the laboratory reads high."""
    for i, name in enumerate(day.features):
        factor = next((f for concept, f in READS_HIGH.items() if name.startswith(f"{concept}_")), 1.0)
        if "_count_" not in name:
            day.inputs[:, i] *= factor


def other_patients(day: Drawn) -> None:
    """Older patients, and a disease of which some die whom nothing that is measured tells apart."""
    age = day.inputs[:, day.column("age_years")]
    weight = np.exp((np.nan_to_num(age, nan=65.0) - 65) / 10)
    chosen = day.generator.choice(len(age), len(age), p=weight / weight.sum())
    day.inputs[:], day.outcomes[:] = day.inputs[chosen], day.outcomes[chosen]
    day.outcomes[day.generator.random(len(age)) < 0.10] = 1


def women_unlike(day: Drawn) -> None:
    """What becomes of women no longer depends on what is measured; as many of them die as before."""
    women = day.inputs[:, day.column("sex_female")] == 1
    day.outcomes[women] = day.generator.permutation(day.outcomes[women])


CHANGES = (
    Change("nothing", None, ""),
    Change("an analyser reads high", analyser, "inputs"),
    Change("other patients, and a new disease", other_patients, "performance"),
    Change("a subgroup's decline: women", women_unlike, "sex"),
)
