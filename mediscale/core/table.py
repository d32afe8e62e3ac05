"""The value ``Table``: a Delta table's columns, types, units, keys, rules and meaning.

The declaration yields the Arrow schema, the Great Expectations suite and the predicate that
finds the rows to quarantine. Times are UTC wall-clock without a zone (``TimestampNTZ``), in microseconds.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal[
    "int64", "float64", "string", "bool", "timestamp", "list<float64>", "list<int32>", "list<string>"
]

SHARD = "shard"
"""Partition column of the tables that are laid out by subject: ``subject_id mod shards``."""


@dataclass(frozen=True)
class Column:
    """One column. Where rules judge the rows, one without a value is quarantined, unless the column is nullable."""

    name: str
    kind: Kind
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Nullable(Column):
    """A column in which a row may lack a value."""

    nullable: bool = True


@dataclass(frozen=True)
class Rule:
    """What every usable row fulfils: ``passes`` is a Spark SQL predicate, null counts as passing.

    ``name`` is what a quarantined row carries as its reason, ``column`` where a person should look.
    """

    name: str
    column: str
    passes: str
    meaning: str
    limited: bool = True
    """Whether too many rows that break it stop the run; not where a sound extract has any number of them."""
    of_row: bool = True
    """Whether a row alone breaks it, whatever other rows say."""


@dataclass(frozen=True)
class Table:
    """A declared table. ``open_ended`` tables carry further columns: features as float64, a source's own as strings."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    partition_by: tuple[str, ...] = ()
    open_ended: bool = False

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def all_rules(self) -> tuple[Rule, ...]:
        """The declared rules, after one for every column that may not be null."""
        required = (
            Rule(f"{c.name}_present", c.name, f"{c.name} IS NOT NULL", f"{c.description} is present")
            for c in self.columns
            if not c.nullable
        )
        return (*required, *self.rules)

    def flags(self, of_row: bool | None = None) -> str:
        """Spark SQL of a number with a bit for each rule that a row breaks, by the rule's place. A predicate that is
        null passes. Of ``of_row`` rules alone, or of the others, if that is given."""
        rules = ((1 << n, rule) for n, rule in enumerate(self.all_rules) if of_row in (None, rule.of_row))
        return " + ".join(f"case when not ({rule.passes}) then {bit} else 0 end" for bit, rule in rules)

    @property
    def broken_rules(self) -> str:
        """Spark SQL of the names of the rules that the column ``flags`` marks, comma-separated, or null for none."""
        names = ", ".join(
            f"case when flags & {1 << n} <> 0 then '{rule.name}' end" for n, rule in enumerate(self.all_rules)
        )
        return f"case when flags <> 0 then concat_ws(',', {names}) end"

    def arrow_schema(self) -> "pa.Schema":
        import pyarrow as pa

        kinds = {
            "int64": pa.int64(),
            "float64": pa.float64(),
            "string": pa.string(),
            "bool": pa.bool_(),
            "timestamp": pa.timestamp("us"),
            "list<float64>": pa.list_(pa.float64()),
            "list<int32>": pa.list_(pa.int32()),
            "list<string>": pa.list_(pa.string()),
        }
        return pa.schema([pa.field(c.name, kinds[c.kind]) for c in self.columns])
