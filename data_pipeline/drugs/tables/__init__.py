"""Curated public tables for safety checks: drug names, classes, interactions and usual dose ranges of adults.

The tables hold facts and no rules.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from mediscale.core.errors import InputError
from mediscale.core.refs import Frozen

Severity = Literal["moderate", "major", "contraindicated"]
SEVERITIES: tuple[Severity, ...] = ("moderate", "major", "contraindicated")
"""From the least severe to the most."""

_FOLDER = Path(__file__).parent


class DrugName(Frozen):
    """A brand name or another spelling, and what it stands for."""

    name: str = Field(min_length=1)
    kind: Literal["brand", "synonym"]
    drugs: tuple[str, ...]
    """International nonproprietary names in lower case; several for a fixed combination."""

    @field_validator("drugs", mode="before")
    @classmethod
    def _parted(cls, value: object) -> object:
        return tuple(value.split("+")) if isinstance(value, str) else value


class ClassMember(Frozen):
    """One drug of a class that interacts as a whole."""

    drug_class: str = Field(min_length=1)
    drug: str = Field(min_length=1)


class ClassName(Frozen):
    """Another name of a class, such as its abbreviation or plural."""

    name: str = Field(min_length=1)
    drug_class: str = Field(min_length=1)


class Interaction(Frozen):
    """An interaction of two drugs, or of a drug and a class."""

    drug_a: str = Field(min_length=1)
    drug_b: str = Field(min_length=1)
    severity: Severity
    effect: str = Field(min_length=1)
    source: str = Field(min_length=1)


class DoseRange(Frozen):
    """Usual doses of adults over all common indications; what is outside needs a reason."""

    drug: str = Field(min_length=1)
    route: str = Field(min_length=1)
    single_min: float = Field(gt=0)
    single_max: float
    daily_min: float = Field(gt=0)
    daily_max: float
    unit: Literal["mg", "microgram"]
    """Of all four doses."""
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (self.single_min <= self.single_max <= self.daily_max and self.daily_min <= self.daily_max):
            raise ValueError("a minimum is above its maximum, or a single dose above the daily maximum")
        return self


class ChildDose(Frozen):
    """The usual most of a drug that is dosed by a child's weight."""

    drug: str = Field(min_length=1)
    route: str = Field(min_length=1)
    single_max_mg_per_kg: float = Field(gt=0)
    daily_max_mg_per_kg: float = Field(gt=0)
    least_age_years: float = Field(ge=0)
    """Below this age the drug is not usual."""
    source: str = Field(min_length=1)


Row = TypeVar("Row", DrugName, ClassMember, ClassName, Interaction, DoseRange, ChildDose)


def drug_names(path: Path = _FOLDER / "brand_names.csv") -> dict[str, tuple[str, ...]]:
    """Drugs by brand name or synonym in lower case.

    Raises:
        InputError: the file is missing or has rows that do not fit.
    """
    return {row.name.casefold(): row.drugs for row in _read_rows(path, DrugName)}


def drug_classes() -> dict[str, frozenset[str]]:
    """Drugs by class."""
    members = defaultdict[str, set[str]](set)
    for row in _read_rows(_FOLDER / "drug_classes.csv", ClassMember):
        members[row.drug_class].add(row.drug)
    return {drug_class: frozenset(drugs) for drug_class, drugs in members.items()}


def class_names() -> dict[str, str]:
    """Classes by their other names, in lower case."""
    return {row.name.casefold(): row.drug_class for row in _read_rows(_FOLDER / "class_names.csv", ClassName)}


def interactions() -> list[Interaction]:
    """Interactions as they are written down; either side may be a class."""
    return _read_rows(_FOLDER / "drug_interactions.csv", Interaction)


def interactions_by_pair(
    rows: Iterable[Interaction], classes: Mapping[str, frozenset[str]]
) -> dict[frozenset[str], Interaction]:
    """The most severe interaction of each pair of drugs, classes spelled out; of equals the first row stays."""
    pairs: dict[frozenset[str], Interaction] = {}
    for row in rows:
        for one in classes.get(row.drug_a, {row.drug_a}):
            for other in classes.get(row.drug_b, {row.drug_b}) - {one}:
                pair = frozenset((one, other))
                if pair not in pairs or _rank(row) > _rank(pairs[pair]):
                    pairs[pair] = row
    return pairs


def dose_ranges() -> dict[tuple[str, str], DoseRange]:
    """Dose ranges by drug and route."""
    return {(row.drug, row.route): row for row in _read_rows(_FOLDER / "dose_ranges.csv", DoseRange)}


def child_doses() -> dict[tuple[str, str], ChildDose]:
    """Doses of children by drug and route."""
    return {(row.drug, row.route): row for row in _read_rows(_FOLDER / "child_doses.csv", ChildDose)}


def _rank(row: Interaction) -> int:
    return SEVERITIES.index(row.severity)


def _read_rows(path: Path, model: type[Row]) -> list[Row]:
    rows, bad = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for cells in reader:
                try:
                    rows.append(model.model_validate(cells))
                except ValidationError:
                    bad.append(reader.line_num)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not text in UTF-8; save it as UTF-8 and read it again.") from None
    if bad or not rows:
        where = f", the first on line {bad[0]}" if bad else ""
        raise InputError(
            f"{path.name} has {len(rows)} usable rows and {len(bad)} that do not fit{where}; the columns are "
            f"{', '.join(model.model_fields)}."
        )
    return rows
