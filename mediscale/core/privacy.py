"""Small-cell suppression: which counts of patients may leave the lake.

The lake and its call records hold every number. Whatever more people read, the report, MLflow and Kubeflow, goes
through here: a small count of patients, or of what is theirs, may describe a person. A small count that is left out
must not follow from those that are released, by a subtraction: so others are left out with it (complementary
suppression, as in Hundepool et al., Statistical Disclosure Control, 2012, chapter 4).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from mediscale.core.annotations import Meaning, Parts, annotated, meanings

SMALL_COUNT = 10
"""Counts below it are suppressed: nothing is said but that they are smaller."""
SUPPRESSED = "suppressed"
"""In place of a count that is small, or from which, and from those beside it, a small one would follow."""
WHY_SUPPRESSED = f"Suppressed: fewer than {SMALL_COUNT} patients, or so few would follow from the number."


def is_small(n: int) -> bool:
    """Whether a count is suppressed."""
    return 0 < n < SMALL_COUNT


def count(n: int) -> str:
    """A count in words, hidden where it is small.

    >>> count(1234), count(0), count(7)
    ('1,234', '0', 'fewer than 10')
    """
    return f"fewer than {SMALL_COUNT}" if is_small(n) else f"{n:,}"


def may_be_shared(n: int, total: int) -> bool:
    """Whether the share of a released total may be released: neither the count nor the rest is small."""
    return not is_small(n) and not is_small(total - n)


def count_of(n: int, total: int) -> str:
    """A count in words beside the total that it is a part of, hidden where it or the rest is small.

    >>> count_of(40, 100), count_of(4, 100), count_of(96, 100), count_of(100, 100), count_of(0, 7)
    ('40', 'fewer than 10', 'all but fewer than 10', '100', '0')
    """
    return f"all but fewer than {SMALL_COUNT}" if is_small(total - n) and n >= SMALL_COUNT else count(n)


def merged_steps(steps: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """A cohort flow, step → how many it left, in which a step that left out few is one line with the step after it.

    >>> merged_steps([("visits", 369), ("inpatients", 340), ("adults", 336), ("ended", 336), ("alive", 318)])
    [('visits', 369), ('inpatients; adults', 336), ('ended', 336), ('alive', 318)]
    """
    return [("; ".join(names), left) for names, left in _merged(steps)]


def _merged(steps: Sequence[tuple[str, int]]) -> list[tuple[list[str], int]]:
    merged: list[tuple[list[str], int]] = []
    for name, left in steps:
        names = [name]
        while merged and is_small(merged[-1][1] - left):
            names = merged.pop()[0] + names
        merged.append((names, left))
    return merged


def outcomes_in_words(outcomes: Sequence[tuple[str, int]]) -> list[tuple[str, str]]:
    """The outcomes of a cohort of released size, the predicted one first, and their counts in words: small ones are
    one part, with the next larger where they are few together.

    >>> outcomes_in_words([("readmitted", 40), ("returned as planned", 11), ("died", 5), ("not readmitted", 249)])
    [('readmitted', '40'), ('returned as planned or died', '16'), ('not readmitted', '249')]
    >>> outcomes_in_words([("readmitted", 41), ("died", 6), ("not readmitted", 163)])
    [('readmitted', '41'), ('died or not readmitted', '169')]
    >>> outcomes_in_words([("died", 5), ("left alive", 249)])
    [('died', 'fewer than 10'), ('left alive', 'all but fewer than 10')]
    """
    counts = [n for _, n in outcomes]
    hidden = suppressed_parts(counts, released_elsewhere=0)
    if all(hidden):
        return [(name, count_of(n, sum(counts))) for name, n in outcomes]
    together = [part for part, is_hidden in zip(outcomes, hidden, strict=True) if is_hidden]
    words: list[tuple[str, str]] = []
    for part, is_hidden in zip(outcomes, hidden, strict=True):
        if not is_hidden:
            words.append((part[0], count(part[1])))
        elif part == together[0]:
            words.append((" or ".join(name for name, _ in together), count(sum(n for _, n in together))))
    return words


def splits_in_words(splits: Sequence[int]) -> list[str]:
    """Counts of the splits in words, the held-out split last, for a table that must keep its rows.

    >>> splits_in_words([29, 6, 5]), splits_in_words([100, 4, 12])
    (['29', 'fewer than 10', 'fewer than 10'], ['suppressed', 'fewer than 10', '12'])
    """
    hidden = suppressed_parts(splits, released_elsewhere=-1)
    return [
        SUPPRESSED if is_hidden and not is_small(n) else count(n)
        for n, is_hidden in zip(splits, hidden, strict=True)
    ]


def suppressed_parts(counts: Sequence[int], released_elsewhere: int | None = None) -> list[bool]:
    """Which parts of a released total are suppressed: the small ones, and the next larger ones where the small ones
    would follow from the rest. The count of ``released_elsewhere`` also stands in another place (the outcome beside the
    prevalence, the held-out split beside its figures): to leave it out hides nothing, so it is the last to go.

    >>> suppressed_parts([40, 11, 5, 249]), suppressed_parts([6, 7, 40]), suppressed_parts([0, 30, 12])
    ([False, True, True, False], [True, True, False], [False, False, False])
    >>> suppressed_parts([20, 5, 40]), suppressed_parts([20, 5, 40], released_elsewhere=0)
    ([True, True, False], [False, True, True])
    """
    last = None if released_elsewhere is None else range(len(counts))[released_elsewhere]
    suppressed = [is_small(n) for n in counts]
    larger = (i for i, n in enumerate(counts) if n >= SMALL_COUNT)
    for i in sorted(larger, key=lambda i: (i == last, counts[i])):
        if not is_small(sum(n for n, is_hidden in zip(counts, suppressed, strict=True) if is_hidden)):
            break
        suppressed[i] = True
    return suppressed


def group_outcomes_in_words(groups: Sequence[tuple[int, int] | None], total: tuple[int, int]) -> list[str]:
    """How many of each group have the outcome, in words. The groups, each its size and its outcomes, make up a released
    total; None is one whose size is suppressed.

    >>> group_outcomes_in_words([(158, 1), (431, 19), (353, 41), (213, 32)], (1155, 93))
    ['fewer than 10', 'suppressed', '41', '32']
    >>> group_outcomes_in_words([(530, 46), (625, 47)], (1155, 93))
    ['46', '47']
    >>> group_outcomes_in_words([None, (100, 20), (60, 12)], (168, 34))
    ['suppressed', '20', 'suppressed']
    """
    released = [group for group in groups if group]
    with_outcome = [events for _, events in released]
    without = [size - events for size, events in released]
    hidden = [False] * len(released)
    for counts, whole in ((with_outcome, total[1]), (without, total[0] - total[1])):
        others = [whole - sum(counts)] if len(released) < len(groups) else []
        hidden = [was or now for was, now in zip(hidden, suppressed_parts([*counts, *others]), strict=False)]
    words = iter(
        SUPPRESSED if is_hidden and may_be_shared(events, size) else count_of(events, size)
        for (size, events), is_hidden in zip(released, hidden, strict=True)
    )
    return [next(words) if group else SUPPRESSED for group in groups]


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
    if isinstance(value, Mapping) and Meaning.COHORT_FLOW in meanings(annotation):
        return _suppressed_flow(value)
    parts = next((meaning for meaning in meanings(annotation) if isinstance(meaning, Parts)), None)
    if isinstance(value, Mapping) and parts:
        of_totals = any(isinstance(of_part, Mapping) for of_part in value.values())
        return _suppressed_table(value, parts) if of_totals else _suppressed_parts(value, parts)
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


def _suppressed_flow(flow: Mapping[str, int]) -> dict[str, int]:
    return {names[-1]: left for names, left in _merged([*flow.items()]) if not is_small(left)}


def _suppressed_parts(counts: Mapping[str, int], parts: Parts) -> dict[str, int]:
    hidden = suppressed_parts([*counts.values()], parts.released_elsewhere) if counts else []
    return {name: n for (name, n), is_hidden in zip(counts.items(), hidden, strict=True) if not is_hidden}


def _suppressed_table(counts: Mapping[str, Mapping[str, int]], parts: Parts) -> dict[str, dict[str, int]]:
    columns = next(iter(counts.values()), {})
    released = {
        name: _suppressed_parts({part: of[name] for part, of in counts.items()}, parts) for name in columns
    }
    return {part: {name: n[part] for name, n in released.items() if part in n} for part in counts}


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
