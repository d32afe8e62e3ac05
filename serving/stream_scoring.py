"""Stream scoring: the risks of the patients whom new events are about, by the code that the server answers with.

Each message is the answer that ``POST /predict`` gives of that patient at the newest moment of the record, with the
patient's number: model and version, reasons, and that a clinician has to judge it. It is in the prediction log before
it is published. A batch that comes again after a crash is scored again; patient, ``prediction_time``, task and version
say which messages tell the same. Versions in production answer, also while another one answers beside them in the
server.
"""

import asyncio
import json
import logging
from collections.abc import Iterable

from pydantic import TypeAdapter

from mediscale.core import caller
from mediscale.core.errors import InputError, NotFoundError
from mediscale.core.settings import Settings
from serving.log.logged_answers import Prediction, Requester
from serving.log.prediction_log import PredictionLog
from serving.requests.request import Patient
from serving.risk import responses
from serving.risk.models import Predictors
from serving.risk.patient_records import Patients
from serving.schemas import Answer

log = logging.getLogger(__name__)

_ANSWER = TypeAdapter(Answer)


class StreamScorer:
    """Scores the patients of batches of events, one dataset's."""

    def __init__(self, settings: Settings, dataset: str, requester: Requester) -> None:
        """Loads the versions in production.

        Raises:
            NotFoundError: there is none, or none whose files and signature are what was promoted.
        """
        self._predictors = Predictors(settings, dataset, "production")
        self._predictors.refresh()
        if not self._predictors.current:
            raise NotFoundError(
                "; ".join(self._predictors.refused.values())
                or f"No risk model of {dataset} is in production, so no event can be scored; leave out --risks-topic."
            )
        self._patients, self._requester = Patients(settings, dataset), requester
        self._log = PredictionLog(settings, dataset)

    def score(self, numbers: Iterable[str]) -> list[tuple[str, str]]:
        """Scores patients by the hospital's own numbers; the number and the message of each who may be asked about now.

        Raises:
            MediscaleError: the answers could not be logged; then none may be published.
        """
        self._predictors.refresh()
        served = self._predictors.current
        specs = [version.predictor.spec for version in served.values()]
        reads = any(version.predictor.reader for version in served.values())
        messages, logged, refused = [], list[Prediction](), 0
        for number in numbers:
            try:
                record = self._patients.find(Patient(number, None), specs, reads)
            except (InputError, NotFoundError):
                # No adult is in hospital, or the models are not made for this moment.
                refused += 1
                continue
            answer, rows = responses.of_patient(
                record, served, self._log.next_id(), caller.now(), responses.fall_back
            )
            content = _ANSWER.dump_python(answer, mode="json", exclude_none=True)
            messages.append((number, json.dumps({"patient": number, **content})))
            logged += rows
        if logged:
            asyncio.run(self._log.append(logged, self._requester))
        log.info("%d patients scored; %d may not be asked about now", len(messages), refused)
        return messages

    def close(self) -> None:
        """Moves what was logged to the lake, and frees the log."""
        try:
            self._log.flush()
        finally:
            self._log.close()
