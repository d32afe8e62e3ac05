"""The service that all endpoints of one worker process share: versions, log, patients, metrics."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Literal, TypeVar

from pydantic import TypeAdapter

from data_pipeline.notes.analysis import RULES_VERSION, NoteAnalysis, analyze
from data_pipeline.notes.deidentification import deidentifier as deidentifiers
from data_pipeline.notes.deidentification import pseudonym_secret
from mediscale.core.errors import BusyError, MediscaleError, NotFoundError
from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from serving import schemas
from serving.language.language_service import LanguageService
from serving.language.languages import Languages, ServedLanguage
from serving.log import feedback
from serving.log.feedback import FeedbackRequest, FeedbackTaken
from serving.log.logged_answers import NOTE_ANALYSIS, AnalysedNote, Feedback, Prediction, Requester
from serving.log.prediction_log import PredictionLog, flush_orphaned_logs
from serving.metrics.night_gauges import NightGauges
from serving.metrics.performance_gauges import PerformanceGauges
from serving.metrics.prometheus_metrics import Metrics
from serving.pools import Pool
from serving.problems import WHAT_FAILED, Problems
from serving.requests.fhir_bundle import Bundle
from serving.requests.large_texts import LargeTexts
from serving.requests.request import Patient, Values, parse
from serving.risk.challengers import Computed
from serving.risk.models import Predictors
from serving.risk.risks import Risks
from serving.risk.served import ServedVersion, ServedVersions
from serving.schemas import Answer, BesideHealth, Health, ModelHealth
from serving.security import certificates
from serving.security.access import Access
from serving.security.listening import Listening
from serving.traffic.splits import Split

Clock = Callable[[], datetime]
R = TypeVar("R")

_ANSWER = TypeAdapter(Answer)
NOTE_THREADS, NOTES = 1, 16
"""Notes are read one after another in a helper process; more than these at a time are answered 503."""
RECORD_THREADS, RECORDS = 4, 64
"""The same for patients of the lake, whose records are waited for."""
SUBJECT_THREADS, SUBJECT_SECONDS = 4, 3.0
"""For finding whom the lake has a bundle's patient as, and how long an answer waits for it."""


class Service:
    """What the endpoints share in one worker process."""

    def __init__(
        self,
        settings: Settings,
        predictors: Predictors,
        prediction_log: PredictionLog,
        clock: Clock,
        listening: Listening | None,
        languages: Languages,
        language_log: PredictionLog,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.predictors = predictors
        self.log = prediction_log
        self.metrics = Metrics(background=tuple(WHAT_FAILED))
        self.access = Access(settings, listening, self.metrics)
        self._validity: tuple[datetime, datetime] | None = None
        """Of the certificate that the listener was opened with."""
        if listening is not None and listening.certificate is not None:
            self._validity = certificates.validity(listening.certificate)
            self.metrics.certificate.set(self._validity[1].replace(tzinfo=UTC).timestamp())
        self._notes = Pool("clinical notes", NOTE_THREADS, NOTES)
        self._records = Pool("patients of the lake", RECORD_THREADS, RECORDS)
        self._subjects = Pool("patients of bundles", SUBJECT_THREADS, RECORDS)
        self._late_search: asyncio.Future[int | None] | None = None
        """In the lake, which hangs until it is done."""
        self._large_texts = LargeTexts()
        self.draining = False
        """Whether the server was told to end: it answers on, and says that it is not ready."""
        # its surrogates are never stored, so that they need not be secret, and equal notes give equal answers
        self._deidentifier = deidentifiers.load(
            deidentifiers.configured(settings), pseudonym_secret.PUBLISHED_SECRET
        )
        pools = self._notes, self._records
        self._risks = Risks(settings, predictors, prediction_log.next_id, clock, pools, self.metrics)
        self._performance = PerformanceGauges(settings, predictors.dataset, self.metrics)
        self._questions = PerformanceGauges(settings, languages.dataset, self.metrics)
        self._nights = NightGauges(settings, predictors.dataset, self.metrics)
        self._problems = Problems(self.metrics.failures)
        self.language = LanguageService(
            settings, languages, language_log, clock, self._deidentifier, self.metrics, self._large_texts
        )
        self._logs = tuple({id(each): each for each in (prediction_log, language_log)}.values())

    async def predict(self, body: bytes, requester: Requester) -> bytes:
        """One answer in JSON, durable in the log, with who asked, when this returns.

        Raises:
            MediscaleError: the request is wrong, no model is served, or the log could not take the answer.
        """
        answer, logged = await self._computed(await self.parsed(parse, body))
        return await self._durable_json(answer, logged, requester)

    async def answer(self, request: Values | Patient | Bundle, requester: Requester) -> Answer:
        """Answers a request that was parsed already; the answer is durable in the log when this returns.

        Raises:
            MediscaleError: nothing can be predicted, no model is served, or the log could not take the answer.
        """
        answer, logged = await self._computed(request)
        if isinstance(request, Bundle):
            subject_id = await self._subject_of(request)
            logged = [replace(row, subject_id=subject_id) for row in logged]
        await self._durable(answer, logged, requester)
        return answer

    async def _subject_of(self, bundle: Bundle) -> int | None:
        """Whom the lake has a bundle's patient as. The answer needs no lake: it does not wait for one that hangs, and
        goes out under no patient, as do those after it until the lake has answered."""
        try:
            if self._late_search is not None and not self._late_search.done():
                raise TimeoutError
            search = asyncio.ensure_future(
                self._subjects.run(partial(self._risks.patients.subject_of, bundle))
            )
            search.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            if not (await asyncio.wait({search}, timeout=SUBJECT_SECONDS))[0]:
                self._late_search = search
                raise TimeoutError
            subject_id = search.result()
        except Exception as error:
            self._problems.note("patients", error)
            return None
        self._problems.end("patients")
        return subject_id

    async def _computed(self, request: Values | Patient | Bundle) -> Computed:
        served = self.predictors.current
        if not served:
            raise BusyError(f"No {self.predictors.alias} model of {self.predictors.dataset} is served yet.")
        return await self._risks.compute(request, served, self.clock())

    async def predict_by(self, name: str, version: int, body: bytes, requester: Requester) -> bytes:
        """The same of one version that is served, also of one that answers beside production and draws nobody.

        Raises:
            NotFoundError: no such version is served.
            MediscaleError: as ``predict``.
        """
        request = await self.parsed(parse, body)
        answering = [
            one for one in self.predictors.loaded if (one.model.name, one.model.version) == (name, version)
        ]
        if not answering:
            raise NotFoundError(f"{name}/{version} is not served; `mediscale traffic` lists what is.")
        served = ServedVersions({answering[0].predictor.spec.task: answering[0]})
        answer, logged = await self._risks.compute_by(request, served, self.clock())
        return await self._durable_json(answer, [replace(row, arm="direct") for row in logged], requester)

    async def parsed(self, read: Callable[[bytes], R], body: bytes) -> R:
        """The request in a body.

        Raises:
            MediscaleError: as ``read``, or too many large ones are worked on at a time.
        """
        return await self._large_texts.read(read, body)

    async def _durable_json(
        self, answer: Answer, logged: Sequence[Prediction], requester: Requester
    ) -> bytes:
        """The answer in JSON, once it is in the log. It is written before: after the wait for a disk the processor's
        caches hold nothing of it, and the same takes ten times as long."""
        content = _ANSWER.dump_json(answer, exclude_none=True)
        await self._durable(answer, logged, requester)
        return content

    async def _durable(self, answer: Answer, logged: Sequence[Prediction], requester: Requester) -> None:
        """Returns when the answer is in the log."""
        await self._append(logged, requester)
        for risk in answer.predictions:
            self.metrics.predictions.labels(risk.task, risk.version).inc()
        for row in logged:
            self.metrics.observe_risk(row.task, row.model_version, row.arm)(row.risk)

    async def _append(
        self, rows: Sequence[Prediction] | Sequence[AnalysedNote], requester: Requester
    ) -> None:
        """Logs rows; that the log does not take them is a problem of the server until it takes some."""
        try:
            await self.log.append(rows, requester)
        except MediscaleError as error:
            self._problems.note("log", error)
            raise
        self._problems.end("log")

    async def read(self, reading: Callable[[], R]) -> R:
        """What a reader of long bodies returns, beside the requests of others.

        Raises:
            MediscaleError: as the reader, or too many are read at a time.
        """
        return await self._records.run(reading)

    async def analyze(self, note: str, requester: Requester) -> tuple[str, NoteAnalysis]:
        """The fields of a note, and the name of the analysis in the log; it is durable there when this returns.

        Raises:
            MediscaleError: too many notes wait, or the log could not take it.
        """
        analysis = await self._notes.run(partial(self.predictors.notes.call, analyze, note))
        logged = AnalysedNote(self.log.next_id(), self.clock(), "note-rules", RULES_VERSION)
        await self._append([logged], requester)
        self.metrics.predictions.labels(NOTE_ANALYSIS, RULES_VERSION).inc()
        return logged.prediction_id, analysis

    async def feedback(self, request: FeedbackRequest, requester: Requester) -> FeedbackTaken:
        """What somebody says of an answer; it is durable in that answer's log when this returns.

        Raises:
            MediscaleError: the answer is not known, the request is wrong, or the log could not take it.
        """

        def work() -> tuple[PredictionLog, str, Feedback]:
            log, answer = feedback.find(self.settings, self._logs, request)
            of_row = log.next_id(), self.clock(), self.language.without_identifiers
            return log, answer["task"], feedback.row(request, answer, *of_row)

        log, task, row = await self._records.run(work)
        await log.append([row], requester)
        self.metrics.feedback.labels(task, row.verdict).inc()
        return FeedbackTaken(row.prediction_id, request.prediction_id, request.verdict)

    def health(self) -> Health:
        """The state of the server, from memory only: it waits for no disk and no thread."""
        served, refused = self.predictors.current, self.predictors.refused
        languages = self.language.languages
        models = [_health(task, version) for task, version in sorted(served.items())]
        if languages.current is not None:
            models.append(_health(LANGUAGE, languages.current))
        of_language = filter(None, [languages.refused, self.language.reduced])
        splits = self.predictors.splits, languages.splits
        beside = [problem for each in splits for problem in each.problems.values()]
        problems = [
            *refused.values(),
            *beside,
            *of_language,
            *self._problems.sentences,
            *self._nights.warnings,
        ]
        answers = models and "log" not in self._problems and not self.draining
        status: schemas.Status = "unavailable" if not answers else "degraded" if problems else "ready"
        return Health(
            status=status,
            dataset=self.predictors.dataset,
            alias=self.predictors.alias,
            models=tuple(models),
            beside=tuple(_beside(split) for each in splits for split in each.current.values()),
            model_loaded=bool(models) and not refused and languages.is_loaded,
            gpu_available=languages.current.engine.on_gpu if languages.current else None,
            problems=tuple(dict.fromkeys(problems)),
            unflushed=sum(each.backlog for each in self._logs),
        )

    def check_files(self) -> None:
        """Whether the files of what is served are still those that were promoted: a restart reads them again."""
        self._problems.attempt("files", self.predictors.check_files)

    def check_language(self) -> None:
        """Checks the files of the language version, and whether its engine still answers as it did in training."""
        self._problems.attempt("language", self.language.languages.check)

    def close(self) -> None:
        """Ends the threads and closes the logs, after the last answer."""
        self.predictors.notes.close()
        self._large_texts.close()
        self._notes.close()
        self._records.close()
        self._subjects.close()
        self.language.close()
        self.access.close()
        for each in self._logs:
            each.close()

    def check_log(self) -> None:
        """Whether an answer could be logged now, so that a log that was repaired is noticed without a request."""
        self._problems.attempt("log", partial(_run_all, [log.check for log in self._logs]))

    def check_keys(self) -> None:
        """Follows the file of API keys, so that what was revoked is refused from now on; and the clock of tokens."""
        self._problems.attempt("keys", self.access.refresh)
        self._problems.attempt("clock", self.access.check_clock)

    def check_certificate(self) -> None:
        """Whether clients can believe the certificate, which expires while a server runs."""
        if self._validity is not None:
            self._problems.attempt("certificate", partial(certificates.check, *self._validity, self.clock()))

    def follow(self) -> None:
        """Looks at the promotion history once."""
        self._problems.attempt("history", self.predictors.refresh)
        self._problems.attempt("refusals", self.predictors.share_refusals)
        self._problems.attempt("metrics", self._show_versions)

    def follow_language(self) -> None:
        """Follows the index and the language version in a round of its own: to load a version may take a minute."""
        self._problems.attempt("documents", self.language.documents.refresh)
        self._problems.attempt("language history", self.language.languages.refresh)
        self._problems.attempt("language refusals", self.language.languages.share_refusals)
        self._problems.attempt("metrics", self._show_versions)

    def _show_versions(self) -> None:
        for task, version in self.predictors.current.items():
            self._show(task, version)
            self.metrics.points_score.labels(task).set(version.is_points_score)
            # an alert sees the first one, too
            self.metrics.fallback_answers.labels(task, version.model.version)
        if language := self.language.languages.current:
            self._show(LANGUAGE, language)
        refused = len(self.predictors.refused) + (self.language.languages.refused is not None)
        self.metrics.refused_versions.set(refused)
        splits = self.predictors.splits, self.language.languages.splits
        self.metrics.given_up.set(sum(len(each.problems) for each in splits))
        self.metrics.ready.set(self.health().status != "unavailable")

    def follow_lake(self) -> None:
        """Shows what nights have left in the lake: how they ended, and how good the served versions' answers were."""
        self._problems.attempt("nights", self._nights.refresh)
        self._problems.attempt("performance", self._show_performance)

    def _show_performance(self) -> None:
        self._performance.refresh(
            {task: version.model.version for task, version in self.predictors.current.items()}
        )
        if version := self.language.languages.current:
            self._questions.refresh({LANGUAGE: version.model.version})

    def _show(self, task: str, version: ServedVersion | ServedLanguage) -> None:
        self.metrics.version.labels(task).set(version.model.version)
        self.metrics.feedback.labels(task, "unsafe")  # an alert sees the first one, too
        self.metrics.promoted.labels(task).set(version.moved_at.replace(tzinfo=UTC).timestamp())

    def flush(self) -> None:
        """Moves what is logged to the lake."""
        self._problems.attempt("flush", self._flush)

    def flush_orphaned_logs(self) -> None:
        """Moves what killed workers of this home logged to the lake."""
        datasets = {each.dataset for each in self._logs}
        of_each = [partial(flush_orphaned_logs, self.settings, dataset) for dataset in sorted(datasets)]
        self._problems.attempt("left behind", partial(_run_all, of_each))

    def _flush(self) -> None:
        try:
            _run_all([log.flush for log in self._logs])
        finally:
            self.metrics.backlog.set(sum(log.backlog for log in self._logs))


def _run_all(work: Sequence[Callable[[], object]]) -> None:
    for do in work:
        do()


def _health(task: str, version: ServedVersion | ServedLanguage) -> ModelHealth:
    moved_at = version.moved_at.replace(tzinfo=UTC)
    return ModelHealth(task, version.model.name, version.model.version, moved_at)


def _beside(split: Split[ServedVersion] | Split[ServedLanguage]) -> BesideHealth:
    model, setting = split.version.model, split.traffic
    mode: Literal["canary", "shadow"] = "shadow" if setting.mode == "shadow" else "canary"
    return BesideHealth(setting.task, model.name, model.version, mode, setting.percent)
