"""Monitoring of a version since the decision about it: the windows judged for drift, and the retrain decision."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.storage.lineage import Run
from monitoring.drift.drift import Numbers


@dataclass(frozen=True)
class DriftWindow:
    """A prediction window that was judged for drift."""

    name: str
    start: datetime
    end: datetime
    predictions: int
    watched: int
    drifted: bool
    summary: str
    ratios: Mapping[str, float]
    """Column → its statistic as a multiple of the threshold beyond which it has drifted."""


@dataclass(frozen=True)
class MonitoredVersion:
    """Monitoring of the version since the decision."""

    model: str
    rehearsed: bool
    windows: tuple[DriftWindow, ...]
    retrain: bool
    reason: str


def collect(settings: Settings, run: Run) -> MonitoredVersion | None:
    """What monitoring found in a run; None where nothing was decided about retraining."""
    verdict, rehearsal = run.newest("retrain_decision"), run.newest("held_out_replay")
    if verdict is None:
        return None
    names = {w["start"]: w["name"] for w in rehearsal.result["windows"]} if rehearsal else {}
    judged = verdict.params["windows"]
    return MonitoredVersion(
        model=str(ModelRef.model_validate(judged[-1]["model"])),
        rehearsed=any(window["start"] in names for window in judged),
        windows=tuple(_window(settings, window, names) for window in judged),
        retrain=verdict.result["retrain"],
        reason=verdict.result["reason"],
    )


def _window(settings: Settings, window: Mapping[str, Any], names: Mapping[str, str]) -> DriftWindow:
    start, end = (datetime.fromisoformat(window[at]) for at in ("start", "end"))
    return DriftWindow(
        name=names.get(window["start"], f"{start:%Y-%m-%d}"),
        start=start,
        end=end,
        predictions=window["n"],
        watched=window["watched"],
        drifted=window["drifted"],
        summary=window["summary"].partition(" (")[0],
        ratios=dict(_ratios(settings, window["report"])),
    )


def _ratios(settings: Settings, page: str | None) -> Iterator[tuple[str, float]]:
    path = (settings.home / page).with_suffix(".json") if page else None
    if path is None or not path.is_file():
        return
    numbers = Numbers.model_validate_json(path.read_text())
    for column in numbers.columns:
        if column.threshold > 0:
            yield column.column, column.statistic / column.threshold
    for missing in numbers.missing:
        if missing.threshold > 0:
            change = abs(missing.share - missing.reference_share)
            yield f"{missing.column} missing", change / missing.threshold
