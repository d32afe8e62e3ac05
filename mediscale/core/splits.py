"""Train, tuning and held-out splits by a fixed salted hash of the unit that must not be divided."""

import hashlib
from typing import Literal

Split = Literal["train", "tuning", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "tuning", "held_out")

_SALT = "mediscale-split-1"
"""It must never change: what is held out must be held out of every later model too."""


def assign_split(unit: int | str) -> Split:
    """The split of a patient, or of a family of questions: 70 % train, 15 % tuning, 15 % held_out, in every run."""
    digest = hashlib.sha256(f"{_SALT}/{unit}".encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return "train" if share < 0.70 else "tuning" if share < 0.85 else "held_out"
