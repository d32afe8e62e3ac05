"""Answers of the language version that is served: bounded in number, logged before any part of them leaves."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from data_pipeline import safety
from data_pipeline.notes.deidentification.deidentifier import Deidentifier
from data_pipeline.retrieval import embedders
from data_pipeline.retrieval.embedder import Embedder
from mediscale.core.errors import BusyError, MediscaleError, UsageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from mediscale.inference.sampling import Token
from serving.language import language_answer, language_engine
from serving.language.documents import Documents
from serving.language.language_answer import GrowingAnswer, Part, Question
from serving.language.language_challengers import LanguageChallengers
from serving.language.language_engine import NotInstalledError
from serving.language.languages import Languages, ServedLanguage
from serving.log.logged_answers import Requester, WrittenAnswer
from serving.log.prediction_log import PredictionLog
from serving.metrics.prometheus_metrics import Metrics
from serving.pools import Pool
from serving.requests.large_texts import LargeTexts
from serving.traffic import arms
from serving.traffic.splits import Split

T = TypeVar("T")

THREADS_HERE, THREADS_ELSEWHERE, ANSWERS = 1, 8, 16
"""In this process one answer is written at a time, for it takes the cores; at an engine elsewhere several. More than
so many that are written or wait are answered 503."""

ANSWER_SECONDS = 60.0
"""From when it was asked, an answer may take, so that who waits behind it gets one, too: the model's words end then,
and a prompt that is not read by then is refused."""

_CHECKED_HERE = 2**9
"""Characters of a question up to which the layers look at it without a helper process: a microsecond each."""

_NOBODY = 0
"""The number by which surrogates are chosen: a question does not say whom it is about."""

log = logging.getLogger("mediscale.serving")


@dataclass(frozen=True, slots=True)
class Answering:
    """A question on its way to an answer, and what the log keeps of it."""

    question: Question
    requester: Requester
    prediction_id: str
    predicted_at: datetime
    written: GrowingAnswer = field(default_factory=GrowingAnswer)
    began: float = field(default_factory=time.perf_counter)
    arm: str | None = None
    """Of the question, while another version answers beside the one in production."""
    split: Split[ServedLanguage] | None = None
    """The version that is asked, too, for the question was drawn for it."""

    @property
    def model(self) -> ModelRef:
        return self.question.version.model

    @property
    def seconds(self) -> float:
        """Seconds since the question arrived."""
        return time.perf_counter() - self.began


class LanguageService:
    """What the language routes share in one worker process."""

    def __init__(
        self,
        settings: Settings,
        languages: Languages,
        prediction_log: PredictionLog,
        clock: Callable[[], datetime],
        deidentifier: Deidentifier,
        metrics: Metrics,
        large_texts: LargeTexts,
    ) -> None:
        self.languages, self.log, self._large_texts = languages, prediction_log, large_texts
        self.documents = Documents(settings, languages.dataset)
        self._settings, self._clock, self._deidentifier, self._metrics = (
            settings,
            clock,
            deidentifier,
            metrics,
        )
        threads = THREADS_ELSEWHERE if settings.language_engine else THREADS_HERE
        self._pool = Pool("answers of the language model", threads, ANSWERS)
        self._challengers = LanguageChallengers(languages.splits, metrics, clock)
        self._in_shadow: set[asyncio.Task[None]] = set()
        languages.prepare = lambda: self.embedder  # else the first question, or /health, would wait for it

    @cached_property
    def embedder(self) -> tuple[Embedder | None, str]:
        """The packaged embedder, with which the safety layers were measured, or what is missed without it. Loaded with
        the first language version: a server without one does without."""
        try:
            return embedders.load(self._settings), ""
        except UsageError as error:
            return (
                None,
                f"The safety layers go by words and phrases alone, and find fewer emergencies: {error}",
            )

    @property
    def reduced(self) -> str:
        """Why the layers find less than they could, while a version is served; empty where nothing is missing."""
        return self.embedder[1] if self.languages.current else ""

    def version(self) -> ServedLanguage:
        """The version that answers now.

        Raises:
            NotInstalledError: a version is promoted, and nothing here or elsewhere can answer with it.
            BusyError: none is promoted, or none could be loaded yet.
        """
        version, languages = self.languages.current, self.languages
        if version is not None:
            return version
        if languages.is_promoted is False:
            raise BusyError(
                f"No language version of {languages.dataset} is in {languages.alias}; promote one, and it is served."
            )
        if not self._settings.language_engine and (sentence := language_engine.absent()):
            raise NotInstalledError(sentence)
        raise BusyError(languages.refused or "The language version is being loaded; ask again in a moment.")

    async def version_for(self, question: str) -> ServedLanguage:
        """The version that answers now; where none does, the error begins with what an emergency needs.

        Raises:
            MediscaleError: as ``version``.
        """
        try:
            return self.version()
        except MediscaleError as error:
            raise await self._after_what_helps(error, question) from None

    def find_version(self, name: str) -> ServedLanguage | None:
        """The version of that name, where it is served."""
        return next((version for version in self.languages.loaded if version.name == name), None)

    def answering(self, question: Question, requester: Requester, named: bool = False) -> Answering:
        """A question under the name that its answer will have in the log; ``named``: it is for this very version."""
        if not question.use_safety:
            log.warning("The safety layers are off for one answer, as %s asks.", requester.name)
        embedder, _ = self.embedder
        index = question.index
        if embedder and index and index.embedder.spec == embedder.spec:
            embedder = index.embedder  # so that layers and retrieval read the question once
        question = replace(
            question,
            embed=embedder.question if embedder else None,
            sampling=replace(question.sampling, deadline=time.monotonic() + ANSWER_SECONDS),
        )
        answering = Answering(question, requester, self.log.next_id(), self._clock())
        return self._drawn(answering, named)

    def _drawn(self, answering: Answering, named: bool) -> Answering:
        """Draws the question's arm. A raw text is drawn for none, because its tokens may be those of one tokenizer."""
        split = self.languages.split
        if split is None:
            return answering
        if named or answering.question.raw is not None:
            return replace(answering, arm="direct")
        key = arms.question_key(answering.question.turns)
        is_asked = split.draws(key) and self._challengers.has_room
        return replace(answering, arm=split.arm(key), split=split if is_asked else None)

    async def answer_in_full(self, answering: Answering) -> Answering:
        """Returns, when the answer is written and durable in the log, by which version it is.

        Raises:
            MediscaleError: the request is wrong, the engine can't answer, or the log could not take the answer.
        """

        def work() -> tuple[Answering, WrittenAnswer]:
            for _ in language_answer.write(answering.question, answering.written):
                pass
            answered = self._by_canary(answering) or answering
            return answered, self._row(answered, answered.written)

        try:
            answered, row = await self._pool.run(work)
        except BusyError as error:
            raise await self._after_what_helps(error, answering.question.text) from None
        await self.log.append([row], answered.requester)
        self._count(answered)
        self._ask_shadow(answering)
        return answered

    async def streamed(self, answering: Answering) -> tuple[Answering, AsyncGenerator[Part]]:
        """The answer's parts as they are written, and which version writes them. Where a canary is drawn, they come
        once the whole answer is there.

        Raises:
            MediscaleError: as ``answer_in_full``.
        """
        if answering.split is None or answering.split.traffic.mode == "shadow":
            return answering, self.parts(answering)
        answered = await self.answer_in_full(answering)
        return answered, _asynchronously(answered.written.parts or [Part("")])

    def _by_canary(self, answering: Answering) -> Answering | None:
        """The answer of the canary that was drawn; None where none was drawn, or the canary gave no usable answer."""
        if answering.split is None or answering.split.traffic.mode == "shadow":
            return None
        return self._by_challenger(answering, answering.split, "canary")

    def _by_challenger(
        self, answering: Answering, split: Split[ServedLanguage], arm: str
    ) -> Answering | None:
        written = self._challengers.answer(split, answering.question, answering.written)
        question = replace(answering.question, version=split.version)
        return replace(answering, question=question, written=written, arm=arm) if written else None

    def _ask_shadow(self, answering: Answering) -> None:
        """Starts to ask the shadow that was drawn. Production's answer is there already, so nobody waits for it."""
        if answering.split is not None and answering.split.traffic.mode == "shadow":
            asking = asyncio.create_task(self._log_shadow(answering, answering.split))
            self._in_shadow.add(asking)
            asking.add_done_callback(self._in_shadow.discard)

    async def _log_shadow(self, answering: Answering, split: Split[ServedLanguage]) -> None:
        def work() -> WrittenAnswer | None:
            answered = self._by_challenger(answering, split, "shadow")
            return None if answered is None else self._row(answered, answered.written)

        try:
            if row := await self._pool.run(work):
                await self.log.append([row], answering.requester)
        except MediscaleError as error:
            log.warning("The answer of a shadow is not in the log: %s", error)

    async def parts(self, answering: Answering) -> AsyncGenerator[Part]:
        """The answer's parts, each durable in the log before it is given.

        Raises:
            MediscaleError: as ``answer_in_full``.
        """

        def work() -> Iterator[tuple[Part, WrittenAnswer]]:
            for part in language_answer.write(answering.question, answering.written):
                yield part, self._row(answering, part, first=len(answering.written.parts) == 1)
            if not answering.written.parts:
                yield Part(""), self._row(answering, Part(""))

        try:
            async with aclosing(_from_thread(self._pool, work)) as stream:
                async for part, row in stream:
                    await self.log.append([row], answering.requester)
                    yield part
        except BusyError as error:
            if answering.written.parts:
                raise
            raise await self._after_what_helps(error, answering.question.text) from None
        self._count(answering)
        self._ask_shadow(answering)

    def without_identifiers(self, text: str, written: datetime) -> str:
        """Deidentifies a text that was written at that time: surrogates take the place of identifiers."""
        return self._deidentifier.deidentify(_NOBODY, [text], [written])[0].text

    async def scores(self, question: Question) -> list[Token]:
        """The prompt's own tokens with their log-probabilities; nothing is logged.

        Raises:
            MediscaleError: the request is wrong, or the engine can't answer.
        """
        return await self._pool.run(
            lambda: question.version.engine.scores(question.prompt(), question.sampling, question.special)
        )

    def close(self) -> None:
        """Ends the threads, after the last answer."""
        self._pool.close()

    async def _after_what_helps(self, error: MediscaleError, question: str) -> MediscaleError:
        """Why nothing answers, after what an emergency needs: by its beginning where a long question can't be read."""
        try:
            report = await self._large_texts.read(safety.check_request, question, _CHECKED_HERE)
        except BusyError:  # of the texts, not of the answers
            report = safety.check_request(question[:_CHECKED_HERE])
        return type(error)(f"{report.first} {error}".lstrip())

    def _count(self, answering: Answering) -> None:
        self._metrics.predictions.labels(LANGUAGE, answering.model.version).inc()
        self._metrics.generate_seconds.observe(answering.seconds)
        self._metrics.language_answers.labels(answering.written.finish_reason).inc()
        self._metrics.safety_actions.labels(answering.written.safety_action).inc()
        safety = answering.written.safety
        for layer in safety.layers if safety else ():
            self._metrics.safety_findings.labels(layer.of, layer.layer).inc()

    def _row(self, answering: Answering, said: GrowingAnswer | Part, first: bool = True) -> WrittenAnswer:
        question, safety, passage = answering.question, answering.written.safety, answering.written.source
        return WrittenAnswer(
            prediction_id=answering.prediction_id,
            predicted_at=answering.predicted_at,
            model=answering.model.name,
            model_version=answering.model.version,
            question=self.without_identifiers(question.text, answering.predicted_at) if first else None,
            answer=self.without_identifiers(said.logged, answering.predicted_at),
            safety=safety.risk_level if safety else "off",
            arm=answering.arm,
            cited=passage.reference if passage else None,
            cited_dataset=(passage.dataset or None) if passage else None,
            subject_id=passage.subject_id if passage else None,
        )


async def _asynchronously(parts: Iterable[Part]) -> AsyncGenerator[Part]:
    for part in parts:
        yield part


async def _from_thread(pool: Pool, work: Callable[[], Iterator[T]]) -> AsyncGenerator[T]:
    """What an iterator gives in a thread of the pool, as it gives it; ends the work when nobody reads on."""
    loop, queue, stopped = asyncio.get_running_loop(), asyncio.Queue[T | None](), threading.Event()

    def run() -> None:
        for each in work():
            if stopped.is_set():
                return
            loop.call_soon_threadsafe(queue.put_nowait, each)

    running = asyncio.ensure_future(pool.run(run))
    running.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (each := await queue.get()) is not None:
            yield each
        await running
    finally:
        stopped.set()
        if running.done() and not running.cancelled():
            running.exception()  # somebody has looked at it
