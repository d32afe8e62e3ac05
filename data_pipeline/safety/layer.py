"""Safety layer: a pure function over one text that was parsed once, and what it needs of that text."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from data_pipeline.clinical_text import phrases
from data_pipeline.clinical_text.context import Context
from data_pipeline.clinical_text.languages import language
from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.drugs import mentions as drugs
from data_pipeline.drugs.mentions import Dose, DrugMention
from data_pipeline.safety import embedding_model, harm_model
from data_pipeline.safety.embedding_model import Vector
from data_pipeline.safety.report import Finding, LayerFinding, PatientContext, RiskLevel

_RULES = Path(__file__).with_name("rules")


@dataclass(frozen=True)
class CheckedText:
    """One text under check, with what several layers compute of it, and the patient whom it is about."""

    text: ClinicalText
    patient: PatientContext = field(default_factory=PatientContext)
    embedding: Vector | None = None
    """Of the whole text, where it was computed for retrieval."""

    @cached_property
    def flags(self) -> frozenset[str]:
        """The layers that the linear models over the embedding flag; none without an embedding."""
        if self.embedding is None:
            return frozenset()
        return embedding_model.load().flags(self.embedding, harm_model.load().score(self.text))

    @cached_property
    def language(self) -> str:
        """The language that the text is in."""
        return language(self.text.plain)  # look-alike letters of another script are English yet

    @cached_property
    def context(self) -> Context:
        """Negation, experiencer and time."""
        return Context(self.text)

    @cached_property
    def drugs(self) -> list[DrugMention]:
        """The drugs that the text names."""
        return drugs.packaged().find(self.text)

    @cached_property
    def doses(self) -> list[Dose]:
        """The amounts that the text names."""
        return drugs.doses(self.text, self.drugs)

    def finding(self, message: str, first: int, last: int, risk: RiskLevel, code: str) -> Finding:
        """A finding at the words ``first`` to before ``last``."""
        start, end = self.text.span(first, last)
        return Finding(message=message, start=start, end=end, risk=risk, code=code)


Layer = Callable[[CheckedText], LayerFinding]


@cache
def rules(name: str) -> Any:
    """The rules of one file of the folder ``rules``."""
    return phrases.load(_RULES / f"{name}.yaml")


def without_repetition(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in order; of several with the same code the first."""
    kept: dict[str, Finding] = {}
    for finding in findings:
        kept.setdefault(finding.code, finding)
    return tuple(kept.values())
