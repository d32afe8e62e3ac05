"""Outcomes of prediction tasks, as their files declare them: what counts, until when, and what may happen instead."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mediscale.core.concepts import CONCEPTS
from mediscale.core.near_names import suggestion
from mediscale.core.refs import Frozen

OUTCOME = "OUTCOME"
"""The head of the codes of a source's declared outcomes: no feature reads them."""

Words = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")]
"""A line for people: something stands in it, and nothing that is no character."""


class FlowStep(Frozen):
    """One line of the cohort's flow diagram: a step that stays pass, or an outcome that they have."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    words: Words


class _Declared(Frozen):
    """What every outcome declares."""

    sentence: Words
    labelled: FlowStep
    """The flow's last step: those whose outcome is known."""
    positive: FlowStep
    negative: FlowStep
    others: ClassVar[tuple[str, ...]] = ()
    """The fields of what may happen beside these two."""

    @property
    def categories(self) -> tuple[FlowStep, ...]:
        """What may have happened, the outcome first."""
        return self.positive, *(getattr(self, name) for name in self.others), self.negative


class DeathInHospital(_Declared):
    """The outcome is death in hospital before the end of the stay."""

    event: Literal["death_in_hospital"]


class DeathInIcu(_Declared):
    """The outcome is death in intensive care, before the patient leaves it for the first time after the prediction."""

    event: Literal["death_in_icu"]
    others = ("died_later",)
    died_later: FlowStep
    """Left intensive care alive, and died in hospital."""


InpatientAdmission = Literal["EMERGENCY", "URGENT", "ELECTIVE", "OTHER"]
"""How silver codes an admission (``HOSPITAL_ADMISSION//…``) that begins a stay: births and observations don't."""


class Readmission(_Declared):
    """The outcome is that the next inpatient stay begins soon after discharge and is unplanned.

    Every stay needs the whole follow-up, whatever happened: else the newest patients would enter only if they came
    back. Death in that time is a competing event: such a stay is counted as not readmitted, and shown in the flow.
    A death after it is none: the stay had its whole follow-up.
    """

    event: Literal["readmission"]
    others = ("planned_return", "competing_event")
    within_days: int = Field(ge=1)
    """Follow-up after discharge."""
    unplanned_admissions: tuple[InpatientAdmission, ...] = Field(min_length=1)
    """Kinds of admission that count."""
    planned_return: FlowStep
    competing_event: FlowStep


class DeclaredOutcome(_Declared):
    """The outcome is a column that the source declares as one: events ``OUTCOME//…`` of the visit, 1 or 0.

    It is taken as the source has it, and the evidence says so: nobody can look at how it came about.
    """

    event: Literal["declared"]
    code: str = Field(pattern=rf"^{OUTCOME}//[^*]+$")


class LongStay(_Declared):
    """The outcome is that the stay lasts longer than some days. Death before that is a competing event: such a stay is
    counted as not long, and shown in the flow."""

    event: Literal["long_stay"]
    others = ("competing_event",)
    longer_than_days: int = Field(ge=1)
    competing_event: FlowStep


class Rise(Frozen):
    """A value stands above the lowest one of some hours before: ``by`` an amount in the concept's unit, or at so many
    ``times`` of it."""

    by: float | None = Field(None, gt=0)
    times: float | None = Field(None, gt=1)
    within_hours: int = Field(ge=1)

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.by is None) == (self.times is None):
            raise ValueError("give one of by and times")
        return self


class ValueRise(_Declared):
    """The outcome is the first rise of a measured value over its own earlier values, within hours of the prediction.

    The baseline of a value is the lowest one of so many hours before it. Who has had a rise by then is not at risk; of
    whom nothing is measured in the hours after, the outcome is not known. Follow-up ends with the stay: who dies, or is
    discharged, before a rise is counted as without the outcome, and shown in the flow.
    """

    event: Literal["value_rise"]
    others = ("competing_event", "discharged")
    concept: str
    rises: tuple[Rise, ...] = Field(min_length=1)
    """Any of them."""
    within_hours: int = Field(ge=1)
    """After the prediction."""
    baseline: FlowStep
    """A step of the flow: with a value to compare with, known by then and no older than the longest of ``rises``."""
    first_onset: FlowStep
    """A step of the flow: without a rise by then, neither one that was known nor one that came out later."""
    competing_event: FlowStep
    discharged: FlowStep

    @property
    def lookback_hours(self) -> int:
        """How old a value may be that a later one is compared with."""
        return max(rise.within_hours for rise in self.rises)

    @model_validator(mode="after")
    def _concept_exists(self) -> Self:
        concepts = {concept.name: concept for concept in CONCEPTS}
        if self.concept not in concepts:
            raise ValueError(
                f"mediscale/core/concepts.py has no concept {self.concept}; {suggestion(self.concept, concepts)}"
            )
        return self

    @model_validator(mode="after")
    def _rises_can_happen(self) -> Self:
        concept = next(concept for concept in CONCEPTS if concept.name == self.concept)
        for rise in self.rises:
            if rise.times is not None and concept.low <= 0:
                raise ValueError(
                    f"{self.concept} may be {concept.low:g} {concept.unit}, of which times says nothing; give by"
                )
            least = concept.low + rise.by if rise.by is not None else concept.low * (rise.times or 1)
            if least > concept.high:
                raise ValueError(
                    f"a rise of {self.concept} that ends above {concept.high:g} {concept.unit}, where values are no "
                    "longer plausible, can't happen"
                )
        return self


Outcome = Annotated[
    DeathInHospital | DeathInIcu | Readmission | DeclaredOutcome | LongStay | ValueRise,
    Field(discriminator="event"),
]
