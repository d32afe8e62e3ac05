"""Replay server: requests to the real application at simulated times: parsed, answered, logged, flushed to Delta."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mediscale.core.errors import NotFoundError, QualityError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tasks import TaskName
from mediscale.storage.history_entries import Alias

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass(frozen=True)
class Question:
    """A body for ``/predict``, and the moment at which it is asked."""

    at: datetime
    body: Mapping[str, Any]


@dataclass
class _Clock:
    """A clock that stands where it is set."""

    at: datetime

    def __call__(self) -> datetime:
        return self.at


@dataclass(frozen=True)
class Server:
    """The application: the version that is expected under an alias, and the dataset whose log takes the answers."""

    settings: Settings
    dataset: str
    task: TaskName
    model: ModelRef
    alias: Alias
    log_dataset: str

    def ask(self, questions: Iterable[Question]) -> None:
        """Every question in order; returns when the answers are in the lake.

        Raises:
            NotFoundError: the alias does not point to the version.
            QualityError: the server refused a question, with its sentence.
        """
        asyncio.run(self._ask(questions))

    async def _ask(self, questions: Iterable[Question]) -> None:
        from httpx import ASGITransport, AsyncClient

        from serving.app import create_app
        from serving.log.prediction_log import PredictionLog

        predictors = self._predictors()
        clock = _Clock(datetime.min)
        log = PredictionLog(self.settings, self.log_dataset, worker="replay")
        app: FastAPI = create_app(self.settings, predictors, log, clock)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(app.router.lifespan_context(app))
            client = await stack.enter_async_context(
                AsyncClient(transport=ASGITransport(app=app), base_url="http://replay")
            )
            for question in questions:
                clock.at = question.at
                answer = await client.post("/predict", json=question.body)
                if answer.is_error:
                    raise QualityError(
                        f"The server answered a replayed request with {answer.status_code}: "
                        f"{answer.json().get('error', 'without a sentence')} Nothing later was asked."
                    )

    def _predictors(self) -> Any:
        from serving.risk.models import Predictors

        predictors = Predictors(self.settings, self.dataset, self.alias)
        predictors.refresh()
        served = predictors.current.get(self.task)
        if served is None or served.model != self.model:
            raise NotFoundError(
                f"{self.model} is not what the alias {self.alias} points to; nothing was asked."
            )
        return predictors
