"""The evidence about a language model: measured on held-out questions, beside base and incumbent."""

from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.inference.base_models import Base
from training.evidence_files import VersionEvidence
from training.language.answer_errors import ErrorPattern
from training.language.confidence import Calibration
from training.language.export.receipts import Receipt
from training.language.statements import Grounding
from training.statistics.estimate import Estimate


class PairedFigure(Frozen):
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

    figures: dict[str, PairedFigure]
    """By metric, on all questions that it can be measured on."""
    by_specialty: dict[str, dict[str, PairedFigure]]
    """The same by specialty, then by metric."""
    general: PairedFigure | None
    """Multiple-choice accuracy on the regression set: general questions, none of them medical."""
    errors: tuple[ErrorPattern, ...] = ()
    """Of written answers."""
    confidence: dict[str, Calibration] = {}
    """Its calibration, of choices and of written answers."""
    grounding: Grounding | None = None
    """How well answers are supported, with and without retrieval; None where there are no passages to check against."""


class LanguageEvidence(VersionEvidence):
    """``evidence.json`` of a language model."""

    base: Base
    questions: TableRef
    n_questions: int
    measures: LanguageMeasures
    incumbent: ModelRef | None
    """The version in production that was judged on the same questions."""
    receipts: tuple[Receipt, ...] = ()
    """Of other forms of the version, beside the version itself."""
    over_incumbent: dict[str, Estimate]
    """Gain over it, by metric; empty where there was none."""
