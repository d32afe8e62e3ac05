"""A de-identified note: what a deidentifier makes of one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DeidentifiedNote:
    """A note with surrogates in place of identifiers, and the number of replaced identifiers of each kind."""

    text: str
    replaced: dict[str, int]
