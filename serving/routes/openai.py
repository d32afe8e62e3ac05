"""``/v1/completions``, ``/v1/chat/completions`` and ``/v1/models``: OpenAI's protocol, for clients that speak it.

The same version, roles, checks and log as ``/generate``. Log-probabilities of a prompt, which tell what a model was
trained on, need the role engineer; the field's evaluation harness asks for them.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC
from functools import partial
from itertools import accumulate
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from mediscale.core.errors import NotFoundError
from mediscale.inference.sampling import Sampling, Token
from serving import openapi
from serving.language.language_answer import GrowingAnswer, Part, Question
from serving.language.language_engine import Prompt
from serving.language.language_service import Answering
from serving.language.languages import ServedLanguage
from serving.log.logged_answers import Requester
from serving.openai_schemas import (
    PROMPTS,
    ChatChoice,
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionChoice,
    CompletionRequest,
    ErrorResponse,
    LogProbs,
    Model,
    Models,
    Usage,
    error_body,
)
from serving.refusals import answered, read_body, sentence_about
from serving.requests import json_body
from serving.routes.generate import BODY_BYTES, LANGUAGE_REFUSALS, TOO_LARGE
from serving.security import auth
from serving.security.auth import require
from serving.security.principal import Principal, Role
from serving.service import Service

WITHHELD = Token("", None)
"""In the place of an answer that may not leave, so that a prompt's tokens are followed by one, as clients expect."""

_REFUSALS = openapi.refusals(LANGUAGE_REFUSALS, ErrorResponse)

Asking = Annotated[Principal, Depends(require(Role.CLINICIAN, Role.ENGINEER))]


def router(service: Service) -> APIRouter:
    """The routes of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.get(
        "/v1/models",
        summary="The language version that is served, by the name that OpenAI's clients send",
        responses={200: {"model": Models}, **_REFUSALS},
        dependencies=[Depends(require(Role.CLINICIAN, Role.ENGINEER))],
    )
    async def models() -> Response:
        return await answered(service.metrics, _models(service), error_body)

    @routes.post(
        "/v1/completions",
        summary="Writes on after a text; a prompt's log-probabilities need the role engineer",
        responses={200: {"model": Completion}, **_REFUSALS},
        openapi_extra=openapi.takes(openapi.schema_of(CompletionRequest)),
    )
    async def completions(request: Request, principal: Asking) -> Response:
        return await answered(service.metrics, _complete(service, request, principal), error_body)

    @routes.post(
        "/v1/chat/completions",
        summary="Answers a conversation's last turn; use_safety false needs the role engineer",
        responses={200: {"model": ChatCompletion}, **_REFUSALS},
        openapi_extra=openapi.takes(openapi.schema_of(ChatRequest)),
    )
    async def chat(request: Request, principal: Asking) -> Response:
        return await answered(service.metrics, _converse(service, request, principal), error_body)

    return routes


async def _models(service: Service) -> Response:
    service.language.version()  # raises where none answers
    return _json(
        Models(
            data=[
                Model(id=version.name, created=int(version.moved_at.replace(tzinfo=UTC).timestamp()))
                for version in service.language.languages.loaded
            ]
        )
    )


async def _complete(service: Service, request: Request, principal: Principal) -> Response:
    requester = auth.requester(request, principal)
    content = await read_body(request, PROMPTS * BODY_BYTES, TOO_LARGE)
    body = await service.parsed(partial(json_body.parse, shape=CompletionRequest), content)
    if body.echo and body.logprobs is not None:
        auth.check_role(principal, Role.ENGINEER, "echo with logprobs")
    questions = [
        _question(await _requested_version(service, body.model, _text(prompt)), body, prompt)
        for prompt in body.prompts
    ]
    if body.stream:
        answering = service.language.answering(questions[0], requester, _names_version(body.model))
        return await _streamed(service, answering, lambda answered: _completion_chunks(answered, body))
    return _json(await _completion(service, body, questions, requester))


async def _converse(service: Service, request: Request, principal: Principal) -> Response:
    requester = auth.requester(request, principal)
    content = await read_body(request, 4 * BODY_BYTES, TOO_LARGE)
    body = await service.parsed(partial(json_body.parse, shape=ChatRequest), content)
    if not body.use_safety:
        auth.check_role(principal, Role.ENGINEER, "use_safety false")
    version = await _requested_version(service, body.model, body.messages[-1].text)
    question = _chat_question(version, body)
    answering = service.language.answering(question, requester, _names_version(body.model))
    if body.stream:
        return await _streamed(service, answering, _chat_chunks)
    answering = await service.language.answer_in_full(answering)
    message = {"role": "assistant", "content": answering.written.text.strip()}
    return _json(_chat(answering, ChatChoice(message=message, finish_reason=answering.written.finish_reason)))


async def _requested_version(service: Service, name: str, question: str) -> ServedLanguage:
    """The version that the request names for a question; the one in production if it names none, or its model alone,
    as who goes on asking when another version was promoted.

    Raises:
        NotFoundError: it names one that is not served.
    """
    version = await service.language.version_for(question)
    if name in ("", version.model.name):
        return version
    if requested := service.language.find_version(name):
        return requested
    raise NotFoundError(f"The model that the request names is not served here; name {version.name}, or none.")


def _names_version(name: str) -> bool:
    """Whether a request is for one version, and not for whichever is in production."""
    return "/" in name


# --- completions -----------------------------------------------------------------------------------------------------


def _text(prompt: Prompt) -> str:
    """A prompt as it can be read; one that is given by its tokens' numbers can't be, without a version."""
    return prompt if isinstance(prompt, str) else ""


def _question(version: ServedLanguage, body: CompletionRequest, prompt: Prompt) -> Question:
    sampling = Sampling(body.max_tokens, body.temperature, body.seed)
    special = body.add_special_tokens and isinstance(prompt, str)
    return Question(
        version, sampling, raw=prompt, special=special, stops=body.stops, counts_tokens=body.counts_tokens
    )


async def _completion(
    service: Service, body: CompletionRequest, questions: Sequence[Question], requester: Requester
) -> Completion:
    answers, choices = [], []
    for index, question in enumerate(questions):
        answering = service.language.answering(question, requester, _names_version(body.model))
        answers.append(answering)
        before = await service.language.scores(answering.question) if body.echo else []
        await service.language.answer_in_full(answering)
        written = answering.written
        tokens = [*before, *([token for part in written.parts for token in part.tokens] or [WITHHELD])]
        text = "".join(token.text for token in before) + written.text
        logprobs = None if body.logprobs is None else _logprobs(tokens, body.logprobs)
        choices.append(
            CompletionChoice(index=index, text=text, finish_reason=written.finish_reason, logprobs=logprobs)
        )
    return _completed(answers[0], choices)


def _completed(answering: Answering, choices: list[CompletionChoice]) -> Completion:
    return Completion(
        id=answering.prediction_id,
        created=int(time.time()),
        model=answering.question.version.name,
        safety_report=answering.written.safety,
        choices=choices,
    )


def _logprobs(tokens: Sequence[Token], top: int) -> LogProbs:
    best = [dict([token.likeliest]) if top and token.likeliest else None for token in tokens]
    return LogProbs(
        tokens=[token.text for token in tokens],
        token_logprobs=[token.log_probability for token in tokens],
        top_logprobs=best,
        text_offset=list(accumulate((len(token.text) for token in tokens), initial=0))[:-1],
    )


# --- chat ------------------------------------------------------------------------------------------------------------


def _chat_question(version: ServedLanguage, body: ChatRequest) -> Question:
    return Question(
        version=version,
        sampling=Sampling(body.max_completion_tokens or body.max_tokens, body.temperature, body.seed),
        turns=tuple({"role": turn.role, "content": turn.text} for turn in body.messages),
        stops=body.stops,
        counts_tokens=body.counts_tokens,
        use_safety=body.use_safety,
    )


def _chat(answering: Answering, choice: ChatChoice, chunk: bool = False) -> ChatCompletion:
    return ChatCompletion(
        id=answering.prediction_id,
        created=int(time.time()),
        model=answering.question.version.name,
        safety_report=answering.written.safety,
        object="chat.completion.chunk" if chunk else "chat.completion",
        choices=[choice],
    )


# --- streams ---------------------------------------------------------------------------------------------------------

Chunk = Callable[[Part | None], Completion | ChatCompletion]
"""A part of an answer as the protocol writes it; None: that it is complete."""


def _completion_chunks(answering: Answering, body: CompletionRequest) -> Chunk:
    def chunk(part: Part | None) -> Completion:
        if part is None:
            choice = CompletionChoice(index=0, text="", finish_reason=answering.written.finish_reason)
        else:
            logprobs = None if body.logprobs is None else _logprobs(part.tokens, body.logprobs)
            choice = CompletionChoice(index=0, text=part.text, logprobs=logprobs)
        return _completed(answering, [choice])

    return chunk


def _chat_chunks(answering: Answering) -> Chunk:
    def chunk(part: Part | None) -> ChatCompletion:
        if part is None:
            return _chat(answering, ChatChoice(delta={}, finish_reason=answering.written.finish_reason), True)
        return _chat(answering, ChatChoice(delta={"role": "assistant", "content": part.text}), True)

    return chunk


async def _streamed(
    service: Service, answering: Answering, chunks: Callable[[Answering], Chunk]
) -> StreamingResponse:
    """The response begins with the first part, so that until then an error has a status."""
    answered, parts = await service.language.streamed(answering)
    first = await anext(parts)
    events = _events(service, answered, chunks(answered), first, parts)
    return StreamingResponse(events, media_type="text/event-stream")


async def _events(
    service: Service, answering: Answering, chunk: Chunk, first: Part, others: AsyncGenerator[Part]
) -> AsyncIterator[bytes]:
    yield _event(chunk(first))
    async with aclosing(others):
        try:
            async for part in others:
                yield _event(chunk(part))
            yield _event(last := chunk(None))
            if answering.question.counts_tokens:
                yield _event(last.model_copy(update={"choices": [], "usage": _usage(answering.written)}))
            yield b"data: [DONE]\n\n"
        except Exception as error:  # whatever it is: its text may hold what was asked
            yield b"data: " + error_body(sentence_about(error, service.metrics), 500) + b"\n\n"


def _usage(written: GrowingAnswer) -> Usage:
    read, wrote = written.prompt_tokens, len(written.tokens)
    return Usage(prompt_tokens=read, completion_tokens=wrote, total_tokens=read + wrote)


def _event(content: BaseModel) -> bytes:
    return b"data: " + content.model_dump_json(exclude_none=True).encode() + b"\n\n"


def _json(content: BaseModel) -> Response:
    return Response(content.model_dump_json(), media_type="application/json")
