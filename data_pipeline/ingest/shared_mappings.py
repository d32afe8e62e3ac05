"""Shared mappings: concepts by their items, and treatment groups by their drugs, that sources take by name.

Each is a file in ``mappings/``: ``loinc`` has the concepts by LOINC code and by OMOP's number of it, ``drug_names`` the
treatment groups by English names of drugs. A source's file takes them with ``extends: [loinc, drug_names]``. What the
file itself lists under a concept or a group stands in place of the shared entry; ``creatinine: []`` takes none.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from mediscale.core.near_names import suggestion
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


def names() -> tuple[str, ...]:
    """The names that ``extends`` can have."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def load(name: str) -> SharedMapping:
    """The shared mapping of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in names():
        raise ValueError(f"{name} is no shared mapping; {suggestion(name, names())}")
    return SharedMapping.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def _is_known(name: str) -> str:
    load(name)
    return name


MappingName = Annotated[str, AfterValidator(_is_known)]


def extended(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a source's file with the shared mappings that it ``extends``, as far as there are such."""
    listed = content.get("extends")
    shared = [load(name) for name in listed if name in names()] if isinstance(listed, list) else []
    own = dict(content)
    for part in ("concepts", "treatments") if shared else ():
        stated = content.get(part, {})
        if isinstance(stated, dict):
            own[part] = {
                k: v for entries in (*(getattr(m, part) for m in shared), stated) for k, v in entries.items()
            }
    return own
