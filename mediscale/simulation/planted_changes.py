"""Planted changes: what watching makes of an analyser's fault, of other patients and of a subgroup's decline, with the
days that it takes, beside a hospital in which nothing happens.

Day after day a version answers about held-out patients of a synthetic hospital, drawn anew, whose outcomes mature some
days later. The answers and the outcomes are tables of a dataset of their own, which ends with it; drift, performance
over time and the retrain decision are the very stages that watch a hospital. A day takes seconds instead of a night.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.synthetic.analyser import READS_HIGH
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.table import Table
from mediscale.core.tables import LABELS, PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.inference import tabular
from mediscale.inference.tabular import Predictor
from mediscale.storage import commits, datasets, registry
from monitoring import monitoring_inputs, performance_series, retrain_decision
from monitoring.drift import drift
from training import training_examples
from training.training_examples import Examples

OPENED = datetime(2026, 1, 1)
DAY = timedelta(days=1)
PER_DAY = 200
FOLLOW_UP = 7
"""Days from a prediction until its outcome is certain."""
WINDOW = 7
"""Days of a window of performance."""
PLANTED_DAY = 14
"""From this day on the change is there; a window of performance begins with it."""
DAYS = 35


@dataclass(frozen=True)
class Change:
    """What is planted, and what has to come of it."""

    name: str
    apply: Callable[["Drawn"], None] | None
    signal: str
    """What has to notice it: ``inputs``, ``performance`` or a subgroup's attribute; empty where nothing happens."""


@dataclass
class Drawn:
    """The patients of one day, before their risks are computed."""

    inputs: NDArray[np.float32]
    outcomes: NDArray[np.float64]
    features: tuple[str, ...]
    generator: np.random.Generator

    def column(self, name: str) -> int:
        return self.features.index(name)


def analyser(day: Drawn) -> None:
    """An analyser of the laboratory reads high."""
    for i, name in enumerate(day.features):
        factor = next((f for concept, f in READS_HIGH.items() if name.startswith(f"{concept}_")), 1.0)
        if "_count_" not in name:
            day.inputs[:, i] *= factor


def other_patients(day: Drawn) -> None:
    """Older patients, and a disease of which some die whom nothing that is measured tells apart."""
    age = day.inputs[:, day.column("age_years")]
    weight = np.exp((np.nan_to_num(age, nan=65.0) - 65) / 10)
    chosen = day.generator.choice(len(age), len(age), p=weight / weight.sum())
    day.inputs[:], day.outcomes[:] = day.inputs[chosen], day.outcomes[chosen]
    day.outcomes[day.generator.random(len(age)) < 0.10] = 1


def women_unlike(day: Drawn) -> None:
    """What becomes of women no longer depends on what is measured; as many of them die as before."""
    women = day.inputs[:, day.column("sex_female")] == 1
    day.outcomes[women] = day.generator.permutation(day.outcomes[women])


CHANGES = (
    Change("nothing", None, ""),
    Change("an analyser reads high", analyser, "inputs"),
    Change("other patients, and a new disease", other_patients, "performance"),
    Change("a subgroup's decline: women", women_unlike, "sex"),
)


class Outcome(Frozen):
    """What came of one change."""

    change: str
    planted: bool
    days_before: int
    """Days whose windows were judged before anything was planted; all of them where nothing is."""
    drifted_before: tuple[int, ...]
    """Those that were called drifted: false alarms."""
    alarms_before: int
    """Figures of measured windows from before that raised an alarm: false ones, too."""
    drifted_after: tuple[int, ...]
    columns: tuple[str, ...]
    """That drifted on the first of these days."""
    alarm_day: int | None
    """First day on which a figure of outcomes raised an alarm, once the change was there."""
    alarms: tuple[str, ...]
    """These figures, in words."""
    retrain_day: int | None
    """First day on which the verdict was to retrain."""
    right: bool

    @property
    def summary(self) -> str:
        """A sentence for each of: false alarms, drift, outcomes, the decision."""
        before = f"{len(self.drifted_before)} of {self.days_before} days without it were called drifted"
        lines = [f"false alarms: {before}, and {self.alarms_before} figures of outcomes raised one"]
        if self.drifted_after:
            delay, named = self.drifted_after[0] - PLANTED_DAY + 1, ", ".join(self.columns[:4])
            lines.append(f"drift after {delay} days ({named})")
        if self.alarm_day is not None:
            lines.append(
                f"by outcomes after {self.alarm_day - PLANTED_DAY + 1} days ({'; '.join(self.alarms[:2])})"
            )
        decided = "keep"
        if self.retrain_day is not None:
            decided = (
                f"retrain after {self.retrain_day - PLANTED_DAY + 1} days" if self.planted else "retrain"
            )
        return f"{'; '.join(lines)}. Decision: {decided}, which is {'right' if self.right else 'WRONG'}."


def run(settings: Settings, dataset: str, task: TaskName, show: Callable[[str], None]) -> list[Outcome]:
    """Lives through every change with the task's served version; ``show`` hears of each day.

    Raises:
        NotFoundError: no version of the task is staged or in production.
    """
    model = monitoring_inputs.watched_version(settings, dataset, task)
    training_set = TableRef.model_validate(monitoring_inputs.training_set_of(settings, model))
    predictor = tabular.load(settings, model, task)
    held_out = training_examples.load(settings, training_set, "held_out", predictor.spec.features)
    evidence = monitoring_inputs.evidence_of(settings, model)
    outcomes = []
    for number, change in enumerate(CHANGES):
        own = f"{dataset}-watched-{number}"
        datasets.delete(settings, own)
        with tempfile.TemporaryDirectory(prefix="mediscale-watched-") as folder:
            hospital = Hospital(
                settings.model_copy(update={"home": Path(folder), "lake": settings.lake}), own, task,
                _absolute(settings, model), training_set, predictor, held_out,
                {name: _there(settings, name, text) for name, text in evidence.items()},
            )  # fmt: skip
            outcomes.append(hospital.live(change, show))
        datasets.delete(settings, own)
    return outcomes


def _absolute(settings: Settings, model: ModelRef) -> ModelRef:
    return model.model_copy(update={"uri": registry.locate(settings, model.uri)})


def _there(settings: Settings, name: str, text: str) -> str:
    """A path of the hospital's home, from the home of the simulation."""
    return str(settings.home.absolute() / text) if name == "evidence" else text


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
        return judge(change, windows, measured, retrain)

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


def judge(
    change: Change,
    windows: list[drift.Result],
    measured: list[tuple[int, tuple[Any, ...]]],
    retrain: list[int],
) -> Outcome:
    """The outcome of a change from what the stages said, day by day. What a measured window raises belongs to the
    change where the window began after it."""
    drifted = [day for day, window in enumerate(windows) if window.drifted]
    planted = PLANTED_DAY if change.signal else DAYS
    began = planted + WINDOW + FOLLOW_UP - 1
    before, after = [(d, a) for d, a in measured if d < began], [(d, a) for d, a in measured if d >= began]
    raised = next(((day, alarms) for day, alarms in after if alarms), None)
    first = next((windows[day] for day in drifted if day >= planted), None)
    decided = next((day for day in retrain if day >= planted or not change.signal), None)
    outcome = Outcome(
        change=change.name,
        planted=bool(change.signal),
        days_before=min(planted, len(windows)),
        drifted_before=tuple(day for day in drifted if day < planted),
        alarms_before=sum(len(alarms) for _, alarms in before),
        drifted_after=tuple(day for day in drifted if day >= planted),
        columns=tuple(_columns(first)) if first else (),
        alarm_day=raised[0] if raised else None,
        alarms=tuple(alarm.sentence for alarm in raised[1]) if raised else (),
        retrain_day=decided,
        right=False,
    )
    return outcome.model_copy(update={"right": _is_right(change, outcome, raised[1] if raised else ())})


def _columns(window: drift.Result) -> Iterator[str]:
    yield from (column.column for column in window.drifted_columns)
    yield from (f"{column.column} missing" for column in window.drifted_missing)
    if window.prediction is not None and window.prediction.drifted:
        yield window.prediction.column


def _is_right(change: Change, outcome: Outcome, alarms: tuple[Any, ...]) -> bool:
    """Whether what had to notice the change did, and the decision follows; where nothing happens, none does."""
    if not change.signal:
        return outcome.retrain_day is None
    noticed = {
        "inputs": any(column.startswith(tuple(READS_HIGH)) for column in outcome.columns),
        "performance": any(not alarm.attribute for alarm in alarms),
    }.get(change.signal, any(alarm.attribute == change.signal for alarm in alarms))
    return noticed and outcome.retrain_day is not None
