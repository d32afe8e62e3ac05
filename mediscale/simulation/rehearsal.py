"""Rehearsal: after a synthetic run, held-out patients ask the server on a quiet day and on planted ones.

What comes after a promotion has no users yet in a first run; so drift is looked for, and the retrain decision made, on
these predictions.
"""

from typing import Any

from mediscale.core.errors import QualityError
from mediscale.pipeline.local import Results, Run
from mediscale.storage import registry


def rehearse(this: Run, results: Results) -> None:
    """Replays held-out patients for the first task that reached staging."""
    task = next((task for task, decision in this.decisions.items() if decision.result.staged), None)
    if task is None:
        return
    frozen, model = results[f"training_set_{task}"], results[f"late_fusion_{task}"]
    config = {"dataset": this.dataset, "task": task}
    move = registry.current(this.settings, this.dataset, task, "staging")
    assert move is not None  # the decision staged a version
    try:
        replay = this.call("held_out_replay", {**config, "moved_at": move.moved_at}, frozen, model).result
    except QualityError as refusal:
        this.progress.note(f"held_out_replay: {refusal}")
        return
    windows: list[Any] = []
    for window in replay.windows:
        span = {"start": window.start, "end": window.end, "predictions": replay.predictions}
        windows.append(this.call("drift", {**config, **span}, frozen, model).result)
        decision = this.call("retrain_decision", {**config, "windows": tuple(windows)}).result
        this.verdicts.append(f"{window.name}: {windows[-1].summary}")
        this.verdicts.append(f"    {'retrain' if decision.retrain else 'keep'}: {decision.reason}")
