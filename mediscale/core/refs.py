"""References, which flow between stages: small JSON-able values, never rows.

Not strict, because Kubeflow hands integers over as floats (``0.0`` must be accepted as ``0``).
"""

import re

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, closed to unknown fields; the base of every Params, Result and reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TableRef(Frozen):
    """One version of one Delta table. A table made anew under the same name has another ``table_id``."""

    dataset: str
    table: str
    table_id: str
    version: int

    def __str__(self) -> str:
        return f"{self.dataset}/{self.table}@v{self.version}"


class ModelRef(Frozen):
    """One version of one registered model: where its files are, and the digest of those that answer."""

    name: str
    version: int
    uri: str
    """Folder of the files: a URI, or a path that is relative to the home when it lies inside (``registry.locate``)."""
    digest: str
    """SHA-256 over the files that answer (``mediscale.inference.model_files``): equal models have equal digests."""

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


def parse_version(text: str) -> tuple[str, int] | None:
    """Name and number of a version as people write it, ``MODEL/VERSION`` or ``MODEL@VERSION``; None for other text.

    >>> parse_version("synthetic-mortality/2"), parse_version("synthetic-mortality@2"), parse_version("synthetic")
    (('synthetic-mortality', 2), ('synthetic-mortality', 2), None)
    """
    parts = re.fullmatch(r"([a-z0-9][a-z0-9_-]*)[/@]([1-9][0-9]*)", text)
    return (parts[1], int(parts[2])) if parts else None
