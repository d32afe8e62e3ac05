"""What a trained note model is, as ``notes.json`` beside its weights says it; and how it reads notes.

Training writes it into the logged model's folder; serving reads it and needs nothing else of the training code.
"""

from collections.abc import Sequence
from typing import TypeVar

from mediscale.predictor import NOTICE, Calibration, Task
from mediscale.refs import Frozen

SPEC_FILE = "notes.json"
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
GRAPH_FILE = "model.onnx"

T = TypeVar("T")


class KnownText(Frozen):
    """A made-up note and the margin that must come out of it; serving recomputes it when it loads a model."""

    text: str
    margin: float


class NoteSpec(Frozen):
    """``notes.json``: all that is needed beside the weights to read notes and answer with a risk."""

    name: str
    """Registered model's name, ``<dataset>-<task>-notes``."""
    dataset: str
    task: Task
    encoder: str
    revision: str
    tokenizer: str
    """SHA-256 of the tokenizer."""
    window: int
    """Tokens that the network reads at once, with the two special ones."""
    most_windows: int
    """Windows of one stay that are read, from the newest note backwards."""
    calibration: Calibration
    thresholds: dict[str, float]
    known_texts: tuple[KnownText, ...]
    key: str
    """Key of the stage call that trained it."""
    notice: str = NOTICE


def windows(notes: Sequence[Sequence[T]], window: int, most: int) -> list[Sequence[T]]:
    """Splits notes, newest first, into pieces of at most ``window - 2`` tokens and keeps the first ``most``.

    A note's pieces are of about equal length, so that none is a stump; no notes give one empty piece.

    >>> windows([[1, 2, 3, 4, 5], [6]], 6, 3)
    [[1, 2, 3], [4, 5], [6]]
    """
    pieces: list[Sequence[T]] = []
    for note in notes:
        count = -(-len(note) // (window - 2))
        length = -(-len(note) // count) if count else 0
        pieces += [note[i * length : (i + 1) * length] for i in range(count)]
        if len(pieces) >= most:
            break
    return pieces[:most] or [[]]
