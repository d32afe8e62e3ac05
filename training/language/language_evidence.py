"""The evidence about a language model: measured on held-out questions, beside base and incumbent."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.inference.base_models import Base
from mediscale.storage.calls import canonical
from training.evaluation.evaluation_report import EVIDENCE_FILE, Estimate


class Compared(Frozen):
    """One figure of the tuned model and of the un-tuned base on the same questions."""

    n: int
    """Questions."""
    families: int
    """Of them: what is drawn for the intervals, which are of 95 %."""
    tuned: Estimate
    base: Estimate
    gain: Estimate
    """How much better the tuned model is, question by question: above 0 is better."""


class LanguageMeasures(Frozen):
    """What was measured of a model."""

    figures: dict[str, Compared]
    """By metric, on all questions that it can be measured on."""
    by_specialty: dict[str, dict[str, Compared]]
    """The same by specialty, then by metric."""
    general: Compared | None
    """Multiple-choice accuracy on the regression set: general questions, none of them medical."""


class LanguageEvidence(Frozen):
    """``evidence.json`` of a language model."""

    key: str
    dataset: str
    model: ModelRef
    base: Base
    questions: TableRef
    n_questions: int
    measures: LanguageMeasures
    incumbent: ModelRef | None
    """The version in production that was judged on the same questions."""
    over_incumbent: dict[str, Estimate]
    """Gain over it, by metric; empty where there was none."""


def write(settings: Settings, evidence: LanguageEvidence) -> tuple[str, str]:
    """Writes the file under the evidence's key; returns its path relative to the home, and its SHA-256."""
    relative = Path("evidence") / evidence.key / EVIDENCE_FILE
    path = settings.home / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    content = canonical(evidence).encode()
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
    return str(relative), hashlib.sha256(content).hexdigest()


def read(settings: Settings, path: str, digest: str) -> LanguageEvidence:
    """The evidence whose digest this is.

    Raises:
        NotFoundError: there is no such file.
        StorageError: it is not the file that was written, or lacks a field.
    """
    try:
        content = (settings.home / path).read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"There is no evidence at {path}; evaluate the model again.") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise StorageError(
            f"The evidence at {path} was changed since it was written; evaluate the model again."
        )
    try:
        return LanguageEvidence.model_validate_json(content)
    except ValidationError as error:
        raise StorageError(f"The evidence at {path} is incomplete; evaluate the model again.") from error
