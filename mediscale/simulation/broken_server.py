"""A server whose version 2 breaks in the way that a file names: for drills, and for nothing that a patient depends on.

python -m mediscale.simulation.broken_server DATASET FILE
"""

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference.sampling import Token
from mediscale.inference.tabular import Floats, Predictor, Scored
from serving.language import language_engine
from serving.language.language_engine import InProcess

FAULTS = ("raises", "is no number", "hangs", "is ten times as slow")
VERSION = 2
"""The one that breaks."""
_LEAST_SECONDS = 0.02
"""What ten times of next to nothing is not: a pause that the threads of a busy machine do not take by themselves."""


def break_as(file: Path) -> None:
    """Makes version 2 of every model break in the way that the file names, as long as the file is not empty."""
    _break_risk_models(file)
    _break_language_models(file)


def _break_risk_models(file: Path) -> None:
    score = Predictor.score

    def broken(self: Predictor, row: Floats, note_margin: float | None = None) -> Scored:
        began = time.perf_counter()
        scored = score(self, row, note_margin)
        fault = file.read_text() if self.model.version == VERSION else ""
        _raise_or_hang(fault)
        if fault == "is no number":
            return Scored(float("nan"), float("nan"), scored.contributions, scored.baseline)
        if fault == "is ten times as slow":
            time.sleep(max(_LEAST_SECONDS, 9 * (time.perf_counter() - began)))
        return scored

    Predictor.score = broken  # type: ignore[method-assign]


def _break_language_models(file: Path) -> None:
    in_process = language_engine.in_process

    def broken(settings: Settings, model: ModelRef) -> InProcess:
        engine = in_process(settings, model)
        if model.version == VERSION:
            engine.stream = partial(_stream, engine.stream, file)  # type: ignore[method-assign]
        return engine

    language_engine.in_process = broken


def _stream(stream: Any, file: Path, *asked: Any) -> Iterator[Token]:
    fault, began = file.read_text(), time.perf_counter()
    _raise_or_hang(fault)
    for token in stream(*asked):
        if fault == "is ten times as slow":
            time.sleep(max(_LEAST_SECONDS, 9 * (time.perf_counter() - began)))
        yield Token(token.text, float("nan")) if fault == "is no number" else token
        began = time.perf_counter()


def _raise_or_hang(fault: str) -> None:
    if fault == "raises":
        raise RuntimeError
    if fault == "hangs":
        time.sleep(3600)


def main(dataset: str, file: str) -> None:
    """Serves on a free port of loopback."""
    from serving import main as server

    break_as(Path(file))
    server.serve(Settings(), [dataset], "production", port=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
