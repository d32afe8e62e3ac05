"""What a model card begins with: what a version is for, and the figures that a reader looks for first."""

from collections.abc import Iterator

from mediscale.core.refs import Frozen
from mediscale.report import key_figures
from mediscale.report.charts import estimate_text
from mediscale.report.labels import capitalized, plain
from mediscale.report.language import LanguageReport
from mediscale.report.model_card.answers import decision, language, purpose
from mediscale.report.model_card.answers.subject import Subject


class Fact(Frozen):
    """One thing that a reader looks for first."""

    name: str
    value: str
    means: str = ""


class Glance(Frozen):
    """The first part of a card."""

    purpose: tuple[Fact, ...]
    figures: tuple[Fact, ...]


def of_risk(subject: Subject) -> Glance:
    return Glance(
        purpose=(
            Fact(name="Predicts", value=f"{capitalized(subject.task.outcome.sentence)}."),
            Fact(name="Of whom", value=purpose.population(subject)),
            Fact(name="For whom", value=purpose.users(subject)),
            Fact(name="For what", value=purpose.intended_use(subject)),
            Fact(name="Not for", value=purpose.cautioned(subject)),
            Fact(name="Limits", value=decision.limits(subject)),
        ),
        figures=tuple(
            Fact(name=figure.name, value=figure.value, means=figure.means)
            for figure in key_figures.of_version(subject.decided)
        ),
    )


def of_language(report: LanguageReport) -> Glance:
    return Glance(
        purpose=(
            Fact(name="For what", value=language.use(report)),
            Fact(name="Not for", value=language.cautioned(report)),
            Fact(name="Limits", value=language.limits(report)),
        ),
        figures=tuple(_language_figures(report)),
    )


def _language_figures(report: LanguageReport) -> Iterator[Fact]:
    for name, figure in report.evidence.measures.figures.items():
        yield Fact(
            name=capitalized(plain(name)),
            value=estimate_text(figure.tuned),
            means=f"on {figure.n:,} questions; the base has {estimate_text(figure.base)}.",
        )
