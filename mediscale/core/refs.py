"""What flows between stages: small JSON-able references, never rows.

Not strict, because Kubeflow hands integers over as floats (``0.0`` must be accepted as ``0``).
"""

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
    """One version of one registered model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"
