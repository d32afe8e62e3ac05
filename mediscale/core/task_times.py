"""Prediction times of a task: when its outcome is predicted, and when a server may be asked for it.

The grammar of a task's file is in ``mediscale/core/tasks.py``.
"""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from mediscale.core.refs import Frozen

Anchor = Literal["admission", "icu_admission", "discharge"]
"""What hours are counted from. ``icu_admission`` is each one of a stay: the stays in intensive care are predicted."""


class PredictionTime(Frozen):
    """When the outcome is predicted: some hours after admission, to the hospital or to intensive care, and every so
    many hours from then on where it is repeated; or at discharge."""

    anchor: Anchor
    hours_after: int = Field(0, ge=0)
    every_hours: int | None = Field(None, ge=1)
    """Between two predictions of a stay; None where there is one."""
    until_hours: int | None = Field(None, ge=1)
    """After the anchor, of the last prediction that is made while the patient is at risk."""

    @property
    def hours(self) -> range:
        """Hours from the anchor to each prediction."""
        return range(self.hours_after, (self.until_hours or self.hours_after) + 1, self.every_hours or 1)

    @property
    def repeated(self) -> bool:
        """Whether a stay may have more than one prediction."""
        return self.every_hours is not None or self.anchor == "icu_admission"

    @property
    def words(self) -> str:
        """The prediction time in words that follow "is predicted"."""
        if self.anchor == "discharge":
            return "at discharge"
        first = f"{self.hours_after} hours after {self.anchor.replace('_', ' ')}"
        if self.every_hours is None:
            return first
        return f"{first} and every {self.every_hours} hours until hour {self.until_hours}"

    @model_validator(mode="after")
    def _one_moment(self) -> Self:
        if (self.anchor == "discharge") == (self.hours_after > 0):
            raise ValueError(
                "give hours_after, at least 1, with the anchor admission, and leave it out at discharge"
            )
        if (self.every_hours is None) != (self.until_hours is None):
            raise ValueError("every_hours and until_hours belong together; give both, or none")
        if self.every_hours is not None and self.anchor == "discharge":
            raise ValueError("a stay has one discharge; leave every_hours and until_hours out")
        if self.until_hours is not None and self.until_hours <= self.hours_after:
            raise ValueError(
                f"until_hours ({self.until_hours}) must be later than hours_after ({self.hours_after})"
            )
        return self


class MayBeAsked(Frozen):
    """The moments of a stay at which a model of the task answers for a patient of the lake; at others it refuses.

    A model says nothing of moments that are far from the one it was trained and judged on. Patients have to be at risk
    too: alive and in hospital, or just discharged to where the outcome can happen.
    """

    anchor: Anchor
    hours: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    """The first and the last hour after the anchor, both included."""

    @property
    def words(self) -> str:
        """The moments in words that follow "may be asked"."""
        if self.anchor == "discharge":
            return "at discharge"
        where = "in intensive care" if self.anchor == "icu_admission" else "in hospital"
        after = "admission to intensive care" if self.anchor == "icu_admission" else "admission"
        return f"from {self.hours[0]} to {self.hours[1]} hours after {after}, while the patient is {where}"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if (self.anchor == "discharge") == (0 <= self.hours[0] < self.hours[1]):
            raise ValueError(
                "give hours, the first and the last, with the anchor admission, and leave them out at discharge"
            )
        return self
