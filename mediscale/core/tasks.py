"""The prediction tasks: one YAML file in ``data_pipeline/cohort/tasks/`` each, whose stem is the task's name.

A file says who is at risk, when it is predicted and when a server may be asked, what counts as the outcome and until
when, what the task needs of a source, its features, the bedside rule that a model has to beat, and the floors of its
promotion policy.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, ValidationError, model_validator

from mediscale.core import task_names
from mediscale.core.annotations import Declaration
from mediscale.core.concepts import CONCEPTS, TREATMENTS, Provides
from mediscale.core.errors import UsageError
from mediscale.core.policy import Policy
from mediscale.core.refs import Frozen

ADULT_YEARS = 18
"""Every task is about patients of at least this age at admission."""

Statistic = Literal["last", "min", "max", "mean", "sum", "count", "trend"]
Window = Literal["6h", "24h", "stay"]
CourseFeature = Literal["in_icu", "hours_since_admission"]


class FlowStep(Frozen):
    """One line of the cohort's flow diagram: a step that stays pass, or an outcome that they have."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    words: str = Field(min_length=1)


COHORT_STEPS = (
    FlowStep(name="visits", words="hospital visits in the records"),
    FlowStep(name="inpatient", words="inpatient admissions, without observation stays and births"),
    FlowStep(name="stays", words="stays, with transfers merged"),
    FlowStep(name="adults", words=f"stays of adults, {ADULT_YEARS} or older by a recorded birth"),
    FlowStep(name="ended", words="stays that have ended"),
    FlowStep(
        name="clear_about_death",
        words="stays that are clear about death: no word or flag of one in hospital without a time that fits",
    ),
)
"""The steps with which the flow of every task begins."""


class PredictionTime(Frozen):
    """When the outcome is predicted: some hours after admission, or at discharge."""

    anchor: Literal["admission", "discharge"]
    hours_after: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_moment(self) -> Self:
        if (self.anchor == "admission") != (self.hours_after > 0):
            raise ValueError(
                "give hours_after, at least 1, with the anchor admission, and leave it out at discharge"
            )
        return self


class MayBeAsked(Frozen):
    """The moments of a stay at which a model of the task answers for a patient of the lake; at others it refuses.

    A model says nothing of moments that are far from the one it was trained and judged on. Patients have to be at risk
    too: alive and in hospital, or just discharged to where the outcome can happen.
    """

    anchor: Literal["admission", "discharge"]
    hours: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    """The first and the last hour after the anchor, both included."""

    @property
    def words(self) -> str:
        """As a sentence goes on after "may be asked"."""
        if self.anchor == "discharge":
            return "at discharge"
        return (
            f"from {self.hours[0]} to {self.hours[1]} hours after admission, while the patient is in hospital"
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if (self.anchor == "admission") != (0 <= self.hours[0] < self.hours[1]):
            raise ValueError(
                "give hours, the first and the last, with the anchor admission, and leave them out at discharge"
            )
        return self


class AtRisk(Frozen):
    """Who is at risk at the prediction time. That the patient is alive, and still there, goes without saying."""

    words: str = Field(min_length=1)
    excluded_destinations: tuple[str, ...] = ()
    """Discharges after which the outcome can't happen, as silver codes them: ``HOSPICE``."""


class DeathInHospital(Frozen):
    """The outcome is death in hospital before the end of the stay."""

    event: Literal["death_in_hospital"]
    sentence: str = Field(min_length=1)
    labelled: FlowStep
    """The flow's last step: stays whose outcome is known."""
    positive: FlowStep
    negative: FlowStep

    @property
    def categories(self) -> tuple[FlowStep, ...]:
        """What may have happened, the outcome first."""
        return self.positive, self.negative


class Readmission(Frozen):
    """The outcome is that the next inpatient stay begins soon after discharge and is unplanned.

    Every stay needs the whole follow-up, whatever happened: else the newest patients would enter only if they came
    back. Death in that time is a competing event: such a stay is counted as not readmitted, and shown in the flow.
    A death after it is none: the stay had its whole follow-up.
    """

    event: Literal["readmission"]
    sentence: str = Field(min_length=1)
    within_days: int = Field(ge=1)
    """Follow-up after discharge."""
    unplanned_admissions: tuple[str, ...] = Field(min_length=1)
    """Kinds of admission that count, as silver codes them: ``EMERGENCY``."""
    labelled: FlowStep
    """The flow's last step: stays whose outcome is known."""
    positive: FlowStep
    planned_return: FlowStep
    competing_event: FlowStep
    negative: FlowStep

    @property
    def categories(self) -> tuple[FlowStep, ...]:
        """What may have happened, the outcome first."""
        return self.positive, self.planned_return, self.competing_event, self.negative


class Measured(Frozen):
    """Features ``<concept>_<statistic>_<window>`` of every concept with every statistic."""

    concepts: tuple[str, ...] = Field(min_length=1)
    window: Window
    statistics: tuple[Statistic, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _concepts_exist(self) -> Self:
        if unknown := sorted(set(self.concepts) - {concept.name for concept in CONCEPTS}):
            raise ValueError(f"mediscale/core/concepts.py has no concept {', '.join(unknown)}")
        return self


class Treated(Frozen):
    """Features ``treatment_<group>_<window>``: 1 when a treatment of the group was begun or changed in the window."""

    groups: tuple[str, ...] = Field(min_length=1)
    window: Window

    @model_validator(mode="after")
    def _groups_exist(self) -> Self:
        if unknown := sorted(set(self.groups) - set(TREATMENTS)):
            raise ValueError(f"mediscale/core/concepts.py has no treatment group {', '.join(unknown)}")
        return self


class Features(Frozen):
    """What a model of the task reads beside the person, earlier use of the hospital and comorbidity, which all read."""

    course: tuple[CourseFeature, ...] = ()
    measured: tuple[Measured, ...] = Field(min_length=1)
    treatments: tuple[Treated, ...] = ()

    @property
    def measurements(self) -> tuple[tuple[str, Statistic, Window], ...]:
        """(concept, statistic, window) of each measured feature, in order."""
        return tuple(
            (concept, statistic, block.window)
            for block in self.measured
            for concept in block.concepts
            for statistic in block.statistics
        )

    @property
    def treated(self) -> tuple[tuple[str, Window], ...]:
        """(treatment group, window) of each treatment feature, in order."""
        return tuple((group, block.window) for block in self.treatments for group in block.groups)

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for declared in (self.course, self.measurements, self.treated):
            if twice := next(
                (feature for i, feature in enumerate(declared) if feature in declared[:i]), None
            ):
                raise ValueError(
                    f"{' '.join((twice,) if isinstance(twice, str) else twice)} is declared twice"
                )
        newest = {concept for concept, statistic, _ in self.measurements if statistic == "last"}
        if without := sorted({concept for concept, _, _ in self.measurements} - newest):
            raise ValueError(
                f"{', '.join(without)} needs the statistic last in some window, the value that a request gives"
            )
        return self


class IntendedUse(Frozen):
    """What a model of the task is for, written by people for the model card."""

    purpose: str = Field(min_length=1)
    users: str = Field(min_length=1)
    role: Literal["informs", "augments", "replaces"]
    """What it does to clinical management."""
    cautioned: tuple[str, ...] = Field(min_length=1)
    """Sentences: tasks, situations and patients that it is not for."""


class Task(Frozen):
    """One prediction task, as its file declares it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = Field(min_length=1)
    intended_use: IntendedUse
    needs: tuple[Provides, ...] = Field(min_length=1)
    """The task is refused when the extract has none of these."""
    prediction_time: PredictionTime
    may_be_asked: MayBeAsked
    at_risk: AtRisk
    outcome: Annotated[DeathInHospital | Readmission, Field(discriminator="event")]
    features: Features
    bedside_rule: str
    """Name of the rule in ``training/evaluation/baselines.py`` that a model is compared with."""
    policy: Policy

    @property
    def steps(self) -> tuple[FlowStep, ...]:
        """The flow's steps; stays that pass the last are the cohort."""
        at_risk = FlowStep(name="at_risk", words=self.at_risk.words)
        return *COHORT_STEPS, at_risk, self.outcome.labelled

    @model_validator(mode="after")
    def _predicts_what_is_to_come(self) -> Self:
        anchor = "admission" if isinstance(self.outcome, DeathInHospital) else "discharge"
        if self.prediction_time.anchor != anchor:
            raise ValueError(f"{self.outcome.event} is predicted from {anchor}; set prediction_time.anchor")
        if self.at_risk.excluded_destinations and anchor == "admission":
            raise ValueError(
                "at_risk.excluded_destinations is known at discharge only; leave it out where the anchor is admission"
            )
        return self

    @model_validator(mode="after")
    def _may_be_asked_when_it_is_predicted(self) -> Self:
        moment, asked = self.prediction_time, self.may_be_asked
        if moment.anchor != asked.anchor or not asked.hours[0] <= moment.hours_after <= asked.hours[1]:
            raise ValueError(
                "may_be_asked leaves out the prediction_time, the one moment that a model is judged at"
            )
        return self

    @model_validator(mode="after")
    def _flow_names_differ(self) -> Self:
        names = [line.name for line in (*self.steps, *self.outcome.categories)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two lines of the flow have the name {', '.join(twice)}")
        return self


def load(name: str) -> Task:
    """The task of that name, read once.

    Raises:
        UsageError: there is no such task, or its file breaks the grammar.
    """
    return _load(task_names.FOLDER, name)


@cache
def _load(folder: Path, name: str) -> Task:
    if name not in task_names.names():
        raise UsageError(f"There is no task {name!r}; the tasks are {', '.join(task_names.names())}.")
    return parse(name, (folder / f"{name}.yaml").read_text())


def _existing(name: str) -> str:
    if name not in task_names.names():
        raise ValueError(f"there is no task {name!r}; the tasks are {', '.join(task_names.names())}")
    return name


TaskName = Annotated[str, AfterValidator(_existing), Declaration(load)]
"""The name of a task that exists; its parsed file is part of the key of a call."""


def parse(name: str, text: str) -> Task:
    """A task from the text of its file.

    Raises:
        UsageError: it breaks the grammar; the sentence says where.
    """
    import yaml

    try:
        content = yaml.safe_load(text)
        declared = content if isinstance(content, dict) else {}
        # As JSON, for only there a list is, strictly, what a tuple is written as.
        return Task.model_validate_json(json.dumps({**declared, "name": name}, default=str), strict=True)
    except (ValidationError, yaml.YAMLError) as error:
        problems = (
            "; ".join(_problems(error)) if isinstance(error, ValidationError) else _one_line(str(error))
        )
        raise UsageError(
            f"The task file {name}.yaml can't be used: {problems}; correct it in {task_names.FOLDER} and run again."
        ) from error


def _problems(error: ValidationError) -> Iterator[str]:
    """The first mistake, with its place in the file; and how many more there are."""
    first, *more = error.errors(include_input=False, include_url=False)
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    yield f"{where}: {_one_line(first['msg'].removeprefix('Value error, '))}"
    if more:
        yield f"and {len(more)} more"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".")
