"""A window of the prediction log, as the parameters of a stage that judges one."""

from typing import Self

from pydantic import Field, NaiveDatetime, model_validator

from mediscale.core.refs import Frozen, TableRef


class LogWindow(Frozen):
    """Which answers are judged, and how seldom those of an undrifted window may be called drifted."""

    dataset: str
    predictions: TableRef
    """The log."""
    start: NaiveDatetime
    """Of the window, on ``predicted_at``, included."""
    end: NaiveDatetime
    """Excluded."""
    family_wise_error_rate: float = Field(0.05, gt=0, lt=1)
    """Share of undrifted windows that may be called drifted."""
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise ValueError("the window's start must be before its end")
        return self
