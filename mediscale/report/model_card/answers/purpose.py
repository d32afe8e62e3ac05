"""Answers of a model card: what the model is for, and what it puts out."""

from mediscale.core import tasks
from mediscale.core.outcomes import Readmission
from mediscale.inference.model_spec import NOTICE
from mediscale.report import labels
from mediscale.report.model_card.answers.subject import Subject


def objectives(of: Subject) -> str:
    return (
        f"To predict {of.task.outcome.sentence}, and to find out on held-out patients whether the model may serve "
        "under the policy of its task."
    )


def intended_use(of: Subject) -> str:
    return of.task.intended_use.purpose


def users(of: Subject) -> str:
    return of.task.intended_use.users


def role(of: Subject) -> str:
    return f"It {of.task.intended_use.role} clinical management. {NOTICE}"


def cautioned(of: Subject) -> str:
    return " ".join(of.task.intended_use.cautioned)


def title(of: Subject) -> str:
    return f"{of.decided.model}: {of.task.outcome.sentence}, in the dataset {of.evidence.dataset}."


def population(of: Subject) -> str:
    return f"{labels.capitalized(of.task.at_risk.words)}; stays of adults, {tasks.ADULT_YEARS} or older."


def outcome(of: Subject) -> str:
    declared = of.task.outcome
    horizon = f", within {declared.within_days} days" if isinstance(declared, Readmission) else ""
    return (
        f"{labels.capitalized(declared.sentence)}{horizon}. It is read from the events of the hospital's own records "
        "by the rules of the task's file, without a person's judgement."
    )


def output(of: Subject) -> str:
    notes = ", and the words of the note" if of.evidence.notes is not None else ""
    return (
        f"A calibrated probability of {of.task.outcome.sentence}, between 0 and 1, and the inputs that moved it "
        f"(exact SHAP values{notes})."
    )


def output_type(_: Subject) -> str:
    return "A prediction."
