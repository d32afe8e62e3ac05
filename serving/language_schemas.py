"""Schemas of ``/generate`` and ``/analyze``: what they take, and what ``/generate`` answers."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from data_pipeline.retrieval import Citation
from data_pipeline.safety import DISCLAIMER, LayerFinding, PatientContext, RiskLevel
from mediscale.core.refs import Frozen
from serving.schemas import NOT_TEXT, NOTE_CHARACTERS, documented

SafetyAction = Literal["unchanged", "preceded", "refused", "withheld", "unchecked"]
"""What the layers did to an answer: nothing; put a sentence before it; refused the question; kept a part or all of the
answer back; or were off."""
QUESTION_CHARACTERS = 2**15
MAX_LENGTH = 1024
"""Tokens of an answer, at most."""
TEMPERATURES = (0.0, 2.0)


class StrictRequest(BaseModel):
    """Closed to unknown fields; no type is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


def _with_words(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    if NOT_TEXT.search(text):
        raise ValueError("it holds characters that are not text; send what was written, as UTF-8")
    return text


Written = Annotated[str, AfterValidator(_with_words)]
"""A text that is not blank, of characters that are text."""


class AnalyzeRequest(StrictRequest):
    """A clinical note; nothing of it is kept."""

    clinical_note: Written = Field(min_length=1, max_length=NOTE_CHARACTERS)


class GenerateRequest(StrictRequest):
    """A question to the language model."""

    question: Written = Field(min_length=1, max_length=QUESTION_CHARACTERS)
    temperature: float = Field(0.0, ge=TEMPERATURES[0], le=TEMPERATURES[1])
    """0 takes the likeliest word each time; above it words are drawn."""
    max_length: int = Field(128, ge=1, le=MAX_LENGTH)
    """Tokens of the answer, at most."""
    patient: PatientContext | None = None
    """Whom the question is about, for checks of interactions and doses; it is not stored."""
    use_safety: bool = True
    """false lets an engineer see what the model says unchecked; it is logged."""
    stream: bool = False
    """Server-sent events: each sentence as soon as it was checked and logged, then the whole answer."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Of what is drawn above temperature 0."""


EXAMPLES: dict[str, dict[str, Any]] = {
    "a question": {
        "summary": "The likeliest answer, checked by the safety layers",
        "value": {"question": "Which organ filters the blood and makes urine?"},
    },
    "a stream": {
        "summary": "Each sentence as soon as it was checked",
        "value": {"question": "What is a migraine?", "temperature": 0.3, "max_length": 64, "stream": True},
    },
}


documented(Citation)  # which leaves as the index gives it


class SpokenLayer(LayerFinding):
    """What one safety layer says, and whether of the question or of the answer."""

    of: Literal["question", "answer"]


class SafetySummary(Frozen):
    """What the safety layers found in question and answer."""

    risk_level: RiskLevel
    warnings: tuple[str, ...]
    """One sentence each."""
    layers: tuple[SpokenLayer, ...]
    """Those with findings, in the order in which they were applied."""


@documented
@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """A language model's answer; it was logged before it left."""

    prediction_id: str
    """Names this answer in the log."""
    response: str
    citations: tuple[Citation, ...]
    safety_report: SafetySummary | None
    """Null where an engineer asked without the safety layers."""
    confidence: float | None
    """Where documents are indexed, the probability that they hold the answer; else the geometric mean of the
    probabilities that the model gave the tokens of its answer, and null where it wrote none."""
    inference_time_ms: float
    finish_reason: Literal["stop", "length", "content_filter", "abstained"]
    """length: it was cut at max_length, or at the end of the time that an answer may take. content_filter: the safety
    layers ended or replaced it. abstained: no source supports an answer."""
    model: str
    version: int
    instead_of: str | None = None
    """Why the newest version does not answer, when an older one does in its place."""
    needs_clinician_review: Literal[True] = True
    disclaimer: str = DISCLAIMER


@documented
@dataclass(frozen=True, slots=True)
class Sentence:
    """A part of a streamed answer."""

    text: str
    citations: tuple[Citation, ...] = ()
