"""``POST /analyze``: the typed fields of one clinical note, each with the place that supports it."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response

from data_pipeline.notes.analysis import NoteAnalysis
from serving import openapi, schemas
from serving.language_schemas import AnalyzeRequest
from serving.refusals import answered, read_body
from serving.requests import json_body
from serving.security import auth
from serving.security.auth import require
from serving.security.principal import Principal, Role
from serving.service import Service

BODY_BYTES = 6 * schemas.NOTE_CHARACTERS + 2**12
"""The longest note, each character escaped as many JSON clients do (\\uXXXX)."""
TOO_LARGE = f"a note has at most {schemas.NOTE_CHARACTERS} characters"

NOTICE = (
    "Read from the note by rules, which miss things and mistake others: they do not replace clinical judgement, and no "
    "care may be given or withheld on these fields alone."
)


class AnalyzedNote(NoteAnalysis):
    """The fields of a note; places are characters of the note as it was sent."""

    prediction_id: str
    """Names this analysis in the log."""
    notice: str = NOTICE
    needs_clinician_review: Literal[True] = True


_EXAMPLES = {
    "a note": {
        "summary": "What a short note says",
        "value": {"clinical_note": "HISTORY: Cough, no chest pain. BP 128/76. Lisinopril 10 mg p.o. daily."},
    }
}


def router(service: Service) -> APIRouter:
    """The route of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.post(
        "/analyze",
        summary="Symptoms, conditions, drugs, vital signs, recommendations and urgency of a note",
        responses={
            200: {"model": AnalyzedNote, "description": "Logged and answered"},
            **openapi.refusals(
                openapi.OF_BODIES
                | {
                    422: "Not JSON, an unknown field, no note, or one that is not in English",
                    503: "Too many notes wait, or the analysis could not be logged",
                }
            ),
        },
        openapi_extra=openapi.takes(openapi.schema_of(AnalyzeRequest), _EXAMPLES),
    )
    async def analyze(
        request: Request, principal: Annotated[Principal, Depends(require(Role.CLINICIAN))]
    ) -> Response:
        return await answered(service.metrics, _answer(service, request, principal))

    return routes


async def _answer(service: Service, request: Request, principal: Principal) -> Response:
    requester = auth.requester(request, principal)
    body = await read_body(request, BODY_BYTES, TOO_LARGE)
    note = (await service.parsed(partial(json_body.parse, shape=AnalyzeRequest), body)).clinical_note
    prediction_id, analysis = await service.analyze(note, requester)
    content = AnalyzedNote(prediction_id=prediction_id, **dict(analysis)).model_dump_json()
    return Response(content, media_type="application/json")
