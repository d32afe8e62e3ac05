"""Answers of a model card: what was decided, and its limits."""

from collections.abc import Iterator

from mediscale.core.plural import counted
from mediscale.report import labels
from mediscale.report.model_card.answers.performance import discrimination
from mediscale.report.model_card.answers.purpose import population, title
from mediscale.report.model_card.answers.subject import Subject


def decision(of: Subject) -> str:
    return f"Decided by {of.decided.actor}: {of.decided.reason}"


def abstract(of: Subject) -> str:
    return f"{title(of)} {population(of)} {discrimination(of)} {decision(of)}"


def limits(of: Subject) -> str:
    return " ".join(_limits(of))


def _limits(of: Subject) -> Iterator[str]:
    if of.landed.synthetic:
        yield "The patients are synthetic: no figure says anything about a real patient."
    yield "It was judged on one hospital's records and on no other's."
    small = [
        f"{group.attribute} {group.value}" for group in of.evidence.subgroups if group.status != "estimated"
    ]
    if small:
        yield f"Too few patients or outcomes to judge: {', '.join(map(labels.plain, small))}."
    if of.decided.silent is None:
        yield "No outcome of an answer in shadow was judged before it was decided about."
    if of.decided.prior_evaluations:
        yield f"Judged before on the same held-out patients: {counted(of.decided.prior_evaluations, 'other version')}."
    missed = [floor.objection for floor in of.decided.floors if floor.objection]
    if missed:
        yield f"The policy's floors that it misses: {'; '.join(missed)}."


def assumptions(of: Subject) -> str:
    return "\n".join(f"Assumed: {assumption.rstrip('.')}." for assumption in of.evidence.assumptions)
