"""Stage: one language model on the held-out questions, as the evidence file that its promotion rests on.

What is judged is computed by the code that serves. Nothing is fitted, tuned or chosen on the held-out questions.
"""

import logging
from collections.abc import Mapping, Sequence

from pydantic import Field

from data_pipeline.documents import question_set
from data_pipeline.documents.questions import Question
from mediscale.core.annotations import ComparedWith, Digest, RuntimeInput
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import DEEP_LEARNING, Stage
from mediscale.inference import language_version, model_files
from mediscale.inference.language import LanguageModel
from mediscale.inference.language_spec import LanguageSpec
from mediscale.inference.model_files import LANGUAGE_FILE
from training import evidence_files
from training.language import corpus_sources, language_measures
from training.language.export import receipts
from training.language.language_evidence import LanguageEvidence, PairedFigure
from training.language.language_measures import Effort
from training.promotion_context import incumbents
from training.statistics.estimate import Estimate

log = logging.getLogger(__name__)


class Params(Frozen):
    """What to judge, and with how much effort."""

    dataset: RuntimeInput[str]
    model: RuntimeInput[ModelRef]
    questions: RuntimeInput[TableRef]
    incumbent: RuntimeInput[ComparedWith[ModelRef | None]] = None
    """Today's production version, resolved by the caller."""
    forms: tuple[str, ...] = ("merged",)
    """Other forms of the version (as of ``mediscale export``) that are compared with it."""
    max_generated: int = Field(40, ge=0)
    """Questions that are answered in words: those without options, where there are some."""
    max_tokens: int = Field(32, ge=1)
    """Of such an answer."""
    bootstrap: int = Field(1000, ge=50)
    seed: int = Field(0, ge=0, lt=2**31)

    @property
    def effort(self) -> Effort:
        return Effort(**{name: getattr(self, name) for name in Effort.model_fields})


class Result(Frozen):
    """Where the evidence is, and what it says in short."""

    evidence: str
    evidence_digest: Digest
    incumbent: ComparedWith[ModelRef | None]
    n_questions: int
    figures: dict[str, float]
    """Gains over the base, by metric."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Judges a version and writes the evidence.

    Raises:
        StorageError: the version's files were changed, or its base is another one.
    """
    questions = question_set.load(settings, params.questions, "held_out")
    files = model_files.read_verified(settings, params.model)
    model = language_version.load(settings, files)
    log.info("%d held-out questions go to %s", len(questions), params.model)
    with corpus_sources.opened(settings, questions) as sources:
        measures = language_measures.measure(
            model, questions, params.effort, sources, language_measures.general()
        )
    evidence = LanguageEvidence(
        key=key,
        dataset=params.dataset,
        model=params.model,
        base=LanguageSpec.model_validate_json(files[LANGUAGE_FILE]).base,
        questions=params.questions,
        n_questions=len(questions),
        measures=measures,
        receipts=receipts.try_formats(settings, params.model, params.forms),
        incumbent=params.incumbent,
        over_incumbent=_over_incumbent(params, settings, model, questions),
    )
    path, digest = evidence_files.write(settings, evidence)
    return Result(
        evidence=path,
        evidence_digest=digest,
        incumbent=params.incumbent,
        n_questions=len(questions),
        figures=_gains({**measures.figures, **({"general": measures.general} if measures.general else {})}),
    )


def _over_incumbent(
    params: Params, settings: Settings, model: LanguageModel, questions: Sequence[Question]
) -> dict[str, Estimate]:
    """The likelihoods alone: what the policy compares, and minutes less than writing answers."""
    if params.incumbent is None:
        return {}
    effort = params.effort.model_copy(update={"max_generated": 0})
    mine = language_measures.scores(model, questions, effort)
    other = language_version.load(settings, model_files.read_verified(settings, params.incumbent))
    return language_measures.gains(
        questions, mine, language_measures.scores(other, questions, effort), effort
    )


def _gains(figures: Mapping[str, PairedFigure]) -> dict[str, float]:
    return {name: figure.gain.value for name, figure in figures.items() if figure.gain.value is not None}


def _summary(result: Result) -> str:
    figures = {name.replace("_", " "): value for name, value in result.figures.items()}
    gains = ", ".join(f"{name} {value:+.3f}" for name, value in figures.items())
    return f"{result.n_questions} held-out questions; gain over the base: {gains}"


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="judge the language model",
    summary=_summary,
    resources=DEEP_LEARNING,
    runtime_inputs=incumbents,
)
