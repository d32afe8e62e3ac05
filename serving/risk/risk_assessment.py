"""FHIR RiskAssessments: an answer as an EHR stores it, each with the Provenance that names the model's version.

Valid in FHIR R4 and R4B. https://hl7.org/fhir/R4/riskassessment.html
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from serving.schemas import Answer, Factor, TaskRisk, display_name

MEDIA_TYPE = "application/fhir+json"
_AGENT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


def bundle(
    answer: Answer, subject: Mapping[str, Any], encounter: str | None, unused: tuple[str, ...], now: datetime
) -> dict[str, Any]:
    """A collection of one RiskAssessment and one Provenance for each predicted risk.

    ``subject`` is a FHIR Reference, ``unused`` says what of the request was not used; ``now`` is UTC without a zone.
    """
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": _instant(now),
        "entry": [
            entry
            for number, risk in enumerate(answer.predictions)
            for entry in _entries(answer, number, risk, subject, encounter, unused, now)
        ],
    }


def _entries(
    answer: Answer,
    number: int,
    risk: TaskRisk,
    subject: Mapping[str, Any],
    encounter: str | None,
    unused: tuple[str, ...],
    now: datetime,
) -> Iterator[dict[str, Any]]:
    name = f"urn:mediscale:prediction:{answer.prediction_id}:{number}"
    assessment = {
        "resourceType": "RiskAssessment",
        "identifier": [{"system": "urn:mediscale:prediction", "value": answer.prediction_id}],
        "status": "final",
        "method": {"text": f"{risk.model} version {risk.version}"},
        "subject": dict(subject),
        **({"encounter": {"reference": encounter}} if encounter else {}),
        "occurrenceDateTime": _instant(answer.prediction_time or now),
        "prediction": [
            {
                "outcome": {"text": risk.outcome},
                "probabilityDecimal": round(risk.risk, 6),
                "relativeRisk": round(risk.risk / risk.baseline_risk, 6),
                "rationale": "; ".join(map(rationale, risk.factors)),
            }
        ],
        "note": [{"text": text} for text in notes(answer, risk, unused)],
    }
    yield {"fullUrl": name, "resource": assessment}
    yield {
        "fullUrl": f"{name}:provenance",
        "resource": {
            "resourceType": "Provenance",
            "target": [{"reference": name}],
            "recorded": _instant(now),
            "agent": [
                {
                    "type": {"coding": [{"system": _AGENT, "code": "assembler"}]},
                    "who": {"display": f"{risk.model} version {risk.version}, served by MediScale"},
                }
            ],
        },
    }


def rationale(factor: Factor) -> str:
    """What moved the risk, in words."""
    return f"{factor.meaning} {factor.direction} it"


def notes(answer: Answer, risk: TaskRisk, unused: tuple[str, ...] = ()) -> Iterator[str]:
    """What a reader must know beside the figure: the notice first, then what was missing or doubtful."""
    yield answer.notice
    basis = answer.prediction_time_basis
    if answer.prediction_time and basis and not basis.startswith("given"):
        yield f"As of {answer.prediction_time:%Y-%m-%d %H:%M} UTC, the {basis}; nothing later is in it."
    if risk.uncertain:
        yield "This risk is less certain than the evidence of the version in production says."
    if risk.instead_of:
        yield risk.instead_of
    for value in risk.unusual_values:
        yield value.remark
    if risk.without_usual_range:
        yield (
            "Compared with their plausible range alone, for this version knows no usual one (too few patients of its "
            f"training had them, or it is older than such ranges): {_listed(risk.without_usual_range)}."
        )
    for outside in answer.out_of_range:
        yield f"{display_name(outside.input)} lies outside {outside.plausible} and was treated as missing."
    if answer.missing:
        yield f"{len(answer.missing)} of the model's inputs were missing: {_listed(answer.missing)}."
    for reason in unused:
        yield f"Not used: {reason}."


def _listed(inputs: Sequence[str]) -> str:
    return ", ".join(map(display_name, inputs))


def _instant(time: datetime) -> str:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return aware.isoformat(timespec="milliseconds")
