"""Model specification of a note model: ``notes.json``, the file beside its weights.

Training writes it into the logged model's folder; serving reads it and needs nothing else of the training code.
"""

from mediscale.core.refs import Frozen
from mediscale.core.tasks import TaskName
from mediscale.inference.model_spec import NOTICE, Calibration

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


class KnownText(Frozen):
    """A synthetic note and the margin that must come out of it; serving recomputes it when it loads a model."""

    text: str
    margin: float


class NoteSpec(Frozen):
    """``notes.json``: all that is needed beside the weights to read notes and answer with a risk."""

    name: str
    """Registered model's name, ``<dataset>-<task>-notes``."""
    dataset: str
    task: TaskName
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
    notice: str = NOTICE
