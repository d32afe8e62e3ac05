"""Simulated nights of a synthetic hospital: what the DAGs do, in their order, with the calendar handed in.

Its records are made and landed once. Every night sees of them, through ``as_of``, what had been written down by then: a
stay without a certain outcome has no label yet, and a result that is not back is in no feature. From one night on an
analyser of the laboratory reads high. Of the two tasks the simulation follows one, whose question is asked at one
moment of a stay: a server answers for every task at each request, and a question about the first 24 hours is none about
a discharge. Nobody writes notes there: reading them would take longer than all else of a night.

As in ``dags/``: features; drift over the last answered predictions, the performance series, and a verdict on both; a
retraining where the verdict asks for it (or nothing was trained yet); a person who says yes, and a policy that decides.
Then the morning's round asks about whoever reached the prediction time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel
from rich.status import Status

from mediscale.core.errors import QualityError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline import call, runtime_inputs, steps
from mediscale.simulation import nights_report
from mediscale.simulation.nights_report import Night
from mediscale.storage.locks import exclusive

TASK = "mortality"


@dataclass(frozen=True)
class Hospital:
    """A synthetic hospital: its number of patients, and the nights of predictions in a drift window."""

    patients: int
    window: int


HOSPITALS = {"tiny": Hospital(1_500, 4), "small": Hospital(6_000, 1)}
"""About 13 and 50 questions a day; a window needs 30."""

OPENED = datetime(2022, 1, 1)
HISTORY = 75
"""Days of records before the first night: enough to train on."""
MOST_NIGHTS = 45
PLANTED_NIGHT = 7
"""From this night on the analyser reads high."""
WINDOW_DAYS = 7
"""Of a window of performance."""


def night(number: int) -> datetime:
    """When a night's run begins: its ``as_of``."""
    return OPENED + timedelta(days=HISTORY + number, hours=1)


@dataclass(frozen=True)
class Version:
    """The served version, and what is needed to judge it."""

    trained: Any
    frozen: Any
    evidence: Mapping[str, Any]
    """What held-out patients promised: path and digest, by parameter of ``performance_series``."""
    since: datetime
    """When it was promoted or staged."""
    alias: str


@dataclass
class Simulation:
    """The state of a simulation after the nights so far."""

    settings: Settings
    dataset: str
    hospital: Hospital
    status: Status
    results: dict[str, Any] = field(default_factory=dict)
    """By the names of the pipeline's nodes: the newest night's."""
    served: Version | None = None
    windows: list[Any] = field(default_factory=list)
    """Judged windows of the served version."""
    run_id: str = ""
    """Of the night's calls."""
    as_of: datetime | None = None
    """What the night's feature stages see was known by then."""
    log: Any = None
    """The prediction log after the newest round."""

    def call(self, stage: str, config: Mapping[str, Any], *upstream: BaseModel) -> Any:
        results = [result.model_dump() for result in upstream]
        about = {"dataset": self.dataset, "task": TASK}
        fields = call.load(stage).Params.model_fields.keys()
        values = {**{name: value for name, value in about.items() if name in fields}, **config}
        if self.as_of is not None and "as_of" in fields:
            values.setdefault("as_of", self.as_of)
        return runtime_inputs.call(stage, values, results, self.settings, self.run_id).result

    def follow(
        self, pipeline: tuple[steps.Step, ...], night: Night, config: Mapping[str, dict[str, Any]]
    ) -> None:
        """Calls the steps as the DAGs do; what has not changed is cached."""
        for node in steps.nodes(pipeline, (TASK,)):
            self.status.update(f"night {night.number}: {node.name} …")
            upstream = (self.results[name] for name in node.upstream)
            self.results[node.name] = self.call(node.stage, config.get(node.stage, {}), *upstream)

    def run(self, number: int) -> Night:
        this = Night(number, night(number))
        self.run_id = f"{self.dataset}-night-{number}"
        self.as_of = this.at
        self.follow(steps.FEATURES, this, {})
        self.as_of = None
        this.built = self.results[f"labels_{TASK}"]
        this.arrived = nights_report.recorded(
            self.settings, self.results["silver"].events, night(number - 1), this.at
        )
        if self._is_wanted(this):
            self._retrain(this)
        self._round(this)
        return this

    def _is_wanted(self, this: Night) -> bool:
        """The drift check and its verdict; a hospital without a version needs none."""
        if self.served is None:
            return True
        if self.log is None:
            return False
        self.status.update(f"night {this.number}: drift …")
        span = {"start": night(this.number - self.hospital.window), "end": this.at, "predictions": self.log}
        this.drift = self.call("drift", span, self.served.frozen, self.served.trained)
        self.windows.append(this.drift)
        this.series = self._follow_performance(self.served, this)
        this.verdict = self.call("retrain_decision", {"windows": tuple(self.windows)}, this.series)
        return bool(this.verdict.retrain)

    def _follow_performance(self, served: Version, this: Night) -> Any:
        """The performance series of the served version, window after window of a week."""
        labels = self.results[f"labels_{TASK}"].labels
        seen = {"labels": labels, "predictions": self.log, "window": this.drift, "as_of": this.at}
        over = {"since": served.since, "window_days": WINDOW_DAYS, **served.evidence}
        return self.call("performance_series", {**seen, **over}, served.trained)

    def _retrain(self, this: Night) -> None:
        staged_at, approved_at = this.at + timedelta(hours=4), this.at + timedelta(hours=5)
        staging = {"target_alias": "staging", "moved_at": staged_at}
        try:
            self.follow(steps.TRAINING, this, {"promotion": staging})
        except QualityError as refusal:
            this.refusal = str(refusal)
            return
        this.staged = self.results[f"promotion_{TASK}"]
        if this.staged.staged:
            this.promoted = self._approve(approved_at)
            self._serve(this, approved_at)

    def _approve(self, at: datetime) -> Any:
        """Production is asked for, the policy decides; the history is read as it stood then, so a repeat finds this."""
        from mediscale.storage import history, registry

        (node,) = (node for node in steps.nodes(steps.TRAINING, (TASK,)) if node.stage == "promotion")
        before = [entry for entry in history.entries(self.settings, self.dataset) if entry.at < at]
        serving = [m.version for m in registry.moves_in(before) if m.alias == "production"]
        params = {
            "target_alias": "production",
            "moved_at": at,
            "sequence": len(before) + 1,
            "incumbent": serving[-1] if serving else None,
        }
        return self.call("promotion", params, *(self.results[name] for name in node.upstream))

    def _serve(self, this: Night, at: datetime) -> None:
        """Production where it was earned; staging as long as nothing was."""
        if this.promoted.promoted:
            alias = "production"
        elif self.served is None or self.served.alias == "staging":
            alias = "staging"
        else:
            return
        self.windows.clear()
        trained, frozen = self.results[f"late_fusion_{TASK}"], self.results[f"training_set_{TASK}"]
        evaluated = self.results[f"evaluate_{TASK}"]
        evidence = {"evidence": evaluated.evidence, "evidence_digest": evaluated.evidence_digest}
        self.served = Version(trained, frozen, evidence, at, alias)

    def _round(self, this: Night) -> None:
        if self.served is None:
            return
        self.status.update(f"night {this.number}: the morning's round …")
        params = {"alias": self.served.alias, "since": night(this.number - 1), "until": this.at}
        at = this.at + timedelta(hours=6)
        answered = self.call(
            "daily_predictions", {**params, "at": at}, self.results["silver"], self.served.trained
        )
        this.served, this.asked, self.log = self.served.trained.model, answered.asked, answered.predictions


def run(settings: Settings, nights: int, size: str) -> int:
    """Lives through the nights and prints a row for each; returns the exit code.

    Raises:
        UsageError: there are no such nights.
        BusyError: another run of this dataset is going on.
    """
    if not 1 <= nights <= MOST_NIGHTS:
        raise UsageError(
            f"The synthetic calendar has 1 to {MOST_NIGHTS} nights; --nights {nights} is not in it."
        )
    hospital, dataset = HOSPITALS[size], f"simulated-{size}"  # never a hospital's own
    made = {
        "dataset": dataset,
        "patients": hospital.patients,
        "days": HISTORY + MOST_NIGHTS,
        "notes": False,
        "reads_high_from": night(PLANTED_NIGHT - 1),
    }
    with exclusive(settings, f"run-{dataset}", f"A run of {dataset}"):
        report = nights_report.Report(dataset, nights)
        with report.progress.status("the hospital's records …") as status:
            this = Simulation(settings, dataset, hospital, status)
            this.results[steps.PREPARE_SOURCE] = call.call(
                "synthetic", made, settings, f"{dataset}-records"
            ).result
            report.begin(this.results[steps.PREPARE_SOURCE], night(1), PLANTED_NIGHT)
            for number in range(1, nights + 1):
                report.add(this.run(number))
    report.close(settings)
    return 0
