"""Small-cell suppression: which counts of patients may leave the lake.

The lake and its call records hold every number. Whatever more people read, the report, MLflow and Kubeflow, goes
through here: a small count of patients, or of what is theirs, may describe a person.
"""

from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from mediscale.core.annotations import Meaning, annotated, meanings

SMALL_COUNT = 10
"""Counts below it are suppressed: nothing is said but that they are smaller."""


def is_small(n: int) -> bool:
    """Whether a count is suppressed."""
    return 0 < n < SMALL_COUNT


def count(n: int) -> str:
    """A count in words, hidden where it is small.

    >>> count(1234), count(0), count(7)
    ('1,234', '0', 'fewer than 10')
    """
    return f"fewer than {SMALL_COUNT}" if is_small(n) else f"{n:,}"


def suppress_small_counts(value: BaseModel) -> dict[str, Any]:
    """A result as JSON without the patient counts that are small.

    >>> from mediscale.core.annotations import PatientCount
    >>> class Flow(BaseModel):
    ...     at_risk: PatientCount
    ...     shards: int
    >>> suppress_small_counts(Flow(at_risk=3, shards=3)), suppress_small_counts(Flow(at_risk=30, shards=3))
    ({'shards': 3}, {'at_risk': 30, 'shards': 3})
    """
    plain = value.model_dump(mode="json")
    kept = {}
    for name, field in type(value).model_fields.items():
        if name not in plain:
            continue  # the model leaves it out itself
        suppressed = _suppressed(annotated(field), getattr(value, name), plain[name])
        if suppressed is not _SUPPRESSED:
            kept[name] = suppressed
    return kept


_SUPPRESSED = object()


def _suppressed(annotation: Any, value: Any, plain: Any) -> Any:
    if isinstance(value, BaseModel):
        return suppress_small_counts(value)
    if isinstance(value, Mapping):
        of_values = _inner(annotation)
        pairs = ((str(k), _suppressed(of_values, v, plain[str(k)])) for k, v in value.items())
        return {name: inner for name, inner in pairs if inner is not _SUPPRESSED}
    if isinstance(value, list | tuple):
        of_items = _inner(annotation)
        items = (_suppressed(of_items, v, p) for v, p in zip(value, plain, strict=True))
        return [item for item in items if item is not _SUPPRESSED]
    counted = Meaning.PATIENT_COUNT in meanings(annotation)
    return _SUPPRESSED if counted and isinstance(value, int) and is_small(value) else plain


def _inner(annotation: Any) -> Any:
    """The type of a container's values, through Annotated and optional types."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    inner = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    containers = [
        a for a in inner if get_origin(a) in (dict, list, tuple, Mapping) or get_origin(a) is Annotated
    ]
    if type(None) in inner and containers:
        return _inner(containers[0])
    return inner[-1] if inner else Any
