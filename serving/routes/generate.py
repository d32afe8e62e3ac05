"""``POST /generate``: a question to the language version that is served."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from mediscale.inference.sampling import Sampling
from serving import language_schemas, openapi
from serving.language.language_answer import Part, Question
from serving.language.language_service import Answering
from serving.language_schemas import GeneratedAnswer, GenerateRequest, Sentence
from serving.refusals import answered, problem, read_body, sentence_about
from serving.requests import json_body
from serving.security import auth
from serving.security.auth import require
from serving.security.principal import Principal, Role
from serving.service import Service

BODY_BYTES = 6 * language_schemas.QUESTION_CHARACTERS + 2**12
"""The longest question, each character escaped as many JSON clients do (\\uXXXX)."""
TOO_LARGE = f"a question has at most {language_schemas.QUESTION_CHARACTERS} characters"

LANGUAGE_REFUSALS = openapi.OF_BODIES | {
    422: "Not JSON, an unknown field, out of range, or longer than the window",
    501: "What answers a language version is not installed",
    503: "No language version is served, too many ask, or the engine can't answer",
}
"""Why a route to the language version may not answer, by status."""
_GENERATED, _SENTENCE = TypeAdapter(GeneratedAnswer), TypeAdapter(Sentence)


def router(service: Service) -> APIRouter:
    """The route of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.post(
        "/generate",
        summary="A question to the language model; use_safety false needs the role engineer",
        responses={
            200: {"model": GeneratedAnswer, "description": "Logged and answered"},
            **openapi.refusals(LANGUAGE_REFUSALS),
        },
        openapi_extra=openapi.takes(openapi.schema_of(GenerateRequest), language_schemas.EXAMPLES),
    )
    async def generate(
        request: Request, principal: Annotated[Principal, Depends(require(Role.CLINICIAN, Role.ENGINEER))]
    ) -> Response:
        return await answered(service.metrics, _answer(service, request, principal))

    return routes


async def _answer(service: Service, request: Request, principal: Principal) -> Response:
    requester = auth.requester(request, principal)
    content = await read_body(request, BODY_BYTES, TOO_LARGE)
    body = await service.parsed(partial(json_body.parse, shape=GenerateRequest), content)
    if not body.use_safety:
        auth.check_role(principal, Role.ENGINEER, "use_safety false")
    answering = service.language.answering(await _question(service, body, principal), requester)
    if body.stream:
        return await _streamed(service, answering)
    answering = await service.language.answer_in_full(answering)
    content = _GENERATED.dump_json(_generated(answering), exclude_none=True)
    return Response(content, media_type="application/json")


async def _question(service: Service, body: GenerateRequest, principal: Principal) -> Question:
    return Question(
        version=await service.language.version_for(body.question),
        sampling=Sampling(body.max_length, body.temperature, body.seed),
        turns=({"role": "user", "content": body.question},),
        use_safety=body.use_safety,
        patient=body.patient,
        index=service.language.documents.current,
        roles=frozenset(str(role) for role in principal.roles),
    )


def _generated(answering: Answering) -> GeneratedAnswer:
    written, model = answering.written, answering.model
    return GeneratedAnswer(
        prediction_id=answering.prediction_id,
        response=written.text.strip(),
        citations=tuple(citation for part in written.parts for citation in part.citations),
        safety_report=written.safety,
        confidence=written.confidence,
        inference_time_ms=answering.seconds * 1000,
        finish_reason=written.finish_reason,
        model=model.name,
        version=model.version,
        instead_of=answering.question.version.instead_of,
    )


async def _streamed(service: Service, answering: Answering) -> StreamingResponse:
    """The response begins with the first part, so that until then an error has a status."""
    answering, parts = await service.language.streamed(answering)
    first = await anext(parts)
    return StreamingResponse(_events(service, answering, first, parts), media_type="text/event-stream")


async def _events(
    service: Service, answering: Answering, first: Part, others: AsyncGenerator[Part]
) -> AsyncIterator[bytes]:
    """Server-sent events (WHATWG HTML, section 9.2): ``sentence`` for a part, at last ``answer`` for the whole."""
    yield _event("sentence", _SENTENCE.dump_json(Sentence(first.text, first.citations)))
    async with aclosing(others):
        try:
            async for part in others:
                yield _event("sentence", _SENTENCE.dump_json(Sentence(part.text, part.citations)))
            yield _event("answer", _GENERATED.dump_json(_generated(answering), exclude_none=True))
        except Exception as error:  # whatever it is: its text may hold what was asked
            yield _event("error", problem(sentence_about(error, service.metrics), 500))


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
