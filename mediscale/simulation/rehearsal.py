"""After a synthetic run: held-out patients ask the server on a quiet and on planted days; drift, and the verdict."""

from typing import Any

from mediscale.core.errors import QualityError
from mediscale.pipeline import runtime_inputs
from mediscale.pipeline.local import Results, Run


def rehearse(this: Run, results: Results) -> None:
    """Held-out patients ask the real server on a quiet made-up day and on two planted ones; then drift and verdict."""
    task = next((task for task, decision in this.decisions.items() if decision.staged), None)
    if task is None:
        return
    frozen, model = results[f"training_set_{task}"], results[f"combination_{task}"]
    today = runtime_inputs.staged_at(this.settings, this.dataset, task)
    config = {"dataset": this.dataset, "task": task}
    try:
        rehearsed = this.call("rehearsal", {**config, "moved_at": today}, frozen, model)
    except QualityError as refusal:
        this.progress.note(f"rehearsal: {refusal}")
        return
    windows: list[Any] = []
    for window in rehearsed.windows:
        span = {"start": window.start, "end": window.end, "predictions": rehearsed.predictions}
        windows.append(this.call("drift", {**config, **span}, frozen, model))
        verdict = this.call("retrain", {**config, "windows": tuple(windows)})
        this.verdicts.append(f"{window.name}: {windows[-1].summary}")
        this.verdicts.append(f"    {'retrain' if verdict.retrain else 'keep'}: {verdict.reason}")
