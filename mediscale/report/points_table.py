"""The points score of a version as a table that a person can add up."""

from mediscale.inference.points import Item, PointsScore
from mediscale.report import labels


def rows(score: PointsScore) -> list[tuple[str, str]]:
    """Each value with its points."""
    return [(labels.plain(item.name), _points(item)) for item in score.items]


def _points(item: Item) -> str:
    """What an item's values are worth; neighbouring bands of the same points as one.

    >>> from mediscale.inference.points import Band
    >>> ends_and_points = ((50, 0), (60, 2), (70, 2), (None, 5))
    >>> bands = tuple(Band(below=end, points=points) for end, points in ends_and_points)
    >>> _points(Item(feature="age_years", name="age", bands=bands, missing=1, mean=2))
    'below 50: 0, from 50: 2, from 70: 5; not known: 1'
    """
    parts: list[tuple[float | None, int]] = []
    start: float | None = None
    for i, band in enumerate(item.bands):
        if i == 0 or band.points != item.bands[i - 1].points:
            parts.append((start, band.points))
        start = band.below
    first = parts[1][0] if len(parts) > 1 else None
    texts = [f"below {first:g}: {parts[0][1]}" if first is not None else f"any: {parts[0][1]}"]
    texts += [f"from {start:g}: {points}" for start, points in parts[1:] if start is not None]
    return f"{', '.join(texts)}; not known: {item.missing}"


def strata(score: PointsScore) -> str:
    """The strata of a points score: the lowest sum of each, and the risk of that sum."""
    import numpy as np

    risks = score.risk_of(np.array(list(score.strata.values())))
    return ", ".join(
        f"{name} from {least} points on (risk {labels.percent(float(risk))})"
        for (name, least), risk in zip(score.strata.items(), risks, strict=True)
    )
