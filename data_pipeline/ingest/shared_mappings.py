"""Shared mappings: concepts by their items, and treatment groups by their drugs, that sources take by name.

Each is a file in ``mappings/``: ``loinc`` has the concepts by LOINC code and by OMOP's number of it, ``drug_names`` the
treatment groups by English names of drugs. A source's file takes them with ``extends: [loinc, drug_names]``. What the
file itself lists under a concept or a group stands in place of the shared entry; ``creatinine: []`` takes none.
"""

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mediscale.core import declaration_files
from mediscale.core.refs import Frozen

FOLDER = Path(__file__).parent / "mappings"


class Measure(Frozen):
    """Items that measure a concept, and the conversion of each of their units to the concept's unit."""

    items: tuple[str, ...] = Field(min_length=1)
    units: dict[str, str] = Field(min_length=1)


class Treatment(Frozen):
    """The members of a treatment group: items by number, and drugs by a pattern of their lower-case names."""

    items: tuple[str, ...] = ()
    drugs: str = ""


class SharedMapping(Frozen):
    """What sources that name it have in common."""

    concepts: dict[str, tuple[Measure, ...]] = Field(default_factory=dict)
    treatments: dict[str, Treatment] = Field(default_factory=dict)


@cache
def load(name: str) -> SharedMapping:
    """The shared mapping of that name.

    Raises:
        ValueError: there is none.
    """
    return SharedMapping.model_validate(declaration_files.shared(FOLDER, name))


def _is_known(name: str) -> str:
    load(name)
    return name


MappingName = Annotated[str, AfterValidator(_is_known)]
