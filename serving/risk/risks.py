"""Risks: the answer to one request by the versions that are served, computed where it keeps few others waiting."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from data_pipeline.notes.deidentification import deidentifier as deidentifiers
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.inference.model_spec import PredictorSpec
from serving.metrics.prometheus_metrics import Metrics
from serving.pools import Pool
from serving.requests.fhir_bundle import Bundle
from serving.requests.request import Patient, Values
from serving.risk import note_reader, patient_records, responses
from serving.risk.challengers import Challengers, Computed
from serving.risk.models import Predictors
from serving.risk.note_reader import Readings, ServedReader
from serving.risk.patient_records import PatientRecord, Patients
from serving.risk.served import ServedVersion, ServedVersions
from serving.traffic import arms
from serving.traffic.splits import Split


class Risks:
    """What one worker process computes for a request, whoever answers beside production."""

    def __init__(
        self,
        settings: Settings,
        predictors: Predictors,
        next_id: Callable[[], str],
        clock: Callable[[], datetime],
        pools: tuple[Pool, Pool],
        metrics: Metrics,
    ) -> None:
        """``pools`` are those of the notes and of the lake's patients."""
        self._splits, self._next_id = predictors.splits, next_id
        self._deidentifier = deidentifiers.configured(settings)
        self.patients = Patients(settings, predictors.dataset)
        self._notes, self._records = pools
        self._challengers, self._metrics = Challengers(predictors.splits, metrics, clock), metrics

    async def compute(
        self, request: Values | Patient | Bundle, served: ServedVersions, now: datetime
    ) -> Computed:
        """The answer, and the rows of the log: where another version answers beside production, each with its arm."""
        splits = self._splits.current
        if not splits:
            return await self.compute_by(request, served, now)
        key = arms.subject_key(request)
        drawn = [split for split in splits.values() if split.draws(key)]
        if drawn and self._challengers.has_room:
            answer, logged = await self._compute_beside(request, served, now, drawn)
        else:
            answer, logged = await self.compute_by(request, served, now)
        of_task = {task: split.arm(key) for task, split in splits.items()}
        return answer, [row if row.arm else replace(row, arm=of_task.get(row.task)) for row in logged]

    async def compute_by(
        self, request: Values | Patient | Bundle, served: ServedVersions, now: datetime
    ) -> Computed:
        """The answer of the served versions alone, and its log rows, which have no arm."""
        if isinstance(request, Values):
            reading = partial(self._readings, request, now, served)
            readings = {} if request.note is None else await self._notes.run(reading)
            return self._of_values(request, self._next_id(), now, served, readings)

        def of_patient() -> Computed:
            record = self._record(request, served.values())
            return self._of_record(record, self._next_id(), now, served)

        return await self._records.run(of_patient)

    async def _compute_beside(
        self,
        request: Values | Patient | Bundle,
        served: ServedVersions,
        now: datetime,
        drawn: Sequence[Split[ServedVersion]],
    ) -> Computed:
        """The answer and its log rows for a patient for whom other versions are drawn, too."""
        prediction_id = self._next_id()
        if isinstance(request, Values):
            of = partial(self._of_values_with_note, request, prediction_id, now)
        else:
            versions = (*served.values(), *(split.version for split in drawn))
            record = await self._records.run(partial(self._record, request, versions))
            of = partial(self._of_record, record, prediction_id, now)
            if not self._challengers.has_room:  # any more: others came while the record was read
                return await self._records.run(partial(of, served))
        return await self._challengers.answer(
            partial(of, served),
            [(split, partial(of, ServedVersions({split.traffic.task: split.version}))) for split in drawn],
        )

    def _of_values(
        self, request: Values, prediction_id: str, now: datetime, served: ServedVersions, readings: Readings
    ) -> Computed:
        return responses.of_values(request, served, prediction_id, now, readings, self._fall_back)

    def _of_values_with_note(
        self, request: Values, prediction_id: str, now: datetime, served: ServedVersions
    ) -> Computed:
        return self._of_values(request, prediction_id, now, served, self._readings(request, now, served))

    def _readings(self, request: Values, now: datetime, served: ServedVersions) -> Readings:
        """What those of the versions that read notes make of the request's."""
        readers = [version.predictor.reader for version in served.values()]
        served_readers = [reader for reader in readers if isinstance(reader, ServedReader)]
        if request.note is None or not served_readers:
            return {}
        return note_reader.read(served_readers, request.note, self._deidentifier, now)

    def _of_record(
        self, record: PatientRecord, prediction_id: str, now: datetime, served: ServedVersions
    ) -> Computed:
        return responses.of_patient(record, served, prediction_id, now, self._fall_back)

    def _fall_back(self, version: ServedVersion, error: Exception) -> ServedVersion:
        """``responses.fall_back``, which is counted."""
        points_score = responses.fall_back(version, error)
        self._metrics.fallback_answers.labels(version.predictor.spec.task, version.model.version).inc()
        return points_score

    def _record(self, request: Patient | Bundle, versions: Iterable[ServedVersion]) -> PatientRecord:
        """The patient's record with the features that these versions need."""
        versions = list(versions)
        specs: dict[TaskName, PredictorSpec] = {}
        for version in versions:
            specs.setdefault(version.predictor.spec.task, version.predictor.spec)
        if isinstance(request, Bundle):
            return patient_records.of_bundle(request, list(specs.values()))
        reads = any(version.predictor.reader for version in versions)
        return self.patients.find(request, list(specs.values()), reads)
