"""The model card of a version: what two frameworks ask, each item answered from records or marked "not done"."""

from functools import cache
from pathlib import Path
from typing import Literal

from mediscale.core.errors import NotFoundError
from mediscale.core.refs import Frozen, ModelRef, parse_version
from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from mediscale.inference import language_spec
from mediscale.inference.model_spec import NOTICE
from mediscale.report import data, language
from mediscale.report.data import Contents
from mediscale.report.language import LanguageReport
from mediscale.report.model_card import glance
from mediscale.report.model_card.answers import answer
from mediscale.report.model_card.answers.subject import Subject
from mediscale.report.model_card.glance import Glance
from mediscale.storage import calls, lineage

Status = Literal["answered", "in part", "not done"]


class Question(Frozen):
    """An item of a framework as ``frameworks.yaml`` declares it."""

    id: str
    asks: str
    answers: tuple[str, ...] = ()
    """Functions of the folder ``answers``, as ``module.function``."""
    lacks: str = ""
    """What no record answers."""
    otherwise: str = "the records of this version do not say it"
    """Why nothing is answered, where the functions find nothing."""


class Framework(Frozen):
    """A list of what a report on a model has to say."""

    name: str
    title: str
    items: tuple[Question, ...]


class Item(Frozen):
    """An item and what the records answer."""

    id: str
    asks: str
    status: Status
    answer: tuple[str, ...]
    """Paragraphs; the last says what is not done, where the status is not "answered"."""


class Section(Frozen):
    """A framework with its answers."""

    name: str
    title: str
    items: tuple[Item, ...]

    def having(self, status: Status) -> int:
        """How many items have that status."""
        return sum(item.status == status for item in self.items)


class ModelCard(Frozen):
    """The card as it is written to JSON. Small counts of patients are suppressed in it."""

    model: ModelRef
    dataset: str
    task: str
    title: str
    status: str
    """What was decided about the version: ``production``, ``staging`` or ``refused``."""
    run_id: str
    synthetic: bool
    glance: Glance
    sections: tuple[Section, ...]
    made_from: tuple[str, ...]
    """Keys of the calls of the run, as ``stage key``: the version's lineage."""
    succession: str = ""
    """What had taken its place in production when the card was written."""
    notice: str = NOTICE


RISK_FRAMEWORKS, LANGUAGE_FRAMEWORKS = "frameworks.yaml", "language_framework.yaml"


@cache
def frameworks(file: str) -> tuple[Framework, ...]:
    """The frameworks that the cards of risk models answer, or those of language models."""
    import yaml

    declared = yaml.safe_load(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    return tuple(Framework.model_validate(one) for one in declared)


def find(settings: Settings, version: str) -> ModelCard:
    """The card of a version that was decided about, named as ``name/3`` or ``name@3``.

    Raises:
        NotFoundError: there is no such version, or nothing was decided about it.
        StorageError: its evidence was changed.
    """
    decisions = [call for stage in lineage.DECISIONS for call in calls.of_stage(settings, stage)]
    decided = sorted(set(map(lineage.version_of, decisions)))
    parsed = parse_version(version)
    named = "{}/{}".format(*parsed) if parsed else version
    if decided and named not in decided:
        raise NotFoundError(
            f"Nothing was decided about {version!r}; there are cards of {', '.join(decided)}."
        )
    run = lineage.find(settings, named)
    every_card = (
        [of_language(language.collect(settings, run))]
        if language.of_language(run)
        else collect(data.collect(settings, run))
    )
    cards = {f"{card.model.name}/{card.model.version}": card for card in every_card}
    if named not in cards:
        raise NotFoundError(
            f"{version!r} is no version that was decided about; its run has {' and '.join(cards)}."
        )
    return cards[named]


def collect(contents: Contents) -> list[ModelCard]:
    """The card of each version that a run decided about."""
    return [_card(Subject(contents, t.decided, t.flow)) for t in contents.tasks if t.decided is not None]


def _card(subject: Subject) -> ModelCard:
    return ModelCard(
        model=subject.decided.model,
        dataset=subject.evidence.dataset,
        task=subject.evidence.task,
        title=subject.task.title,
        status=subject.decided.status,
        run_id=subject.contents.run.run_id,
        synthetic=subject.landed.synthetic,
        glance=glance.of_risk(subject),
        sections=_sections(RISK_FRAMEWORKS, subject),
        made_from=_provenance(subject.contents.run),
        succession=subject.decided.succession,
    )


def of_language(report: LanguageReport) -> ModelCard:
    """The card of the language version that a run decided about."""
    return ModelCard(
        model=report.model,
        dataset=report.evidence.dataset,
        task=LANGUAGE,
        title="Language model",
        status=report.status,
        run_id=report.run.run_id,
        synthetic=False,
        glance=glance.of_language(report),
        sections=_sections(LANGUAGE_FRAMEWORKS, report),
        made_from=_provenance(report.run),
        succession=report.succession,
        notice=language_spec.NOTICE,
    )


def _provenance(run: lineage.Run) -> tuple[str, ...]:
    return tuple(f"{call.stage} {call.key}" for call in run.calls)


def _sections(file: str, subject: object) -> tuple[Section, ...]:
    return tuple(
        Section(
            name=framework.name,
            title=framework.title,
            items=tuple(_item(question, subject) for question in framework.items),
        )
        for framework in frameworks(file)
    )


def _item(question: Question, subject: object) -> Item:
    answered = tuple(text for name in question.answers if (text := answer(name)(subject)))
    missing = question.lacks or ("" if answered else question.otherwise)
    status: Status = "not done" if not answered else "in part" if missing else "answered"
    lines = (*answered, f"Not done: {missing}.") if missing else answered
    return Item(id=question.id, asks=question.asks, status=status, answer=lines)
