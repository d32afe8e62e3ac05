"""Watched hospital: what watching makes of an analyser's fault, of other patients and of a subgroup's decline, with the
days that it takes, beside a hospital in which nothing happens.

Day after day a version answers about held-out patients of a synthetic hospital, drawn anew, whose outcomes mature some
days later. The answers and the outcomes are tables of a dataset of their own, which ends with it; drift, performance
over time and the retrain decision are the very stages that watch a hospital. A day takes seconds instead of a night.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import Table
from mediscale.core.tables import LABELS, PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.inference import tabular
from mediscale.inference.tabular import Predictor
from mediscale.simulation import watched_outcome
from mediscale.simulation.planted_changes import CHANGES, PLANTED_DAY, Change, Drawn
from mediscale.simulation.watched_outcome import DAYS, FOLLOW_UP, WINDOW, Outcome
from mediscale.storage import commits, datasets, registry
from monitoring import monitoring_inputs, performance_series, retrain_decision
from monitoring.drift import drift
from training import training_examples
from training.training_examples import Examples

OPENED = datetime(2026, 1, 1)
DAY = timedelta(days=1)
PER_DAY = 200


def run(settings: Settings, dataset: str, task: TaskName, show: Callable[[str], None]) -> list[Outcome]:
    """Lives through every change with the task's served version; ``show`` hears of each day.

    Raises:
        NotFoundError: no version of the task is staged or in production.
    """
    model = monitoring_inputs.watched_version(settings, dataset, task)
    training_set = TableRef.model_validate(monitoring_inputs.training_set_of(settings, model))
    predictor = tabular.load(settings, model, task)
    held_out = training_examples.load(settings, training_set, "held_out", predictor.spec.features)
    evidence = {**monitoring_inputs.evidence_of(settings, model)}
    # a path of the hospital's home, from the home of the simulation
    evidence["evidence"] = str(settings.home.absolute() / evidence["evidence"])
    absolute = model.model_copy(update={"uri": registry.locate(settings, model.uri)})
    outcomes = []
    for number, change in enumerate(CHANGES):
        own = f"{dataset}-watched-{number}"
        datasets.delete(settings, own)
        with tempfile.TemporaryDirectory(prefix="mediscale-watched-") as folder:
            hospital = Hospital(
                settings.model_copy(update={"home": Path(folder), "lake": settings.lake}), own, task,
                absolute, training_set, predictor, held_out, evidence,
            )  # fmt: skip
            outcomes.append(hospital.live(change, show))
        datasets.delete(settings, own)
    return outcomes


@dataclass
class Hospital:
    """One hospital, day by day."""

    settings: Settings
    dataset: str
    task: TaskName
    model: ModelRef
    training_set: TableRef
    predictor: Predictor
    held_out: Examples
    evidence: Mapping[str, str]

    def live(self, change: Change, show: Callable[[str], None]) -> Outcome:
        generator = np.random.default_rng(0)
        windows: list[drift.Result] = []
        series: performance_series.Result | None = None
        measured: list[tuple[int, tuple[Any, ...]]] = []
        retrain: list[int] = []
        for day in range(DAYS):
            show(f"{change.name}: day {day + 1} of {DAYS} …")
            tables = self._ask(day, change, generator)
            at = OPENED + (day + 1) * DAY
            # What has not drifted a week later does not, and each judgement takes seconds.
            if day < PLANTED_DAY + WINDOW:
                windows.append(self._drift(day, tables[0], at))
            if (day + 1 - FOLLOW_UP) % WINDOW == 0 and day + 1 > FOLLOW_UP:
                series = self._performance(day, tables, at)
                measured.append((day, series.performance_alarms))
            verdict = retrain_decision.Params(
                dataset=self.dataset,
                task=self.task,
                windows=tuple(windows),
                performance_alarms=series.performance_alarms if series else (),
            )
            if retrain_decision.run(verdict, self.settings, f"{day}").retrain:
                retrain.append(day)
        return watched_outcome.judge(change, windows, measured, retrain)

    def _ask(self, day: int, change: Change, generator: np.random.Generator) -> tuple[TableRef, TableRef]:
        rows = generator.integers(0, len(self.held_out), PER_DAY)
        drawn = Drawn(
            self.held_out.inputs[rows], self.held_out.outcomes[rows], self.predictor.spec.features, generator
        )
        if change.apply is not None and day >= PLANTED_DAY:
            change.apply(drawn)
        subjects = day * PER_DAY + np.arange(PER_DAY)
        at = [OPENED + day * DAY + timedelta(minutes=int(i)) for i in range(PER_DAY)]
        about = {"subject_id": subjects, "prediction_time": at}
        answered = {"predicted_at": at, "risk": self.predictor.risks(drawn.inputs.astype(np.float64))}
        logged = {"sequence": subjects, "features": drawn.inputs.astype(np.float64).tolist()}
        version = {"model": self.model.name, "model_version": self.model.version, "task": self.task}
        known = {"known_time": [one + FOLLOW_UP * DAY for one in at], "stay_id": subjects}
        return (
            self._append(PREDICTIONS, PREDICTIONS.name, day, about | answered | logged | version),
            self._append(
                LABELS, f"labels_{self.task}", day, about | known | {"boolean_value": drawn.outcomes == 1}
            ),
        )

    def _append(self, declared: Table, name: str, day: int, columns: Mapping[str, Any]) -> TableRef:
        schema = declared.arrow_schema()

        def values(column: Any) -> Any:
            return [column] * PER_DAY if column is None or isinstance(column, str | int) else list(column)

        arrays = [pa.array(values(columns.get(field.name)), field.type) for field in schema]
        rows = pa.table(arrays, schema=schema)
        written = commits.append(self.settings, name, rows, self.dataset, "watched", day + 1)
        assert written is not None  # each day has a number of its own
        return written

    def _drift(self, day: int, predictions: TableRef, at: datetime) -> drift.Result:
        params = drift.Params(
            dataset=self.dataset,
            task=self.task,
            model=self.model,
            training_set=self.training_set,
            predictions=predictions,
            start=at - DAY,
            end=at,
            seed=day,
        )
        return drift.run(params, self.settings, f"{day:08d}")

    def _performance(
        self, day: int, tables: tuple[TableRef, TableRef], at: datetime
    ) -> performance_series.Result:
        params = performance_series.Params(
            dataset=self.dataset,
            task=self.task,
            model=self.model,
            since=OPENED,
            as_of=at + timedelta(hours=6),
            predictions=tables[0],
            labels=tables[1],
            window_days=WINDOW,
            max_windows=3,
            **self.evidence,
        )
        return performance_series.run(params, self.settings, f"{day}")
