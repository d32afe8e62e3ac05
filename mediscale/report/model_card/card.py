"""The model card of a version: what two frameworks ask, each item answered from records or marked "not done"."""

from functools import cache
from pathlib import Path
from typing import Literal

from mediscale.core.errors import NotFoundError
from mediscale.core.refs import Frozen, ModelRef, parse_version
from mediscale.core.settings import Settings
from mediscale.inference.model_spec import NOTICE
from mediscale.report import data
from mediscale.report.data import Contents
from mediscale.report.model_card import answers
from mediscale.report.model_card.answers import Answer, Subject
from mediscale.storage import lineage

Status = Literal["answered", "in part", "not done"]


class Question(Frozen):
    """An item of a framework as ``frameworks.yaml`` declares it."""

    id: str
    asks: str
    answers: tuple[str, ...] = ()
    """Functions of ``answers.py``."""
    lacks: str = ""
    """What no record answers."""
    otherwise: str = "the records of this version do not say it"
    """Why nothing is answered, where the functions find nothing."""

    def functions(self) -> list[Answer]:
        return [getattr(answers, name) for name in self.answers]


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
    sections: tuple[Section, ...]
    made_from: tuple[str, ...]
    """Keys of the calls of the run, as ``stage key``: the version's lineage."""
    notice: str = NOTICE


@cache
def frameworks() -> tuple[Framework, ...]:
    """The frameworks that a card answers."""
    import yaml

    declared = yaml.safe_load(Path(__file__).with_name("frameworks.yaml").read_text(encoding="utf-8"))
    return tuple(Framework.model_validate(one) for one in declared)


def find(settings: Settings, version: str) -> ModelCard:
    """The card of a version that was decided about, named as ``name/3`` or ``name@3``.

    Raises:
        NotFoundError: there is no such version, or nothing was decided about it.
        StorageError: its evidence was changed.
    """
    contents = data.collect(settings, lineage.find(settings, version))
    cards = {f"{card.model.name}/{card.model.version}": card for card in collect(contents)}
    name = "{}/{}".format(*parse_version(version) or (version, ""))
    if name not in cards:
        raise NotFoundError(
            f"{version!r} is no version that was decided about; its run has {' and '.join(cards)}."
        )
    return cards[name]


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
        sections=tuple(
            Section(
                name=framework.name,
                title=framework.title,
                items=tuple(_item(question, subject) for question in framework.items),
            )
            for framework in frameworks()
        ),
        made_from=tuple(f"{call.stage} {call.key}" for call in subject.contents.run.calls),
    )


def _item(question: Question, subject: Subject) -> Item:
    told = tuple(text for answer in question.functions() if (text := answer(subject)))
    missing = question.lacks or ("" if told else question.otherwise)
    status: Status = "not done" if not told else "in part" if missing else "answered"
    lines = (*told, f"Not done: {missing}.") if missing else told
    return Item(id=question.id, asks=question.asks, status=status, answer=lines)
