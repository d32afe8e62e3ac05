"""The subject of a model card: a decided version, and the report data of the run that made it."""

from dataclasses import dataclass

from mediscale.core import tasks
from mediscale.report.data import Contents, DecidedVersion, Flow, LandedExtract
from training.evaluation.evaluation_report import Evidence


@dataclass(frozen=True)
class Subject:
    """What a card is about. ``flow`` is that of its task, where the cohort was labelled in this run."""

    contents: Contents
    decided: DecidedVersion
    flow: Flow | None

    @property
    def task(self) -> tasks.Task:
        return tasks.load(self.decided.evidence.task)

    @property
    def evidence(self) -> Evidence:
        return self.decided.evidence

    @property
    def landed(self) -> LandedExtract:
        return self.contents.landed
