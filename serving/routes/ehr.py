"""``/cds-services`` and ``/fhir``: what an electronic health record asks by itself, in HL7's own formats.

CDS Hooks 2.0 (https://cds-hooks.hl7.org/2.0/): one service for the hook ``patient-view``. FHIR: a Bundle of one patient
in, RiskAssessments with Provenance out. Both go through the kernel, the known-time rule and the log of ``/predict``.
"""

import time
from functools import partial
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid5

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter, ValidationError

from mediscale.core.concepts import CONCEPTS
from mediscale.core.errors import InputError, NotFoundError
from mediscale.storage import lake, registry
from serving import openapi, schemas
from serving.refusals import answered, read_body
from serving.requests import ehr_bodies
from serving.requests.ehr_bodies import HOOK, NotPrefetchedError
from serving.requests.fhir_bundle import Bundle
from serving.requests.fhir_elements import utc
from serving.requests.fhir_facts import LOINC
from serving.risk import risk_assessment
from serving.risk.served import ServedVersion
from serving.schemas import Answer, TaskRisk
from serving.security import auth
from serving.security.access import Access
from serving.security.auth import require
from serving.security.principal import Principal, Role
from serving.service import Service

BODY_BYTES = 4 * 2**20
TOO_LARGE = "send one patient's current stay"
SERVICE_ID = "mediscale-risk"
_LOINC_CODES = ",".join(f"{LOINC}|{concept.loinc}" for concept in CONCEPTS)
DISCOVERY = {
    "services": [
        {
            "id": SERVICE_ID,
            "hook": HOOK,
            "title": "MediScale risks",
            "description": "Risks of the patient in view, each with its reasons; decision support for qualified staff.",
            "prefetch": {
                "patient": "Patient/{{context.patientId}}",
                "encounters": "Encounter?patient={{context.patientId}}",
                "observations": "Observation?patient={{context.patientId}}&code=" + _LOINC_CODES,
            },
        }
    ]
}
"""What the server offers, as CDS Hooks wants it."""
SUMMARY_CHARACTERS = 140
"""Of a card, by the specification."""

_TIME: TypeAdapter[Any] = TypeAdapter(schemas.Time)
_REFUSALS = openapi.refusals(
    openapi.OF_BODIES
    | {
        404: "Neither the request nor the lake describes the patient",
        422: "Not what the format wants, or whom the models are not made for",
        503: "No model is served, or the prediction could not be logged",
    }
)
_BODY = openapi.takes({"type": "object"})


def router(service: Service) -> APIRouter:
    """The routes of one worker process's service."""
    routes = APIRouter(default_response_class=Response)

    @routes.get(
        "/cds-services",
        summary="CDS Hooks: what this server offers",
        responses=openapi.refusals({}),
        dependencies=[Depends(require(Role.CLINICIAN, Role.ENGINEER))],
    )
    async def discovery() -> Response:
        return JSONResponse(DISCOVERY)

    @routes.post(
        f"/cds-services/{SERVICE_ID}",
        summary="CDS Hooks: cards with the risks of the patient in view",
        responses=_REFUSALS,
        openapi_extra=_BODY,
    )
    async def patient_view(
        request: Request, principal: Annotated[Principal, Depends(require(Role.CLINICIAN))]
    ) -> Response:
        return await answered(service.metrics, _cards(service, request, principal))

    @routes.post(
        "/fhir/RiskAssessment/$predict",
        summary="FHIR: a Bundle of one patient in, RiskAssessments with Provenance out",
        responses=_REFUSALS,
        openapi_extra=_BODY,
    )
    async def predict(
        request: Request, principal: Annotated[Principal, Depends(require(Role.CLINICIAN))]
    ) -> Response:
        return await answered(service.metrics, _assessments(service, request, principal))

    @routes.get(
        "/models/{name}/{version}/card",
        summary="The model card of a version",
        responses=openapi.refusals({404: "No card of it was written"}),
        dependencies=[Depends(require(*Role, takes_link=True))],
    )
    async def card(name: str, version: int) -> Response:
        return await answered(service.metrics, _card_page(service, name, version))

    return routes


async def _assessments(service: Service, request: Request, principal: Principal) -> Response:
    body = await read_body(request, BODY_BYTES, TOO_LARGE, query=("prediction_time",))
    time = _query_time(request)
    bundle = await service.parsed(partial(ehr_bodies.bundle, prediction_time=time), body)
    try:
        answer = await service.answer(bundle, auth.requester(request, principal))
    except InputError as reason:
        raise InputError(_with_what_was_unused(reason, bundle.unused)) from None
    content = risk_assessment.bundle(
        answer, {"reference": bundle.patient}, bundle.encounter, bundle.unused, service.clock()
    )
    return JSONResponse(content, media_type=risk_assessment.MEDIA_TYPE)


def _query_time(request: Request) -> Any:
    """``?prediction_time=``: use what was known then, in UTC without a zone.

    Raises:
        InputError: it is no time with an offset.
    """
    text = request.query_params.get("prediction_time")
    try:
        time = _TIME.validate_python(text) if text is not None else None
    except ValidationError:
        time = None
    if text is not None and (time is None or time.tzinfo is None):
        raise InputError("prediction_time must be a time with an offset, such as 2026-11-22T07:30:00Z.")
    try:
        return utc(time) if time else None
    except OverflowError:
        raise InputError("prediction_time lies outside the years 1 to 9999 in UTC.") from None


async def _cards(service: Service, request: Request, principal: Principal) -> Response:
    body = await read_body(request, BODY_BYTES, TOO_LARGE)
    try:
        question = await service.parsed(ehr_bodies.hook, body)
    except NotPrefetchedError as reason:
        return JSONResponse({"cards": [_without_risk(str(reason))]})
    unused = question.unused if isinstance(question, Bundle) else ()
    try:
        answer = await service.answer(question, auth.requester(request, principal))
    except (
        InputError,
        NotFoundError,
    ) as reason:  # of this patient: a card says so, and nothing breaks in the EHR
        return JSONResponse({"cards": [_without_risk(_with_what_was_unused(reason, unused))]})
    links = partial(_links, service.access, request)
    return JSONResponse({"cards": [_card(answer, risk, unused, links(risk)) for risk in answer.predictions]})


def _links(access: Access, request: Request, risk: TaskRisk) -> list[dict[str, str]]:
    """The link to the card of the version that answered; none where this server can't sign one."""
    query = access.links.query(risk.model, risk.version, time.time())
    url = f"{access.base_url(request)}models/{risk.model}/{risk.version}/card?{query}"
    return [{"label": "Model card", "url": url, "type": "absolute"}] if query else []


def _with_what_was_unused(reason: Exception, unused: tuple[str, ...]) -> str:
    """Why there is no risk, with what was not used: mostly an Encounter, without which nobody was admitted."""
    return f"{reason} Not used: {'; '.join(unused)}." if unused else str(reason)


def _card(
    answer: Answer, risk: TaskRisk, unused: tuple[str, ...], links: list[dict[str, str]]
) -> dict[str, Any]:
    above = any(threshold.exceeded for threshold in risk.thresholds)
    factors = "\n".join(f"- {risk_assessment.rationale(factor)}" for factor in risk.factors)
    remarks = "\n\n".join(risk_assessment.notes(answer, risk, unused))
    summary = f"{risk.risk:.0%} risk: {risk.outcome} (average {risk.baseline_risk:.0%})"
    return {
        "uuid": str(uuid5(NAMESPACE_URL, f"{answer.prediction_id}/{risk.task}")),
        "summary": summary[:SUMMARY_CHARACTERS],
        "indicator": "warning" if above else "info",
        "detail": f"{factors}\n\n{remarks}",
        "source": {"label": f"MediScale, {risk.model} version {risk.version}"},
        "links": links,
    }


def _without_risk(reason: str) -> dict[str, Any]:
    return {
        "summary": "No risk was predicted for this patient",
        "indicator": "info",
        "detail": reason,
        "source": {"label": "MediScale"},
    }


async def _card_page(service: Service, name: str, version: int) -> Response:
    """The page that ``mediscale model-card``, or a run's report, wrote for a version that is served.

    A file does not notice a rollback: what the version is served as is said at its head, as it is now.

    Raises:
        NotFoundError: none was written, or no such version is served.
    """
    loaded = {(one.model.name, one.model.version): one for one in service.predictors.loaded}
    absent = NotFoundError(
        f"No model card of a served version is there; write it with `mediscale model-card {name}/{version}`."
    )
    if (name, version) not in loaded:
        raise absent
    read = partial(lake.read_whole, registry.card_page(service.settings, name, version))
    try:
        page = (await service.read(read)).decode()
    except FileNotFoundError:
        raise absent from None
    notice = f'<p class="notice"><strong>Now:</strong> {_served_as(service, loaded[name, version])}</p>'
    return Response(
        page.replace("<header>", f"<header>\n{notice}", 1),
        media_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
            "Referrer-Policy": "no-referrer",
        },
    )


def _served_as(service: Service, version: ServedVersion) -> str:
    if service.predictors.current.get(version.predictor.spec.task) is not version:
        return "it answers beside the version in production; <code>mediscale traffic</code> says whom."
    since = f"{version.moved_at:%Y-%m-%d %H:%M} UTC"
    return f"this server answers with it, as {service.predictors.alias} since {since}. What follows was written before."
