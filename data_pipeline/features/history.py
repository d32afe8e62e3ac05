"""Features of a patient's whole record: demographics, earlier visits, intensive care and comorbidity."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_pipeline.cohort.bitemporal import DAY, HOUR, Bools, Floats, Ints
from data_pipeline.features import comorbidity, kinds
from data_pipeline.features.windows import STAY, Predictions, Rows
from mediscale.core import tasks
from mediscale.core.tasks import TaskName

YEAR = 365.2425 * DAY

OLDEST = 90.0
"""Years. Higher ages count as this one, as HIPAA demands; MIMIC-III moves such births 300 years back."""


@dataclass(frozen=True)
class History:
    """The administrative rows that are visible to each prediction."""

    predictions: Predictions
    prediction: Ints
    """For each visible row, the index of its prediction."""
    visible: Rows

    def features(self, task: TaskName) -> Iterator[tuple[str, Floats]]:
        yield "age_years", np.minimum(self._age(), OLDEST)
        yield (
            "sex_female",
            self._newest(
                self._of(kinds.FEMALE, kinds.MALE), (self.visible.kind == kinds.FEMALE).astype(np.float64)
            ),
        )
        earlier = self.visible.time < self.predictions.admission[self.prediction]
        recent = self.visible.time >= self.predictions.admission[self.prediction] - 365 * DAY
        admitted = self._of(kinds.ADMITTED, kinds.ADMITTED_URGENTLY)
        yield "emergency_admission", self._urgent(admitted & ~earlier)
        yield "prior_visits_365d", self._count(admitted & earlier & recent)
        left = self._newest(
            self._of(kinds.DISCHARGED) & earlier & ~self._not_inpatient(),
            self.visible.time.astype(np.float64),
        )
        yield "days_since_last_discharge", (self.predictions.admission - left) / DAY
        # The window of the stay counts, because intensive care may chart a patient minutes before the admission.
        in_stay = self.visible.time > self.predictions.start(STAY)[self.prediction]
        to_icu = self._count(self._of(kinds.TO_ICU) & in_stay)
        yield "icu_stays_this_visit", to_icu
        course = tasks.load(task).features.course
        if "in_icu" in course:
            yield "in_icu", (to_icu > self._count(self._of(kinds.FROM_ICU) & in_stay)).astype(np.float64)
        if "hours_since_admission" in course:
            yield "hours_since_admission", (self.predictions.time - self.predictions.admission) / HOUR
        yield from self._comorbidity()

    def _age(self) -> Floats:
        """Age in years, by the birth or else by the newest stated age plus the time since."""
        by_birth = (self.predictions.time - self._time(kinds.BIRTH)) / YEAR
        if not self._of(kinds.AGE).any():
            return np.asarray(by_birth)
        stated = self._newest(self._of(kinds.AGE), self.visible.value)
        return np.where(
            np.isnan(by_birth), stated + (self.predictions.time - self._time(kinds.AGE)) / YEAR, by_birth
        )

    def _of(self, *kinds: int) -> Bools:
        return np.isin(self.visible.kind, kinds)

    def _not_inpatient(self) -> Bools:
        """Whether each row belongs to a visit that was not inpatient, by what was known at the prediction time."""
        _, visit_index = np.unique(self.visible.visit, return_inverse=True)
        pair = self.prediction * (len(visit_index) + 1) + visit_index
        return np.asarray(np.isin(pair, pair[self._of(kinds.OBSERVED)]) & (self.visible.visit != 0))

    def _count(self, chosen: Bools) -> Floats:
        return np.bincount(self.prediction[chosen], minlength=len(self.predictions.time)).astype(np.float64)

    def _newest(self, chosen: Bools, value: Floats) -> Floats:
        newest = np.full(len(self.predictions.time), np.nan)
        newest[self.prediction[chosen]] = value[chosen]  # in time order: the last assignment stays
        return newest

    def _time(self, kind: int) -> Floats:
        return self._newest(self._of(kind), self.visible.time.astype(np.float64))

    def _urgent(self, admitted: Bools) -> Floats:
        """Whether the stay's first admission was urgent, NaN where none is visible; later admissions are transfers."""
        backwards = np.flatnonzero(admitted)[::-1]
        urgent = np.full(len(self.predictions.time), np.nan)
        urgent[self.prediction[backwards]] = self.visible.kind[backwards] == kinds.ADMITTED_URGENTLY
        return urgent

    def _comorbidity(self) -> Iterator[tuple[str, Floats]]:
        bits = np.zeros(len(self.predictions.time), dtype=np.int64)
        coded = self._of(kinds.DIAGNOSED)
        np.bitwise_or.at(bits, self.prediction[coded], self.visible.diagnosis_bits[coded])
        yield from zip((group.name for group in comorbidity.GROUPS), comorbidity.flags(bits).T, strict=True)
        yield "charlson_score", comorbidity.charlson_score(bits)
