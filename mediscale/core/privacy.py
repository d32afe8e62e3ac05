"""Which numbers may be told outside the lake: a small count of patients, or of what is theirs, may describe a person.

The lake and its manifests hold every number. Whatever more people read, the report and MLflow, asks here.
"""

from collections.abc import Iterable, Mapping
from typing import Any

FEW = 10
"""Of fewer patients, stays, outcomes, notes or facts nothing is told, but that they are fewer."""

_COUNTS = frozenset(
    {
        "n", "subjects", "patients", "visits", "stays", "rows", "asked", "answered", "at_risk", "events", "positives",
        "note_count", "read", "judged", "by_values", "quarantined", "audited", "leaks"
    }
)  # fmt: skip
"""What such counts are called, alone or after what they are of: ``tuning_events``."""
_OF_COUNTS = frozenset({"flow", "counts", "reasons", "rows"})
"""What mappings are called that hold nothing else."""


def counts(name: str) -> bool:
    """Whether a number of this name, a path with dots, counts patients or what is theirs.

    >>> [counts(name) for name in ("metrics.events", "flow.readmitted", "tuning_events", "shards", "metrics.auroc")]
    [True, True, True, False, False]
    """
    *above, last = name.split(".")
    return bool({last, last.rpartition("_")[2]} & _COUNTS or _OF_COUNTS.intersection(above))


def few(name: str, value: float) -> bool:
    """Whether this is a count that is not told."""
    return counts(name) and 0 < value < FEW


def tellable(figures: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Figures by name, without the counts that are small."""
    return {name: value for name, value in figures if not few(name, value)}


def told(value: Any, path: str = "") -> Any:
    """A result, or whatever else JSON holds, without the counts in it that are small.

    >>> told({"flow": {"readmitted": 3, "visits": 40}, "windows": [{"n": 7, "drifted": True}]})
    {'flow': {'visits': 40}, 'windows': [{'drifted': True}]}
    """
    if isinstance(value, Mapping):
        inside = ((name, told(inner, f"{path}.{name}")) for name, inner in value.items())
        return {
            name: inner
            for name, inner in inside
            if not (isinstance(inner, int | float) and few(f"{path}.{name}", inner))
        }
    return [told(inner, path) for inner in value] if isinstance(value, list) else value


def count(n: int) -> str:
    """A count in words, hidden where it is small.

    >>> count(1234), count(0), count(7)
    ('1,234', '0', 'fewer than 10')
    """
    return f"fewer than {FEW}" if 0 < n < FEW else f"{n:,}"
