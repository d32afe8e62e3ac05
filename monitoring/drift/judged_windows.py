"""Judged windows: what the recorded calls say about the drift of a version."""

from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage import calls
from monitoring.drift.drift import Result


def of_version(settings: Settings, dataset: str, task: TaskName, model: ModelRef) -> tuple[Result, ...]:
    """Every window of a version that was judged, oldest first; of a window that was judged twice the later judgement.

    Windows of a rehearsal are none: their log is not the hospital's.
    """
    judgements = calls.of_stage(settings, "drift")
    results = [
        Result.model_validate(m.result) for m in judgements if m.params["predictions"]["dataset"] == dataset
    ]
    windows = {(w.start, w.end): w for w in results if (w.dataset, w.task, w.model) == (dataset, task, model)}
    return tuple(windows[when] for when in sorted(windows))
