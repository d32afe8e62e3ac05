"""The report of a run of the language pipeline: the decision, its evidence and how to do it again, on one page."""

from dataclasses import dataclass

from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference.language_spec import NOTICE
from mediscale.report import commands, labels, templates
from mediscale.storage import calls, lineage, registry
from mediscale.storage.calls import Call
from mediscale.storage.lineage import Run
from monitoring.question_drift import Result as QuestionDrift
from training import evidence_files
from training.language.language_evidence import LanguageEvidence, PairedFigure
from training.language.lora import Trainable

DECISION = "promote_language"


@dataclass(frozen=True)
class LanguageReport:
    """What a report and a model card of a language version are made from; nothing is computed."""

    run: Run
    questions: Call
    training: Call
    decision: Call
    evidence: LanguageEvidence
    asked: QuestionDrift | None
    """The newest verdict on what the dataset's versions are asked; None where nobody looked."""
    succession: str = ""
    """What took the version's place in production since; empty while it is there."""

    @property
    def name(self) -> str:
        return self.run.run_id

    @property
    def model(self) -> ModelRef:
        return self.evidence.model

    @property
    def trainable(self) -> Trainable:
        return Trainable.model_validate(self.training.result["trainable"])

    @property
    def status(self) -> str:
        return lineage.status_of(self.decision)

    @property
    def verdict(self) -> tuple[str, str]:
        """What was decided, in words for everybody; and its kind."""
        return labels.VERDICTS[self.status]

    @property
    def figures(self) -> list[tuple[str, str, PairedFigure]]:
        """Metric, specialty (or nothing) and the figure, in the order of the page."""
        measures = self.evidence.measures
        rows = [(name, "", figure) for name, figure in measures.figures.items()]
        rows += [("multiple_choice_accuracy", "general", measures.general)] if measures.general else []
        return rows + [
            (name, specialty, figure)
            for specialty, figures in measures.by_specialty.items()
            for name, figure in figures.items()
        ]

    @property
    def commands(self) -> tuple[str, ...]:
        return commands.of_language(self.run)

    def render(self) -> str:
        """The HTML document."""
        return templates.render("language_report.html.j2", report=self, notice=NOTICE)


def of_language(run: Run) -> bool:
    """Whether a run decided about a language model."""
    return run.newest(DECISION) is not None


def collect(settings: Settings, run: Run) -> LanguageReport:
    """Collects the report data of a run.

    Raises:
        StorageError: the evidence was changed.
        NotFoundError: it is gone.
        MediscaleError: a call's record is missing.
    """
    decision = run.only(DECISION)
    evidence = evidence_files.read_evidence(
        LanguageEvidence, settings, decision.params["evidence"], decision.params["evidence_digest"]
    )
    return LanguageReport(
        run=run,
        questions=run.only("question_set"),
        training=run.only("language_model"),
        decision=decision,
        evidence=evidence,
        asked=_question_drift(settings, run.dataset),
        succession=registry.succession(settings, run.dataset, evidence.model),
    )


def _question_drift(settings: Settings, dataset: str) -> QuestionDrift | None:
    results = (
        QuestionDrift.model_validate(each.result) for each in calls.of_stage(settings, "question_drift")
    )
    return max((each for each in results if each.dataset == dataset), key=lambda r: r.end, default=None)
