"""The prediction tasks: one YAML file each, whose stem is the task's name (``mediscale.core.task_names`` says where).

A file says who is at risk, when it is predicted and when a server may be asked, what counts as the outcome and until
when, what the task needs of a source, its features, the bedside rule that a model has to beat, and the floors of its
promotion policy. Features and floors that tasks have in common are files in ``shared/``, which a task takes by name
with ``extends``; what it states itself stands in place of a shared entry. ``outcomes.py``, ``task_times.py``,
``task_features.py`` and ``policy.py`` beside this module have its parts.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from mediscale.core import bedside_rules, declaration_errors, declaration_files, task_names, yaml_text
from mediscale.core.annotations import Declaration
from mediscale.core.bedside_rules import BedsideRule
from mediscale.core.concepts import Provides
from mediscale.core.errors import UsageError
from mediscale.core.outcomes import (
    DeathInHospital,
    DeathInIcu,
    DeclaredOutcome,
    FlowStep,
    LongStay,
    Outcome,
    Readmission,
    ValueRise,
    Words,
)
from mediscale.core.policy import Policy
from mediscale.core.refs import Frozen
from mediscale.core.task_features import EventCode, Features
from mediscale.core.task_times import MayBeAsked, PredictionTime

ADULT_YEARS = 18
"""Every task is about patients of at least this age at admission."""

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

ENCOUNTER_STEPS = tuple(
    FlowStep(name="encounters", words="admissions, each by itself") if step.name == "stays" else step
    for step in COHORT_STEPS
)
"""The same where the unit is a visit."""


Unit = Literal["stay", "encounter"]


class Exclusion(FlowStep):
    """An exclusion: who is not at risk once one of some events is known; ``words`` say who is left."""

    codes: tuple[EventCode, ...] = Field(min_length=1)
    """Of these events."""
    window: Literal["stay", "record"]
    """Where they count: of this stay, or of the whole record."""


class AtRisk(Frozen):
    """Who is at risk at the prediction time; that the patient is alive and still there is required of every task."""

    words: Words
    excluded_destinations: tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], ...] = ()
    """Discharges after which the outcome can't happen, as silver codes them: ``HOSPICE``."""
    excluded: tuple[Exclusion, ...] = ()
    """Each a step of the flow."""


class IntendedUse(Frozen):
    """What a model of the task is for, written by people for the model card."""

    purpose: Words
    users: Words
    role: Literal["informs", "augments", "replaces"]
    """What it does to clinical management."""
    cautioned: tuple[Words, ...] = Field(min_length=1)
    """Sentences: tasks, situations and patients that it is not for."""


def _is_shared(name: str) -> str:
    declaration_files.shared(task_names.SHARED, name)
    return name


SharedFiles = Annotated[
    tuple[Annotated[str, AfterValidator(_is_shared)], ...], AfterValidator(lambda taken: taken[:0])
]


class Task(Frozen):
    """One prediction task, as its file declares it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    extends: SharedFiles = Field((), exclude=True)
    """Files of features and floors in ``shared/``, by name; of two with an entry the later one counts. Empty once they
    are taken: a task is its content, wherever that is written."""
    title: Words
    intended_use: IntendedUse
    unit: Unit = "stay"
    """What is predicted for: a stay with its transfers merged, by the patient's whole record; or each visit by itself,
    by its own rows and the patient's (birth, sex) alone, which is what a source without a calendar can support."""
    needs: tuple[Provides, ...]
    """The task is refused when the extract has none of these, where some are given."""
    prediction_time: PredictionTime
    may_be_asked: MayBeAsked
    at_risk: AtRisk
    outcome: Outcome
    features: Features
    bedside_rule: BedsideRule
    """The published score that a model is compared with."""
    policy: Policy

    @property
    def steps(self) -> tuple[FlowStep, ...]:
        """The flow's steps; stays that pass the last are the cohort."""
        steps = ENCOUNTER_STEPS if self.unit == "encounter" else COHORT_STEPS
        return *steps, *self._steps_of_predictions

    @property
    def _steps_of_predictions(self) -> tuple[FlowStep, ...]:
        at_risk = FlowStep(name="at_risk", words=self.at_risk.words)
        onset = (
            (self.outcome.baseline, self.outcome.first_onset) if isinstance(self.outcome, ValueRise) else ()
        )
        return at_risk, *self.at_risk.excluded, *onset, self.outcome.labelled

    @property
    def prediction_steps(self) -> tuple[FlowStep, ...]:
        """The flow's steps from ``at_risk`` on, counted in predictions; none where a stay has one prediction."""
        if not self.prediction_time.repeated:
            return ()
        return tuple(
            FlowStep(name=f"predictions_{step.name}", words=f"predictions: {step.words}")
            for step in self._steps_of_predictions
        )

    @model_validator(mode="after")
    def _predicts_what_is_to_come(self) -> Self:
        anchor = self.prediction_time.anchor
        if isinstance(self.outcome, DeathInHospital | ValueRise) and anchor == "discharge":
            raise ValueError(f"{self.outcome.event} is predicted from admission; set prediction_time.anchor")
        if isinstance(self.outcome, DeathInIcu) and anchor != "icu_admission":
            raise ValueError("death_in_icu is predicted from icu_admission; set prediction_time.anchor")
        if isinstance(self.outcome, LongStay) and (
            anchor != "admission" or self.prediction_time.hours[-1] >= 24 * self.outcome.longer_than_days
        ):
            raise ValueError("long_stay is predicted from admission, before its days are over")
        if isinstance(self.outcome, Readmission) and anchor != "discharge":
            raise ValueError("readmission is predicted from discharge; set prediction_time.anchor")
        if isinstance(self.outcome, Readmission) and self.unit == "encounter":
            raise ValueError("readmission compares visits, and the unit encounter looks at each by itself")
        if self.at_risk.excluded_destinations and anchor != "discharge":
            raise ValueError(
                "at_risk.excluded_destinations is known at discharge only; leave it out where the anchor is admission"
            )
        return self

    @model_validator(mode="after")
    def _may_be_asked_when_it_is_predicted(self) -> Self:
        moment, window = self.prediction_time, self.may_be_asked
        outside = moment.hours[0] < window.hours[0] or moment.hours[-1] > window.hours[1]
        if moment.anchor != window.anchor or outside:
            raise ValueError(
                "may_be_asked leaves out the prediction_time, the moment that a model is judged at"
            )
        return self

    @model_validator(mode="after")
    def _asks_for_lead_time_where_there_is_one(self) -> Self:
        is_declared = isinstance(self.outcome, DeclaredOutcome)
        if is_declared != (self.policy.alert_burden.lead_time_hours_low is None):
            raise ValueError(
                "policy.alert_burden.lead_time_hours_low must be null for a declared outcome: no time of it is known, "
                "so that no version could reach a number of hours"
                if is_declared
                else "policy.alert_burden.lead_time_hours_low may be null for a declared outcome only, of which no "
                "time is known; give a number of hours"
            )
        return self

    @model_validator(mode="after")
    def _has_what_its_rule_reads(self) -> Self:
        read = bedside_rules.READ[self.bedside_rule]
        if lacking := [name for name in read if name not in self.features.names]:
            raise ValueError(
                f"the bedside_rule {self.bedside_rule} reads {', '.join(lacking)}, which the features lack; add these, "
                "or name another rule"
            )
        return self

    @model_validator(mode="after")
    def _flow_names_differ(self) -> Self:
        names = [line.name for line in (*self.steps, *self.prediction_steps, *self.outcome.categories)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two lines of the flow have the name {', '.join(twice)}")
        return self


def load(name: str) -> Task:
    """The task of that name, read once.

    Raises:
        UsageError: there is no such task, or its file breaks the grammar.
    """
    if name in _tried:
        return _tried[name]
    file = task_names.file_of(name)
    if file is None:
        raise UsageError(f"There is no task {name!r}; the tasks are {', '.join(task_names.all_names())}.")
    return _parse_file(name, file)


_tried: dict[str, Task] = {}
"""Tasks of files that this process only tries."""


def attempt(name_or_file: str) -> Task:
    """A task to be tried, by its name or file; from then on this process, and no other one, knows it by its name.

    Raises:
        UsageError: there is no such task, its file breaks the grammar, or a shipped task has its name.
        InputError: the file can't be read.
    """
    if not declaration_files.is_file(name_or_file):
        return load(name_or_file)
    task, _ = _from_file(Path(name_or_file))
    _tried[task.name] = task
    return task


@cache
def _parse_file(name: str, file: Path) -> Task:
    return parse(name, file.read_text(encoding="utf-8"), file)


def register(name_or_file: str) -> str:
    """The name of a task that a person gives by its name or as a file of their own, which the home then keeps.

    Raises:
        UsageError: there is no such task, its file breaks the grammar, or a shipped task has its name.
        InputError: the file can't be read.
    """
    if not declaration_files.is_file(name_or_file):
        return load(name_or_file).name
    task, text = _from_file(Path(name_or_file))
    declaration_files.save_copy("task", task.name, text)
    _parse_file.cache_clear()
    return task.name


def _from_file(path: Path) -> tuple[Task, str]:
    name, text = declaration_files.read("task", path)
    if task_names.is_shipped(name):
        raise UsageError(f"A shipped task is called {name}; give {path.name} another name.")
    return parse(name, text, path), text


def _existing(name: str) -> str:
    if task_names.file_of(name) is None:
        raise ValueError(f"there is no task {name!r}; the tasks are {', '.join(task_names.all_names())}")
    return name


TaskName = Annotated[str, AfterValidator(_existing), Declaration(load)]
"""The name of a task that exists; its parsed file is part of the key of a call."""


def parse(name: str, text: str, file: Path | None = None) -> Task:
    """A task from the text of its file.

    Raises:
        UsageError: it breaks the grammar; the sentence says where.
    """
    import yaml

    try:
        content = yaml_text.content(text)
        declared = declaration_files.extended(task_names.SHARED, content) if isinstance(content, dict) else {}
        # As JSON, for only there a list is, strictly, what a tuple is written as.
        return Task.model_validate_json(json.dumps({**declared, "name": name}, default=str), strict=True)
    except (ValidationError, yaml.YAMLError) as error:
        raise UsageError(
            f"The task file {name}.yaml can't be used: {declaration_errors.sentence(error, text, Task)}; correct it in "
            f"{file.absolute().parent if file else task_names.FOLDER} and run again."
        ) from error
