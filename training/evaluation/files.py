"""Size and speed of a version: the bytes that a server loads, and the time that one answer takes in its code.

Inference alone is timed, in this process: no HTTP, no log, no disk. An answer's time is the fastest of three, which is
what the code needs and not what else the machine was doing.
"""

import time
from collections.abc import Sequence

import numpy as np

from mediscale.core.settings import Settings
from mediscale.inference import model_files
from mediscale.inference.collate import Tokens
from mediscale.inference.tabular import Predictor
from training.evaluation.evaluation_report import Files
from training.statistics.metrics import Floats
from training.training_examples import Inputs

_ANSWERS = 20
_TRIES = 3


def measure(
    settings: Settings, version: Predictor, inputs: Inputs, stays: Sequence[Sequence[Tokens]] | None
) -> Files:
    """Times answers to some of the held-out rows (n, features); ``stays`` are the windows of their notes, for a version
    that reads notes."""
    chosen = np.unique(np.linspace(0, len(inputs) - 1, _ANSWERS).astype(int))
    seconds = [
        min(
            _seconds(version, inputs[i].astype(np.float64), stays[i] if stays else None)
            for _ in range(_TRIES)
        )
        for i in chosen
    ]
    return Files(
        bytes=sum(map(len, model_files.read_verified(settings, version.model).values())),
        answers=len(seconds),
        median_seconds=_rounded(float(np.median(seconds))),
        slowest_seconds=_rounded(max(seconds)),
    )


def _seconds(version: Predictor, row: Floats, windows: Sequence[Tokens] | None) -> float:
    begun = time.perf_counter()
    written = version.reader is not None and windows is not None and any(map(len, windows))
    margin = float(version.reader.margins([windows])[0]) if written and version.reader and windows else None
    version.score(row, margin)
    return time.perf_counter() - begun


def _rounded(seconds: float) -> float:
    """Seconds rounded to two digits: further digits say more of the moment than of the version."""
    return float(f"{seconds:.2g}")
