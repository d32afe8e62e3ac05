"""Splits are a fixed salted hash."""

from collections import Counter

from mediscale.core.splits import assign_split

FIXED = ["train", "train", "train", "train", "held_out", "train"]
"""Written down once: a change here means that held-out patients were trained on."""


def test_splits_are_fixed_and_70_15_15() -> None:
    counts = Counter(assign_split(subject) for subject in range(20_000))
    assert abs(counts["train"] / 20_000 - 0.70) < 0.02
    assert abs(counts["tuning"] / 20_000 - 0.15) < 0.02
    assert [assign_split(subject) for subject in (1, 2, 3, 5, 8, 13)] == FIXED


def test_a_number_and_its_name_are_the_same_unit() -> None:
    assert [assign_split(str(subject)) for subject in (1, 2, 3, 5, 8, 13)] == FIXED
