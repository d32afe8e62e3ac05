"""Console report of simulated nights: a row as each ends, and a summary after the last."""

import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mediscale.core.commands import program
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class NightCounts:
    """Counts of what was recorded between two nights."""

    admissions: int
    discharges: int
    events: int


@dataclass
class Night:
    """The events of one night; an attribute is None where that did not happen."""

    number: int
    at: datetime
    arrived: NightCounts | None = None
    built: Any = None
    """Result of the labels stage."""
    drift: Any = None
    series: Any = None
    """Result of the performance series."""
    verdict: Any = None
    staged: Any = None
    promoted: Any = None
    """Results of the promotion stage, asked for staging and for production."""
    refusal: str = ""
    """Why nothing could be trained."""
    served: ModelRef | None = None
    asked: int = 0


def recorded(settings: Settings, events: TableRef, since: datetime, until: datetime) -> NightCounts:
    """The lake's events that became known after ``since`` and by ``until``."""
    from mediscale.storage import lake

    return count(lake.read(settings, events, ["code", "available_time"]), since, until)


def count(events: "pa.Table", since: datetime, until: datetime) -> NightCounts:
    """Counts events by their columns ``code`` and ``available_time``."""
    import pyarrow.compute as pc

    available = events["available_time"]
    new = events.filter(pc.and_(pc.greater(available, since), pc.less_equal(available, until)))["code"]

    def of(head: str) -> int:
        return int(pc.sum(pc.starts_with(new, head), min_count=0).as_py())

    return NightCounts(of("HOSPITAL_ADMISSION//"), of("HOSPITAL_DISCHARGE//"), len(new))


_HEADER = (
    f"{'night':>5}  {'as of':<16}  {'arrived':<37}  {'built':<24}  {'drift of the answers':<24}  {'verdict':<8}"
    f"  {'weeks of outcomes':<17}  {'asked':>5}  version"
)


@dataclass
class Report:
    """Prints rows to standard output and progress to standard error."""

    dataset: str
    nights: int
    console: Console = field(
        default_factory=lambda: Console(
            highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200
        )
    )
    progress: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    lived: list[Night] = field(default_factory=list)

    def begin(self, hospital: Any, first: datetime, planted: int) -> None:
        self.console.print(
            f"A synthetic hospital: {hospital.patients:,} patients, {hospital.visits:,} visits from January 2022 on. "
            f"Night 1 is {first:%Y-%m-%d}; from night {planted} on an analyser of its laboratory reads high."
        )
        self.console.print(f"[bold]{_HEADER}[/]")

    def add(self, night: Night) -> None:
        self.lived.append(night)
        self.console.print(row(night), markup=False)

    def close(self, settings: Settings) -> None:
        """Every judgement that moved something, in sentences, and where to look next."""
        self.console.print("\n[bold]what happened[/]")
        for night in self.lived:
            for sentence in sentences(night):
                self.console.print(f"  night {night.number:>2}: {sentence}", markup=False)
        self.console.print("\n[bold]next[/]")
        self.console.print(f"  {program('mediscale')} history --dataset {self.dataset}", markup=False)
        reports = [night.drift.report for night in self.lived if night.drift and night.drift.report]
        if reports:
            self.console.print(f"  the newest drift report: {settings.home / reports[-1]}", markup=False)
        self.console.print(
            "\nSynthetic patients. Every output of a model needs a clinician's judgement.", style="dim"
        )


def row(night: Night) -> str:
    arrived, built = night.arrived, night.built
    came = (
        f"{arrived.admissions:>3} in, {arrived.discharges:>3} out, {arrived.events:>7,} events"
        if arrived
        else ""
    )
    labelled = f"{built.at_risk:,} stays, {built.positives:,} died" if built else ""
    verdict = "" if night.verdict is None else "retrain" if night.verdict.retrain else "keep"
    return (
        f"{night.number:>5}  {night.at:%Y-%m-%d %H:%M}  {came:<37}  {labelled:<24}  {_drift(night):<24}  {verdict:<8}"
        f"  {_outcomes(night):<17}  {night.asked:>5}  {_version(night)}"
    ).rstrip()


def _drift(night: Night) -> str:
    drift = night.drift
    if drift is None:
        return ""
    if not drift.judged:
        return f"too few (n={drift.n})"
    if not drift.drifted:
        return f"quiet (n={drift.judged})"
    moved = len(drift.drifted_columns) + len(drift.drifted_missing)
    what = "risks" if not moved else "1 input" if moved == 1 else f"{moved} inputs"
    return f"{what} drifted (n={drift.judged})"


def _outcomes(night: Night) -> str:
    series = night.series
    return f"{series.measured} known, {series.estimated} open" if series else ""


def _version(night: Night) -> str:
    version = f"v{night.served.version}" if night.served else "none"
    if night.refusal:
        return f"{version}; nothing trained"
    if night.staged is None:
        return version
    new = f"v{night.staged.model.version}"
    if not night.staged.staged:
        return f"{version}; {new} refused"
    if night.promoted.promoted:
        return f"{version}; {new} to production"
    return f"{version}; {new} staged, production refused"


def sentences(night: Night) -> list[str]:
    """One sentence for each judgement that moved something, or should have."""
    lines = []
    if night.drift is not None and night.drift.drifted:
        lines.append(night.drift.summary)
    if night.verdict is not None and night.verdict.retrain:
        lines.append(f"retrain: {night.verdict.reason}")
    if night.refusal:
        lines.append(f"nothing was trained: {night.refusal}")
    if night.staged is not None:
        decided = night.promoted or night.staged
        lines.append(f"{decided.model}: {decided.reason}")
    return lines
